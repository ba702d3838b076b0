from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import select

from bot import app
from bot.app_events.results import GONE, EndpointGone, PostAccepted, PostLater
from bot.services.delivery.notifier import RETRY_DELAYS, AppEventDelivery, Notifier
from bot.services.delivery.queue_worker import (
    DRAIN_TIMEOUT,
    POLL_INTERVAL,
    SETTLE_RETRY_DELAYS,
    BatchSettler,
    QueueWorker,
)
from bot.simulator.clock import StoppedClock, TravelClock
from bot.store.engine.errors import UnavailableError
from bot.store.queues import app_events
from bot.store.queues.app_events import LEASE, NewAppEvent
from bot.store.tables import AppEventRow, AppEventState
from tests.kit.event_receiver import EVENTS_SECRET, EventReceiver
from tests.kit.samples import PHONE
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from bot.app_events.results import PostResult
    from bot.store.engine.database import Database
    from tests.conftest import MakeSandbox

URL = "https://app.example/textproof"
SCHEDULE = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


@dataclass(frozen=True, slots=True)
class Posted:
    name: str
    body: str
    at: datetime


@dataclass(slots=True)
class FakeClient:
    """Records what is posted, and returns the given results, then success."""

    outcomes: list[PostResult] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    closed: bool = False

    async def post(self, *, name: str, body: str, at: datetime) -> PostResult:
        self.posted.append(Posted(name, body, at))
        if body in self.gates:
            await self.gates[body].wait()
        if self.closed:
            raise ConnectionError
        return self.outcomes.pop(0) if self.outcomes else PostAccepted()

    @property
    def bodies(self) -> list[str]:
        return [each.body for each in self.posted]


@dataclass(slots=True)
class RunningNotifier:
    database: Database
    clock: StoppedClock
    client: FakeClient
    notifier: Notifier

    async def add(self, *bodies: str) -> None:
        """Add events; the first letter of a body names its subject."""
        drafts = [NewAppEvent(body[0], "verification.sent", body) for body in bodies]
        await self.database.write(app_events.add, drafts, self.clock.now())
        self.notifier.wake()

    async def travel(self, length: timedelta) -> None:
        self.clock.travel(length)
        self.notifier.wake()

    async def rows(self) -> list[Row[Any]]:
        def read(connection: Connection) -> list[Row[Any]]:
            table = AppEventRow.__table__
            return list(connection.execute(select(table).order_by(table.c.id)))

        return await self.database.read(read)

    async def until(self, reached: Callable[[list[Row[Any]]], bool]) -> list[Row[Any]]:
        rows: list[Row[Any]] = []

        async def is_reached() -> bool:
            nonlocal rows
            return reached(rows := await self.rows()) and self.notifier.idle

        await wait_until(is_reached)
        return rows

    async def until_states(self, *states: AppEventState) -> list[Row[Any]]:
        return await self.until(lambda rows: [row.state for row in rows] == list(states))

    async def until_posted(self, count: int) -> None:
        await wait_until(lambda: len(self.client.posted) >= count)


@asynccontextmanager
async def running_notifier(
    database: Database,
    clock: StoppedClock,
    *outcomes: PostResult,
    gated: str = "",
    poll_interval: float = POLL_INTERVAL,
    drain_timeout: float = DRAIN_TIMEOUT,
) -> AsyncIterator[RunningNotifier]:
    gates = {body: asyncio.Event() for body in gated.split()}
    client = FakeClient(list(outcomes), gates=gates)

    @asynccontextmanager
    async def opening() -> AsyncIterator[FakeClient]:
        yield client
        client.closed = True

    delivery = AppEventDelivery(
        database,
        URL,
        clock,
        jitter=0,
        make_settler=partial(BatchSettler, retry_delays=(0.01,) * len(SETTLE_RETRY_DELAYS)),
    )
    notifier = QueueWorker(
        delivery, opening, poll_interval=poll_interval, drain_timeout=drain_timeout
    )
    task = asyncio.create_task(notifier.run())
    try:
        yield RunningNotifier(database, clock, client, notifier)
    finally:
        notifier.stop()
        await task


def first_is_due(at: datetime, rows: list[Row[Any]]) -> bool:
    due: bool = rows[0].due_at == at
    return due


