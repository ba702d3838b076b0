from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from bot.services.intake.inbox import apply
from bot.simulator.clock import NOON
from bot.store.engine.database import Database
from bot.store.engine.errors import UnavailableError, UncertainCommitError
from bot.store.engine.sqlite import Sqlite
from bot.store.tables import PhoneLimitsRow, ProcessedWebhookRow
from tests.kit.samples import RULES, text
from tests.kit.stored import row_count

if TYPE_CHECKING:
    from pathlib import Path


PHONE_LIMITS, PROCESSED_WEBHOOKS = PhoneLimitsRow.__table__, ProcessedWebhookRow.__table__


def insert_key(connection: Connection, key: str) -> None:
    connection.execute(insert(PROCESSED_WEBHOOKS).values(key=key, processed_at=NOON))


async def test_a_transaction_is_committed_whole_or_not_at_all(database: Database) -> None:
    def fail_half_way(connection: Connection) -> None:
        insert_key(connection, "message:half")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        await database.write(fail_half_way)
    assert await row_count(database, ProcessedWebhookRow) == 0


async def test_an_error_in_the_data_is_no_outage(database: Database) -> None:
    await database.write(insert_key, "message:1")
    with pytest.raises(DBAPIError) as raised:
        await database.write(insert_key, "message:1")
    assert "message:1" not in str(raised.value.statement)
    assert raised.value.hide_parameters


async def test_a_transaction_after_its_deadline_is_not_committed(database: Database) -> None:
    past = asyncio.get_running_loop().time() - 1
    with pytest.raises(UnavailableError):
        await database.write(insert_key, "message:late", deadline=past)
    assert await row_count(database, ProcessedWebhookRow) == 0


async def test_a_transaction_that_takes_too_long_is_not_committed(
    database: Database,
) -> None:
    deadline = asyncio.get_running_loop().time() + 0.2

    def insert_key_until_the_deadline(connection: Connection) -> None:
        insert_key(connection, "message:slow")
        while time.monotonic() <= deadline:  # the loop's clock too; the transaction has its thread
            pass

    with pytest.raises(UnavailableError):
        await database.write(insert_key_until_the_deadline, deadline=deadline)
    assert await row_count(database, ProcessedWebhookRow) == 0
    await database.write(insert_key, "message:after")


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_a_commit_whose_response_is_lost_is_uncertain(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(_connection: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncConnection.commit", lose)
    with pytest.raises(UncertainCommitError):
        await database.write(insert_key, "message:lost")


async def test_a_commit_that_fails_leaves_no_transaction_to_the_next_writer(
    database: Database,
) -> None:
    backend: Any = database._backend
    engine = backend._writer if isinstance(backend, Sqlite) else backend.reader.sync_engine

    @event.listens_for(engine, "commit", once=True)
    def fail(_connection: Connection) -> None:
        raise ConnectionResetError

    with pytest.raises(UnavailableError):
        await database.write(insert_key, "message:failed")
    await database.write(insert_key, "message:next")
    assert await row_count(database, ProcessedWebhookRow) == 1


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_of_two_transactions_that_deadlock_one_is_run_again(database: Database) -> None:
    one, other = "+13125550001", "+13125550002"
    texts = [text("VERIFY", phone=phone) for phone in (one, other)]
    await database.write(apply, texts, NOON, RULES)
    runs: list[str] = []
    both_have_one = asyncio.Barrier(2)

    def lock_both(connection: Connection, first: str, second: str) -> None:
        runs.append(first)
        again = len(runs) > 2
        connection.execute(
            select(PHONE_LIMITS).where(PHONE_LIMITS.c.phone == first).with_for_update()
        )
        if not again:
            await_only(both_have_one.wait())
        connection.execute(
            select(PHONE_LIMITS).where(PHONE_LIMITS.c.phone == second).with_for_update()
        )

    await asyncio.gather(
        database.write(lock_both, one, other), database.write(lock_both, other, one)
    )
    # The transaction that is run again may take its lock back before the other gets it.
    assert len(runs) in (3, 4)


async def test_reads_do_not_wait_for_the_write_lock(database: Database) -> None:
    async with database._backend.reader.connect() as connection:
        await connection.run_sync(insert_key, "message:1")
        assert await row_count(database, ProcessedWebhookRow) == 0
        await connection.rollback()


async def test_a_missing_database_is_an_outage() -> None:
    nowhere = Database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(UnavailableError) as raised:
        await nowhere.write(insert_key, "message:1")
    assert "nobody" not in str(raised.value)
    await nowhere.close()


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
async def test_sqlite_is_set_up_to_lose_nothing(
    database: Database, pragma: str, value: object
) -> None:
    found = await database.write(lambda c: c.exec_driver_sql(f"PRAGMA {pragma}").scalar())
    assert found == value


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
async def test_a_checkpoint_moves_committed_data_to_the_database_file(
    database: Database, tmp_path: Path
) -> None:
    await database.write(insert_key, "message:1")
    await database.checkpoint()
    without_log = tmp_path / "copy.db"
    shutil.copy(database.url.database or "", without_log)
    with closing(sqlite3.connect(without_log)) as connection:
        assert connection.execute("SELECT key FROM processed_webhooks").fetchall() == [
            ("message:1",)
        ]
