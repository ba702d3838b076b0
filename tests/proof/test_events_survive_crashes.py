"""The process dies at any moment: an app receives every event in order, with the same bytes."""

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
from tests.kit.crash_points import EVENT_POINTS, run_until_crash
from tests.kit.event_receiver import EVENTS_SECRET, EventReceiver
from tests.kit.seeds import seeded
from tests.kit.settings import environment
from tests.kit.timeouts import TEST_TIMEOUT, slow_database

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from sqlalchemy import URL

    from bot.store.engine.database import Database
    from tests.kit.processes import Processes

SUBJECTS = ["a", "b", "c"]
EACH = 4
_POLL_INTERVAL = 0.05


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    async with EventReceiver().running() as receiver:
        yield receiver


@pytest.fixture
async def database_of_events(database_url: URL) -> AsyncIterator[Database]:
    database = slow_database(database_url)
    try:
        yield database
    finally:
        await database.close()


def event_environment(url: URL, receiver: EventReceiver) -> dict[str, str]:
    """Return the environment of a bot that sends app events."""
    return environment(
        url, EVENTS_URL=receiver.url, EVENTS_SECRET=EVENTS_SECRET, EVENTS_TO_PRIVATE="on"
    )


async def work(
    processes: Processes, url: URL, receiver: EventReceiver, point: str, nth: int
) -> None:
    """Start `bot work`; if `nth` is not 0, wait until it has crashed at that point."""
    env = event_environment(url, receiver)
    bot = await processes.start(point, str(nth), "work", env=env, main=run_until_crash)
    if nth:
        ended = await bot.end()
        assert ended.code == -9, ended.err


async def add_events(database: Database, count: int) -> None:
    """Add `count` events of each subject, numbered in order."""
    drafts = [
        NewAppEvent(subject, "verification.sent", json.dumps({"subject": subject, "n": n}))
        for n in range(count)
        for subject in SUBJECTS
    ]
    await database.write(app_events.add, drafts, SystemClock().now())


async def wait_until_delivered(database: Database, count: int) -> None:
    async with asyncio.timeout(TEST_TIMEOUT):
        while await database.read(app_events.counts) != {AppEventState.DELIVERED: count}:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)


def check(receiver: EventReceiver) -> None:
    """Check the events that the app has received."""
    assert receiver.refused == []
    bodies: dict[str, set[bytes]] = {}
    first_received: dict[str, list[int]] = {}
    for received in receiver.received:
        if received.id not in bodies:
            first_received.setdefault(received.event["subject"], []).append(received.event["n"])
        bodies.setdefault(received.id, set()).add(received.body)
    assert first_received == {subject: list(range(EACH)) for subject in SUBJECTS}
    assert [event_id for event_id, sent in bodies.items() if len(sent) != 1] == []
    assert len(bodies) == EACH * len(SUBJECTS)
    for subject in SUBJECTS:
        # Only the latest event is ever repeated, never one before it.
        numbers = [
            each.event["n"] for each in receiver.received if each.event["subject"] == subject
        ]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("make_database", "point"),
    # Each point once, on one of the databases.
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
    await add_events(database_of_events, EACH)
    with seeded(point) as rng:
        await work(processes, database_url, receiver, point, rng.randint(1, 6))
        await work(processes, database_url, receiver, point, 0)
        await wait_until_delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)


async def test_crashes_while_the_app_fails_too_lose_no_event_and_keep_their_order(
    database_url: URL, database_of_events: Database, receiver: EventReceiver, processes: Processes
) -> None:
    await add_events(database_of_events, EACH)
    with seeded("crashes and faults") as rng:
        receiver.answers = faulty_answers(rng)
        for point in rng.sample(list(EVENT_POINTS), 2):
            await work(processes, database_url, receiver, point, rng.randint(1, 3))
        await work(processes, database_url, receiver, "after settling an event", 0)
        await wait_until_delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)


def faulty_answers(rng: random.Random) -> list[tuple[int, dict[str, str]]]:
    """Return an app's first answers: two of them are faults."""
    answers: list[tuple[int, dict[str, str]]] = [(204, {})] * 8
    for place in rng.sample(range(len(answers)), 2):
        answers[place] = (rng.choice([500, 503, 302, 404]), {})
    return answers


async def test_two_processes_share_the_events_and_keep_their_order(
    database_url: URL, database_of_events: Database, receiver: EventReceiver, processes: Processes
) -> None:
    for _ in range(2):
        await processes.start("work", env=event_environment(database_url, receiver))
    await add_events(database_of_events, EACH)
    await wait_until_delivered(database_of_events, EACH * len(SUBJECTS))
    check(receiver)