async def test_events_arrive_in_the_order_of_their_subject(
    database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock) as running:
        await running.add("a1", "a2", "b1", "a3", "b2")
        await running.until_states(*[AppEventState.DELIVERED] * 5)
    for subject, order in (("a", ["a1", "a2", "a3"]), ("b", ["b1", "b2"])):
        assert [body for body in running.client.bodies if body[0] == subject] == order


async def test_a_subject_that_takes_long_does_not_hold_up_the_others(
    database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock, gated="a1") as running:
        await running.add("a1", "a2", *(f"b{n}" for n in range(30)), "c1")
        await running.until_posted(32)
        assert "a2" not in running.client.bodies
        running.client.gates["a1"].set()
        await running.until_states(*[AppEventState.DELIVERED] * 33)
    assert running.client.bodies[-1] == "a2"


async def test_at_most_ten_events_are_in_flight_at_once(
    database: Database, clock: StoppedClock
) -> None:
    bodies = [f"{letter}1" for letter in "abcdefghijklm"]
    async with running_notifier(database, clock, gated=" ".join(bodies)) as running:
        await running.add(*bodies)
        await running.until_posted(10)
        running.notifier.wake()
        rows = await running.rows()
        assert [row.attempts for row in rows] == [1] * 10 + [0] * 3
        for gate in running.client.gates.values():
            gate.set()
        await running.until_states(*[AppEventState.DELIVERED] * 13)


