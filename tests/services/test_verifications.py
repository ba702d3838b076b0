"""What apps ask, through the inbox and on both databases, with the person on the other side."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from harness.inboxes import held, the_limits_of
from harness.reading import row_count
from sqlalchemy import select

from bot.conversation.verification import Origin, Outcome, Reason, Status, Verification
from bot.services.requests import FORM_REQUESTS_PER_HOUR
from bot.services.verifications import Filter, Idempotency, Verifications, Wish
from bot.simulator.stage import PHONE
from bot.simulator.transcript import code_in
from bot.store import verifications
from bot.store.models import (
    ConversationRow,
    EventRow,
    LedgerRow,
    RequestRow,
    VerificationRow,
    WebLedgerRow,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from conftest import SetStage
    from sqlalchemy import Connection

    from bot.services.verifications import Result
    from bot.simulator.stage import Stage

EVENTS: dict[str, Any] = {
    "events_url": "http://127.0.0.1:9/events",
    "events_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "events_to_private": True,
}
OTHER = "+13125550002"


@pytest.fixture
async def stage(set_stage: SetStage) -> Stage:
    return await set_stage(**EVENTS)


@pytest.fixture
def apps(stage: Stage) -> Verifications:
    assert stage.bot.verifications is not None
    return stage.bot.verifications


async def begin(apps: Verifications, phone: str | None = PHONE, **more: Any) -> str:
    result = await apps.begin(Wish(more.pop("origin", Origin.APP), phone, **more))
    assert result.outcome is Outcome.DONE
    assert result.verification is not None
    return result.verification.id


async def came(stage: Stage, phone: str = PHONE) -> list[str]:
    await stage.quiet()
    return [text.text for text in stage.telnyx.texts if text.phone == phone]


async def code_for(stage: Stage, phone: str = PHONE) -> str:
    code = code_in((await came(stage, phone))[-1])
    assert code is not None
    return code


def wrong(code: str) -> str:
    return ("1" if code[0] == "0" else "0") + code[1:]


async def status(apps: Verifications, name: str) -> tuple[Status, Reason | None]:
    found = await apps.get(name)
    assert found is not None
    return found.status, found.reason


async def events(stage: Stage) -> list[tuple[str, str | None]]:
    """Read the events, and the verification each is about."""

    def read(connection: Connection) -> list[tuple[str, str | None]]:
        rows = connection.execute(select(EventRow.__table__).order_by(EventRow.__table__.c.id))
        return [(row.type, json.loads(row.body)["data"].get("id")) for row in rows]

    return await stage.bot.database.read(read)


async def happened(stage: Stage, name: str) -> list[str]:
    return [kind for kind, about in await events(stage) if about == name]


async def test_a_code_that_an_app_asked_for_is_texted_and_the_reply_verifies(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps)
    (reply,) = await stage.text(PHONE, await code_for(stage))
    assert "verified" in reply.text
    assert await status(apps, name) == (Status.VERIFIED, None)
    assert await happened(stage, name) == [
        "verification.pending",
        "verification.sent",
        "verification.delivered",
        "verification.verified",
    ]


async def test_a_code_typed_into_the_app_verifies_and_texts_nobody(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps)
    result = await apps.check(name, f" {await code_for(stage)} ")
    assert result.outcome is Outcome.RIGHT
    assert await status(apps, name) == (Status.VERIFIED, None)
    assert len(await came(stage)) == 1
    again = await apps.check(name, await code_for(stage))
    assert again.outcome is Outcome.NOT_PENDING


async def test_each_code_completes_its_own_verification_and_no_other(
    stage: Stage, apps: Verifications
) -> None:
    first = await begin(apps)
    code = await code_for(stage)
    second = await begin(apps)
    await stage.text(PHONE, "VERIFY")
    own = await code_for(stage)
    assert own != code
    assert (await apps.check(second, code)).outcome is Outcome.WRONG
    await stage.text(PHONE, own)
    assert await status(apps, first) == await status(apps, second) == (Status.PENDING, None)
    await stage.text(PHONE, code)
    assert await status(apps, first) == (Status.VERIFIED, None)
    assert await status(apps, second) == (Status.PENDING, None)


async def test_guesses_typed_elsewhere_cost_the_person_no_try_by_text(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps)
    bad = wrong(await code_for(stage))
    lefts = [(await apps.check(name, bad)).tries_left for _ in range(5)]
    assert lefts == [4, 3, 2, 1, 0]
    assert await status(apps, name) == (Status.FAILED, Reason.TOO_MANY_GUESSES)
    other = await begin(apps)
    code = await code_for(stage)
    locked = await apps.check(other, code)
    assert locked.outcome is Outcome.TOO_MANY_GUESSES
    assert locked.retry_at == stage.clock.now() + timedelta(minutes=15)
    (reply,) = await stage.text(PHONE, wrong(code))
    assert "4 tries left" in reply.text
    (reply,) = await stage.text(PHONE, code)
    assert "verified" in reply.text


async def test_guesses_by_text_end_every_code_and_lock_the_phone(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps)
    bad = wrong(await code_for(stage))
    for _ in range(5):
        await stage.text(PHONE, bad)
    assert await status(apps, name) == (Status.FAILED, Reason.TOO_MANY_GUESSES)
    refused = await apps.begin(Wish(Origin.APP, PHONE))
    assert (refused.outcome, refused.verification) == (Outcome.LOCKED, None)


async def test_a_reference_binds_the_phone_that_texts_it(stage: Stage, apps: Verifications) -> None:
    name = await begin(apps, None, metadata={"session": 7}, origin=Origin.REFERENCE)
    waiting = await apps.get(name)
    assert waiting is not None
    assert waiting.phone is None
    assert re.fullmatch(r"[2-9A-Z]{6}", waiting.reference or "")
    (code_text,) = await stage.text(PHONE, f"Verify {(waiting.reference or '').lower()}")
    (refused,) = await stage.text(OTHER, f"VERIFY {waiting.reference}")
    assert "used or has expired" in refused.text
    await stage.text(PHONE, code_in(code_text.text) or "")
    done = await apps.get(name)
    assert done is not None
    assert (done.phone, done.status, done.metadata) == (PHONE, Status.VERIFIED, {"session": 7})
    (refused,) = await stage.text(PHONE, f"VERIFY {waiting.reference}")
    assert "used or has expired" in refused.text


@pytest.mark.parametrize("reference", ["7Q2K42", "7Q2K", "7Q2O42"])
async def test_an_unknown_or_mistyped_reference_gets_a_clear_reply_and_no_code(
    reference: str, stage: Stage
) -> None:
    (reply,) = await stage.text(PHONE, f"VERIFY {reference}")
    assert "do not know that reference" in reply.text
    assert code_in(reply.text) is None


@pytest.mark.parametrize("origin", [Origin.APP, Origin.REFERENCE, Origin.FORM])
async def test_status_tells_how_far_a_code_has_come_whoever_asked_for_it(
    origin: Origin, stage: Stage, apps: Verifications
) -> None:
    async def told() -> str:
        (reply,) = (text for text in await stage.text(PHONE, "STATUS") if not code_in(text.text))
        return reply.text

    stage.arm("500")
    if origin is Origin.REFERENCE:
        name = await begin(apps, None, origin=origin)
        waiting = await apps.get(name)
        assert waiting is not None
        await stage.text(PHONE, f"VERIFY {waiting.reference}")
    else:
        name = await begin(apps, origin=origin, session="s", asked_from="here")
        await stage.quiet()
    # Its text waits for another try, and the answer behind it.
    assert await stage.text(PHONE, "STATUS") == []
    (answer,) = (
        text.text
        for text in await stage.travel(PHONE, timedelta(seconds=2))
        if not code_in(text.text)
    )
    assert "your code is on its way" in answer
    assert "your code was sent" in await told()
    await stage.travel(PHONE, timedelta(seconds=30))
    stage.arm("failed")
    assert (await apps.resend(name)).outcome is Outcome.DONE
    await stage.quiet()
    assert "your code could not be delivered" in await told()


async def test_two_phones_at_once_do_not_share_a_reference(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE)
    waiting = await apps.get(name)
    assert waiting is not None
    await asyncio.gather(
        *(stage.text(phone, f"VERIFY {waiting.reference}") for phone in (PHONE, OTHER))
    )
    codes = [code_in(text.text) for text in stage.telnyx.texts]
    assert sum(code is not None for code in codes) == 1


async def test_what_is_over_expires_by_itself(stage: Stage, apps: Verifications) -> None:
    asked = await begin(apps)
    waiting = await begin(apps, None, origin=Origin.REFERENCE)
    await stage.travel(PHONE, timedelta(minutes=10))
    assert stage.bot.expirer is not None
    await stage.bot.expirer.expire_all()
    assert await status(apps, asked) == (Status.EXPIRED, None)
    assert (await status(apps, waiting))[0] is Status.PENDING
    await stage.travel(PHONE, timedelta(minutes=5))
    await stage.bot.expirer.expire_all()
    assert (await status(apps, waiting))[0] is Status.EXPIRED
    assert (await happened(stage, asked))[-1] == "verification.expired"
    assert await happened(stage, waiting) == ["verification.pending", "verification.expired"]


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
async def test_what_is_over_does_not_wait_for_a_phone_that_is_locked(
    stage: Stage, apps: Verifications
) -> None:
    locked, free = [await begin(apps, phone) for phone in (PHONE, OTHER)]
    await stage.quiet()
    assert stage.bot.expirer is not None
    async with held(stage.bot.database.url, the_limits_of(PHONE)):
        stage.clock.travel(timedelta(minutes=10))
        await stage.bot.expirer.expire_all()
        assert (await happened(stage, free))[-1] == "verification.expired"
        assert (await happened(stage, locked))[-1] == "verification.delivered"
    await stage.bot.expirer.expire_all()
    assert (await happened(stage, locked))[-1] == "verification.expired"


async def test_not_me_and_stop_fail_what_waits(stage: Stage, apps: Verifications) -> None:
    name = await begin(apps)
    await stage.text(PHONE, "NOT ME")
    assert await status(apps, name) == (Status.FAILED, Reason.NOT_ME)
    assert (await apps.begin(Wish(Origin.APP, PHONE))).outcome is Outcome.NOT_ME
    other = await begin(apps, OTHER)
    await stage.text(OTHER, "STOP")
    assert await status(apps, other) == (Status.FAILED, Reason.OPTED_OUT)
    assert (await apps.begin(Wish(Origin.APP, OTHER))).outcome is Outcome.OPTED_OUT
    await stage.text(OTHER, "START")
    kinds = [kind for kind, _ in await events(stage)]
    assert kinds.count("number.opted_out") == kinds.count("number.opted_in") == 1


async def test_cancel_ends_it_and_its_code(stage: Stage, apps: Verifications) -> None:
    name, waiting = await begin(apps), await begin(apps, None, origin=Origin.REFERENCE)
    code = await code_for(stage)
    assert (await apps.cancel(name)).outcome is Outcome.DONE
    assert (await apps.cancel(waiting)).outcome is Outcome.DONE
    assert (await apps.cancel(name)).outcome is Outcome.NOT_PENDING
    (reply,) = await stage.text(PHONE, code)
    assert "verified" not in reply.text
    for cancelled in (name, waiting):
        assert await status(apps, cancelled) == (Status.CANCELED, None)


@pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        (lambda apps, name: apps.cancel(name), Outcome.DONE),
        (lambda apps, name: apps.resend(name), Outcome.TOO_SOON),
        (lambda apps, name: apps.check(name, "no code"), Outcome.WRONG),
    ],
    ids=["cancel", "resend", "check"],
)
async def test_what_is_asked_while_the_reference_is_texted_is_done_as_when_it_was_texted(
    stage: Stage,
    apps: Verifications,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Verifications, str], Awaitable[Result]],
    outcome: Outcome,
) -> None:
    name = await begin(apps, None, origin=Origin.REFERENCE)
    unbegun = await apps.get(name)
    assert unbegun is not None
    await stage.text(PHONE, f"VERIFY {unbegun.reference}")
    find, looks = verifications.find, 0

    def find_too_early(connection: Connection, ids: Collection[str]) -> dict[str, Verification]:
        """Look just before the text is committed, the two times that a transaction does first."""
        nonlocal looks
        looks += 1
        return {name: unbegun} if looks <= 2 else find(connection, ids)

    monkeypatch.setattr(verifications, "find", find_too_early)
    result = await ask(apps, name)
    assert result.outcome is outcome
    assert result.verification is not None
    assert result.verification.phone == PHONE
    cancelled = result.verification.status is Status.CANCELED
    assert cancelled is (outcome is Outcome.DONE)
    (reply,) = await stage.text(PHONE, await code_for(stage))
    assert ("verified" in reply.text) is not cancelled


async def test_resend_sends_the_same_code_after_the_cooldown(
    stage: Stage, apps: Verifications
) -> None:
    name = await begin(apps)
    code = await code_for(stage)
    soon = await apps.resend(name)
    assert soon.outcome is Outcome.TOO_SOON
    assert soon.retry_at == stage.clock.now() + timedelta(seconds=30)
    await stage.travel(PHONE, timedelta(seconds=30))
    assert (await apps.resend(name)).outcome is Outcome.DONE
    assert await code_for(stage) == code
    assert len(await came(stage)) == 2


async def test_apps_have_their_own_limit_of_codes(stage: Stage, apps: Verifications) -> None:
    for _ in range(5):
        await begin(apps)
    refused = await apps.begin(Wish(Origin.APP, PHONE))
    assert refused.outcome is Outcome.TOO_MANY_CODES
    assert refused.retry_at == stage.clock.now() + timedelta(hours=1)
    assert len(await came(stage)) == 5
    (code_text,) = await stage.text(PHONE, "VERIFY")
    assert code_in(code_text.text)


async def test_what_cannot_be_delivered_fails(stage: Stage, apps: Verifications) -> None:
    stage.arm("failed")
    name = await begin(apps)
    await stage.quiet()
    assert await status(apps, name) == (Status.FAILED, Reason.UNDELIVERABLE)


async def test_the_form_is_limited_by_network_and_by_day(set_stage: SetStage) -> None:
    stage = await set_stage(web_codes_per_day=12)
    apps = stage.bot.verifications
    assert apps is not None

    async def ask(number: int, network: str) -> Outcome:
        wish = Wish(Origin.FORM, f"+1312555{number:04}", session="s", asked_from=network)
        return (await apps.begin(wish)).outcome

    outcomes = [await ask(number, "one") for number in range(FORM_REQUESTS_PER_HOUR + 1)]
    assert outcomes == [Outcome.DONE] * FORM_REQUESTS_PER_HOUR + [Outcome.TOO_MANY_REQUESTS]
    outcomes = [await ask(number, "other") for number in range(20, 23)]
    assert outcomes == [Outcome.DONE, Outcome.DONE, Outcome.TOO_MANY_REQUESTS]
    await stage.travel(PHONE, timedelta(days=1))
    assert await ask(30, "one") is Outcome.DONE


async def test_who_is_refused_at_the_form_leaves_nothing_behind(set_stage: SetStage) -> None:
    stage = await set_stage(web_codes_per_day=0)
    apps = stage.bot.verifications
    assert apps is not None
    refused = await apps.begin(Wish(Origin.FORM, PHONE, session="s", asked_from="one"))
    assert refused.outcome is Outcome.TOO_MANY_REQUESTS
    tables = (LedgerRow, WebLedgerRow, ConversationRow, VerificationRow, RequestRow)
    assert [await row_count(stage.bot.database, table) for table in tables] == [0] * 5


async def test_what_the_form_sends_again_counts_for_the_day(set_stage: SetStage) -> None:
    stage = await set_stage(web_codes_per_day=3)
    apps = stage.bot.verifications
    assert apps is not None
    one = await begin(apps, PHONE, origin=Origin.FORM, session="s", asked_from="one")
    other = await begin(apps, OTHER, origin=Origin.FORM, session="t", asked_from="two")
    by_app = await begin(apps, "+13125550003")
    await stage.travel(PHONE, timedelta(seconds=31))
    assert (await apps.resend(one)).outcome is Outcome.DONE
    refused = await apps.resend(other)
    assert (refused.outcome, refused.retry_at is None) == (Outcome.TOO_MANY_REQUESTS, False)
    wish = Wish(Origin.FORM, "+13125550004", session="u", asked_from="three")
    assert (await apps.begin(wish)).outcome is Outcome.TOO_MANY_REQUESTS
    assert (await apps.resend(by_app)).outcome is Outcome.DONE
    assert [len(await came(stage, phone)) for phone in (PHONE, OTHER)] == [2, 1]


async def test_the_form_tells_nobody_whose_number_wants_no_texts(
    stage: Stage, apps: Verifications
) -> None:
    await stage.text(PHONE, "STOP")
    refused = await apps.begin(Wish(Origin.FORM, PHONE, session="s"))
    assert refused.outcome is Outcome.OPTED_OUT
    kept = await apps.of_session("s")
    assert kept is not None
    assert (kept.status, kept.reason) == (Status.FAILED, Reason.OPTED_OUT)
    assert (await apps.check(kept.id, "123456")).outcome is Outcome.NOT_PENDING
    assert await happened(stage, kept.id) == []


async def test_a_test_number_is_texted_nothing_and_has_a_fixed_code(set_stage: SetStage) -> None:
    stage = await set_stage(**EVENTS, test_numbers={"+15005550006": "123456"})
    apps = stage.bot.verifications
    assert apps is not None
    name = await begin(apps, "+15005550006")
    await stage.quiet()
    assert stage.telnyx.requests == []
    result = await apps.check(name, "123456")
    assert result.outcome is Outcome.RIGHT
    assert result.verification is not None
    assert result.verification.test
    assert await happened(stage, name) == [
        "verification.pending",
        "verification.sent",
        "verification.delivered",
        "verification.verified",
    ]


async def test_a_request_is_carried_out_once_under_one_key(
    stage: Stage, apps: Verifications
) -> None:
    once = Idempotency("k" * 64, "f" * 64)
    results = await asyncio.gather(*(apps.begin(Wish(Origin.APP, PHONE), once) for _ in range(5)))
    assert len({result.verification.id for result in results if result.verification}) == 1
    assert len(await came(stage)) == 1
    other = await apps.begin(Wish(Origin.APP, PHONE), Idempotency("k" * 64, "g" * 64))
    assert other.outcome is Outcome.KEY_REUSED
    (name,) = {result.verification.id for result in results if result.verification}
    bad = wrong(await code_for(stage))
    check = Idempotency("c" * 64, "f" * 64)
    lefts = [(await apps.check(name, bad, check)).tries_left for _ in range(3)]
    assert lefts == [4, 4, 4]


async def test_what_changes_nothing_is_not_remembered(stage: Stage, apps: Verifications) -> None:
    name = await begin(apps)
    before = await row_count(stage.bot.database, RequestRow)
    for typed in ("hello", "12345", "1" * 20):
        assert (await apps.check(name, typed)).outcome is Outcome.WRONG
    assert (await apps.check("0" * 32, "123456")).outcome is Outcome.NOT_FOUND
    assert await row_count(stage.bot.database, RequestRow) == before
    await apps.cancel(name)
    for ask in (apps.cancel(name), apps.resend(name), apps.check(name, "123456")):
        assert (await ask).outcome is Outcome.NOT_PENDING
    assert await row_count(stage.bot.database, RequestRow) == before + 1


async def test_guesses_typed_in_parallel_are_all_counted(stage: Stage, apps: Verifications) -> None:
    name = await begin(apps)
    code = await code_for(stage)
    guesses = [f"{number:06}" for number in range(50) if f"{number:06}" != code]
    results = await asyncio.gather(*(apps.check(name, guess) for guess in guesses))
    outcomes = [result.outcome for result in results]
    assert outcomes.count(Outcome.WRONG) == 5
    assert (await apps.check(name, code)).outcome is Outcome.NOT_PENDING


async def test_the_latest_are_listed_first_a_page_at_a_time(
    stage: Stage, apps: Verifications
) -> None:
    names = [await begin(apps, f"+131255500{number:02}") for number in range(10, 15)]
    await apps.check(names[0], await code_for(stage, "+13125550010"))
    page = [found.id for found in await apps.list(Filter(limit=2))]
    assert page == [names[4], names[3]]
    rest = [found.id for found in await apps.list(Filter(before=page[-1]))]
    assert rest == [names[2], names[1], names[0]]
    verified = await apps.list(Filter(status=Status.VERIFIED))
    assert [found.id for found in verified] == [names[0]]
    assert [v.id for v in await apps.list(Filter(phone="+13125550012"))] == [names[2]]
