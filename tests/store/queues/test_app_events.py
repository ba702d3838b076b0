from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from bot.simulator.clock import NOON
from bot.store.queues import app_events
from bot.store.queues.app_events import LEASE, NewAppEvent
from bot.store.retention import purge_chunk
from bot.store.tables import AppEventRow, AppEventState, DisabledEndpointRow

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Row

    from bot.store.engine.database import Database
    from bot.store.queues.app_events import ClaimedAppEvent

URL = "https://app.example/textproof?token=hunter2"


async def add(database: Database, *subjects: str) -> None:
    """Add an event for each subject, with its number in the body."""
    known = len(await rows(database))
    drafts = [
        NewAppEvent(subject, "verification.sent", f'{{"n":{known + n}}}')
        for n, subject in enumerate(subjects)
    ]
    await database.write(app_events.add, drafts, NOON)


async def rows(database: Database) -> list[Row[Any]]:
    def read(connection: Connection) -> list[Row[Any]]:
        table = AppEventRow.__table__
        return list(connection.execute(select(table).order_by(table.c.id)))

    return await database.read(read)


async def claim(database: Database, now: datetime = NOON, limit: int = 10) -> list[ClaimedAppEvent]:
    return await database.write(app_events.claim, URL, limit, now)


def bodies(claims: list[ClaimedAppEvent]) -> list[str]:
    return [claimed.body for claimed in claims]


async def test_of_each_subject_only_the_oldest_queued_event_is_claimed(database: Database) -> None:
    await add(database, "a", "b", "a", "a")
    first = await claim(database)
    assert bodies(first) == ['{"n":0}', '{"n":1}']
    assert await claim(database) == []
    await database.write(app_events.settle_delivered, first[0])
    assert bodies(await claim(database)) == ['{"n":2}']


async def test_no_more_are_claimed_than_asked_for(database: Database) -> None:
    await add(database, "a", "b", "c")
    assert bodies(await claim(database, limit=2)) == ['{"n":0}', '{"n":1}']
    assert bodies(await claim(database, limit=2)) == ['{"n":2}']


async def test_an_event_that_is_retried_later_delays_only_its_own_subject(
    database: Database,
) -> None:
    await add(database, "a", "a", "b")
    later = NOON + timedelta(hours=1)
    a, b = await claim(database)
    await database.write(app_events.settle_later, a, later, "HTTP 500")
    await database.write(app_events.settle_delivered, b)
    assert not await database.read(app_events.any_due, URL, later - timedelta(seconds=1))
    assert await claim(database, later - timedelta(seconds=1)) == []
    assert await database.read(app_events.any_due, URL, later)
    (again,) = await claim(database, later)
    assert (again.public_id, again.body, again.attempts) == (a.public_id, a.body, 2)


async def test_a_dead_event_delays_no_other(database: Database) -> None:
    await add(database, "a", "a")
    (first,) = await claim(database)
    await database.write(app_events.settle_dead, first, "HTTP 500")
    assert bodies(await claim(database)) == ['{"n":1}']


async def test_a_claim_ends_with_its_lease_and_then_settles_nothing(database: Database) -> None:
    await add(database, "a")
    (lost,) = await claim(database)
    assert await claim(database, NOON + LEASE - timedelta(seconds=1)) == []
    (again,) = await claim(database, NOON + LEASE)
    assert again == replace(lost, attempts=2)
    await database.write(app_events.settle_delivered, lost)
    await database.write(app_events.settle_dead, lost, "HTTP 500")
    await database.write(app_events.settle_later, lost, NOON, "HTTP 500")
    (row,) = await rows(database)
    assert (row.state, row.fault, row.due_at) == (AppEventState.QUEUED, None, NOON + 2 * LEASE)
    await database.write(app_events.settle_delivered, again)
    await database.write(app_events.settle_later, again, NOON, "HTTP 500")
    (row,) = await rows(database)
    assert (row.state, row.fault) == (AppEventState.DELIVERED, None)


async def test_concurrent_claims_never_claim_the_same_event(database: Database) -> None:
    await add(database, *map(str, range(20)))
    found = await asyncio.gather(*(claim(database, limit=5) for _ in range(6)))
    claimed = [each.public_id for claims in found for each in claims]
    assert len(claimed) == len(set(claimed))
    while more := await claim(database):
        claimed += [each.public_id for each in more]
    assert sorted(claimed) == sorted(row.public_id for row in await rows(database))


