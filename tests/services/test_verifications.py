"""Requests of apps, through the inbox and on both databases, with the texts of the person."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace as dataclass_replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from structlog.testing import capture_logs

from bot.conversation.channels import FORM, of_key
from bot.conversation.verification import (
    Complete,
    Origin,
    Reason,
    RequestOutcome,
    Status,
    Verification,
)
from bot.services.status import of_phone as status_of
from bot.services.unlock import unlock
from bot.services.verifications import Filter, IdempotencyKey, VerificationRequest, Verifications
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.store import phone_limits, verifications
from bot.store.tables import (
    AppEventRow,
    IdempotencyKeyRow,
)
from tests.kit.inboxes import held, the_limits_of
from tests.kit.stored import row_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from sqlalchemy import Connection

    from bot.services.verifications import RequestResult
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

EVENTS: dict[str, Any] = {
    "events_url": "http://127.0.0.1:9/events",
    "events_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "events_to_private": True,
}
OTHER = "+13125550002"


@pytest.fixture
async def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return await make_sandbox(**EVENTS)


@pytest.fixture
def apps(sandbox: Sandbox) -> Verifications:
    assert sandbox.bot.verifications is not None
    return sandbox.bot.verifications


async def begin(apps: Verifications, phone: str | None = PHONE, **more: Any) -> str:
    result = await apps.begin(VerificationRequest(more.pop("origin", Origin.APP), phone, **more))
    assert result.outcome is RequestOutcome.DONE
    assert result.verification is not None
    return result.verification.id


async def came(sandbox: Sandbox, phone: str = PHONE) -> list[str]:
    await sandbox.quiet()
    return [text.text for text in sandbox.telnyx.texts if text.phone == phone]


async def code_for(sandbox: Sandbox, phone: str = PHONE) -> str:
    code = code_in((await came(sandbox, phone))[-1])
    assert code is not None
    return code


def wrong(code: str) -> str:
    return ("1" if code[0] == "0" else "0") + code[1:]


async def status(apps: Verifications, name: str) -> tuple[Status, Reason | None]:
    found = await apps.get(name)
    assert found is not None
    return found.status, found.reason


async def events(sandbox: Sandbox) -> list[tuple[str, str | None]]:
    """Read the events, and the verification that each is about."""

    def read(connection: Connection) -> list[tuple[str, str | None]]:
        rows = connection.execute(
            select(AppEventRow.__table__).order_by(AppEventRow.__table__.c.id)
        )
        return [(row.type, json.loads(row.body)["data"].get("id")) for row in rows]

    return await sandbox.bot.database.read(read)


async def bodies(sandbox: Sandbox, name: str) -> dict[str, dict[str, Any]]:
    """Read the data of the events about a verification, by type; raise if a type occurs twice."""

    def read(connection: Connection) -> dict[str, dict[str, Any]]:
        rows = connection.execute(
            select(AppEventRow.__table__).where(AppEventRow.__table__.c.subject == name)
        ).all()
        assert len({row.type for row in rows}) == len(rows)
        return {row.type: json.loads(row.body)["data"] for row in rows}

    return await sandbox.bot.database.read(read)


async def happened(sandbox: Sandbox, name: str) -> list[str]:
    return [kind for kind, about in await events(sandbox) if about == name]


async def with_letters(apps: Verifications, name: str, code: str) -> str:
    found = await apps.get(name)
    assert found is not None
    return f"{code} {apps.letters(found)}"


async def test_a_code_requested_by_an_app_is_texted_and_a_reply_with_its_letters_verifies(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps, complete=Complete.REPLY)
    code = await code_for(sandbox)
    (reply,) = await sandbox.text(PHONE, code)
    assert "type it there" in reply.text
    assert await status(apps, name) == (Status.PENDING, None)
    (reply,) = await sandbox.text(PHONE, await with_letters(apps, name, code))
    assert "verified" in reply.text
    assert await status(apps, name) == (Status.VERIFIED, None)
    assert await happened(sandbox, name) == [
        "verification.pending",
        "verification.sent",
        "verification.delivered",
        "verification.verified",
    ]


async def test_a_code_typed_into_the_app_verifies_without_another_text(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    result = await apps.check(name, f" {await code_for(sandbox)} ")
    assert result.outcome is RequestOutcome.RIGHT
    assert await status(apps, name) == (Status.VERIFIED, None)
    assert len(await came(sandbox)) == 1
    again = await apps.check(name, await code_for(sandbox))
    assert again.outcome is RequestOutcome.NOT_PENDING


async def test_each_code_completes_its_own_verification_and_no_other(
    sandbox: Sandbox, apps: Verifications
) -> None:
    first = await begin(apps, complete=Complete.REPLY)
    code = await code_for(sandbox)
    second = await begin(apps, complete=Complete.REPLY)
    await sandbox.text(PHONE, "VERIFY")
    own = await code_for(sandbox)
    assert own != code
    assert (await apps.check(second, code)).outcome is RequestOutcome.WRONG
    await sandbox.text(PHONE, own)
    assert await status(apps, first) == await status(apps, second) == (Status.PENDING, None)
    await sandbox.text(PHONE, await with_letters(apps, second, code))
    assert await status(apps, first) == (Status.PENDING, None)
    await sandbox.text(PHONE, await with_letters(apps, first, code))
    assert await status(apps, first) == (Status.VERIFIED, None)
    assert await status(apps, second) == (Status.PENDING, None)


async def test_guesses_typed_into_the_app_cost_no_try_by_text(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    bad = wrong(await code_for(sandbox))
    tries_left = [(await apps.check(name, bad)).tries_left for _ in range(5)]
    assert tries_left == [4, 3, 2, 1, 0]
    assert await status(apps, name) == (Status.FAILED, Reason.TOO_MANY_GUESSES)
    other = await begin(apps)
    code = await code_for(sandbox)
    locked = await apps.check(other, code)
    assert locked.outcome is RequestOutcome.TOO_MANY_GUESSES
    assert locked.retry_at == sandbox.clock.now() + timedelta(minutes=15)
    await sandbox.text(PHONE, "VERIFY")
    own = await code_for(sandbox)
    assert own != code
    (reply,) = await sandbox.text(PHONE, wrong(own))
    assert "4 tries left" in reply.text
    (reply,) = await sandbox.text(PHONE, own)
    assert "verified" in reply.text


async def test_guesses_by_text_lock_texts_and_leave_the_codes_of_apps(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    await sandbox.text(PHONE, "VERIFY")
    own = await code_for(sandbox)
    bad = wrong(own)
    for _ in range(5):
        await sandbox.text(PHONE, bad)
    assert await status(apps, name) == (Status.PENDING, None)
    (right,) = {code for text in await came(sandbox) if (code := code_in(text))} - {bad, own}
    assert (await apps.check(name, right)).outcome is RequestOutcome.RIGHT
    assert await sandbox.text(PHONE, "VERIFY") == []
    await begin(apps)


async def test_a_closed_key_is_refused_and_the_app_hears_of_it(
    sandbox: Sandbox, apps: Verifications
) -> None:
    key, other = of_key("0123456789ab"), of_key("ba9876543210")
    policy = replace(sandbox.bot.rules.policy, failures_to_close=2)
    rules = dataclass_replace(sandbox.bot.rules, policy=policy)
    apps._inbox._rules = rules
    name = await begin(apps, channel=key)
    bad = wrong(await code_for(sandbox))
    for _ in range(2):
        assert (await apps.check(name, bad, channel=key)).outcome is RequestOutcome.WRONG

    refused = await apps.check(name, bad, channel=key)
    assert refused.outcome is RequestOutcome.LOCKED
    assert refused.retry_at == sandbox.clock.now() + timedelta(days=30)
    begun = await apps.begin(VerificationRequest(Origin.APP, PHONE, channel=key))
    assert begun.outcome is RequestOutcome.LOCKED
    database = sandbox.bot.database
    now = sandbox.clock.now()
    shown = await database.read(status_of, PHONE, now)
    assert f"{key}: closed until 2026-02-14 12:00:00 UTC; to open it: bot unlock PHONE" in shown
    opened = await database.write(partial(unlock, phone=PHONE, now=now, has_app=True))
    assert opened == [key]
    assert "closed" not in await database.read(status_of, PHONE, now)
    limits = await database.read(phone_limits.read, PHONE)
    assert limits.closed == ()
    assert (await apps.check(name, await code_for(sandbox), channel=other)).outcome is (
        RequestOutcome.RIGHT
    )
    bodies = await database.read(lambda c: list(c.scalars(select(AppEventRow.body))))
    numbers = [found for body in bodies if (found := json.loads(body))["type"][:6] == "number"]
    assert [(each["type"], each["data"]["channel"]) for each in numbers] == [
        ("number.locked", key),
        ("number.unlocked", key),
    ]
    assert [each["data"]["until"] is None for each in numbers] == [False, True]
    assert numbers[0]["data"]["number"] == PHONE


async def test_the_length_of_a_code_is_shown_and_grows_at_the_form_whatever_the_outcome(
    sandbox: Sandbox, apps: Verifications
) -> None:
    one = await begin(apps, origin=Origin.FORM, session="s", channel=FORM)
    found = await apps.get(one)
    assert found is not None
    assert found.code_length == 6
    bad = wrong(await code_for(sandbox))
    for name in (one, await begin(apps, origin=Origin.FORM, session="s", channel=FORM)):
        for _ in range(5):
            await apps.check(name, bad, channel=FORM)
    two = await begin(apps, origin=Origin.FORM, session="s", channel=FORM)
    found = await apps.get(two)
    assert found is not None
    assert found.code_length == 8
    assert len(await code_for(sandbox)) == 8

    await sandbox.text(PHONE, "STOP")
    await apps.begin(VerificationRequest(Origin.FORM, PHONE, session="t", channel=FORM))
    refused = await apps.of_session("t")
    assert refused is not None
    assert (refused.status, refused.code_length) == (Status.FAILED, 8)
    reference = await apps.get(await begin(apps, None, origin=Origin.REFERENCE))
    assert reference is not None
    assert reference.code_length is None


async def test_a_reference_binds_the_phone_that_texts_it(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps, None, metadata={"session": 7}, origin=Origin.REFERENCE)
    waiting = await apps.get(name)
    assert waiting is not None
    assert waiting.phone is None
    assert re.fullmatch(r"[2-9A-Z]{6}", waiting.reference or "")
    (code_text,) = await sandbox.text(PHONE, f"Verify {(waiting.reference or '').lower()}")
    (refused,) = await sandbox.text(OTHER, f"VERIFY {waiting.reference}")
    assert "used or has expired" in refused.text
    await sandbox.text(PHONE, code_in(code_text.text) or "")
    done = await apps.get(name)
    assert done is not None
    assert (done.phone, done.status, done.metadata) == (PHONE, Status.VERIFIED, {"session": 7})
    (refused,) = await sandbox.text(PHONE, f"VERIFY {waiting.reference}")
    assert "used or has expired" in refused.text


async def test_the_app_learns_the_number_when_its_reference_is_texted(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE, label="Ann's login")
    waiting = await apps.get(name)
    assert waiting is not None
    assert await happened(sandbox, name) == []
    (code_text,) = await sandbox.text(PHONE, f"VERIFY {waiting.reference}")
    assert f"It is for Ann's login, reference {waiting.reference}." in code_text.text
    found = await apps.get(name)
    assert found is not None
    assert (found.phone, found.status) == (PHONE, Status.PENDING)
    await sandbox.text(PHONE, code_in(code_text.text) or "")

    assert await happened(sandbox, name) == [
        "verification.pending",
        "verification.sent",
        "verification.delivered",
        "verification.verified",
    ]
    shown = await bodies(sandbox, name)
    assert {(data["to"], data["label"]) for data in shown.values()} == {(PHONE, "Ann's login")}
    assert {type_: data["reference"] for type_, data in shown.items()} == {
        "verification.pending": None,
        "verification.sent": None,
        "verification.delivered": None,
        "verification.verified": waiting.reference,
    }


async def test_a_label_is_in_the_text_of_a_code_that_is_sent_again(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE, label="Ann's login")
    waiting = await apps.get(name)
    assert waiting is not None
    await sandbox.text(PHONE, f"VERIFY {waiting.reference}")
    await sandbox.travel(PHONE, timedelta(seconds=30))
    (by_person,) = await sandbox.text(PHONE, "RESEND")
    await sandbox.travel(PHONE, timedelta(seconds=30))
    assert (await apps.resend(name)).outcome is RequestOutcome.DONE
    by_app = (await came(sandbox))[-1]
    about = f"It is for Ann's login, reference {waiting.reference}."
    assert about in by_person.text
    assert about in by_app


async def test_a_filter_does_not_find_a_reference_that_may_still_be_texted(
    sandbox: Sandbox, apps: Verifications
) -> None:
    async def found_by(reference: str | None) -> list[str]:
        return [found.id for found in await apps.list(Filter(reference=reference))]

    name, other = [await begin(apps, None, origin=Origin.REFERENCE) for _ in range(2)]
    first, second = await apps.get(name), await apps.get(other)
    assert first is not None
    assert second is not None
    own = await begin(apps, OTHER, reference=first.reference)
    assert await found_by(first.reference) == [own]
    (code_text,) = await sandbox.text(PHONE, f"VERIFY {first.reference}")
    assert await found_by(first.reference) == [own]
    await sandbox.text(PHONE, code_in(code_text.text) or "")
    assert await found_by(first.reference) == [own, name]
    assert await found_by(second.reference) == []
    sandbox.clock.travel(timedelta(minutes=15))  # its expiry is not yet recorded
    assert await found_by(second.reference) == [other]


async def test_no_log_line_names_a_reference_or_its_label(
    sandbox: Sandbox, apps: Verifications
) -> None:
    with capture_logs() as lines:
        name = await begin(apps, None, origin=Origin.REFERENCE, label="Ann's login")
        waiting = await apps.get(name)
        assert waiting is not None
        await sandbox.text(PHONE, f"VERIFY {waiting.reference}")
    described = await sandbox.bot.database.read(status_of, PHONE, sandbox.clock.now())
    assert waiting.reference is not None
    for shown in (str(lines), described):
        assert waiting.reference not in shown
        assert "Ann's login" not in shown


@pytest.mark.parametrize("reference", ["7Q2K42", "7Q2K", "7Q2O42"])
async def test_an_unknown_or_mistyped_reference_gets_a_clear_reply_and_no_code(
    reference: str, sandbox: Sandbox
) -> None:
    (reply,) = await sandbox.text(PHONE, f"VERIFY {reference}")
    assert "do not know that reference" in reply.text
    assert code_in(reply.text) is None


async def test_status_shows_the_progress_of_the_code_of_a_reference(
    sandbox: Sandbox, apps: Verifications
) -> None:
    async def status_reply() -> str:
        (reply,) = (text for text in await sandbox.text(PHONE, "STATUS") if not code_in(text.text))
        return reply.text

    sandbox.arm("500")
    name = await begin(apps, None, origin=Origin.REFERENCE)
    waiting = await apps.get(name)
    assert waiting is not None
    await sandbox.text(PHONE, f"VERIFY {waiting.reference}")
    # Its text waits for the next attempt, and the reply waits behind it.
    assert await sandbox.text(PHONE, "STATUS") == []
    (answer,) = (
        text.text
        for text in await sandbox.travel(PHONE, timedelta(seconds=2))
        if not code_in(text.text)
    )
    assert "your code is on its way" in answer
    assert "your code was sent" in await status_reply()
    await sandbox.travel(PHONE, timedelta(seconds=30))
    sandbox.arm("failed")
    assert (await apps.resend(name)).outcome is RequestOutcome.DONE
    await sandbox.quiet()
    assert "your code could not be delivered" in await status_reply()


async def test_two_phones_at_once_do_not_share_a_reference(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE)
    waiting = await apps.get(name)
    assert waiting is not None
    await asyncio.gather(
        *(sandbox.text(phone, f"VERIFY {waiting.reference}") for phone in (PHONE, OTHER))
    )
    codes = [code_in(text.text) for text in sandbox.telnyx.texts]
    assert sum(code is not None for code in codes) == 1


async def test_verifications_expire_by_themselves(sandbox: Sandbox, apps: Verifications) -> None:
    asked = await begin(apps)
    waiting = await begin(apps, None, origin=Origin.REFERENCE)
    await sandbox.travel(PHONE, timedelta(minutes=10))
    assert sandbox.bot.expirer is not None
    await sandbox.bot.expirer.expire_all()
    assert await status(apps, asked) == (Status.EXPIRED, None)
    assert (await status(apps, waiting))[0] is Status.PENDING
    await sandbox.travel(PHONE, timedelta(minutes=5))
    await sandbox.bot.expirer.expire_all()
    assert (await status(apps, waiting))[0] is Status.EXPIRED
    assert (await happened(sandbox, asked))[-1] == "verification.expired"
    assert await happened(sandbox, waiting) == ["verification.expired"]


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_verifications_expire_while_another_phone_is_locked(
    sandbox: Sandbox, apps: Verifications
) -> None:
    locked, free = [await begin(apps, phone) for phone in (PHONE, OTHER)]
    await sandbox.quiet()
    assert sandbox.bot.expirer is not None
    async with held(sandbox.bot.database.url, the_limits_of(PHONE)):
        sandbox.clock.travel(timedelta(minutes=10))
        await sandbox.bot.expirer.expire_all()
        assert (await happened(sandbox, free))[-1] == "verification.expired"
        assert (await happened(sandbox, locked))[-1] == "verification.delivered"
    await sandbox.bot.expirer.expire_all()
    assert (await happened(sandbox, locked))[-1] == "verification.expired"


async def test_not_me_and_stop_fail_pending_verifications(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    await sandbox.text(PHONE, "NOT ME")
    assert await status(apps, name) == (Status.FAILED, Reason.NOT_ME)
    assert (
        await apps.begin(VerificationRequest(Origin.APP, PHONE))
    ).outcome is RequestOutcome.NOT_ME
    other = await begin(apps, OTHER)
    await sandbox.text(OTHER, "STOP")
    assert await status(apps, other) == (Status.FAILED, Reason.OPTED_OUT)
    assert (
        await apps.begin(VerificationRequest(Origin.APP, OTHER))
    ).outcome is RequestOutcome.OPTED_OUT
    await sandbox.text(OTHER, "START")
    kinds = [kind for kind, _ in await events(sandbox)]
    assert kinds.count("number.opted_out") == kinds.count("number.opted_in") == 1


async def test_cancel_ends_a_verification_and_its_code(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name, waiting = await begin(apps), await begin(apps, None, origin=Origin.REFERENCE)
    code = await code_for(sandbox)
    assert (await apps.cancel(name)).outcome is RequestOutcome.DONE
    assert (await apps.cancel(waiting)).outcome is RequestOutcome.DONE
    assert (await apps.cancel(name)).outcome is RequestOutcome.NOT_PENDING
    (reply,) = await sandbox.text(PHONE, code)
    assert "verified" not in reply.text
    for cancelled in (name, waiting):
        assert await status(apps, cancelled) == (Status.CANCELED, None)


@pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        (lambda apps, name: apps.cancel(name), RequestOutcome.DONE),
        (lambda apps, name: apps.resend(name), RequestOutcome.TOO_SOON),
        (lambda apps, name: apps.check(name, "no code"), RequestOutcome.WRONG),
    ],
    ids=["cancel", "resend", "check"],
)
async def test_a_request_made_while_the_reference_is_texted_sees_the_text(
    sandbox: Sandbox,
    apps: Verifications,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Verifications, str], Awaitable[RequestResult]],
    outcome: RequestOutcome,
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE)
    unbegun = await apps.get(name)
    assert unbegun is not None
    await sandbox.text(PHONE, f"VERIFY {unbegun.reference}")
    find, reads = verifications.find, 0

    def find_too_early(connection: Connection, ids: Collection[str]) -> dict[str, Verification]:
        """Return the state before the text for the first two reads of the transaction."""
        nonlocal reads
        reads += 1
        return {name: unbegun} if reads <= 2 else find(connection, ids)

    monkeypatch.setattr(verifications, "find", find_too_early)
    result = await ask(apps, name)
    assert result.outcome is outcome
    assert result.verification is not None
    assert result.verification.phone == PHONE
    cancelled = result.verification.status is Status.CANCELED
    assert cancelled is (outcome is RequestOutcome.DONE)
    (reply,) = await sandbox.text(PHONE, await code_for(sandbox))
    assert ("verified" in reply.text) is not cancelled


async def test_resend_sends_the_same_code_after_the_cooldown(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    code = await code_for(sandbox)
    soon = await apps.resend(name)
    assert soon.outcome is RequestOutcome.TOO_SOON
    assert soon.retry_at == sandbox.clock.now() + timedelta(seconds=30)
    await sandbox.travel(PHONE, timedelta(seconds=30))
    assert (await apps.resend(name)).outcome is RequestOutcome.DONE
    assert await code_for(sandbox) == code
    assert len(await came(sandbox)) == 2


async def test_apps_have_their_own_limit_of_codes(sandbox: Sandbox, apps: Verifications) -> None:
    for _ in range(5):
        await begin(apps)
    refused = await apps.begin(VerificationRequest(Origin.APP, PHONE))
    assert refused.outcome is RequestOutcome.TOO_MANY_CODES
    assert refused.retry_at == sandbox.clock.now() + timedelta(hours=1)
    assert len(await came(sandbox)) == 5
    (code_text,) = await sandbox.text(PHONE, "VERIFY")
    assert code_in(code_text.text)


async def test_a_verification_whose_code_cannot_be_delivered_fails(
    sandbox: Sandbox, apps: Verifications
) -> None:
    sandbox.arm("failed")
    name = await begin(apps)
    await sandbox.quiet()
    assert await status(apps, name) == (Status.FAILED, Reason.UNDELIVERABLE)


async def test_the_form_does_not_reveal_that_a_number_has_opted_out(
    sandbox: Sandbox, apps: Verifications
) -> None:
    await sandbox.text(PHONE, "STOP")
    refused = await apps.begin(VerificationRequest(Origin.FORM, PHONE, session="s"))
    assert refused.outcome is RequestOutcome.OPTED_OUT
    stored = await apps.of_session("s")
    assert stored is not None
    assert (stored.status, stored.reason) == (Status.FAILED, Reason.OPTED_OUT)
    assert (await apps.check(stored.id, "123456")).outcome is RequestOutcome.NOT_PENDING
    assert await happened(sandbox, stored.id) == []


async def test_a_test_number_receives_no_text_and_has_a_fixed_code(
    make_sandbox: MakeSandbox,
) -> None:
    sandbox = await make_sandbox(**EVENTS, test_numbers={"+15005550006": "123456"})
    apps = sandbox.bot.verifications
    assert apps is not None
    name = await begin(apps, "+15005550006")
    await sandbox.quiet()
    assert sandbox.telnyx.requests == []
    result = await apps.check(name, "123456")
    assert result.outcome is RequestOutcome.RIGHT
    assert result.verification is not None
    assert result.verification.test
    assert await happened(sandbox, name) == [
        "verification.pending",
        "verification.sent",
        "verification.delivered",
        "verification.verified",
    ]


async def test_a_request_is_carried_out_once_under_one_key(
    sandbox: Sandbox, apps: Verifications
) -> None:
    key = IdempotencyKey("k" * 64, "f" * 64)
    results = await asyncio.gather(
        *(apps.begin(VerificationRequest(Origin.APP, PHONE), key) for _ in range(5))
    )
    assert len({result.verification.id for result in results if result.verification}) == 1
    assert len(await came(sandbox)) == 1
    other = await apps.begin(
        VerificationRequest(Origin.APP, PHONE), IdempotencyKey("k" * 64, "g" * 64)
    )
    assert other.outcome is RequestOutcome.KEY_REUSED
    (name,) = {result.verification.id for result in results if result.verification}
    bad = wrong(await code_for(sandbox))
    check = IdempotencyKey("c" * 64, "f" * 64)
    tries_left = [(await apps.check(name, bad, check)).tries_left for _ in range(3)]
    assert tries_left == [4, 4, 4]


async def test_a_request_that_changes_nothing_is_not_stored(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    before = await row_count(sandbox.bot.database, IdempotencyKeyRow)
    for typed in ("hello", "12345", "1" * 20):
        assert (await apps.check(name, typed)).outcome is RequestOutcome.WRONG
    assert (await apps.check("0" * 32, "123456")).outcome is RequestOutcome.NOT_FOUND
    assert await row_count(sandbox.bot.database, IdempotencyKeyRow) == before
    await apps.cancel(name)
    for request in (apps.cancel(name), apps.resend(name), apps.check(name, "123456")):
        assert (await request).outcome is RequestOutcome.NOT_PENDING
    assert await row_count(sandbox.bot.database, IdempotencyKeyRow) == before + 1


async def test_guesses_typed_in_parallel_are_all_counted(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await begin(apps)
    code = await code_for(sandbox)
    guesses = [f"{number:06}" for number in range(50) if f"{number:06}" != code]
    results = await asyncio.gather(*(apps.check(name, guess) for guess in guesses))
    outcomes = [result.outcome for result in results]
    assert outcomes.count(RequestOutcome.WRONG) == 5
    assert (await apps.check(name, code)).outcome is RequestOutcome.NOT_PENDING


async def test_verifications_are_listed_in_pages_the_latest_first(
    sandbox: Sandbox, apps: Verifications
) -> None:
    names = [await begin(apps, f"+131255500{number:02}") for number in range(10, 15)]
    await apps.check(names[0], await code_for(sandbox, "+13125550010"))
    page = [found.id for found in await apps.list(Filter(limit=2))]
    assert page == [names[4], names[3]]
    rest = [found.id for found in await apps.list(Filter(before=page[-1]))]
    assert rest == [names[2], names[1], names[0]]
    verified = await apps.list(Filter(status=Status.VERIFIED))
    assert [found.id for found in verified] == [names[0]]
    assert [v.id for v in await apps.list(Filter(phone="+13125550012"))] == [names[2]]
