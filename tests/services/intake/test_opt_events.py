"""Somebody who texts STOP and START by turns does not keep an app busy."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from bot.conversation.app_events import MAX_OPT_EVENTS_PER_HOUR as LIMIT
from bot.services.intake.inbox import apply
from bot.services.intake.unit_of_work import Rules
from bot.services.upkeep.reporter import Reporter
from bot.simulator.clock import NOON, StoppedClock
from bot.store.tables import AppEventRow, OptEventCountRow
from tests.kit.samples import PHONE, RULES, text
from tests.kit.stored import row_count

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.store.engine.database import Database

OUT, IN = "number.opted_out", "number.opted_in"
OTHER = "+13125550002"
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
WITH_APP = Rules(RULES.policy, RULES.keyring, has_app=True)


async def change(
    database: Database, times: int, at: datetime = NOON, phone: str = PHONE, first: str = "STOP"
) -> None:
    """Opt out and in by turns, so many times in all, a second apart."""
    words = ("STOP", "START") if first == "STOP" else ("START", "STOP")
    for number in range(times):
        received = text(words[number % 2], phone=phone)
        await database.write(apply, [received], at + number * SECOND, WITH_APP)


async def reported(database: Database) -> list[tuple[str, str, int]]:
    """Return the type, the number and `left_out` of each event, in order."""

    def read(connection: Connection) -> list[str]:
        table = AppEventRow.__table__
        return list(connection.scalars(select(table.c.body).order_by(table.c.id)))

    events = [json.loads(body) for body in await database.read(read)]
    return [(each["type"], each["data"]["number"], each["data"]["left_out"]) for each in events]


async def report(database: Database, at: datetime) -> bool:
    """Let the reporter check at a time; return whether it woke the workers."""
    woken: list[bool] = []
    clock = StoppedClock()
    clock.travel(at - clock.now())
    await Reporter(database, clock, lambda: woken.append(True)).report()
    return bool(woken)


async def test_six_changes_an_hour_are_reported_and_then_the_state_that_holds(
    database: Database,
) -> None:
    await change(database, LIMIT + 3)
    assert await reported(database) == [(OUT, PHONE, 0), (IN, PHONE, 0)] * 3

    assert not await report(database, NOON + HOUR - SECOND)
    assert await report(database, NOON + HOUR)
    assert not await report(database, NOON + HOUR)
    assert (await reported(database))[LIMIT:] == [(OUT, PHONE, 2)]


async def test_a_change_after_the_hour_reports_what_was_left_out_before_it(
    database: Database,
) -> None:
    await change(database, LIMIT + 3)
    await change(database, 1, NOON + HOUR, first="START")
    assert (await reported(database))[LIMIT:] == [(IN, PHONE, 3)]

    assert await report(database, NOON + 2 * HOUR)
    assert len(await reported(database)) == LIMIT + 1


async def test_the_event_after_the_hour_counts_for_the_next_one(database: Database) -> None:
    await change(database, LIMIT + 1)
    await report(database, NOON + HOUR)
    await change(database, LIMIT, NOON + HOUR + SECOND, first="START")

    assert len(await reported(database)) == 2 * LIMIT


async def test_no_hour_has_more_than_six_reports(database: Database) -> None:
    await change(database, 1)
    await change(database, 5, NOON + HOUR - 10 * SECOND, first="START")
    await change(database, 6, NOON + HOUR + SECOND)

    assert len(await reported(database)) == LIMIT + 1


@pytest.mark.parametrize("together", [True, False])
async def test_each_number_has_a_limit_of_its_own(database: Database, *, together: bool) -> None:
    if together:
        words = ["STOP", "START"] * LIMIT
        texts = [text(word, phone=phone) for word in words for phone in (PHONE, OTHER)]
        await database.write(apply, texts, NOON, WITH_APP)
    else:
        await change(database, 2 * LIMIT)
        await change(database, 2 * LIMIT, phone=OTHER)

    found = await reported(database)
    assert [number for _, number, _ in found].count(PHONE) == LIMIT
    assert [number for _, number, _ in found].count(OTHER) == LIMIT


async def test_counts_are_deleted_after_their_hour(database: Database) -> None:
    await change(database, 2)
    assert await row_count(database, OptEventCountRow) == 1

    await report(database, NOON + HOUR + SECOND)
    assert await row_count(database, OptEventCountRow) == 0
    assert len(await reported(database)) == 2
