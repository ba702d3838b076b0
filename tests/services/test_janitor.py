from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from harness.people import RULES, text
from harness.reading import conversation_of, row_count
from sqlalchemy import Connection, insert

from bot.conversation.state import State
from bot.services.inbox import apply
from bot.services.janitor import Janitor
from bot.simulator.clock import NOON, StoppedClock
from bot.store.models import OutboxRow, ReceivedRow, TokenRow
from bot.store.retention import CHUNK, purge_chunk

if TYPE_CHECKING:
    import pytest

    from bot.store.database import Database


async def test_what_is_past_its_time_goes_and_the_conversation_stays(database: Database) -> None:
    noon = NOON
    await database.write(apply, [text("VERIFY")], noon, RULES)
    await database.write(purge_chunk, noon + timedelta(days=2))
    assert await row_count(database, ReceivedRow) == 1
    await database.write(purge_chunk, noon + timedelta(days=8))
    assert await row_count(database, ReceivedRow) == 0
    assert await row_count(database, TokenRow) == 0
    assert await row_count(database, OutboxRow) == 1
    await database.write(purge_chunk, noon + timedelta(days=31))
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


async def test_the_janitor_removes_a_great_deal_in_small_pieces(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = NOON
    rows = [{"key": f"event:{n}", "received_at": noon} for n in range(CHUNK * 2 + 10)]
    await database.write(Connection.execute, insert(ReceivedRow.__table__), rows)
    clock = StoppedClock()
    clock.travel(timedelta(days=4))
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr("bot.services.janitor.asyncio.sleep", note)
    task = asyncio.create_task(Janitor(database, clock).run())
    await asyncio.wait([task])
    assert await row_count(database, ReceivedRow) == 0
    assert pauses[:3] == [pauses[0]] * 3
    assert pauses[3] > pauses[0]
