from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, insert

from bot.conversation.state import State
from bot.services.intake.inbox import apply
from bot.services.upkeep.janitor import Janitor
from bot.simulator.clock import NOON, StoppedClock
from bot.store.engine.errors import UnavailableError
from bot.store.retention import CHUNK, purge_chunk
from bot.store.tables import EarlyReportRow, OutboxRow, OutboxState, ProcessedWebhookRow, TokenRow
from tests.kit.samples import RULES, text
from tests.kit.stored import conversation_of, row_count

if TYPE_CHECKING:
    from bot.store.engine.database import Database


async def test_rows_past_their_retention_are_removed_and_the_conversation_stays(
    database: Database,
) -> None:
    noon = NOON
    await database.write(apply, [text("VERIFY")], noon, RULES)
    await database.write(purge_chunk, noon + timedelta(days=2))
    assert await row_count(database, ProcessedWebhookRow) == 1
    await database.write(purge_chunk, noon + timedelta(days=8))
    assert await row_count(database, ProcessedWebhookRow) == 0
    assert await row_count(database, TokenRow) == 1
    assert await row_count(database, OutboxRow) == 1
    await database.write(purge_chunk, noon + timedelta(days=31))
    assert await row_count(database, TokenRow) == 0
    assert await row_count(database, OutboxRow) == 0
    found = await conversation_of(database)
    assert (found.state, found.token) == (State.AWAITING_CODE, None)


async def test_a_conversation_whose_token_is_purged_goes_on(database: Database) -> None:
    noon = NOON
    await database.write(apply, [text("VERIFY")], noon, RULES)
    later = noon + timedelta(days=40)
    await database.write(purge_chunk, later)
    await database.write(apply, [text("123456"), text("VERIFY")], later, RULES)
    assert (await conversation_of(database)).state is State.AWAITING_CODE
    assert await row_count(database, OutboxRow) == 2


async def test_the_janitor_removes_many_rows_in_chunks_and_others_write_in_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"key": f"event:{n}", "processed_at": NOON} for n in range(CHUNK * 2 + 10)]
    await database.write(Connection.execute, insert(ProcessedWebhookRow.__table__), rows)
    clock = StoppedClock()
    clock.travel(timedelta(days=4))
    left: list[int] = []

    async def write_meanwhile(_seconds: float) -> None:
        left.append(await row_count(database, ProcessedWebhookRow))
        await database.write(apply, [text("STATUS")], clock.now(), RULES)

    monkeypatch.setattr("bot.services.upkeep.janitor.asyncio.sleep", write_meanwhile)
    assert await Janitor(database, clock).purge() == len(rows)
    assert left == [CHUNK + 10, 10 + 1]
    assert await row_count(database, ProcessedWebhookRow) == 2


async def test_a_chunk_counts_the_rows_of_all_tables(database: Database) -> None:
    long_ago = NOON - timedelta(days=40)
    numbers = [str(number) for number in range(CHUNK - 1)]
    webhooks = [{"key": number, "processed_at": long_ago} for number in numbers]
    await database.write(Connection.execute, insert(ProcessedWebhookRow.__table__), webhooks)
    reports = [
        {"carrier_id": number, "state": OutboxState.SENT, "received_at": long_ago}
        for number in numbers
    ]
    await database.write(Connection.execute, insert(EarlyReportRow.__table__), reports)
    removed = [await database.write(purge_chunk, NOON) for _ in range(3)]
    assert removed == [CHUNK, CHUNK - 2, 0]


async def test_the_janitor_goes_on_after_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Exception] = [UnavailableError("gone"), ValueError("a bug")]
    write = database.write
    pauses: list[float] = []

    async def fail_at_first(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return await write(*args, **kwargs)

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    await database.write(apply, [text("VERIFY")], NOON, RULES)
    clock = StoppedClock()
    clock.travel(timedelta(days=40))
    monkeypatch.setattr(database, "write", fail_at_first)
    monkeypatch.setattr("bot.services.upkeep.janitor.asyncio.sleep", record)
    with pytest.raises(asyncio.CancelledError):
        await Janitor(database, clock).run()
    assert await row_count(database, OutboxRow) == 0
