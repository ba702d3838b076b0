from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from bot.conversation.state import State
from bot.simulator.clock import parse_duration
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import NAMED_FAULTS, ApiFault, find_fault
from bot.simulator.telnyx.journal import (
    Arrival,
    Exchange,
    FaultArmed,
    FaultTriggered,
    PhoneText,
    Wire,
)
from bot.store.queues import outbox
from bot.store.tables import OutboxState, ProcessedWebhookRow
from tests.kit.stored import conversation_of, outbox_rows, row_count
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.faults import Fault

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
E = TypeVar("E")


def entries_of(sandbox: Sandbox, kind: type[E]) -> list[E]:
    return [entry for entry in sandbox.telnyx.journal.entries if isinstance(entry, kind)]


def ended(sandbox: Sandbox, wire: Wire) -> list[Exchange]:
    """Return the exchanges of a kind as they ended."""
    latest = {exchange.id: exchange for exchange in entries_of(sandbox, Exchange)}
    return [exchange for exchange in latest.values() if exchange.wire is wire]


def posted_types(sandbox: Sandbox) -> list[str]:
    """Return the types of the posted webhooks, in order."""
    posted = [
        json.loads(exchange.request.body)["data"] for exchange in ended(sandbox, Wire.WEBHOOK)
    ]
    return [event["event_type"] for event in posted]


def arrivals_of(sandbox: Sandbox, text: PhoneText) -> list[Arrival]:
    return [entry.arrival for entry in entries_of(sandbox, PhoneText) if entry.id == text.id]


async def only_row(sandbox: Sandbox) -> Any:
    (row,) = await outbox_rows(sandbox.bot.database)
    return row


def assert_triggered(sandbox: Sandbox, *names: str) -> None:
    faults: list[Fault] = [find_fault(name) for name in names]
    assert [entry.fault for entry in entries_of(sandbox, FaultArmed)] == faults
    assert [entry.fault for entry in entries_of(sandbox, FaultTriggered)] == faults


@pytest.mark.parametrize("name", NAMED_FAULTS)
async def test_every_named_fault_happens_once_and_a_code_arrives_in_the_end(
    sandbox: Sandbox, name: str
) -> None:
    sandbox.telnyx.release_requests()
    sandbox.arm(name)
    came = await sandbox.text(PHONE, "VERIFY")
    assert_triggered(sandbox, name)
    if name == "40300":
        # The opt-out has the bot's own time, since no text caused it: START must be later.
        came += await sandbox.travel(PHONE, parse_duration("1s"))
        await sandbox.telnyx.text(PHONE, "+13125550100", "START")
    came += await sandbox.travel(PHONE, parse_duration("31s"))
    came += await sandbox.text(PHONE, "VERIFY")
    assert any(code_in(text.text) for text in came)
    assert_triggered(sandbox, name)


@pytest.mark.parametrize(
    ("name", "status", "fault", "wait"),
    [("429", 429, "10011", "2s"), ("500", 500, "10007", "1s")],
)
async def test_a_text_that_the_api_refuses_for_now_is_sent_with_the_next_attempt(
    sandbox: Sandbox, name: str, status: int, fault: str, wait: str
) -> None:
    sandbox.arm(name)
    assert await sandbox.text(PHONE, "VERIFY") == []
    assert await sandbox.has_queued_texts()
    row = await only_row(sandbox)
    assert (row.state, row.fault, row.attempts) == (OutboxState.QUEUED, fault, 1)
    assert row.due_at == sandbox.clock.now() + parse_duration(wait)
    (refused,) = ended(sandbox, Wire.API)
    assert refused.response is not None
    assert refused.response.start.startswith(f"HTTP/1.1 {status} ")
    assert json.loads(refused.response.body)["errors"][0]["code"] == fault
    assert await sandbox.travel(PHONE, parse_duration(wait) - parse_duration("0.1s")) == []
    (code,) = await sandbox.travel(PHONE, parse_duration("0.1s"))
    assert code_in(code.text)
    assert code.took == parse_duration(wait)
    row = await only_row(sandbox)
    assert (row.state, row.fault, row.attempts) == (OutboxState.DELIVERED, None, 2)
    assert_triggered(sandbox, name)


