from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, event

from bot.carrier.errors import (
    Limit,
    SendLater,
)
from bot.conversation.throttle import ACCOUNT, Throttle
from bot.services.delivery.queue_worker import BatchSettler
from bot.services.delivery.sender import HOLD_PERIOD, SendAttempt, TextDelivery
from bot.services.delivery.throttle import SendRates
from bot.services.intake.inbox import apply
from bot.store import throttle
from bot.store.engine.errors import UnavailableError
from bot.store.queues import outbox
from bot.store.tables import OutboxState
from tests.kit.inboxes import held, the_limits_of
from tests.kit.loop_time import advance
from tests.kit.samples import BOT_NUMBER, RULES, text
from tests.kit.stored import outbox_rows
from tests.kit.timeouts import TEST_TIMEOUT, wait_until
from tests.services.delivery.senders import OTHERS, RunningSender, running_sender

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from sqlalchemy import URL, Connection

    from bot.simulator.clock import StoppedClock
    from bot.store.engine.database import Database


async def test_an_attempt_is_recorded_when_the_database_is_back(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_sender(database, clock, settle_retry_delays=(0.01, 0.01, 0.01)) as running:
        write = database.write
        refusals: list[object] = []

        async def refuse_twice(work: Any, *args: Any, **kwargs: Any) -> Any:
            if work == running.delivery._settle and len(refusals) < 2:
                refusals.append(work)
                raise UnavailableError("for a while")
            return await write(work, *args, **kwargs)

        monkeypatch.setattr(database, "write", refuse_twice)
        await running.text("VERIFY")
        await running.until_state(OutboxState.ACCEPTED)
    assert len(refusals) == 2
    assert len(running.client.sent) == 1


async def test_an_attempt_that_waits_to_be_recorded_holds_up_no_other_text(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_sender(
        database, clock, settle_retry_delays=(TEST_TIMEOUT / 2,) * 2
    ) as running:
        write = database.write
        refused = asyncio.Event()

        async def refuse_once(work: Any, *args: Any, **kwargs: Any) -> Any:
            if work == running.delivery._settle and not refused.is_set():
                refused.set()
                raise UnavailableError("for a while")
            return await write(work, *args, **kwargs)

        monkeypatch.setattr(database, "write", refuse_once)
        await running.text("VERIFY")
        await refused.wait()
        await running.text("VERIFY", OTHERS[0])
        await running.until_sending(2)
        assert [row.state for row in await running.rows()] == [OutboxState.QUEUED] * 2
        advance(TEST_TIMEOUT / 2)
        await running.until_state(OutboxState.ACCEPTED, OutboxState.ACCEPTED)


async def test_a_definite_answer_recorded_twice_removes_one_doubt(
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


async def test_attempts_are_recorded_together_and_one_by_one_if_that_fails(
    database: Database,
    clock: StoppedClock,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    settle, sizes = TextDelivery._settle, []

    def fail_for_one(
        delivery: TextDelivery, connection: Connection, attempts: Sequence[SendAttempt]
    ) -> Any:
        sizes.append(len(attempts))
        if any(attempt.claimed.phone == OTHERS[3] for attempt in attempts):
            raise LookupError("a bug")
        return settle(delivery, connection, attempts)

    monkeypatch.setattr(TextDelivery, "_settle", fail_for_one)
    async with running_sender(database, clock, gate=gate) as running:
        for phone in OTHERS[:10]:
            await running.text("VERIFY", phone)
        await running.until_sending(10)
        gate.set()
        rows = await running.until(
            lambda rows: sum(row.state is OutboxState.ACCEPTED for row in rows) == 9
        )
    assert rows[3].state is OutboxState.QUEUED
    assert max(sizes) > 1
    assert capsys.readouterr().out.count("settling texts failed") == 1


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_a_locked_phone_keeps_no_other_text_from_being_settled(
    database: Database, database_url: URL, clock: StoppedClock
) -> None:
    async with running_sender(database, clock) as running:
        await running.text("VERIFY", OTHERS[0])
        await running.until_state(OutboxState.ACCEPTED)
        gate = running.client.gate = asyncio.Event()
        for phone in OTHERS[1:4]:
            await running.text("VERIFY", phone)
        await running.until_sending(4)
        async with held(database_url, the_limits_of(OTHERS[1])) as release:
            gate.set()
            await wait_until(
                lambda: states_are(running, "accepted", "queued", "accepted", "accepted")
            )
            release.set()
            await running.until_state(*[OutboxState.ACCEPTED] * 4)


async def states_are(running: RunningSender, *states: str) -> bool:
    return [row.state for row in await running.rows()] == list(states)


@contextmanager
def commits_failing() -> Iterator[None]:
    """Make every commit fail and roll its transaction back."""

    def fail(connection: Connection) -> None:
        connection.connection.rollback()
        raise OSError("the disk is full")

    event.listen(Engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(Engine, "commit", fail)


async def delivery_of(database: Database, clock: StoppedClock, rates: SendRates) -> TextDelivery:
    """Make a delivery without a worker; its throttle begins now."""
    await database.write(throttle.save, {ACCOUNT: Throttle(clock.now())})
    make_settler = partial(BatchSettler, retry_delays=(0.0, 0.0))
    return TextDelivery(database, RULES, clock, rates=rates, make_settler=make_settler)


async def test_a_claim_whose_commit_fails_logs_nothing_and_changes_no_pause(
    database: Database, clock: StoppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    await database.write(apply, [text("VERIFY", phone=OTHERS[0])], clock.now(), RULES)
    clock.travel(timedelta(minutes=11))
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    delivery = await delivery_of(database, clock, SendRates(0.01, 0))
    delivery._hold(BOT_NUMBER, "10009", clock.now())

    with commits_failing(), pytest.raises(UnavailableError):
        await delivery.claim(1)
    assert delivery.paused(clock.now()) == []
    assert delivery._held == {BOT_NUMBER: clock.now()}
    assert "texts dropped" not in capsys.readouterr().out

    await delivery.claim(1)
    assert delivery.paused(clock.now()) == [BOT_NUMBER, ACCOUNT]
    assert delivery._held == {BOT_NUMBER: clock.now() + HOLD_PERIOD}
    assert capsys.readouterr().out.count("texts dropped") == 1


async def test_settling_whose_commit_fails_does_not_log_that_sending_is_slowed(
    database: Database,
    clock: StoppedClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    delivery = await delivery_of(database, clock, SendRates(1000, 0))
    (claimed,) = await delivery.claim(1)
    limited = delivery._attempt(claimed, SendLater("10011", limit=Limit.ACCOUNT))

    with commits_failing():
        await delivery.settler.settle(limited)
    assert "sending slowed" not in capsys.readouterr().out

    await delivery.settler.settle(limited)
    assert capsys.readouterr().out.count("sending slowed") == 1


async def test_a_number_whose_text_is_accepted_during_a_claim_is_not_held_again(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(apply, [text("VERIFY")], clock.now(), RULES)
    delivery = await delivery_of(database, clock, SendRates(0, 0))
    delivery._hold(BOT_NUMBER, "10009", clock.now())
    write = database.write

    async def accept_meanwhile(work: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(work, *args, **kwargs)
        if work == delivery._claim:
            delivery._held.pop(BOT_NUMBER)
        return result

    monkeypatch.setattr(database, "write", accept_meanwhile)
    await delivery.claim(1)
    assert delivery.paused(clock.now()) == []