async def test_each_event_has_a_public_id_of_its_own(database: Database) -> None:
    await add(database, *"aaaa")
    await database.write(app_events.add, [], NOON)
    public_ids = [row.public_id for row in await rows(database)]
    assert len(set(public_ids)) == 4
    assert all(each.startswith("msg_") and len(each) == 36 for each in public_ids)


async def test_dead_events_are_listed_and_can_be_queued_again(database: Database) -> None:
    await add(database, "a", "b", "c", "d")
    *given_up, delivered = await claim(database)
    for claimed in given_up:
        await database.write(app_events.settle_dead, claimed, "HTTP 500")
    await database.write(app_events.settle_delivered, delivered)
    listed = await database.read(app_events.list_dead, 2)
    assert [event.subject for event in listed] == ["c", "b"]
    assert (listed[0].public_id, listed[0].fault) == (given_up[2].public_id, "HTTP 500")
    assert await database.read(app_events.counts) == {
        AppEventState.DEAD: 3,
        AppEventState.DELIVERED: 1,
    }

    later = NOON + timedelta(days=5)
    public_ids = [given_up[0].public_id, delivered.public_id, "msg_unknown"]
    assert await database.write(app_events.replay, public_ids, later) == 1
    (back,) = await claim(database, later)
    assert (back.public_id, back.body, back.attempts) == (
        given_up[0].public_id,
        given_up[0].body,
        1,
    )
    assert await database.write(app_events.replay, None, later) == 2
    assert await database.write(app_events.replay, None, later) == 0
    assert len(await claim(database, later)) == 2


async def test_an_event_that_is_queued_again_comes_before_later_ones(database: Database) -> None:
    await add(database, "a", "a")
    (first,) = await claim(database)
    await database.write(app_events.settle_dead, first, "HTTP 500")
    await database.write(app_events.replay, None, NOON)
    assert bodies(await claim(database)) == ['{"n":0}']
    assert await claim(database) == []


async def test_no_event_is_due_for_a_disabled_endpoint(database: Database) -> None:
    await add(database, "a")
    await database.write(app_events.disable, URL, NOON)
    assert not await database.read(app_events.any_due, URL, NOON)
    assert await claim(database) == []
    assert await database.read(app_events.any_due, URL + "2", NOON)
    await database.write(app_events.enable, None)
    assert await database.read(app_events.any_due, URL, NOON)
    assert len(await claim(database)) == 1


async def test_of_a_disabled_endpoint_only_the_hash_is_stored(database: Database) -> None:
    assert not await database.read(app_events.is_disabled, URL)
    assert not await database.read(app_events.any_disabled)
    for _ in range(2):
        await database.write(app_events.disable, URL, NOON)
    assert await database.read(app_events.is_disabled, URL)
    assert not await database.read(app_events.is_disabled, URL + "2")
    assert await database.read(app_events.any_disabled)

    def read(connection: Connection) -> list[Row[Any]]:
        return list(connection.execute(select(DisabledEndpointRow.__table__)))

    (row,) = await database.read(read)
    assert (len(row.url_hash), row.disabled_at) == (64, NOON)
    assert await database.write(app_events.enable, URL + "2") == 0
    assert await database.write(app_events.enable, URL) == 1
    await database.write(app_events.disable, URL, NOON)
    assert await database.write(app_events.enable, None) == 1
    assert not await database.read(app_events.is_disabled, URL)


@pytest.mark.parametrize(
    ("age", "left"),
    [(timedelta(days=29), ["a", "b", "c"]), (timedelta(days=31), ["c"])],
)
async def test_settled_events_are_deleted_after_a_month_and_queued_ones_stay(
    age: timedelta, left: list[str], database: Database
) -> None:
    await add(database, "a", "b", "c")
    delivered, dead, _ = await claim(database)
    await database.write(app_events.settle_delivered, delivered)
    await database.write(app_events.settle_dead, dead, "HTTP 500")
    await database.write(purge_chunk, NOON + age)
    assert [row.subject for row in await rows(database)] == left