async def test_faults_of_the_api_affect_one_attempt_each_in_the_order_armed(
    sandbox: Sandbox,
) -> None:
    sandbox.arm("500")
    sandbox.arm("429")
    assert await sandbox.text(PHONE, "VERIFY") == []
    assert (await only_row(sandbox)).fault == "10007"
    assert await sandbox.travel(PHONE, parse_duration("1s")) == []
    assert (await only_row(sandbox)).fault == "10011"
    assert len(await sandbox.travel(PHONE, parse_duration("3s"))) == 1
    assert_triggered(sandbox, "500", "429")


async def test_a_phone_that_has_opted_out_at_telnyx_counts_as_opted_out(sandbox: Sandbox) -> None:
    sandbox.arm("40300")
    assert await sandbox.text(PHONE, "VERIFY") == []
    assert (await conversation_of(sandbox.bot.database)).state is State.OPTED_OUT
    row = await only_row(sandbox)
    assert (row.state, row.fault) == (OutboxState.FAILED, "40300")
    assert not await sandbox.has_queued_texts()
    assert sandbox.telnyx.texts == []
    assert_triggered(sandbox, "40300")


async def test_a_text_that_was_accepted_before_the_connection_dropped_arrives_once(
    sandbox: Sandbox,
) -> None:
    sandbox.arm("drop")
    (code,) = await sandbox.text(PHONE, "VERIFY")
    assert code_in(code.text)
    row = await only_row(sandbox)
    assert (row.state, row.attempts, row.carrier_id) == (OutboxState.QUEUED, 1, None)
    (dropped,) = ended(sandbox, Wire.API)
    assert dropped.response is None
    assert dropped.seconds is not None
    assert await sandbox.travel(PHONE, parse_duration("5s")) == []
    row = await only_row(sandbox)
    assert (row.state, row.attempts, row.fault) == (OutboxState.DELIVERED, 2, None)
    dropped, again = ended(sandbox, Wire.API)
    assert again.response is not None
    assert again.request.body == dropped.request.body
    assert [text.text for text in sandbox.telnyx.texts] == [code.text]
    assert_triggered(sandbox, "drop")


async def test_a_text_is_sent_again_after_a_request_without_a_response(sandbox: Sandbox) -> None:
    sandbox.telnyx.arm(ApiFault(None, after=0.2))
    assert await sandbox.text(PHONE, "VERIFY") == []
    assert (await only_row(sandbox)).state is OutboxState.QUEUED
    (unanswered,) = ended(sandbox, Wire.API)
    assert (unanswered.response, unanswered.seconds is None) == (None, False)
    assert sandbox.telnyx.texts == []
    assert len(await sandbox.travel(PHONE, parse_duration("5s"))) == 1
    assert (await only_row(sandbox)).state is OutboxState.DELIVERED


async def test_delayed_requests_are_released_at_the_end(sandbox: Sandbox) -> None:
    sandbox.arm("hang")
    texting = asyncio.create_task(sandbox.text(PHONE, "VERIFY"))
    async with asyncio.timeout(TEST_TIMEOUT):
        while not entries_of(sandbox, FaultTriggered):
            await sandbox.telnyx.journal.wait_for_more_than(len(sandbox.telnyx.journal.entries))
        assert not texting.done()
        sandbox.telnyx.release_requests()
        assert await texting == []
        sandbox.arm("hang")
        assert await sandbox.travel(PHONE, parse_duration("5s")) == []
        assert await sandbox.travel(PHONE, parse_duration("5s")) == []
    row = await only_row(sandbox)
    assert (row.state, row.fault) == (OutboxState.DROPPED, outbox.IN_DOUBT)
    assert_triggered(sandbox, "hang", "hang")


