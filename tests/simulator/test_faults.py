from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from harness.patience import PATIENCE
from harness.reading import conversation_of, outbox_rows, row_count

from bot.conversation.state import State
from bot.simulator.clock import to_length
from bot.simulator.faults import MENU, ApiFault, fault_named
from bot.simulator.journal import (
    Exchange,
    FaultArmed,
    FaultMet,
    Progress,
    Text,
    Wire,
)
from bot.simulator.stage import PHONE
from bot.simulator.transcript import code_in
from bot.store import outbox
from bot.store.models import OutboxState, ReceivedRow

if TYPE_CHECKING:
    from bot.simulator.faults import Fault
    from bot.simulator.stage import Stage

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
E = TypeVar("E")


def entries_of(stage: Stage, kind: type[E]) -> list[E]:
    return [entry for entry in stage.telnyx.journal.entries if isinstance(entry, kind)]


def ended(stage: Stage, wire: Wire) -> list[Exchange]:
    """All exchanges of a kind as they ended."""
    latest = {exchange.id: exchange for exchange in entries_of(stage, Exchange)}
    return [exchange for exchange in latest.values() if exchange.wire is wire]


def reported(stage: Stage) -> list[str]:
    """The kinds of events that were posted, in order."""
    posted = [json.loads(exchange.request.body)["data"] for exchange in ended(stage, Wire.WEBHOOK)]
    return [event["event_type"] for event in posted]


def progress_of(stage: Stage, text: Text) -> list[Progress]:
    return [told.progress for told in entries_of(stage, Text) if told.id == text.id]


async def the_row(stage: Stage) -> Any:
    (row,) = await outbox_rows(stage.bot.database)
    return row


def assert_met(stage: Stage, *names: str) -> None:
    faults: list[Fault] = [fault_named(name) for name in names]
    assert [entry.fault for entry in entries_of(stage, FaultArmed)] == faults
    assert [entry.fault for entry in entries_of(stage, FaultMet)] == faults


@pytest.mark.parametrize("name", MENU)
async def test_every_fault_of_the_menu_comes_about_once_and_a_code_comes_in_the_end(
    stage: Stage, name: str
) -> None:
    stage.telnyx.hang_up()
    stage.arm(name)
    came = await stage.text(PHONE, "VERIFY")
    assert_met(stage, name)
    if name == "40300":
        # Of an opt-out and a START at the same moment, the opt-out holds.
        await stage.travel(PHONE, to_length("1s"))
        await stage.telnyx.text(PHONE, "+13125550100", "START")
    came += await stage.travel(PHONE, to_length("31s"))
    came += await stage.text(PHONE, "VERIFY")
    assert any(code_in(text.text) for text in came)
    assert_met(stage, name)


@pytest.mark.parametrize(
    ("name", "status", "fault", "wait"),
    [("429", 429, "10011", "2s"), ("500", 500, "10007", "1s")],
)
async def test_a_text_that_the_api_refuses_for_now_comes_with_the_next_try(
    stage: Stage, name: str, status: int, fault: str, wait: str
) -> None:
    stage.arm(name)
    assert await stage.text(PHONE, "VERIFY") == []
    assert await stage.waiting()
    row = await the_row(stage)
    assert (row.state, row.fault, row.attempts) == (OutboxState.QUEUED, fault, 1)
    assert row.due_at == stage.clock.now() + to_length(wait)
    (refused,) = ended(stage, Wire.API)
    assert refused.answer is not None
    assert refused.answer.start.startswith(f"HTTP/1.1 {status} ")
    assert json.loads(refused.answer.body)["errors"][0]["code"] == fault
    assert await stage.travel(PHONE, to_length(wait) - to_length("0.1s")) == []
    (code,) = await stage.travel(PHONE, to_length("0.1s"))
    assert code_in(code.text)
    assert code.took == to_length(wait)
    row = await the_row(stage)
    assert (row.state, row.fault, row.attempts) == (OutboxState.DELIVERED, None, 2)
    assert_met(stage, name)


async def test_faults_of_the_api_meet_one_try_each_in_the_order_armed(stage: Stage) -> None:
    stage.arm("500")
    stage.arm("429")
    assert await stage.text(PHONE, "VERIFY") == []
    assert (await the_row(stage)).fault == "10007"
    assert await stage.travel(PHONE, to_length("1s")) == []
    assert (await the_row(stage)).fault == "10011"
    assert len(await stage.travel(PHONE, to_length("3s"))) == 1
    assert_met(stage, "500", "429")


async def test_who_has_opted_out_at_telnyx_counts_as_opted_out(stage: Stage) -> None:
    stage.arm("40300")
    assert await stage.text(PHONE, "VERIFY") == []
    assert (await conversation_of(stage.bot.database)).state is State.OPTED_OUT
    row = await the_row(stage)
    assert (row.state, row.fault) == (OutboxState.FAILED, "40300")
    assert not await stage.waiting()
    assert stage.telnyx.texts == []
    assert_met(stage, "40300")


