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

from bot.app_events.results import GONE, EndpointGone, PostAccepted, PostLater
from bot.services.delivery import queue_worker
from bot.services.delivery.notifier import RETRY_DELAYS, Notifier
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
class FakeTransport:
    """Notes what is posted, and answers as told, in the end with success."""

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
class Post:
    """A notifier at work on a database, with what it may be steered and seen by."""

    database: Database
    clock: StoppedClock
    transport: FakeTransport
    notifier: Notifier

    async def add(self, *bodies: str) -> None:
        """Add events; the first letter of a body names its subject."""
        drafts = [NewAppEvent(body[0], "verification.sent", body) for body in bodies]
        await self.database.write(app_events.add, drafts, self.clock.now())
        self.notifier.wake()

    async def later(self, length: timedelta) -> None:
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
        await wait_until(lambda: len(self.transport.posted) >= count)


@asynccontextmanager
async def open_post(
    database: Database, clock: StoppedClock, *outcomes: PostResult, gated: str = ""
) -> AsyncIterator[Post]:
    gates = {body: asyncio.Event() for body in gated.split()}
    transport = FakeTransport(list(outcomes), gates=gates)

    @asynccontextmanager
    async def opening() -> AsyncIterator[FakeTransport]:
        yield transport
        transport.closed = True

    notifier = Notifier(database, opening, URL, clock, jitter=0)
    task = asyncio.create_task(notifier.run())
    try:
        yield Post(database, clock, transport, notifier)
    finally:
        notifier.stop()
        await task


def first_is_due(at: datetime, rows: list[Row[Any]]) -> bool:
    due: bool = rows[0].due_at == at
    return due


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


async def test_events_arrive_in_the_order_of_their_subject(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock) as post:
        await post.add("a1", "a2", "b1", "a3", "b2")
        await post.until_states(*[AppEventState.DELIVERED] * 5)
    for subject, order in (("a", ["a1", "a2", "a3"]), ("b", ["b1", "b2"])):
        assert [body for body in post.transport.bodies if body[0] == subject] == order


async def test_a_subject_that_takes_long_does_not_hold_up_the_others(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, gated="a1") as post:
        await post.add("a1", "a2", *(f"b{n}" for n in range(30)), "c1")
        await post.until_posted(32)
        assert "a2" not in post.transport.bodies
        post.transport.gates["a1"].set()
        await post.until_states(*[AppEventState.DELIVERED] * 33)
    assert post.transport.bodies[-1] == "a2"


async def test_no_more_than_ten_are_on_their_way_at_once(
    database: Database, clock: StoppedClock
) -> None:
    bodies = [f"{letter}1" for letter in "abcdefghijklm"]
    async with open_post(database, clock, gated=" ".join(bodies)) as post:
        await post.add(*bodies)
        await post.until_posted(10)
        post.notifier.wake()
        rows = await post.rows()
        assert [row.attempts for row in rows] == [1] * 10 + [0] * 3
        for gate in post.transport.gates.values():
            gate.set()
        await post.until_states(*[AppEventState.DELIVERED] * 13)