async def test_late_reports_are_posted_when_the_clock_has_moved(sandbox: Sandbox) -> None:
    sandbox.arm("late")
    (code,) = await sandbox.text(PHONE, "VERIFY")
    await sandbox.travel(PHONE, parse_duration("19.9s"))
    assert (await only_row(sandbox)).state is OutboxState.ACCEPTED
    assert posted_types(sandbox) == ["message.received"]
    assert arrivals_of(sandbox, code) == [Arrival.QUEUED]
    await sandbox.travel(PHONE, parse_duration("0.1s"))
    assert (await only_row(sandbox)).state is OutboxState.DELIVERED
    assert posted_types(sandbox) == ["message.received", "message.sent", "message.finalized"]
    assert arrivals_of(sandbox, code) == [Arrival.QUEUED, Arrival.SENT, Arrival.DELIVERED]
    assert_triggered(sandbox, "late")


async def test_reports_in_the_wrong_order_never_move_a_text_backwards(sandbox: Sandbox) -> None:
    sandbox.arm("reversed")
    (code,) = await sandbox.text(PHONE, "VERIFY")
    assert posted_types(sandbox) == ["message.received", "message.finalized", "message.sent"]
    assert arrivals_of(sandbox, code) == [Arrival.QUEUED, Arrival.DELIVERED]
    assert (await only_row(sandbox)).state is OutboxState.DELIVERED
    assert_triggered(sandbox, "reversed")


async def test_a_text_that_fails_never_arrives_at_the_phone(sandbox: Sandbox) -> None:
    sandbox.arm("failed")
    assert await sandbox.text(PHONE, "VERIFY") == []
    row = await only_row(sandbox)
    assert (row.state, row.fault) == (OutboxState.FAILED, "40008")
    assert sandbox.telnyx.texts == []
    assert not await sandbox.has_queued_texts()
    code = entries_of(sandbox, PhoneText)[-1]
    assert arrivals_of(sandbox, code) == [Arrival.QUEUED, Arrival.SENT, Arrival.FAILED]
    (answer,) = await sandbox.text(PHONE, "STATUS")
    assert "could not be delivered" in answer.text
    assert sandbox.telnyx.texts == [answer]
    assert_triggered(sandbox, "failed")


async def test_a_webhook_that_is_delivered_twice_is_applied_once(sandbox: Sandbox) -> None:
    sandbox.arm("twice")
    assert len(await sandbox.text(PHONE, "VERIFY")) == 1
    webhooks = [exchange for exchange in ended(sandbox, Wire.WEBHOOK) if exchange.response]
    events = [json.loads(exchange.request.body)["data"] for exchange in webhooks]
    received = [event for event in events if event["event_type"] == "message.received"]
    assert len({event["id"] for event in received}) == len(received) == 2
    assert len({event["payload"]["id"] for event in received}) == 1
    assert [exchange.response.start for exchange in webhooks if exchange.response] == [
        "HTTP/1.1 200 OK"
    ] * 4
    assert (await only_row(sandbox)).state is OutboxState.DELIVERED
    assert await row_count(sandbox.bot.database, ProcessedWebhookRow) == 3
    (said, *_) = entries_of(sandbox, PhoneText)
    assert arrivals_of(sandbox, said) == [Arrival.QUEUED, Arrival.DELIVERED]
    assert_triggered(sandbox, "twice")


async def test_a_fault_affects_the_next_text_to_any_phone(sandbox: Sandbox) -> None:
    sandbox.arm("failed")
    assert await sandbox.text(OTHER_PHONE, "VERIFY") == []
    assert len(await sandbox.text(PHONE, "VERIFY")) == 1
    assert [text.phone for text in sandbox.telnyx.texts] == [PHONE]
