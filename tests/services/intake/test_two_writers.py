"""Two processes that decide for the same phones at the same moment."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bot.conversation.inputs import Cancelled, CodeSubmitted
from bot.conversation.verification import Origin, RequestOutcome, Status, Verification
from bot.services.intake.app_requests import AppRequest, IdempotencyKey
from bot.services.intake.form_gate import MAX_REQUESTS_PER_HOUR
from bot.services.intake.inbox import Inbox
from bot.simulator.clock import NOON, StoppedClock
from bot.store.engine.database import Database
from bot.store.engine.errors import DeadlockError
from tests.kit.form_visits import visit
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, text
from tests.kit.timeouts import TEST_TIMEOUT, slow_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import URL

    from bot.services.intake.app_requests import RequestedAction
    from bot.services.intake.form_gate import FormVisit

ROUNDS = 10
OTHER = "+13125550002"

on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)


@asynccontextmanager
async def two_writers(
    url: URL, open_database: Callable[[URL], Database] = slow_database
) -> AsyncIterator[tuple[Inbox, Inbox]]:
    """Run two inboxes, each on connections of its own."""
    async with AsyncExitStack() as stack:
        inboxes = []
        for _ in range(2):
            database = open_database(url)
            stack.push_async_callback(database.close)
            inbox = Inbox(database, RULES, StoppedClock(), lambda: None, answer_within=TEST_TIMEOUT)
            writer = asyncio.create_task(inbox.run())
            stack.callback(writer.cancel)
            inboxes.append(inbox)
        await asyncio.sleep(0)
        yield inboxes[0], inboxes[1]


def request(
    action: RequestedAction, key: str | None = None, seen: FormVisit | None = None
) -> AppRequest:
    return AppRequest(action, IdempotencyKey(key or secrets.token_hex(32), ""), visit=seen)


def new_verification(phone: str, origin: Origin = Origin.APP) -> Verification:
    return Verification(
        secrets.token_hex(16),
        origin,
        BOT_NUMBER,
        NOON,
        NOON + timedelta(minutes=10),
        phone=phone,
    )


async def test_both_processes_share_the_limits_of_the_form(database_url: URL) -> None:
    async with two_writers(database_url) as both:
        for each in range(ROUNDS):
            requests = [
                new_verification(f"+1312555{each:02}{number:02}", Origin.FORM)
                for number in range(2 * MAX_REQUESTS_PER_HOUR)
            ]
            results = await asyncio.gather(
                *(
                    both[number % 2].handle_request(request(params, seen=visit(f"network {each}")))
                    for number, params in enumerate(requests)
                )
            )
            outcomes = [result.outcome for result in results]
            assert outcomes.count(RequestOutcome.DONE) == MAX_REQUESTS_PER_HOUR


async def test_a_request_sent_to_both_is_carried_out_once(database_url: URL) -> None:
    async with two_writers(database_url) as both:
        for each in range(ROUNDS):
            params = request(new_verification(f"+1312555{each:04}"), f"key {each}")
            one, other = await asyncio.gather(*(inbox.handle_request(params) for inbox in both))
            assert (one.outcome, other.outcome) == (RequestOutcome.DONE, RequestOutcome.DONE)


async def test_a_verification_expires_with_its_code_however_late_it_is_stored(
    database_url: URL,
) -> None:
    async with two_writers(database_url) as (one, _):
        early = NOON - timedelta(seconds=1)
        params = replace(
            new_verification(PHONE), created_at=early, expires_at=early + timedelta(minutes=10)
        )
        result = await one.handle_request(request(params))
        assert result.verification is not None
        assert result.verification.expires_at == NOON + RULES.policy.code_lifetime


@pytest.mark.parametrize("text_first", [True, False])
async def test_a_cancel_and_the_reference_at_once_cancel_in_either_order(
    database_url: URL, *, text_first: bool
) -> None:
    async with two_writers(database_url) as (one, other):
        for each in range(ROUNDS):
            phone = f"+1312555{each:04}"
            reference = f"7Q2K{each + 22}"
            params = replace(
                new_verification(phone, Origin.REFERENCE), phone=None, reference=reference
            )
            await one.handle_request(request(params))
            texted = one.handle_webhook(text(f"VERIFY {reference}", phone=phone))
            canceled = other.handle_request(request(Cancelled(params.id)))
            both = asyncio.gather(*((texted, canceled) if text_first else (canceled, texted)))
            result = (await both)[1 if text_first else 0]
            assert result is not None
            assert result.outcome is RequestOutcome.DONE
            assert result.verification is not None
            assert result.verification.status is Status.CANCELED


@on_postgresql
async def test_texts_and_requests_of_the_same_phones_do_not_deadlock(
    database_url: URL,
) -> None:
    deadlocks: list[DeadlockError] = []

    class Watched(Database):
        async def _write(self, *args: Any, **options: Any) -> Any:  # type: ignore[override] # it passes them on
            try:
                return await super()._write(*args, **options)
            except DeadlockError as error:
                deadlocks.append(error)
                raise

    def watched(url: URL) -> Database:
        return Watched(url, TEST_TIMEOUT)

    async with two_writers(database_url, watched) as (one, other):
        names = {}
        for phone in (PHONE, OTHER):
            params = new_verification(phone)
            names[phone] = params.id
            await one.handle_request(request(params))
        for _ in range(ROUNDS):
            await asyncio.gather(
                one.handle_webhook(text("STATUS", phone=PHONE)),
                one.handle_request(request(CodeSubmitted(names[OTHER], "no code"))),
                other.handle_webhook(text("STATUS", phone=OTHER)),
                other.handle_request(request(CodeSubmitted(names[PHONE], "no code"))),
            )
    assert deadlocks == []
