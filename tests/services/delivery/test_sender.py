from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bot.carrier.errors import (
    OPTED_OUT_FAULT,
    SendHold,
    SendLater,
    SendNever,
)
from bot.carrier.webhooks import DeliveryStatus
from bot.conversation.codes import Keyring
from bot.conversation.state import State
from bot.services.delivery.sender import HOLD_PERIOD
from bot.services.intake.inbox import apply
from bot.services.intake.unit_of_work import Rules
from bot.store.queues import outbox
from bot.store.queues.outbox import LEASE
from bot.store.tables import OutboxState
from tests.kit.samples import PHONE, RULES, report
from tests.kit.secret_keys import SECRET
from tests.kit.stored import code_of, conversation_of, outbox_rows, person_of
from tests.kit.timeouts import slow_database
from tests.services.delivery.senders import OTHERS, running_sender

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import URL

    from bot.simulator.clock import StoppedClock
    from bot.store.engine.database import Database


async def test_a_code_is_sent_in_the_place_of_its_placeholder(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock) as running:
        await running.text("VERIFY")
        (row,) = await running.until_state(OutboxState.ACCEPTED)
        code = await code_of(database)
    (sent,) = running.client.sent
    assert sent.text == row.body.replace("{code}", code)
    assert code not in row.body
    assert (row.carrier_id, sent.key, sent.retried) == ("id-1", row.key, False)


async def test_a_text_is_tried_again_under_the_same_key_with_the_same_bytes(
    database: Database, clock: StoppedClock
) -> None:
    faults = [SendLater("HTTP 500"), SendLater("timeout"), SendLater("HTTP 503")]
    async with running_sender(database, clock, *faults) as running:
        await running.text("VERIFY")
        for wait in (1.5, 4, 12):
            await running.until(lambda rows: rows[0].fault is not None)
            await running.travel(timedelta(seconds=wait))
            await running.until_sent((1.5, 4, 12).index(wait) + 2)
        await running.until_state(OutboxState.ACCEPTED)
    assert len({(one.key, one.text) for one in running.client.sent}) == 1
    assert [one.retried for one in running.client.sent] == [False, True, True, True]


@pytest.mark.parametrize(
    ("attempts", "around"), [(1, 1), (2, 3), (3, 9), (4, 30), (5, 30), (50, 30)]
)
async def test_the_wait_between_tries_grows(
    database: Database, clock: StoppedClock, attempts: int, around: float
) -> None:
    async with running_sender(database, clock) as running:
        delay, no = running.delivery._retry_delay, SendLater("10007")
        waits = {delay(attempts, no).total_seconds() for _ in range(50)}
        asked = delay(attempts, SendLater("10011", retry_after=120))
        doubtful = delay(1, SendLater("timeout", in_doubt=True)).total_seconds()
    assert 4 <= doubtful <= 6
    assert around * 0.8 <= min(waits) < max(waits) <= around * 1.2
    assert asked == timedelta(seconds=120)


async def test_a_text_whose_outcome_is_unknown_is_tried_twice_at_most(
    database: Database, clock: StoppedClock
) -> None:
    silence = SendLater("timeout", in_doubt=True)
    async with running_sender(database, clock, silence, SendLater("10007"), silence) as running:
        await running.text("VERIFY")
        for tries in (1, 2, 3):
            await running.until_sent(tries)
            await running.until(lambda rows: rows[0].fault is not None)
            await running.travel(timedelta(seconds=12))
        (row,) = await running.until_state(OutboxState.DROPPED)
    assert (row.fault, row.uncertain_attempts) == (outbox.IN_DOUBT, 2)
    assert len(running.client.sent) == 3


async def test_a_text_that_cannot_arrive_is_marked_as_failed(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendNever("40310")) as running:
        await running.text("VERIFY")
        (row,) = await running.until_state(OutboxState.FAILED)
    assert row.fault == "40310"
    assert len(running.client.sent) == 1


async def test_a_refusal_for_an_opt_out_ends_the_conversation(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendNever(OPTED_OUT_FAULT)) as running:
        await running.text("VERIFY")
        await running.until_state(OutboxState.FAILED)
        found, person = await conversation_of(database), await person_of(database)
    assert (found.state, person.opt_out_wording) == (State.OPTED_OUT, OPTED_OUT_FAULT)
    assert found.token is not None
    assert found.token.ended_at is not None


async def test_a_fault_of_the_account_pauses_everything_but_a_probe(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendHold("10009"), SendHold("10009")) as running:
        await running.text("VERIFY")
        await running.until(lambda rows: rows[0].fault == "10009")
        for phone in OTHERS[:5]:
            await running.text("VERIFY", phone)
        await running.travel(HOLD_PERIOD)
        await running.until_sent(2)
        assert len(running.client.sent) == 2
        await running.travel(HOLD_PERIOD)
        await running.until(lambda rows: {row.state for row in rows} == {OutboxState.ACCEPTED})
    assert len(running.client.sent) == 8


async def test_texts_to_one_person_keep_their_order(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendLater("HTTP 500")) as running:
        await running.text("VERIFY")
        await running.until(lambda rows: rows[0].fault is not None)
        await running.text("STATUS")
        await running.text("VERIFY", OTHERS[0])
        await running.until_sent(2)
        assert [one.phone for one in running.client.sent] == [PHONE, OTHERS[0]]
        await running.travel(timedelta(seconds=2))
        await running.until_state(*[OutboxState.ACCEPTED] * 3)
    assert [one.phone for one in running.client.sent[2:]] == [PHONE, PHONE]
    assert "code:" in running.client.sent[2].text


