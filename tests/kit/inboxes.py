"""A running inbox, and locks that another connection holds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bot.services.intake.inbox import MAX_WAITING_REQUESTS, Inbox
from bot.simulator.clock import StoppedClock
from tests.kit.samples import RULES
from tests.kit.timeouts import TEST_TIMEOUT, slow_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import URL

    from bot.store.engine.database import Database


@asynccontextmanager
async def open_inbox(
    database: Database,
    after_commit: Callable[[], None] = lambda: None,
    answer_within: float = TEST_TIMEOUT,
    max_waiting_requests: int = MAX_WAITING_REQUESTS,
) -> AsyncIterator[Inbox]:
    """Run an inbox with a stopped clock."""
    inbox = Inbox(
        database,
        RULES,
        StoppedClock(),
        after_commit,
        answer_within=answer_within,
        second_commit_within=TEST_TIMEOUT,
        max_waiting_requests=max_waiting_requests,
    )
    task = asyncio.create_task(inbox.run())
    await asyncio.sleep(0)
    try:
        yield inbox
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def held(url: URL, statement: str) -> AsyncIterator[asyncio.Event]:
    """Hold the locks of a statement until the event is set or the block ends."""
    database, release = slow_database(url), asyncio.Event()
    try:
        async with database._backend.reader.connect() as connection:
            await connection.exec_driver_sql(statement)

            async def hold() -> None:
                await release.wait()
                await connection.rollback()

            holding = asyncio.create_task(hold())
            try:
                yield release
            finally:
                release.set()
                await holding
    finally:
        await database.close()


def the_limits_of(phone: str) -> str:
    """Return the statement that locks a phone's limits."""
    return f"SELECT * FROM phone_limits WHERE phone = '{phone}' FOR UPDATE"