async def test_a_text_that_was_taken_before_the_connection_dropped_comes_once(
    stage: Stage,
) -> None:
    stage.arm("drop")
    (code,) = await stage.text(PHONE, "VERIFY")
    assert code_in(code.text)
    row = await the_row(stage)
    assert (row.state, row.attempts, row.carrier_id) == (OutboxState.QUEUED, 1, None)
    (dropped,) = ended(stage, Wire.API)
    assert dropped.answer is None
    assert dropped.seconds is not None
    assert await stage.travel(PHONE, to_length("5s")) == []
    row = await the_row(stage)
    assert (row.state, row.attempts, row.fault) == (OutboxState.DELIVERED, 2, None)
    dropped, again = ended(stage, Wire.API)
    assert again.answer is not None
    assert again.request.body == dropped.request.body
    assert [text.text for text in stage.telnyx.texts] == [code.text]
    assert_met(stage, "drop")


async def test_a_text_is_tried_again_after_a_request_that_got_no_answer(stage: Stage) -> None:
    stage.telnyx.arm(ApiFault(None, after=0.2))
    assert await stage.text(PHONE, "VERIFY") == []
    assert (await the_row(stage)).state is OutboxState.QUEUED
    (unanswered,) = ended(stage, Wire.API)
    assert (unanswered.answer, unanswered.seconds is None) == (None, False)
    assert stage.telnyx.texts == []
    assert len(await stage.travel(PHONE, to_length("5s"))) == 1
    assert (await the_row(stage)).state is OutboxState.DELIVERED


async def test_requests_that_are_kept_waiting_are_let_go_of_at_the_end(stage: Stage) -> None:
    stage.arm("hang")
    texting = asyncio.create_task(stage.text(PHONE, "VERIFY"))
    async with asyncio.timeout(PATIENCE):
        while not entries_of(stage, FaultMet):
            await stage.telnyx.journal.longer_than(len(stage.telnyx.journal.entries))
        assert not texting.done()
        stage.telnyx.hang_up()
        assert await texting == []
        stage.arm("hang")
        assert await stage.travel(PHONE, to_length("5s")) == []
        assert await stage.travel(PHONE, to_length("5s")) == []
    row = await the_row(stage)
    assert (row.state, row.fault) == (OutboxState.DROPPED, outbox.IN_DOUBT)
    assert_met(stage, "hang", "hang")


async def test_late_reports_wait_for_the_clock_and_are_then_posted(stage: Stage) -> None:
    stage.arm("late")
    (code,) = await stage.text(PHONE, "VERIFY")
    await stage.travel(PHONE, to_length("19.9s"))
    assert (await the_row(stage)).state is OutboxState.ACCEPTED
    assert reported(stage) == ["message.received"]
    assert progress_of(stage, code) == [Progress.QUEUED]
    await stage.travel(PHONE, to_length("0.1s"))
    assert (await the_row(stage)).state is OutboxState.DELIVERED
    assert reported(stage) == ["message.received", "message.sent", "message.finalized"]
    assert progress_of(stage, code) == [Progress.QUEUED, Progress.SENT, Progress.DELIVERED]
    assert_met(stage, "late")


async def test_reports_in_the_wrong_order_never_take_a_text_back(stage: Stage) -> None:
    stage.arm("reversed")
    (code,) = await stage.text(PHONE, "VERIFY")
    assert reported(stage) == ["message.received", "message.finalized", "message.sent"]
    assert progress_of(stage, code) == [Progress.QUEUED, Progress.DELIVERED]
    assert (await the_row(stage)).state is OutboxState.DELIVERED
    assert_met(stage, "reversed")


async def test_a_text_that_fails_on_its_way_never_comes_to_the_phone(stage: Stage) -> None:
    stage.arm("failed")
    assert await stage.text(PHONE, "VERIFY") == []
    row = await the_row(stage)
    assert (row.state, row.fault) == (OutboxState.FAILED, "40008")
    assert stage.telnyx.texts == []
    assert not await stage.waiting()
    code = entries_of(stage, Text)[-1]
    assert progress_of(stage, code) == [Progress.QUEUED, Progress.SENT, Progress.FAILED]
    (answer,) = await stage.text(PHONE, "STATUS")
    assert "could not be delivered" in answer.text
    assert stage.telnyx.texts == [answer]
    assert_met(stage, "failed")


async def test_a_webhook_that_is_delivered_twice_is_applied_once(stage: Stage) -> None:
    stage.arm("twice")
    assert len(await stage.text(PHONE, "VERIFY")) == 1
    webhooks = [exchange for exchange in ended(stage, Wire.WEBHOOK) if exchange.answer]
    events = [json.loads(exchange.request.body)["data"] for exchange in webhooks]
    received = [event for event in events if event["event_type"] == "message.received"]
    assert len({event["id"] for event in received}) == len(received) == 2
    assert len({event["payload"]["id"] for event in received}) == 1
    assert [exchange.answer.start for exchange in webhooks if exchange.answer] == [
        "HTTP/1.1 200 OK"
    ] * 4
    assert (await the_row(stage)).state is OutboxState.DELIVERED
    assert await row_count(stage.bot.database, ReceivedRow) == 3
    (said, *_) = entries_of(stage, Text)
    assert progress_of(stage, said) == [Progress.QUEUED, Progress.DELIVERED]
    assert_met(stage, "twice")


async def test_a_fault_comes_to_whichever_phone_gives_the_next_occasion(stage: Stage) -> None:
    stage.arm("failed")
    assert await stage.text(OTHER_PHONE, "VERIFY") == []
    assert len(await stage.text(PHONE, "VERIFY")) == 1
    assert [text.phone for text in stage.telnyx.texts] == [PHONE]