async def test_a_code_past_its_expiry_is_dropped_and_never_sent(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendLater("HTTP 500")) as running:
        await running.text("VERIFY")
        await running.until(lambda rows: rows[0].fault is not None)
        await running.travel(timedelta(minutes=11))
        await running.until_state(OutboxState.DROPPED)
    assert len(running.client.sent) == 1


async def test_nothing_is_tried_again_after_stop_but_its_confirmation_is_sent(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendLater("HTTP 500")) as running:
        await running.text("VERIFY")
        await running.until(lambda rows: rows[0].fault is not None)
        await running.text("revoke")
        await running.until_state(OutboxState.CANCELLED, OutboxState.ACCEPTED)
        await running.travel(timedelta(minutes=1))
        await running.until_state(OutboxState.CANCELLED, OutboxState.ACCEPTED)
    assert ["opted out" in one.text for one in running.client.sent] == [False, True]


async def test_a_text_in_flight_when_stop_came_is_recorded_as_accepted(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with running_sender(database, clock, gate=gate) as running:
        await running.text("VERIFY")
        await running.until_sending(1)
        await running.text("revoke")
        gate.set()
        await running.until_state(OutboxState.ACCEPTED, OutboxState.ACCEPTED)
    assert "code:" in running.client.sent[0].text


async def test_a_code_whose_key_is_gone_is_dropped(database: Database, clock: StoppedClock) -> None:
    rotated = Rules(RULES.policy, Keyring(["another secret, and the old one is forgotten"]))
    async with running_sender(database, clock, rules=rotated) as running:
        await running.text("VERIFY")
        (row,) = await running.until_state(OutboxState.DROPPED)
    assert row.fault == "code gone"
    assert running.client.sent == []


async def test_a_code_of_an_older_key_is_still_sent(
    database: Database, clock: StoppedClock
) -> None:
    both = Rules(RULES.policy, Keyring(["a newer secret that signs from now on", SECRET]))
    async with running_sender(database, clock, rules=both) as running:
        await running.text("VERIFY")
        await running.until_state(OutboxState.ACCEPTED)
        assert await code_of(database) in running.client.sent[0].text


async def test_two_senders_on_one_database_send_each_text_once(
    database_url: URL, clock: StoppedClock
) -> None:
    first, second = slow_database(database_url), slow_database(database_url)
    async with running_sender(first, clock) as one, running_sender(second, clock) as other:
        await asyncio.gather(*(one.text("VERIFY", phone) for phone in OTHERS))
        other.sender.wake()
        await one.until(lambda rows: {row.state for row in rows} == {OutboxState.ACCEPTED})
        sent = one.client.sent + other.client.sent
    assert sorted(one.phone for one in sent) == OTHERS
    await first.close()
    await second.close()


async def test_a_claim_is_free_again_after_its_lease(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock) as running:
        running.sender.stop()
        await running.text("VERIFY")
        now = clock.now()
        (claimed,) = await database.write(outbox.claim, 10, now)
        assert await database.write(outbox.claim, 10, now + LEASE - timedelta(seconds=1)) == []
        (again,) = await database.write(outbox.claim, 10, now + LEASE)
    assert (again.key, again.attempts) == (claimed.key, 2)


async def test_stopping_lets_texts_in_flight_arrive(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with running_sender(database, clock, gate=gate) as running:
        for phone in OTHERS[:10]:
            await running.text("VERIFY", phone)
        await running.until_sending(10)
        running.sender.stop()
        gate.set()
    assert {row.state for row in await outbox_rows(database)} == {OutboxState.ACCEPTED}


async def test_a_fault_of_one_number_leaves_the_others_alone(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, SendHold("40010")) as running:
        await running.text("VERIFY", bot_number="+13125550101")
        await running.until(lambda rows: rows[0].fault == "40010")
        for phone in OTHERS[:5]:
            await running.text("VERIFY", phone)
        await running.until_state(OutboxState.QUEUED, *[OutboxState.ACCEPTED] * 5)
        await running.travel(HOLD_PERIOD)
        await running.until_state(*[OutboxState.ACCEPTED] * 6)


async def test_the_sender_goes_on_after_an_unexpected_error(
    database: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, faults = outbox.claim, [LookupError("once"), RuntimeError("twice")]

    def fail_twice(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return claim(*args, **kwargs)

    monkeypatch.setattr(outbox, "claim", fail_twice)
    async with running_sender(database, clock, poll_interval=0.01) as running:
        await running.text("VERIFY")
        await running.until_state(OutboxState.ACCEPTED)
    assert faults == []


async def test_an_opt_out_that_is_reported_before_the_answer_takes_effect(
    database: Database, clock: StoppedClock
) -> None:
    gate = asyncio.Event()
    async with running_sender(database, clock, gate=gate) as running:
        await running.text("VERIFY")
        await running.until_sending(1)
        news = report("id-1", DeliveryStatus.FAILED, OPTED_OUT_FAULT)
        await database.write(apply, [news], clock.now(), RULES)
        gate.set()
        await running.until_state(OutboxState.FAILED)
        assert (await conversation_of(database)).state is State.OPTED_OUT
