"""Whatever moment the process dies at, an app is told of every event, in order, as the same."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

import pytest

from bot.services.clock import SystemClock
from bot.store.queues import app_events
from bot.store.queues.app_events import NewAppEvent
from bot.store.tables import AppEventState
from tests.kit.crash_points import EVENT_POINTS, run_until_struck
from tests.kit.event_receiver import EVENTS_SECRET, EventReceiver
from tests.kit.processes import Processes, environment
from tests.kit.seeds import seeded
from tests.kit.timeouts import TEST_TIMEOUT, slow_database

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from sqlalchemy import URL

    from bot.store.engine.database import Database

SUBJECTS = ["a", "b", "c"]
EACH = 4
_LOOK_EVERY = 0.05


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    async with EventReceiver().listening() as receiver:
        yield receiver


@pytest.fixture
async def database_of_events(database_url: URL) -> AsyncIterator[Database]:
    database = slow_database(database_url)
    try:
        yield database
    finally:
        await database.close()


def telling(url: URL, receiver: EventReceiver) -> dict[str, str]:
    """Make the settings of a bot that tells the app of events."""
    return environment(
        url, EVENTS_URL=receiver.url, EVENTS_SECRET=EVENTS_SECRET, EVENTS_TO_PRIVATE="on"
    )


async def work(
    processes: Processes, url: URL, receiver: EventReceiver, point: str, nth: int
) -> None:
    """Run a bot; where `nth` is not 0, until it is struck at that point."""
    env = telling(url, receiver)
    bot = await processes.start(point, str(nth), "work", env=env, main=run_until_struck)
    if nth:
        ended = await bot.end()
        assert ended.code == -9, ended.err


async def tell(database: Database, count: int) -> None:
    """Have the app told of `count` events of each subject, numbered in their order."""
    drafts = [
        NewAppEvent(subject, "verification.sent", json.dumps({"subject": subject, "n": n}))
        for n in range(count)
        for subject in SUBJECTS
    ]
    await database.write(app_events.add, drafts, SystemClock().now())


async def delivered(database: Database, count: int) -> None:
    async with asyncio.timeout(TEST_TIMEOUT):
        while await database.read(app_events.counts) != {AppEventState.DELIVERED: count}:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)


def check(receiver: EventReceiver) -> None:
    """Check what must hold of what the app has verified."""
    assert receiver.refused == []
    bodies: dict[str, set[bytes]] = {}
    first_heard: dict[str, list[int]] = {}
    for heard in receiver.heard:
        if heard.name not in bodies:
            first_heard.setdefault(heard.event["subject"], []).append(heard.event["n"])
        bodies.setdefault(heard.name, set()).add(heard.body)
    assert first_heard == {subject: list(range(EACH)) for subject in SUBJECTS}
    assert [name for name, said in bodies.items() if len(said) != 1] == []
    assert len(bodies) == EACH * len(SUBJECTS)
    for subject in SUBJECTS:
        # What is told again is the last that was told, never one from before that.
        told = [each.event["n"] for each in receiver.heard if each.event["subject"] == subject]
        assert told == sorted(told)


@pytest.mark.parametrize(
    ("make_database", "point"),
    # Each point once, on this database or on that.
    list(zip(itertools.cycle(["sqlite", "postgresql"]), EVENT_POINTS, strict=False)),
    indirect=["make_database"],
)
async def test_a_crash_loses_no_event_and_keeps_their_order(
    point: str,
    database_url: URL,
    database_of_events: Database,
    receiver: EventReceiver,
    processes: Processes,
) -> None:
    await tell(database_of_events, EACH)
    with seeded(point) as chance:
        await work(processes, database_url, receiver, point, chance.randint(1, 6))
        await work(processes, database_url, receiver, point, 0)
        await delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)


async def test_crashes_while_the_app_fails_too_lose_no_event_and_keep_their_order(
    database_url: URL, database_of_events: Database, receiver: EventReceiver, processes: Processes
) -> None:
    await tell(database_of_events, EACH)
    with seeded("crashes and faults") as chance:
        receiver.answers = answers(chance)
        for point in chance.sample(list(EVENT_POINTS), 2):
            await work(processes, database_url, receiver, point, chance.randint(1, 3))
        await work(processes, database_url, receiver, "after settling an event", 0)
        await delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)


def answers(chance: random.Random) -> list[tuple[int, dict[str, str]]]:
    """Make an app's first answers: two of them are faults."""
    told: list[tuple[int, dict[str, str]]] = [(204, {})] * 8
    for place in chance.sample(range(len(told)), 2):
        told[place] = (chance.choice([500, 503, 302, 404]), {})
    return told


async def test_two_processes_share_the_events_and_keep_their_order(
    database_url: URL, database_of_events: Database, receiver: EventReceiver, processes: Processes
) -> None:
    for _ in range(2):
        await processes.start("work", env=telling(database_url, receiver))
    await tell(database_of_events, EACH)
    await delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)