async def test_an_event_is_tried_as_the_standard_says_and_then_given_up(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [wait.total_seconds() for wait in RETRY_DELAYS] == SCHEDULE
    faults = [PostLater("HTTP 500")] * 9 + [PostLater("timeout")]
    tried = []
    async with open_post(database, clock, *faults) as post:
        await post.add("a1", "a2")
        for count, wait in enumerate(SCHEDULE, start=1):
            due_at = clock.now() + timedelta(seconds=wait)
            (row, _) = await post.until(partial(first_is_due, due_at))
            assert (row.attempts, row.fault) == (count, "HTTP 500")
            tried.append(clock.now())
            await post.later(timedelta(seconds=wait))
        (row, _) = await post.until_states(AppEventState.DEAD, AppEventState.DELIVERED)
        tried.append(clock.now())
    assert (row.fault, row.attempts) == ("timeout", 10)
    *tries, after = post.transport.posted
    # The same id and the same bytes at every try, and the time of that try.
    assert {(each.name, each.body) for each in tries} == {(row.name, "a1")}
    assert [each.at for each in tries] == tried
    assert after.body == "a2"
    assert f"bot events replay {row.name}" in capsys.readouterr().out


async def test_waits_vary_by_their_jitter(database: Database, clock: StoppedClock) -> None:
    notifier = Notifier(database, lambda: pytest.fail("not run"), URL, clock, jitter=0.2)
    waits = {notifier._wait(1, 0).total_seconds() for _ in range(200)}
    assert len(waits) > 100
    assert 4 <= min(waits) < 4.5
    assert 5.5 < max(waits) <= 6


@pytest.mark.parametrize(("asked", "waited"), [(3600.0, 3600.0), (1.0, 5.0)])
async def test_an_app_that_asks_to_wait_is_waited_for_and_never_less_than_usual(
    asked: float, waited: float, database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, PostLater("HTTP 429", asked)) as post:
        await post.add("a1")
        await post.until(partial(first_is_due, clock.now() + timedelta(seconds=waited)))
        await post.later(timedelta(seconds=waited))
        await post.until_states(AppEventState.DELIVERED)


async def test_an_app_that_is_gone_is_left_alone_until_it_is_resumed(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_post(database, clock, EndpointGone()) as post:
        await post.add("a1", "a2")
        rows = await post.until(lambda rows: rows[0].fault == GONE)
        assert [row.state for row in rows] == [AppEventState.QUEUED] * 2
        await post.add("b1")
        await post.later(timedelta(days=2))
        assert not await database.read(app_events.any_due, URL, clock.now())
        assert post.transport.bodies == ["a1"]
        assert "bot events resume" in capsys.readouterr().out
        await database.write(app_events.enable, None)
        post.notifier.wake()
        await post.until_states(*[AppEventState.DELIVERED] * 3)
    assert post.transport.bodies[:2] == ["a1", "a1"]


async def test_an_event_whose_process_died_is_posted_again_when_its_lease_ends(
    database: Database, clock: StoppedClock
) -> None:
    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    (lost,) = await database.write(app_events.claim, URL, 1, clock.now())
    async with open_post(database, clock) as post:
        await post.later(LEASE)
        await post.until_states(AppEventState.DELIVERED)
    assert [(each.name, each.body) for each in post.transport.posted] == [(lost.name, "a1")]


async def test_an_event_that_was_put_back_is_delivered(
    database: Database, clock: StoppedClock
) -> None:
    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    (claimed,) = await database.write(app_events.claim, URL, 1, clock.now())
    await database.write(app_events.settle_dead, claimed, "HTTP 500")
    async with open_post(database, clock) as post:
        await database.write(app_events.replay, None, clock.now())
        post.notifier.wake()
        await post.until_states(AppEventState.DELIVERED)


async def test_events_of_other_processes_are_found_without_being_told(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.01)
    async with open_post(database, clock) as post:
        for count in (1, 2):
            draft = NewAppEvent("a", "verification.sent", "a1")
            await database.write(app_events.add, [draft], clock.now())
            await post.until_states(*[AppEventState.DELIVERED] * count)


async def test_an_outage_of_the_database_passes(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.01)
    monkeypatch.setattr(queue_worker, "_SETTLE_RETRIES", (0.01, 0.01))
    faults = [UnavailableError("gone"), ValueError("a bug"), None, UnavailableError("gone")]
    write = database.write

    async def faulty(*args: Any) -> Any:
        fault = faults.pop(0) if faults else None
        if fault:
            raise fault
        return await write(*args)

    await database.write(app_events.add, [NewAppEvent("a", "verification.sent", "a1")], clock.now())
    monkeypatch.setattr(database, "write", faulty)
    async with open_post(database, clock) as post:
        await post.until_states(AppEventState.DELIVERED)
    assert post.transport.bodies == ["a1"]
    assert faults == []


async def test_what_is_on_its_way_arrives_before_the_end(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, gated="a1") as post:
        await post.add("a1")
        await post.until_posted(1)
        post.notifier.stop()
        await wait_until(lambda: not post.notifier.alive)
        post.transport.gates["a1"].set()
    (row,) = await post.rows()
    assert row.state == AppEventState.DELIVERED


async def test_what_does_not_arrive_in_time_is_left_to_its_lease(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "DRAIN_TIMEOUT", 0.01)
    async with open_post(database, clock, gated="a1") as post:
        await post.add("a1")
        await post.until_posted(1)
    (row,) = await post.rows()
    assert (row.state, row.due_at) == (AppEventState.QUEUED, clock.now() + LEASE)


# Within the whole bot.


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    async with EventReceiver().running() as receiver:
        yield receiver


async def test_a_bot_tells_the_app_as_soon_as_a_webhook_is_committed(
    make_sandbox: MakeSandbox, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 3600.0)
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


async def test_a_bot_without_an_app_tells_nobody(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox()
    assert sandbox.bot.notifier is None
    async with ClientSession() as session, session.get(f"{sandbox.bot.url}/readyz") as answer:
        assert "notifier" not in await answer.json()
