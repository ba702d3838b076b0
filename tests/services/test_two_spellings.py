"""One line under two spellings is one phone, from an app's request to the delivery of a text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.conversation.state import State
from bot.simulator.telnyx.faults import ApiFault, ReportFault
from tests.kit.apps import App, app_with, make_key
from tests.kit.stored import conversation_of, other_than

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.faults import Fault

CANONICAL, OTHER = "+525512345678", "+5215512345678"
REFUSED, FAILED = ApiFault.error(400, "40310"), ReportFault.FAILED
CODE = re.compile(r"\b\d{6}\b")
SOON = timedelta(minutes=2)


@pytest.fixture
async def app(sandbox: Sandbox) -> AsyncIterator[App]:
    key = await make_key(sandbox.bot.database, sandbox.clock)
    async with app_with(sandbox.bot.url or "", key) as app:
        yield app


async def recipients(sandbox: Sandbox) -> list[str]:
    """Return the number to which each text was sent, or sent again."""
    await sandbox.quiet()
    return [request.body["to"] for request in sandbox.telnyx.requests]


async def last_code(sandbox: Sandbox) -> str:
    await sandbox.quiet()
    found = CODE.search(sandbox.telnyx.requests[-1].body["text"])
    assert found
    return found[0]


@pytest.mark.parametrize(
    ("canonical", "other"),
    [
        (CANONICAL, OTHER),
        ("+5491123456789", "+541123456789"),
        ("+5511987654321", "+551187654321"),
    ],
)
@pytest.mark.parametrize("asked_for_other", [False, True])
async def test_the_right_code_verifies_from_either_spelling(
    sandbox: Sandbox, app: App, canonical: str, other: str, *, asked_for_other: bool
) -> None:
    begun = await app.begin(to=other if asked_for_other else canonical, complete="reply")
    assert begun["to"] == canonical
    assert await recipients(sandbox) == [canonical]
    (reply,) = await sandbox.text(other, f"{await last_code(sandbox)} {begun['reply_with']}")
    assert "verified" in reply.text
    found = await app.get(f"verifications/{begun['id']}")
    assert (found.body["status"], found.body["to"]) == ("verified", canonical)
    for number in (canonical, other):
        listed = (await app.get(f"verifications?to=%2B{number[1:]}")).body["data"]
        assert [each["id"] for each in listed] == [begun["id"]]


async def test_texts_go_to_the_spelling_that_last_texted(sandbox: Sandbox, app: App) -> None:
    for sender in (OTHER, CANONICAL, OTHER):
        await sandbox.text(sender, "STATUS")
    await app.begin(to=CANONICAL)
    assert await recipients(sandbox) == [OTHER, CANONICAL, OTHER, OTHER]


@pytest.mark.parametrize("fault", [REFUSED, FAILED])
async def test_after_a_failure_for_good_the_next_code_goes_to_the_other_spelling(
    sandbox: Sandbox, app: App, fault: Fault
) -> None:
    for armed in (fault, fault, None):
        if armed:
            sandbox.telnyx.arm(armed)
        await app.begin(to=CANONICAL)
        await sandbox.quiet()
        await sandbox.telnyx.wait_until_reported()
        sandbox.move_clock(SOON)
    assert await recipients(sandbox) == [CANONICAL, OTHER, CANONICAL]


async def test_a_spelling_that_failed_is_not_used_again_only_since_the_person_texts_from_it(
    sandbox: Sandbox,
) -> None:
    sandbox.telnyx.arm(REFUSED)
    await sandbox.text(OTHER, "VERIFY")
    sandbox.move_clock(SOON)
    await sandbox.text(OTHER, "RESEND")
    assert await recipients(sandbox) == [OTHER, CANONICAL]
    (reply,) = await sandbox.text(CANONICAL, await last_code(sandbox))
    assert "verified" in reply.text


async def test_a_text_that_is_sent_again_goes_to_the_same_spelling(sandbox: Sandbox) -> None:
    sandbox.arm("500")
    await sandbox.text(OTHER, "VERIFY")
    await sandbox.text(CANONICAL, "STATUS")
    sandbox.move_clock(SOON)
    assert await recipients(sandbox) == [OTHER, OTHER, CANONICAL]
    first, second, _ = sandbox.telnyx.requests
    assert first.body == second.body


async def test_an_opt_out_at_the_carrier_is_no_failure_of_a_spelling(sandbox: Sandbox) -> None:
    sandbox.telnyx.arm(ApiFault.error(400, OPTED_OUT_FAULT))
    await sandbox.text(CANONICAL, "VERIFY")
    found = await conversation_of(sandbox.bot.database, CANONICAL)
    assert (found.state, found.unreachable) == (State.OPTED_OUT, None)


async def test_a_number_with_one_spelling_is_never_marked(sandbox: Sandbox) -> None:
    sandbox.telnyx.arm(REFUSED)
    await sandbox.text("+13125550001", "VERIFY")
    found = await conversation_of(sandbox.bot.database, "+13125550001")
    assert (found.texted_from, found.unreachable) == (None, None)


async def test_guesses_from_both_spellings_count_together(sandbox: Sandbox) -> None:
    await sandbox.text(CANONICAL, "VERIFY")
    wrong = other_than(await last_code(sandbox))
    for sender in (CANONICAL, OTHER, CANONICAL, OTHER, CANONICAL):
        await sandbox.text(sender, wrong)
    assert (await conversation_of(sandbox.bot.database, CANONICAL)).state is State.LOCKED


async def test_an_opt_out_from_one_spelling_counts_for_the_other(
    sandbox: Sandbox, app: App
) -> None:
    await sandbox.text(OTHER, "STOP")
    answer = await app.post("verifications", {"to": CANONICAL})
    assert answer.body["code"] == "opted_out"
    assert await sandbox.text(CANONICAL, "VERIFY") == []
