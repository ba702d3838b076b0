"""How the inbox treats rows locked by another transaction, and the order of its decisions."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.inputs import Cancelled, CodeSubmitted
from bot.conversation.state import State
from bot.conversation.verification import Origin, RequestOutcome, Verification
from bot.services.intake.app_requests import AppRequest, IdempotencyKey
from bot.simulator.clock import NOON
from bot.store.engine.errors import UnavailableError
from bot.store.queues import outbox
from bot.store.tables import OutboxState, ProcessedWebhookRow, TokenRow
from tests.kit.inboxes import held, open_inbox, the_limits_of
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, report, text
from tests.kit.stored import conversation_of, outbox_rows, person_of, row_count
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL

    from bot.services.intake.inbox import Inbox
    from bot.store.engine.database import Database

on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
OTHER = "+13125550000"
"""Sorts before PHONE: a transaction that waits for it has not yet locked that one."""
SECOND = timedelta(seconds=1)


@pytest.fixture
async def inbox(database: Database) -> AsyncIterator[Inbox]:
    async with open_inbox(database) as opened:
        yield opened


async def until_batched(inbox: Inbox) -> None:
    """Wait until all webhooks are in a batch."""
    await asyncio.sleep(0)
    await wait_until(lambda: not inbox._webhooks)


def new_verification(phone: str, origin: Origin = Origin.APP) -> Verification:
    ends = NOON + RULES.policy.code_lifetime
    return Verification("f" * 24 + phone[-8:], origin, BOT_NUMBER, NOON, ends, phone=phone)


def request(action: Any, key: str) -> AppRequest:
    return AppRequest(action, IdempotencyKey(key * 64, ""))


@on_postgresql
@pytest.mark.parametrize("known", [True, False])
async def test_one_locked_phone_delays_no_other_phone(
    inbox: Inbox, database: Database, database_url: URL, *, known: bool
) -> None:
    if known:
        await inbox.handle_webhook(text("hello", phone=OTHER))
    lock = (
        the_limits_of(OTHER)
        if known
        # A process that hangs has inserted the limits of a new phone, and has not committed.
        else f"INSERT INTO phone_limits (phone, wrong_guesses, locks, code_times) "
        f"SELECT '{OTHER}', 0, 0, '[]' WHERE pg_try_advisory_xact_lock("
        f"2119630849, hashtext('{OTHER}'))"
    )
    async with held(database_url, lock) as release:
        stuck = asyncio.create_task(inbox.handle_webhook(text("VERIFY", phone=OTHER)))
        others = [f"+1312555{number:04}" for number in range(100, 162)]
        await asyncio.gather(
            *(inbox.handle_webhook(text("VERIFY", phone=phone)) for phone in others)
        )
        assert not stuck.done()
        assert await row_count(database, TokenRow) == len(others)
        release.set()
        await stuck
    assert await row_count(database, TokenRow) == len(others) + 1


@on_postgresql
async def test_a_phone_that_stays_locked_is_refused_in_time_and_nothing_is_stored(
    inbox: Inbox, database: Database, database_url: URL
) -> None:
    await inbox.handle_webhook(text("hello", phone=OTHER))
    seen = await row_count(database, ProcessedWebhookRow)
    async with (
        held(database_url, the_limits_of(OTHER)),
        open_inbox(database, answer_within=0.4) as hurried,
    ):
        with pytest.raises(UnavailableError):
            await hurried.handle_webhook(text("VERIFY", phone=OTHER))
    assert await row_count(database, ProcessedWebhookRow) == seen
    await inbox.handle_webhook(text("VERIFY", phone=OTHER))
    assert await row_count(database, TokenRow) == 1


@on_postgresql
async def test_a_request_for_a_locked_phone_waits_alone(inbox: Inbox, database_url: URL) -> None:
    new = new_verification(OTHER)
    assert (await inbox.handle_request(request(new, "a"))).outcome is RequestOutcome.DONE
    async with held(database_url, the_limits_of(OTHER)) as release:
        stuck = asyncio.create_task(inbox.handle_request(request(CodeSubmitted(new.id, "1"), "b")))
        await inbox.handle_webhook(text("VERIFY"))
        assert (
            await inbox.handle_request(request(new_verification(PHONE), "c"))
        ).outcome is RequestOutcome.DONE
        assert not stuck.done()
        release.set()
        assert (await stuck).outcome is RequestOutcome.WRONG


@on_postgresql
async def test_a_request_of_the_form_waits_alone_while_another_process_counts(
    inbox: Inbox, database_url: URL
) -> None:
    from bot.store.verifications import _FORM_LOCK  # noqa: PLC0415

    lock = f"SELECT pg_advisory_xact_lock({_FORM_LOCK})"
    async with held(database_url, lock) as release:
        stuck = asyncio.create_task(
            inbox.handle_request(request(new_verification(OTHER, Origin.FORM), "a"))
        )
        await inbox.handle_webhook(text("VERIFY"))
        assert not stuck.done()
        release.set()
        assert (await stuck).outcome is RequestOutcome.DONE


@on_postgresql
async def test_a_report_on_a_locked_text_waits_alone(
    inbox: Inbox, database: Database, database_url: URL
) -> None:
    await inbox.handle_webhook(text("VERIFY", phone=OTHER))
    (claimed,) = await database.write(outbox.claim, 1, NOON)
    await database.write(outbox.settle_accepted, {claimed.id: "locked"}, NOON)
    lock = f"SELECT * FROM outbox WHERE id = {claimed.id} FOR UPDATE"
    async with held(database_url, lock) as release:
        stuck = asyncio.create_task(
            inbox.handle_webhook(report("locked", DeliveryStatus.DELIVERED))
        )
        await inbox.handle_webhook(text("VERIFY"))
        await inbox.handle_webhook(report("nobody's", DeliveryStatus.DELIVERED))
        assert not stuck.done()
        release.set()
        await stuck
    states = [row.state for row in await outbox_rows(database)]
    assert states == [OutboxState.DELIVERED, OutboxState.QUEUED]


UNBEGUN = "0123456789abcdef" * 2


async def _stop_with_a_text_in_the_queue(inbox: Inbox) -> InboundText:
    await inbox.handle_webhook(text("VERIFY", phone=OTHER))
    return text("STOP", phone=OTHER)


async def _cancel_of_an_unbegun_verification(inbox: Inbox) -> AppRequest:
    ends = NOON + RULES.policy.reference_lifetime
    new = Verification(UNBEGUN, Origin.REFERENCE, BOT_NUMBER, NOON, ends, reference="7Q2K42")
    await inbox.handle_request(request(new, "a"))
    return request(Cancelled(UNBEGUN), "b")


async def _text_of_a_reference(inbox: Inbox) -> InboundText:
    await _cancel_of_an_unbegun_verification(inbox)
    return text("VERIFY 7Q2K42", phone=OTHER)


async def _request_under_a_key(inbox: Inbox) -> AppRequest:
    await inbox.handle_webhook(text("hello", phone=OTHER))
    return request(new_verification(OTHER), "c")


async def _report_on_an_unknown_text(inbox: Inbox) -> DeliveryReport:
    await inbox.handle_webhook(text("hello", phone=OTHER))
    return replace(report("unknown", DeliveryStatus.SENT), key="event:held")


LOCKED = {
    "a text that STOP cancels": (
        _stop_with_a_text_in_the_queue,
        "SELECT * FROM outbox WHERE state = 'queued' FOR UPDATE",
    ),
    "a verification that is cancelled": (
        _cancel_of_an_unbegun_verification,
        "SELECT * FROM verifications FOR UPDATE",
    ),
    "a verification whose reference is texted": (
        _text_of_a_reference,
        "SELECT * FROM verifications FOR UPDATE",
    ),
    "an Idempotency-Key": (
        _request_under_a_key,
        f"INSERT INTO idempotency_keys VALUES ('{'c' * 64}', '', 'done', '', 0, now())",
    ),
    "the key of a webhook": (
        _report_on_an_unknown_text,
        "INSERT INTO processed_webhooks (key, processed_at) VALUES ('event:held', now())",
    ),
    "an early report": (
        _report_on_an_unknown_text,
        "INSERT INTO early_reports VALUES ('unknown', 'sent', NULL, now())",
    ),
}


@on_postgresql
@pytest.mark.parametrize(("arrange", "lock"), LOCKED.values(), ids=LOCKED)
async def test_a_lock_that_cannot_be_skipped_delays_no_other_item(
    inbox: Inbox, database: Database, database_url: URL, arrange: Any, lock: str
) -> None:
    event = await arrange(inbox)
    decided = await row_count(database, TokenRow)
    send = inbox.handle_request if isinstance(event, AppRequest) else inbox.handle_webhook
    async with held(database_url, lock) as release:
        stuck = asyncio.create_task(send(event))
        others = [f"+1312555{number:04}" for number in range(100, 162)]
        await asyncio.gather(
            *(inbox.handle_webhook(text("VERIFY", phone=phone)) for phone in others)
        )
        assert await row_count(database, TokenRow) == decided + len(others)
        assert not stuck.done()
        await inbox.handle_webhook(text("VERIFY", phone=PHONE))
        assert not stuck.done()
        release.set()
        await stuck


@on_postgresql
async def test_items_behind_such_a_lock_are_refused_when_the_inbox_stops(
    database: Database, database_url: URL
) -> None:
    async with open_inbox(database) as inbox:
        for phone in (OTHER, PHONE):
            await inbox.handle_webhook(text("VERIFY", phone=phone))
    async with held(database_url, "SELECT * FROM outbox FOR UPDATE"):
        async with open_inbox(database) as inbox:
            stuck = [
                asyncio.create_task(inbox.handle_webhook(text("STOP", phone=phone)))
                for phone in (OTHER, PHONE, OTHER)
            ]
            await wait_until(lambda: inbox._blocked.qsize() > 0)
        done, waiting = await asyncio.wait(stuck, timeout=TEST_TIMEOUT)
    assert not waiting
    assert all(isinstance(task.exception(), UnavailableError) for task in done)


@on_postgresql
async def test_one_persons_texts_are_decided_in_the_order_they_came(
    inbox: Inbox, database: Database, database_url: URL
) -> None:
    for phone in (OTHER, PHONE):
        await inbox.handle_webhook(text("STOP", phone=phone))
    async with held(database_url, the_limits_of(OTHER)) as release:
        one_batch = [text("VERIFY", phone=OTHER), text("START")]
        accepted = [asyncio.create_task(inbox.handle_webhook(one)) for one in one_batch]
        await until_batched(inbox)
        accepted.append(asyncio.create_task(inbox.handle_webhook(text("revoke"))))
        await asyncio.wait(accepted[2:])
        release.set()
        await asyncio.gather(*accepted)
    assert (await conversation_of(database)).state is State.OPTED_OUT


@on_postgresql
@pytest.mark.parametrize(
    "lock", [the_limits_of(PHONE), "SELECT * FROM outbox FOR UPDATE"], ids=["limits", "text"]
)
async def test_texts_behind_a_lock_are_decided_in_the_order_they_came(
    inbox: Inbox, database: Database, database_url: URL, lock: str
) -> None:
    await inbox.handle_webhook(text("VERIFY"))
    async with held(database_url, lock) as release:
        accepted = []
        for said in ("STOP", "START", "VERIFY", "STOP", "START", "VERIFY"):
            accepted.append(asyncio.create_task(inbox.handle_webhook(text(said))))
            await inbox.handle_webhook(text("hello", phone=OTHER))
        assert not any(one.done() for one in accepted)
        release.set()
        await asyncio.gather(*accepted)
    assert (await conversation_of(database)).state is State.AWAITING_CODE


@on_postgresql
async def test_endless_requests_for_a_phone_do_not_keep_its_texts_out(
    inbox: Inbox, database: Database
) -> None:
    answered, enough = 0, asyncio.Event()

    async def send_requests(number: int) -> None:
        nonlocal answered
        while not enough.is_set():
            key = IdempotencyKey(f"{number:032}{answered:032}", "")
            await inbox.handle_request(
                AppRequest(replace(new_verification(PHONE), id=secrets.token_hex(16)), key)
            )
            answered += 1

    asking = [asyncio.create_task(send_requests(number)) for number in range(300)]
    try:
        for _ in range(5):
            before = answered
            await inbox.handle_webhook(text("STATUS"))
            assert answered - before < 2000
    finally:
        enough.set()
        await asyncio.gather(*asking)
    await inbox.handle_webhook(text("STOP"))
    assert (await conversation_of(database)).state is State.OPTED_OUT


async def test_a_start_that_is_delivered_again_after_a_stop_opts_nobody_in(
    inbox: Inbox, database: Database
) -> None:
    def received(said: str, seconds: int) -> InboundText:
        one = text(said)
        return replace(one, input=replace(one.input, received_at=NOON + (seconds - 60) * SECOND))

    for one in (received("STOP", 0), received("revoke", 15), received("START", 10)):
        await inbox.handle_webhook(one)
    assert (await conversation_of(database)).state is State.OPTED_OUT
    assert (await person_of(database)).opted_out_at == NOON - 45 * SECOND
    await inbox.handle_webhook(received("START", 20))
    assert (await conversation_of(database)).state is State.IDLE
    assert (await person_of(database)).opted_in_at == NOON - 40 * SECOND
    await inbox.handle_webhook(received("END", 19))
    assert (await conversation_of(database)).state is State.IDLE


async def test_all_waiting_items_are_refused_when_the_inbox_stops(database: Database) -> None:
    async with open_inbox(database) as inbox:
        texts = [
            asyncio.create_task(inbox.handle_webhook(text("VERIFY", phone=OTHER))) for _ in range(3)
        ]
        asking = [
            asyncio.create_task(
                inbox.handle_request(request(CodeSubmitted("0" * 32, "1"), chr(97 + number % 26)))
            )
            for number in range(50)
        ]
        await asyncio.sleep(0)
        assert not any(task.done() for task in (*texts, *asking))
    done, waiting = await asyncio.wait([*texts, *asking], timeout=TEST_TIMEOUT)
    assert not waiting
    assert all(isinstance(task.exception(), UnavailableError) for task in done)
