from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, event

from bot.carrier.errors import (
    OPTED_OUT_FAULT,
    Limit,
    SendAccepted,
    SendHold,
    SendLater,
    SendNever,
    SendResult,
)
from bot.carrier.webhooks import DeliveryStatus
from bot.conversation.codes import Keyring
from bot.conversation.state import State
from bot.services.delivery import queue_worker
from bot.services.delivery.sender import HOLD_PERIOD, SendAttempt, Sender
from bot.services.delivery.throttle import SendRates
from bot.services.intake.inbox import apply
from bot.services.intake.unit_of_work import Rules
from bot.services.status import overview
from bot.simulator.clock import StoppedClock
from bot.store import throttle
from bot.store.engine.errors import UnavailableError
from bot.store.queues import outbox
from bot.store.queues.outbox import LEASE
from bot.store.tables import OutboxState
from bot.store.throttle import ACCOUNT, Throttle
from tests.kit.inboxes import held, the_limits_of
from tests.kit.loop_time import advance
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, SECRET, report, text
from tests.kit.stored import code_of, conversation_of, outbox_rows
from tests.kit.timeouts import TEST_TIMEOUT, slow_database, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from typing import Any

    from sqlalchemy import URL, Connection, Row

    from bot.store.engine.database import Database

OTHERS = [f"+1312555{number:04}" for number in range(200, 230)]


@dataclass(frozen=True, slots=True)
class Sent:
    key: str
    phone: str
    text: str
    retried: bool


@dataclass(slots=True)
class FakeTransport:
    """Notes what is sent, and answers as told, in the end with success."""

    outcomes: list[SendResult] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        del bot_number
        self.sent.append(Sent(key, phone, text, retried))
        if self.gate:
            await self.gate.wait()
        return self.outcomes.pop(0) if self.outcomes else SendAccepted(f"id-{len(self.sent)}")


@dataclass(slots=True)
class Post:
    """A sender at work on a database, with what it may be steered and seen by."""

    database: Database
    clock: StoppedClock
    transport: FakeTransport
    sender: Sender

    async def text(self, said: str, phone: str = PHONE, bot_number: str = BOT_NUMBER) -> None:
        events = [replace(text(said, phone=phone), bot_number=bot_number)]
        await self.database.write(apply, events, self.clock.now(), RULES)
        self.sender.wake()

    async def later(self, length: timedelta) -> None:
        self.clock.travel(length)
        self.sender.wake()

    async def rows(self) -> list[Row[Any]]:
        return await outbox_rows(self.database)

    async def until(self, reached: Callable[[list[Row[Any]]], bool]) -> list[Row[Any]]:
        rows: list[Row[Any]] = []

        async def is_reached() -> bool:
            nonlocal rows
            return reached(rows := await self.rows()) and self.sender.idle

        await wait_until(is_reached)
        return rows

    async def until_sending(self, count: int) -> None:
        await wait_until(lambda: len(self.transport.sent) >= count)

    async def until_state(self, *states: OutboxState) -> list[Row[Any]]:
        return await self.until(lambda rows: [row.state for row in rows] == list(states))

    async def until_sent(self, count: int) -> None:
        await self.until(lambda _: len(self.transport.sent) >= count)


@asynccontextmanager
async def open_post(  # noqa: PLR0913 - what a sender meets, none of it together
    database: Database,
    clock: StoppedClock,
    *outcomes: SendResult,
    rules: Rules = RULES,
    gate: asyncio.Event | None = None,
    rate: float = 0,
    per_number: float = 0,
) -> AsyncIterator[Post]:
    transport = FakeTransport(list(outcomes), gate=gate)

    @asynccontextmanager
    async def opening() -> AsyncIterator[FakeTransport]:
        yield transport

    sender = Sender(database, opening, rules, clock, rates=SendRates(rate, per_number))
    task = asyncio.create_task(sender.run())
    try:
        yield Post(database, clock, transport, sender)
    finally:
        sender.stop()
        await task


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


async def test_a_code_leaves_in_the_place_of_its_placeholder(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock) as post:
        await post.text("VERIFY")
        (row,) = await post.until_state(OutboxState.ACCEPTED)
        code = await code_of(database)
    (sent,) = post.transport.sent
    assert sent.text == row.body.replace("{code}", code)
    assert code not in row.body
    assert (row.carrier_id, sent.key, sent.retried) == ("id-1", row.key, False)


