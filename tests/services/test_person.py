"""One person at two of the bot's numbers, with the sender, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.conversation.state import State
from bot.conversation.verification import Origin, Reason, RequestOutcome, Status
from bot.services import status as status_page
from bot.services.verifications import Filter, VerificationRequest, Verifications
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import ApiFault
from bot.store import conversations
from bot.store.queues import outbox
from bot.store.tables import AppEventRow, OutboxState
from tests.kit.stored import other_than, outbox_rows, person_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.conversation.verification import Verification
    from bot.services.verifications import RequestResult
    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

OTHER_NUMBER = "+13125550101"
SETTINGS: dict[str, Any] = {
    "from_number": f"{BOT_NUMBER},{OTHER_NUMBER}",
    "events_url": "http://127.0.0.1:9/events",
    "events_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "events_to_private": True,
}
BUSY = ApiFault.error(503, "10007")


@pytest.fixture
async def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return await make_sandbox(**SETTINGS)


@pytest.fixture
def apps(sandbox: Sandbox) -> Verifications:
    assert sandbox.bot.verifications is not None
    return sandbox.bot.verifications


async def text(sandbox: Sandbox, words: str, to: str = BOT_NUMBER) -> list[str]:
    """Text one of the bot's numbers; return the texts from any of them."""
    before = len(sandbox.telnyx.texts)
    assert await sandbox.telnyx.text(PHONE, to, words) == 200
    await sandbox.quiet()
    return [each.text for each in sandbox.telnyx.texts[before:]]


async def ask(
    apps: Verifications, bot_number: str = BOT_NUMBER, origin: Origin = Origin.APP
) -> RequestResult:
    there = Verifications(apps._inbox, apps._database, apps._rules, apps._clock, bot_number)
    return await there.begin(VerificationRequest(origin, PHONE))


async def begin(
    apps: Verifications, bot_number: str = BOT_NUMBER, origin: Origin = Origin.APP
) -> str:
    verification = (await ask(apps, bot_number, origin)).verification
    assert verification is not None
    return verification.id


async def verify(sandbox: Sandbox, apps: Verifications, bot_number: str = BOT_NUMBER) -> str:
    """Verify the phone for an app; return the verification's id."""
    name = await begin(apps, bot_number)
    await sandbox.quiet()
    code = code_in(sandbox.telnyx.texts[-1].text)
    assert code is not None
    assert (await apps.check(name, code)).outcome is RequestOutcome.RIGHT
    return name


async def found(apps: Verifications, name: str) -> Verification:
    verification = await apps.get(name)
    assert verification is not None
    return verification


async def states(sandbox: Sandbox) -> dict[str, State]:
    stored = await sandbox.bot.database.read(conversations.find, PHONE)
    return {each.conversation.bot_number: each.conversation.state for each in stored}


async def event_types(sandbox: Sandbox, subject: str) -> list[str]:
    def read(connection: Connection) -> list[str]:
        table = AppEventRow.__table__
        rows = connection.execute(
            select(table.c.type).where(table.c.subject == subject).order_by(table.c.id)
        )
        return [row.type for row in rows]

    return await sandbox.bot.database.read(read)


async def test_after_stop_only_its_confirmation_leaves_from_any_number(
    sandbox: Sandbox, apps: Verifications
) -> None:
    await text(sandbox, "VERIFY")
    sandbox.telnyx.arm(BUSY)  # the code from the other number waits for its next attempt
    waiting = await begin(apps, OTHER_NUMBER)
    await sandbox.quiet()
    assert await sandbox.has_queued_texts()

    assert [words[:9] for words in await text(sandbox, "opt me out")] == ["Textproof"]
    assert (await found(apps, waiting)).reason is Reason.OPTED_OUT
    assert await states(sandbox) == {
        BOT_NUMBER: State.OPTED_OUT,
        OTHER_NUMBER: State.OPTED_OUT,
    }
    sent = len(sandbox.telnyx.texts)
    sandbox.move_clock(timedelta(minutes=1))
    await sandbox.quiet()
    assert len(sandbox.telnyx.texts) == sent
    assert await sandbox.bot.database.write(outbox.claim, 10, sandbox.clock.now()) == []
    for words in ("VERIFY", "STATUS", "opt me out"):
        assert await text(sandbox, words, OTHER_NUMBER) == []
    outcome = (await ask(apps, OTHER_NUMBER)).outcome
    assert outcome is RequestOutcome.OPTED_OUT
    assert (await event_types(sandbox, PHONE)) == ["number.opted_out"]


async def test_start_at_one_number_lifts_the_opt_out_at_the_other(
    sandbox: Sandbox, apps: Verifications
) -> None:
    await text(sandbox, "opt me out")
    assert len(await text(sandbox, "START", OTHER_NUMBER)) == 1

    assert (await ask(apps)).outcome is RequestOutcome.DONE
    assert (await event_types(sandbox, PHONE)) == ["number.opted_out", "number.opted_in"]


async def test_a_lock_by_text_at_one_number_is_reported_at_once_for_the_other(
    sandbox: Sandbox, apps: Verifications
) -> None:
    result = await apps.begin(VerificationRequest(Origin.REFERENCE))
    assert result.verification is not None
    name, reference = result.verification.id, result.verification.reference
    await text(sandbox, f"VERIFY {reference}", OTHER_NUMBER)
    by_app = await begin(apps, OTHER_NUMBER)
    (words,) = [each for each in await text(sandbox, "VERIFY") if "Reply with" in each]
    code = code_in(words)
    assert code is not None
    for _ in range(5):
        await text(sandbox, other_than(code))
    assert (await found(apps, name)).reason is Reason.TOO_MANY_GUESSES
    assert (await event_types(sandbox, name))[-1] == "verification.failed"
    assert (await found(apps, by_app)).status is Status.PENDING


