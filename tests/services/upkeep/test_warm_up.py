from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.pool import Pool

from bot.services.intake.inbox import apply
from bot.services.upkeep.warm_up import warm_up
from bot.simulator.clock import NOON
from bot.store.engine.database import Database
from bot.store.engine.errors import UnavailableError
from bot.store.queues import outbox
from bot.store.tables import Base
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, text
from tests.kit.timeouts import slow_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


async def rows(database: Database) -> dict[str, list[Any]]:
    def read(connection: Connection) -> dict[str, list[Any]]:
        tables = Base.metadata.sorted_tables
        return {table.name: list(connection.execute(select(table))) for table in tables}

    return await database.read(read)


@contextmanager
def statements() -> Iterator[set[str]]:
    run: set[str] = set()

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        run.add(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield run
    finally:
        event.remove(Engine, "before_cursor_execute", record)


async def test_a_warm_up_changes_nothing_not_even_a_queued_text(
    database: Database,
) -> None:
    await database.write(apply, [text("VERIFY")], NOON, RULES)
    before = await rows(database)

    await warm_up(database, BOT_NUMBER, NOON, RULES)

    assert await rows(database) == before
    assert len(before["outbox"]) == 1


async def test_the_first_text_and_its_reply_run_no_statement_that_was_not_warmed_up(
    database: Database,
) -> None:
    with statements() as warmed_up:
        await warm_up(database, BOT_NUMBER, NOON, RULES)
    with statements() as run:
        await database.write(apply, [text("VERIFY", phone=PHONE)], NOON, RULES)
        claimed = await database.write(outbox.claim, 1, NOON)

    assert [text.phone for text in claimed] == [PHONE]
    assert run - warmed_up == set()


@pytest.mark.parametrize("wait_for_locks", [True, False])
async def test_the_first_texts_find_an_open_connection(
    database: Database, *, wait_for_locks: bool
) -> None:
    await warm_up(database, BOT_NUMBER, NOON, RULES)
    opened = Mock()
    event.listen(Pool, "connect", opened)
    try:
        await database.write(apply, [text("VERIFY")], NOON, RULES, wait_for_locks=wait_for_locks)
    finally:
        event.remove(Pool, "connect", opened)
    opened.assert_not_called()


async def test_the_bot_starts_without_a_database() -> None:
    database = Database("postgresql+asyncpg://nobody@127.0.0.1:9/nothing")
    await warm_up(database, BOT_NUMBER, NOON, RULES)
    await database.close()


@on_sqlite
async def test_the_bot_starts_while_the_database_is_locked(
    database: Database, database_url: URL
) -> None:
    hurried = Database(database_url, timeout=0.2)
    before = await rows(database)
    with closing(sqlite3.connect(str(database_url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await warm_up(hurried, BOT_NUMBER, NOON, RULES)
        other.execute("ROLLBACK")
    await hurried.close()
    assert await rows(database) == before


@on_sqlite
async def test_the_bot_starts_while_the_database_is_read_only(database_url: URL) -> None:
    read_only = {"mode": "ro", "uri": "true"}
    url = database_url.set(database=f"file:{database_url.database}", query=read_only)
    database = slow_database(url)
    with pytest.raises(UnavailableError, match="READONLY"):
        await database.write(apply, [text("VERIFY")], NOON, RULES)

    await warm_up(database, BOT_NUMBER, NOON, RULES)

    await database.close()