async def test_a_text_is_tried_again_under_the_same_key_with_the_same_bytes(
    database: Database, clock: StoppedClock
) -> None:
    faults = [SendLater("HTTP 500"), SendLater("timeout"), SendLater("HTTP 503")]
    async with open_post(database, clock, *faults) as post:
        await post.text("VERIFY")
        for wait in (1.5, 4, 12):
            await post.until(lambda rows: rows[0].fault is not None)
            await post.later(timedelta(seconds=wait))
            await post.until_sent((1.5, 4, 12).index(wait) + 2)
        await post.until_state(OutboxState.ACCEPTED)
    assert len({(one.key, one.text) for one in post.transport.sent}) == 1
    assert [one.retried for one in post.transport.sent] == [False, True, True, True]


@pytest.mark.parametrize(
    ("attempts", "around"), [(1, 1), (2, 3), (3, 9), (4, 30), (5, 30), (50, 30)]
)
async def test_the_wait_between_tries_grows(
    database: Database, clock: StoppedClock, attempts: int, around: float
) -> None:
    async with open_post(database, clock) as post:
        backoff, no = post.sender._backoff, SendLater("10007")
        waits = {backoff(attempts, no).total_seconds() for _ in range(50)}
        asked = backoff(attempts, SendLater("10011", retry_after=120))
        doubtful = backoff(1, SendLater("timeout", in_doubt=True)).total_seconds()
    assert 4 <= doubtful <= 6
    assert around * 0.8 <= min(waits) < max(waits) <= around * 1.2
    assert asked == timedelta(seconds=120)


async def test_a_text_is_tried_twice_at_most_while_nobody_says_whether_it_has_left(
    database: Database, clock: StoppedClock
) -> None:
    silence = SendLater("timeout", in_doubt=True)
    async with open_post(database, clock, silence, SendLater("10007"), silence) as post:
        await post.text("VERIFY")
        for tries in (1, 2, 3):
            await post.until_sent(tries)
            await post.until(lambda rows: rows[0].fault is not None)
            await post.later(timedelta(seconds=12))
        (row,) = await post.until_state(OutboxState.DROPPED)
    assert (row.fault, row.uncertain_attempts) == (outbox.IN_DOUBT, 2)
    assert len(post.transport.sent) == 3


async def test_a_text_that_cannot_arrive_is_given_up_visibly(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendNever("40310")) as post:
        await post.text("VERIFY")
        (row,) = await post.until_state(OutboxState.FAILED)
    assert row.fault == "40310"
    assert len(post.transport.sent) == 1


async def test_a_refusal_for_an_opt_out_ends_the_conversation(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendNever(OPTED_OUT_FAULT)) as post:
        await post.text("VERIFY")
        await post.until_state(OutboxState.FAILED)
        found = await conversation_of(database)
    assert (found.state, found.opt_out_wording) == (State.OPTED_OUT, OPTED_OUT_FAULT)
    assert found.token is not None
    assert found.token.ended_at is not None


async def test_a_fault_of_the_account_pauses_everything_but_a_probe(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendHold("10009"), SendHold("10009")) as post:
        await post.text("VERIFY")
        await post.until(lambda rows: rows[0].fault == "10009")
        for phone in OTHERS[:5]:
            await post.text("VERIFY", phone)
        await post.later(HOLD_PERIOD)
        await post.until_sent(2)
        assert len(post.transport.sent) == 2
        await post.later(HOLD_PERIOD)
        await post.until(lambda rows: {row.state for row in rows} == {OutboxState.ACCEPTED})
    assert len(post.transport.sent) == 8


async def test_texts_to_one_person_keep_their_order(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendLater("HTTP 500")) as post:
        await post.text("VERIFY")
        await post.until(lambda rows: rows[0].fault is not None)
        await post.text("STATUS")
        await post.text("VERIFY", OTHERS[0])
        await post.until_sent(2)
        assert [one.phone for one in post.transport.sent] == [PHONE, OTHERS[0]]
        await post.later(timedelta(seconds=2))
        await post.until_state(*[OutboxState.ACCEPTED] * 3)
    assert [one.phone for one in post.transport.sent[2:]] == [PHONE, PHONE]
    assert "code:" in post.transport.sent[2].text


