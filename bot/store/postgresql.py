"""PostgreSQL: a pool of connections, each transaction on one of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar, TypeVar, TypeVarTuple

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from bot.store.outages import UncertainCommitError, connected, kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_POOL_SIZE = 10
_COMMIT_LONGER = 0.5
"""Seconds beyond those of a transaction until a commit that is not answered counts as lost."""


class Postgresql:
    """One database on a server; `within` are the seconds that a statement may take."""

    writers: ClassVar = 2  # while one waits for the server, another is prepared

    def __init__(self, url: URL, within: float) -> None:
        self._commit_within = within + _COMMIT_LONGER
        self.reader = create_async_engine(
            url,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=within,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "timeout": within,
                "server_settings": {
                    "application_name": "textproof",
                    "statement_timeout": str(int(within * 1000)),
                    "idle_in_transaction_session_timeout": "10000",
                },
            },
        )

    async def transact(
        self, deadline: float, work: Callable[[Connection, *Ts], T], *args: *Ts
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all.

        Raises UncertainCommitError where only the outcome of the commit is unknown.
        """
        _refuse_after(deadline)  # a connection cancelled while it opens is lost, not closed
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout_at(deadline):
                connection = await stack.enter_async_context(connected(self.reader))
                await connection.begin()
                result = await connection.run_sync(work, *args)
            _refuse_after(deadline)
            await _commit(connection, self._commit_within)
            return result

    async def checkpoint(self) -> None:
        """Leave that to the server, which has a process for it."""

    async def close(self) -> None:
        """Close all connections."""
        await self.reader.dispose()


async def _commit(connection: AsyncConnection, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await connection.commit()
    except (DBAPIError, OSError, TimeoutError) as error:
        raise UncertainCommitError(kind(error)) from error


def _refuse_after(deadline: float) -> None:
    """Raise TimeoutError once it is too late to commit: the webhook is being refused by now."""
    if asyncio.get_running_loop().time() > deadline:
        raise TimeoutError