async def test_an_event_is_tried_on_the_schedule_of_the_standard_and_then_given_up(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [wait.total_seconds() for wait in RETRY_DELAYS] == SCHEDULE
    faults = [PostLater("HTTP 500")] * 9 + [PostLater("timeout")]
    tried = []
    async with running_notifier(database, clock, *faults) as running:
        await running.add("a1", "a2")
        for count, wait in enumerate(SCHEDULE, start=1):
            due_at = clock.now() + timedelta(seconds=wait)
            (row, _) = await running.until(partial(first_is_due, due_at))
            assert (row.attempts, row.fault) == (count, "HTTP 500")
            tried.append(clock.now())
            await running.travel(timedelta(seconds=wait))
        (row, _) = await running.until_states(AppEventState.DEAD, AppEventState.DELIVERED)
        tried.append(clock.now())
    assert (row.fault, row.attempts) == ("timeout", 10)
    *tries, after = running.client.posted
    # Every attempt has the same id and the same bytes, and a time of its own.
    assert {(each.name, each.body) for each in tries} == {(row.public_id, "a1")}
    assert [each.at for each in tries] == tried
    assert after.body == "a2"
    assert f"bot events replay {row.public_id}" in capsys.readouterr().out


async def test_retry_delays_vary_by_their_jitter(database: Database, clock: StoppedClock) -> None:
    delivery = AppEventDelivery(database, URL, clock, jitter=0.2)
    waits = {delivery._retry_delay(1, 0).total_seconds() for _ in range(200)}
    assert len(waits) > 100
    assert 4 <= min(waits) < 4.5
    assert 5.5 < max(waits) <= 6


@pytest.mark.parametrize(("asked", "waited"), [(3600.0, 3600.0), (1.0, 5.0)])
async def test_a_retry_waits_as_long_as_the_app_asks_and_at_least_as_long_as_usual(
    asked: float, waited: float, database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock, PostLater("HTTP 429", asked)) as running:
        await running.add("a1")
        await running.until(partial(first_is_due, clock.now() + timedelta(seconds=waited)))
        await running.travel(timedelta(seconds=waited))
        await running.until_states(AppEventState.DELIVERED)


async def test_an_endpoint_that_is_gone_receives_nothing_until_it_is_resumed(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_notifier(database, clock, EndpointGone()) as running:
        await running.add("a1", "a2")
        rows = await running.until(lambda rows: rows[0].fault == GONE)
        assert [row.state for row in rows] == [AppEventState.QUEUED] * 2
        await running.add("b1")
        await running.travel(timedelta(days=2))
        assert not await database.read(app_events.any_due, URL, clock.now())
        assert running.client.bodies == ["a1"]
        assert "bot events resume" in capsys.readouterr().out
        await database.write(app_events.enable, None)
        running.notifier.wake()
        await running.until_states(*[AppEventState.DELIVERED] * 3)
    assert running.client.bodies[:2] == ["a1", "a1"]


async def test_an_event_whose_process_died_is_posted_again_when_its_lease_ends(
    database: Database, clock: StoppedClock
) -> None:
    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    (lost,) = await database.write(app_events.claim, URL, 1, clock.now())
    async with running_notifier(database, clock) as running:
        await running.travel(LEASE)
        await running.until_states(AppEventState.DELIVERED)
    assert [(each.name, each.body) for each in running.client.posted] == [(lost.public_id, "a1")]


async def test_an_event_that_is_replayed_is_delivered(
    database: Database, clock: StoppedClock
) -> None:
    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    (claimed,) = await database.write(app_events.claim, URL, 1, clock.now())
    await database.write(app_events.settle_dead, claimed, "HTTP 500")
    async with running_notifier(database, clock) as running:
        await database.write(app_events.replay, None, clock.now())
        running.notifier.wake()
        await running.until_states(AppEventState.DELIVERED)


async def test_events_of_other_processes_are_found_by_polling(
    database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock, poll_interval=0.01) as running:
        for count in (1, 2):
            draft = NewAppEvent("a", "verification.sent", "a1")
            await database.write(app_events.add, [draft], clock.now())
            await running.until_states(*[AppEventState.DELIVERED] * count)


async def test_an_outage_of_the_database_passes(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [UnavailableError("gone"), ValueError("a bug"), None, UnavailableError("gone")]
    write = database.write

    async def faulty(*args: Any) -> Any:
        fault = faults.pop(0) if faults else None
        if fault:
            raise fault
        return await write(*args)

    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    monkeypatch.setattr(database, "write", faulty)
    async with running_notifier(database, clock, poll_interval=0.01) as running:
        await running.until_states(AppEventState.DELIVERED)
    assert running.client.bodies == ["a1"]
    assert faults == []


async def test_events_in_flight_arrive_before_the_notifier_ends(
    database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock, gated="a1") as running:
        await running.add("a1")
        await running.until_posted(1)
        running.notifier.stop()
        await wait_until(lambda: not running.notifier.alive)
        running.client.gates["a1"].set()
    (row,) = await running.rows()
    assert row.state == AppEventState.DELIVERED


async def test_an_event_that_does_not_arrive_in_time_keeps_its_lease(
    database: Database, clock: StoppedClock
) -> None:
    async with running_notifier(database, clock, gated="a1", drain_timeout=0.01) as running:
        await running.add("a1")
        await running.until_posted(1)
    (row,) = await running.rows()
    assert (row.state, row.due_at) == (AppEventState.QUEUED, clock.now() + LEASE)


# In a running bot.


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    async with EventReceiver().running() as receiver:
        yield receiver


async def test_a_bot_posts_events_as_soon_as_a_webhook_is_committed(
    make_sandbox: MakeSandbox, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "QueueWorker", partial(QueueWorker, poll_interval=3600.0))
    sandbox = await make_sandbox(
        clock=TravelClock(),
        events_url=receiver.url,
        events_secret=[EVENTS_SECRET],
        events_to_private=True,
    )
    notifier = sandbox.bot.notifier
    assert notifier is not None
    await wait_until(lambda: notifier.alive and notifier.idle)
    draft = NewAppEvent(PHONE, "number.opted_out", '{"type":"number.opted_out"}')
    await sandbox.bot.database.write(app_events.add, [draft], sandbox.clock.now())
    await sandbox.text(PHONE, "VERIFY")
    await wait_until(lambda: len(receiver.received) == 1)
    assert receiver.received[0].event == {"type": "number.opted_out"}
    assert receiver.refused == []
    async with ClientSession() as session, session.get(f"{sandbox.bot.url}/readyz") as answer:
        assert (await answer.json())["notifier"] is True


async def test_a_bot_without_an_app_has_no_notifier(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox()
    assert sandbox.bot.notifier is None
    async with ClientSession() as session, session.get(f"{sandbox.bot.url}/readyz") as answer:
        assert "notifier" not in await answer.json()
