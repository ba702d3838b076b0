"""Whatever Telnyx does with a request, in whatever state: one text, or a failure that shows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bot.carrier.errors import OPTED_OUT_FAULT
from bot.conversation.state import State
from bot.simulator.sandbox import BOT_NUMBER
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.faults import NAMED_FAULTS, ApiFault
from bot.store import conversations
from bot.store.tables import OUTBOX_FAILURES, OutboxState
from tests.kit.stored import outbox_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.faults import Fault

# Later, hold, never; what each code of Telnyx's means is a test of the carrier's own.
EACH_CLASS = ("40318", "40333", "40310", OPTED_OUT_FAULT)
HTML = {"Content-Type": "text/html"}
ANSWERS = [
    *(ApiFault.error(400, code) for code in EACH_CLASS),
    ApiFault.error(401, "10009"),
    ApiFault.error(429, "10011", **{"Retry-After": "7"}),
    ApiFault(429, "slow down", HTML | {"Retry-After": "7"}),
    *(ApiFault(status, "<h1>Oops</h1>", HTML) for status in (408, 500, 502, 503, 504)),
    ApiFault(500, "", accepted=True),
    ApiFault(200, "[]", {"Content-Type": "application/json"}, accepted=True),
    ApiFault(None, after=0.2),
]
FAULTS: list[Fault] = [
    *ANSWERS,
    *(named.fault for name, named in NAMED_FAULTS.items() if name != "hang"),
]


async def nothing_before(_sandbox: Sandbox, _phone: str) -> str:
    return "VERIFY"


async def a_code_before(sandbox: Sandbox, phone: str) -> str:
    await sandbox.text(phone, "VERIFY")
    sandbox.clock.travel(timedelta(seconds=31))
    return "RESEND"


async def verified_before(sandbox: Sandbox, phone: str) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    await sandbox.text(phone, code_in(sent.text))
    return "STATUS"


async def wrong_guesses_before(sandbox: Sandbox, phone: str) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    wrong = "000000" if code_in(sent.text) != "000000" else "111111"
    for _ in range(4):
        await sandbox.text(phone, wrong)
    return wrong


async def opted_out_before(sandbox: Sandbox, phone: str) -> str:
    await sandbox.text(phone, "please revoke my consent to all of this")
    await sandbox.text(phone, "unstop please")
    return "START"


STATES = {
    State.IDLE: (nothing_before, State.AWAITING_CODE),
    State.AWAITING_CODE: (a_code_before, State.AWAITING_CODE),
    State.VERIFIED: (verified_before, State.VERIFIED),
    State.LOCKED: (wrong_guesses_before, State.LOCKED),
    State.OPTED_OUT: (opted_out_before, State.IDLE),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_fault_costs_no_state_and_no_person_more_than_one_text(
    sandbox: Sandbox, state: State
) -> None:
    before, after = STATES[state]
    for number, fault in enumerate(FAULTS):
        await meet(sandbox, f"+1312555{number + 1000}", fault, before, after)


async def meet(
    sandbox: Sandbox,
    phone: str,
    fault: Fault,
    before: Callable[[Sandbox, str], Awaitable[str]],
    after: State,
) -> None:
    said = await before(sandbox, phone)
    rows_before = len(await outbox_rows(sandbox.bot.database))
    texts_before = len(sandbox.telnyx.texts)
    sandbox.telnyx.arm(fault)
    assert await sandbox.telnyx.text(phone, BOT_NUMBER, said) == 200
    await sandbox.quiet()
    for _ in range(6):
        sandbox.move_clock(timedelta(seconds=10))
        await sandbox.quiet()
    for unmet in (sandbox.telnyx.faults, sandbox.telnyx.report_faults):
        unmet.clear()
    rows = (await outbox_rows(sandbox.bot.database))[rows_before:]
    texts = [text for text in sandbox.telnyx.texts[texts_before:] if text.author == "bot"]
    arrived = [row for row in rows if row.state not in OUTBOX_FAILURES]
    assert len(texts) == len(arrived) == len({row.id for row in arrived}), (fault, rows, texts)
    assert len(rows) <= 1
    assert all(row.state is OutboxState.DELIVERED for row in arrived), (fault, arrived)
    assert all(row.fault for row in rows if row.state in OUTBOX_FAILURES), (fault, rows)
    (known,) = await sandbox.bot.database.read(conversations.find, phone)
    blocked = isinstance(fault, ApiFault) and OPTED_OUT_FAULT in fault.body and rows
    assert known.conversation.state is (State.OPTED_OUT if blocked else after), fault
