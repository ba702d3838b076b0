"""Every fault of Telnyx in every state: one text, or a failure that is recorded."""

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

# One code of each class: later, hold, never. The tests of bot/carrier have all codes.
EACH_CLASS = ("40318", "40333", "40310", OPTED_OUT_FAULT)
HTML = {"Content-Type": "text/html"}
API_FAULTS = [
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
    *API_FAULTS,
    *(named.fault for name, named in NAMED_FAULTS.items() if name != "hang"),
]


async def in_idle(_sandbox: Sandbox, _phone: str) -> str:
    return "VERIFY"


async def in_awaiting_code(sandbox: Sandbox, phone: str) -> str:
    await sandbox.text(phone, "VERIFY")
    sandbox.clock.travel(timedelta(seconds=31))
    return "RESEND"


async def in_verified(sandbox: Sandbox, phone: str) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    await sandbox.text(phone, code_in(sent.text))
    return "STATUS"


async def before_locked(sandbox: Sandbox, phone: str) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    wrong = "000000" if code_in(sent.text) != "000000" else "111111"
    for _ in range(4):
        await sandbox.text(phone, wrong)
    return wrong


async def in_opted_out(sandbox: Sandbox, phone: str) -> str:
    await sandbox.text(phone, "please revoke my consent to all of this")
    await sandbox.text(phone, "unstop please")
    return "START"


STATES = {
    State.IDLE: (in_idle, State.AWAITING_CODE),
    State.AWAITING_CODE: (in_awaiting_code, State.AWAITING_CODE),
    State.VERIFIED: (in_verified, State.VERIFIED),
    State.LOCKED: (before_locked, State.LOCKED),
    State.OPTED_OUT: (in_opted_out, State.IDLE),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_fault_changes_no_state_and_sends_no_text_twice(
    sandbox: Sandbox, state: State
) -> None:
    prepare, expected = STATES[state]
    for number, fault in enumerate(FAULTS):
        await text_with_fault(sandbox, f"+1312555{number + 1000}", fault, prepare, expected)


async def text_with_fault(
    sandbox: Sandbox,
    phone: str,
    fault: Fault,
    prepare: Callable[[Sandbox, str], Awaitable[str]],
    expected: State,
) -> None:
    text = await prepare(sandbox, phone)
    rows_before = len(await outbox_rows(sandbox.bot.database))
    texts_before = len(sandbox.telnyx.texts)
    sandbox.telnyx.arm(fault)
    assert await sandbox.telnyx.text(phone, BOT_NUMBER, text) == 200
    await sandbox.quiet()
    for _ in range(6):
        sandbox.move_clock(timedelta(seconds=10))
        await sandbox.quiet()
    for unused in (sandbox.telnyx.faults, sandbox.telnyx.report_faults):
        unused.clear()
    rows = (await outbox_rows(sandbox.bot.database))[rows_before:]
    texts = [sent for sent in sandbox.telnyx.texts[texts_before:] if sent.author == "bot"]
    arrived = [row for row in rows if row.state not in OUTBOX_FAILURES]
    assert len(texts) == len(arrived) == len({row.id for row in arrived}), (fault, rows, texts)
    assert len(rows) <= 1
    assert all(row.state is OutboxState.DELIVERED for row in arrived), (fault, arrived)
    assert all(row.fault for row in rows if row.state in OUTBOX_FAILURES), (fault, rows)
    (stored,) = await sandbox.bot.database.read(conversations.find, phone)
    blocked = isinstance(fault, ApiFault) and OPTED_OUT_FAULT in fault.body and rows
    assert stored.conversation.state is (State.OPTED_OUT if blocked else expected), fault