async def test_a_code_past_its_expiry_is_dropped_and_never_sent(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendLater("HTTP 500")) as post:
        await post.text("VERIFY")
        await post.until(lambda rows: rows[0].fault is not None)
        await post.later(timedelta(minutes=11))
        await post.until_state(OutboxState.DROPPED)
    assert len(post.transport.sent) == 1


async def test_nothing_is_tried_again_after_stop_but_its_confirmation_leaves(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendLater("HTTP 500")) as post:
        await post.text("VERIFY")
        await post.until(lambda rows: rows[0].fault is not None)
        await post.text("revoke")
        await post.until_state(OutboxState.CANCELLED, OutboxState.ACCEPTED)
        await post.later(timedelta(minutes=1))
        await post.until_state(OutboxState.CANCELLED, OutboxState.ACCEPTED)
    assert ["opted out" in one.text for one in post.transport.sent] == [False, True]


async def test_a_text_that_was_on_its_way_when_stop_came_is_told_as_it_went(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with open_post(database, clock, gate=gate) as post:
        await post.text("VERIFY")
        await post.until_sending(1)
        await post.text("revoke")
        gate.set()
        await post.until_state(OutboxState.ACCEPTED, OutboxState.ACCEPTED)
    assert "code:" in post.transport.sent[0].text


async def test_a_code_whose_key_is_gone_is_dropped(database: Database, clock: StoppedClock) -> None:
    rotated = Rules(RULES.policy, Keyring(["another secret, and the old one is forgotten"]))
    async with open_post(database, clock, rules=rotated) as post:
        await post.text("VERIFY")
        (row,) = await post.until_state(OutboxState.DROPPED)
    assert row.fault == "code gone"
    assert post.transport.sent == []


async def test_a_code_of_an_older_key_still_leaves(database: Database, clock: StoppedClock) -> None:
    both = Rules(RULES.policy, Keyring(["a newer secret that signs from now on", SECRET]))
    async with open_post(database, clock, rules=both) as post:
        await post.text("VERIFY")
        await post.until_state(OutboxState.ACCEPTED)
        assert await code_of(database) in post.transport.sent[0].text


async def test_two_senders_on_one_database_send_each_text_once(
    database_url: URL, clock: StoppedClock
) -> None:
    first, second = slow_database(database_url), slow_database(database_url)
    async with open_post(first, clock) as one, open_post(second, clock) as other:
        await asyncio.gather(*(one.text("VERIFY", phone) for phone in OTHERS))
        other.sender.wake()
        await one.until(lambda rows: {row.state for row in rows} == {OutboxState.ACCEPTED})
        sent = one.transport.sent + other.transport.sent
    assert sorted(one.phone for one in sent) == OTHERS
    await first.close()
    await second.close()


async def test_a_claim_is_free_again_after_its_lease(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock) as post:
        post.sender.stop()
        await post.text("VERIFY")
        now = clock.now()
        (claimed,) = await database.write(outbox.claim, 10, now)
        assert await database.write(outbox.claim, 10, now + LEASE - timedelta(seconds=1)) == []
        (again,) = await database.write(outbox.claim, 10, now + LEASE)
    assert (again.key, again.attempts) == (claimed.key, 2)


async def test_what_came_of_a_text_is_written_down_when_the_database_is_back(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "_SETTLE_RETRIES", (0.01, 0.01, 0.01))
    async with open_post(database, clock) as post:
        write = database.write
        refusals: list[object] = []

        async def refuse_twice(work: Any, *args: Any, **kwargs: Any) -> Any:
            if work == post.sender._write_down and len(refusals) < 2:
                refusals.append(work)
                raise UnavailableError("for a while")
            return await write(work, *args, **kwargs)

        monkeypatch.setattr(database, "write", refuse_twice)
        await post.text("VERIFY")
        await post.until_state(OutboxState.ACCEPTED)
    assert len(refusals) == 2
    assert len(post.transport.sent) == 1


async def test_what_waits_to_be_written_down_keeps_no_other_text_from_leaving(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "_SETTLE_RETRIES", (TEST_TIMEOUT / 2,) * 2)
    async with open_post(database, clock) as post:
        write = database.write
        refused = asyncio.Event()

        async def refuse_once(work: Any, *args: Any, **kwargs: Any) -> Any:
            if work == post.sender._write_down and not refused.is_set():
                refused.set()
                raise UnavailableError("for a while")
            return await write(work, *args, **kwargs)

        monkeypatch.setattr(database, "write", refuse_once)
        await post.text("VERIFY")
        await refused.wait()
        await post.text("VERIFY", OTHERS[0])
        await post.until_sending(2)
        assert [row.state for row in await post.rows()] == [OutboxState.QUEUED] * 2
        advance(TEST_TIMEOUT / 2)
        await post.until_state(OutboxState.ACCEPTED, OutboxState.ACCEPTED)


async def test_a_definite_answer_written_down_twice_takes_one_doubt_back(
    database: Database, clock: StoppedClock
) -> None:
    now = clock.now()
    await database.write(apply, [text("VERIFY")], now, RULES)
    (claimed,) = await database.write(outbox.claim, 1, now)
    for _ in range(2):
        settle = partial(outbox.settle_later, in_doubt=False)
        await database.write(settle, claimed, now + timedelta(seconds=1), "10007")
    (row,) = await outbox_rows(database)
    assert row.uncertain_attempts == 0


async def test_stopping_lets_what_is_on_its_way_arrive(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with open_post(database, clock, gate=gate) as post:
        for phone in OTHERS[:10]:
            await post.text("VERIFY", phone)
        await post.until_sending(10)
        post.sender.stop()
        gate.set()
    assert {row.state for row in await outbox_rows(database)} == {OutboxState.ACCEPTED}


async def test_what_waits_for_its_turn_is_not_claimed_so_stop_still_holds_it_back(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, rate=0.01) as post:
        for phone in OTHERS[:4]:
            await post.text("VERIFY", phone)
        await post.until_sent(1)
        await post.text("revoke", OTHERS[3])
    states = [row.state for row in await outbox_rows(database)]
    assert states == [
        OutboxState.ACCEPTED,
        OutboxState.QUEUED,
        OutboxState.QUEUED,
        OutboxState.CANCELLED,
        OutboxState.QUEUED,
    ]


async def test_two_senders_on_one_database_keep_the_pace_together(
    database_url: URL, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.005)
    first, second = slow_database(database_url), slow_database(database_url)
    async with open_post(first, clock, rate=10) as one, open_post(second, clock, rate=10) as other:
        await asyncio.gather(*(one.text("VERIFY", phone) for phone in OTHERS))
        for seconds in (0, 1, 2):
            await until_both_wait(one, other)
            # What a text's time is caught up by, and one.
            sent = len(one.transport.sent) + len(other.transport.sent)
            assert 2 * seconds + 1 <= sent <= 2 * (seconds + 1)
            for post in (one, other):
                clock.travel(timedelta(milliseconds=100))
                post.sender.wake()
    await first.close()
    await second.close()


async def until_both_wait(*posts: Post) -> None:
    """Wait until both have looked at the pace and found that no text may leave."""
    await wait_until(lambda: all(post.sender.idle and post.sender._pause() for post in posts))


async def test_each_number_has_its_pace_and_holds_up_no_other(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.005)
    slow, other = "+13125550101", "+13125550102"
    async with open_post(database, clock, per_number=0.1) as post:
        for phone in OTHERS[:3]:
            await post.text("VERIFY", phone, bot_number=slow)
        await post.text("VERIFY", OTHERS[3], bot_number=other)
        await post.until_sent(2)
        assert {one.phone for one in post.transport.sent} == {OTHERS[0], OTHERS[3]}
        assert sorted(post.sender.paused(clock.now())) == [slow, other]
        for count in (3, 4):
            await post.later(timedelta(seconds=10))
            await post.until_sent(count)
            assert len(post.transport.sent) == count


@pytest.mark.parametrize(
    ("limit", "slowed"), [(Limit.ACCOUNT, ACCOUNT), (Limit.NUMBER, BOT_NUMBER)]
)
async def test_a_limit_that_is_met_slows_what_met_it_and_that_is_told_once(
    database: Database,
    clock: StoppedClock,
    capsys: pytest.CaptureFixture[str],
    limit: Limit,
    slowed: str,
) -> None:
    met = [SendLater(limit.value, limit=limit)] * 20
    async with open_post(database, clock, *met, rate=1000) as post:
        for phone in OTHERS[:20]:
            await post.text("VERIFY", phone)
            clock.travel(timedelta(milliseconds=10))
        await post.until(lambda rows: all(row.fault == limit for row in rows))
        known = await database.read(throttle.read)
        assert known.pop(slowed).halvings_at(clock.now()) == 1
        assert not any(pace.halvings_at(clock.now()) for pace in known.values())
        told = await database.read(overview, clock.now())
        await post.later(timedelta(minutes=1))
        await post.until_state(*[OutboxState.ACCEPTED] * 20)
        assert "slowed" not in await database.read(overview, clock.now())
    assert f"sending slowed to 1/2: {slowed}" in told
    assert "SEND_RATE_" in told
    assert capsys.readouterr().out.count("sending slowed") == 1


async def test_a_pace_that_is_off_is_not_slowed(database: Database, clock: StoppedClock) -> None:
    met = [SendLater("10011", limit=Limit.ACCOUNT), SendLater("40318", limit=Limit.NUMBER)]
    async with open_post(database, clock, *met) as post:
        await post.text("VERIFY")
        await post.text("VERIFY", OTHERS[0])
        await post.until(lambda rows: all(row.fault for row in rows))
    assert not any(pace.halvings for pace in (await database.read(throttle.read)).values())


async def test_codes_leave_before_all_else_also_before_what_the_same_person_is_to_get(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.005)
    async with open_post(database, clock, rate=0.1) as post:
        await post.text("VERIFY", OTHERS[0])
        await post.until_sent(1)
        for phone in OTHERS[1:4]:
            await post.text("STATUS", phone)
        await post.text("VERIFY", OTHERS[3])
        await post.text("VERIFY", OTHERS[4])
        for count in range(2, 7):
            await post.later(timedelta(seconds=10))
            await post.until_sent(count)
    phones = [one.phone for one in post.transport.sent]
    assert phones[1:] == [*OTHERS[3:5], *OTHERS[1:4]]


async def test_how_texts_ended_is_written_down_together_and_each_by_itself(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    write_down, written = Sender._write_down, []

    def fail_for_one(sender: Sender, connection: Connection, endings: Sequence[SendAttempt]) -> Any:
        written.append(len(endings))
        if any(ending.claimed.phone == OTHERS[3] for ending in endings):
            raise LookupError("a bug")
        return write_down(sender, connection, endings)

    monkeypatch.setattr(Sender, "_write_down", fail_for_one)
    monkeypatch.setattr(queue_worker, "_log", log := Mock())
    async with open_post(database, clock, gate=gate) as post:
        for phone in OTHERS[:10]:
            await post.text("VERIFY", phone)
        await post.until_sending(10)
        gate.set()
        rows = await post.until(
            lambda rows: sum(row.state is OutboxState.ACCEPTED for row in rows) == 9
        )
    assert rows[3].state is OutboxState.QUEUED
    assert max(written) > 1
    log.exception.assert_called_once()


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_a_phone_that_is_locked_keeps_no_other_text_from_being_settled(
    database: Database, database_url: URL, clock: StoppedClock
) -> None:
    async with open_post(database, clock) as post:
        await post.text("VERIFY", OTHERS[0])
        await post.until_state(OutboxState.ACCEPTED)
        gate = post.transport.gate = asyncio.Event()
        for phone in OTHERS[1:4]:
            await post.text("VERIFY", phone)
        await post.until_sending(4)
        async with held(database_url, the_limits_of(OTHERS[1])) as release:
            gate.set()
            await wait_until(lambda: states_are(post, "accepted", "queued", "accepted", "accepted"))
            release.set()
            await post.until_state(*[OutboxState.ACCEPTED] * 4)


async def states_are(post: Post, *states: str) -> bool:
    return [row.state for row in await post.rows()] == list(states)


async def test_a_fault_of_one_number_leaves_the_others_alone(
    database: Database, clock: StoppedClock
) -> None:
    async with open_post(database, clock, SendHold("40010")) as post:
        await post.text("VERIFY", bot_number="+13125550101")
        await post.until(lambda rows: rows[0].fault == "40010")
        for phone in OTHERS[:5]:
            await post.text("VERIFY", phone)
        await post.until_state(OutboxState.QUEUED, *[OutboxState.ACCEPTED] * 5)
        await post.later(HOLD_PERIOD)
        await post.until_state(*[OutboxState.ACCEPTED] * 6)


async def test_the_sender_goes_on_after_a_fault_that_nobody_foresaw(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "POLL", 0.01)
    claim, faults = outbox.claim, [LookupError("once"), RuntimeError("twice")]

    def fail_twice(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return claim(*args, **kwargs)

    monkeypatch.setattr(outbox, "claim", fail_twice)
    async with open_post(database, clock) as post:
        await post.text("VERIFY")
        await post.until_state(OutboxState.ACCEPTED)
    assert faults == []


async def test_an_opt_out_that_was_reported_before_the_answer_is_believed(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with open_post(database, clock, gate=gate) as post:
        await post.text("VERIFY")
        await post.until_sending(1)
        news = report("id-1", DeliveryStatus.FAILED, OPTED_OUT_FAULT)
        await database.write(apply, [news], clock.now(), RULES)
        gate.set()
        await post.until_state(OutboxState.FAILED)
        assert (await conversation_of(database)).state is State.OPTED_OUT


@contextmanager
def commits_failing() -> Iterator[None]:
    """Have every commit fail: all that its transaction has done is rolled back."""

    def fail(connection: Connection) -> None:
        connection.connection.rollback()
        raise OSError("the disk is full")

    event.listen(Engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(Engine, "commit", fail)


async def idle_sender(database: Database, clock: StoppedClock, rates: SendRates) -> Sender:
    """Make a sender that claims and settles only when told to; its pace begins now."""
    await database.write(throttle.save, {ACCOUNT: Throttle(clock.now())})
    return Sender(database, Mock(), RULES, clock, rates=rates)


async def test_a_claim_whose_commit_fails_logs_nothing_and_leaves_all_pauses_as_they_were(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    held, late = BOT_NUMBER, OTHERS[0]
    await database.write(apply, [text("VERIFY", phone=late)], clock.now(), RULES)
    clock.travel(timedelta(minutes=11))
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    sender = await idle_sender(database, clock, SendRates(0.01, 0))
    transport = FakeTransport()
    sender._hold(held, "10009", clock.now())

    with commits_failing(), pytest.raises(UnavailableError):
        await sender._claim_and_deliver(transport)
    assert sender.paused(clock.now()) == []
    assert sender._held == {held: clock.now()}
    assert "texts dropped" not in capsys.readouterr().out

    await sender._claim_and_deliver(transport)
    assert sender.paused(clock.now()) == [held, ACCOUNT]
    assert sender._held == {held: clock.now() + HOLD_PERIOD}
    assert capsys.readouterr().out.count("texts dropped") == 1
    await asyncio.wait(sender._in_flight)


async def test_settling_whose_commit_fails_does_not_say_that_sending_is_slowed(
    database: Database,
    clock: StoppedClock,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_worker, "_SETTLE_RETRIES", (0.0, 0.0))
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    sender = await idle_sender(database, clock, SendRates(1000, 0))
    (claimed,), _ = await database.write(sender._claim, 1, clock.now())
    met = sender._concluded(claimed, SendLater("10011", limit=Limit.ACCOUNT))

    with commits_failing():
        await sender._settle(met)
    assert "sending slowed" not in capsys.readouterr().out

    await sender._settle(met)
    assert capsys.readouterr().out.count("sending slowed") == 1


async def test_a_number_whose_text_is_accepted_during_a_claim_is_not_held_again(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    sender = await idle_sender(database, clock, SendRates(0, 0))
    transport = FakeTransport()
    sender._hold(BOT_NUMBER, "10009", clock.now())
    write = database.write

    async def accept_meanwhile(work: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(work, *args, **kwargs)
        if work == sender._claim:
            sender._held.pop(BOT_NUMBER)
        return result

    monkeypatch.setattr(database, "write", accept_meanwhile)
    await sender._claim_and_deliver(transport)
    assert sender.paused(clock.now()) == []
    await asyncio.wait(sender._in_flight)