async def test_a_success_at_one_number_is_that_of_the_person(sandbox: Sandbox) -> None:
    (words,) = await text(sandbox, "VERIFY")
    code = code_in(words)
    assert code is not None
    await text(sandbox, code)

    (shown,) = await text(sandbox, "STATUS", OTHER_NUMBER)
    assert "has been verified since" in shown
    assert (await person_of(sandbox.bot.database)).verified_at is not None


async def test_not_me_revokes_the_successes_of_a_day_at_all_numbers(
    sandbox: Sandbox, apps: Verifications
) -> None:
    old = await verify(sandbox, apps)
    sandbox.move_clock(timedelta(days=1, seconds=1))
    one, two = await verify(sandbox, apps), await verify(sandbox, apps, OTHER_NUMBER)
    pending = await begin(apps, OTHER_NUMBER)
    await sandbox.quiet()

    await text(sandbox, "NOT ME")
    now = sandbox.clock.now()
    for name in (one, two):
        revoked = await found(apps, name)
        assert (revoked.status, revoked.reason) == (Status.REVOKED, Reason.NOT_ME)
        assert (revoked.revoked_at, revoked.ended_at is None) == (now, False)
        assert (await event_types(sandbox, name))[-2:] == [
            "verification.verified",
            "verification.revoked",
        ]
    assert (await found(apps, old)).status is Status.VERIFIED
    assert (await found(apps, pending)).status is Status.FAILED
    assert (await person_of(sandbox.bot.database)).verified_at is None
    listed = await apps.list(Filter(status=Status.REVOKED))
    assert {each.id for each in listed} == {one, two}
    # A plain VERIFY did not succeed: no event about the number itself.
    assert await event_types(sandbox, PHONE) == []


async def test_a_revoked_verification_can_be_neither_checked_nor_sent_again(
    sandbox: Sandbox, apps: Verifications
) -> None:
    name = await verify(sandbox, apps)
    await text(sandbox, "NOT ME", OTHER_NUMBER)
    for result in (await apps.check(name, "123456"), await apps.resend(name)):
        assert result.outcome is RequestOutcome.NOT_PENDING
        assert result.verification is not None
        assert result.verification.status is Status.REVOKED


async def test_not_me_revokes_a_plain_success_with_an_event_of_the_number(
    sandbox: Sandbox,
) -> None:
    (words,) = await text(sandbox, "VERIFY")
    await text(sandbox, str(code_in(words)))
    await text(sandbox, "NOT ME", OTHER_NUMBER)

    assert await event_types(sandbox, PHONE) == ["number.revoked"]


async def test_another_phone_keeps_its_verification(sandbox: Sandbox, apps: Verifications) -> None:
    name = await verify(sandbox, apps)
    await sandbox.text("+13125550002", "VERIFY")
    await sandbox.text("+13125550002", "NOT ME")
    assert (await found(apps, name)).status is Status.VERIFIED


async def test_a_block_after_start_is_one_of_that_number_alone_and_is_shown(
    sandbox: Sandbox, apps: Verifications
) -> None:
    await text(sandbox, "START")
    sandbox.telnyx.arm(ApiFault.error(400, OPTED_OUT_FAULT))
    name = await begin(apps)
    await sandbox.quiet()

    assert (await found(apps, name)).reason is Reason.OPTED_OUT
    assert (await ask(apps)).outcome is RequestOutcome.OPTED_OUT
    assert len(await text(sandbox, "VERIFY", OTHER_NUMBER)) == 1
    assert await event_types(sandbox, PHONE) == []
    shown = await sandbox.bot.database.read(status_page.of_phone, PHONE, sandbox.clock.now())
    assert "opted_out (Telnyx blocks this number alone, since " in shown
    await text(sandbox, "START")
    assert (await ask(apps)).outcome is RequestOutcome.DONE


async def test_a_block_without_a_start_is_an_opt_out_for_all(
    sandbox: Sandbox, apps: Verifications
) -> None:
    sandbox.telnyx.arm(ApiFault.error(400, OPTED_OUT_FAULT))
    await begin(apps)
    await sandbox.quiet()

    assert (await ask(apps, OTHER_NUMBER)).outcome is RequestOutcome.OPTED_OUT
    assert await event_types(sandbox, PHONE) == ["number.opted_out"]


async def test_the_forms_code_is_refused_for_a_day_after_the_second_not_me(
    sandbox: Sandbox, apps: Verifications
) -> None:
    for _ in range(2):
        await begin(apps, origin=Origin.FORM)
        await sandbox.quiet()
        await text(sandbox, "NOT ME", OTHER_NUMBER)
        sandbox.move_clock(timedelta(hours=1))
    refused = await ask(apps, origin=Origin.FORM)
    assert refused.outcome is RequestOutcome.NOT_ME
    assert refused.retry_at is not None
    wait = refused.retry_at - sandbox.clock.now()
    assert timedelta(hours=22, minutes=59) < wait <= timedelta(hours=23)
    assert (await ask(apps)).outcome is RequestOutcome.DONE


async def test_stop_while_a_text_is_being_claimed_leaves_nothing_to_send(
    sandbox: Sandbox,
) -> None:
    sandbox.telnyx.arm(BUSY)
    await text(sandbox, "VERIFY", OTHER_NUMBER)
    await text(sandbox, "opt me out")
    rows = await outbox_rows(sandbox.bot.database)
    of_code = next(row for row in rows if row.reply == "code")
    assert of_code.state is OutboxState.CANCELLED
