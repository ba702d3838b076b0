from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from bot.conversation.state import State
from bot.conversation.verification import Origin
from bot.services.verifications import VerificationRequest
from bot.simulator.clock import NOON
from bot.simulator.phone_status import record_changes
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import code_in
from bot.simulator.telnyx.journal import PhoneStatus
from bot.store.engine.errors import UnavailableError
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.sandbox import Sandbox

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
MINUTE = timedelta(minutes=1)


@pytest_asyncio.fixture(autouse=True)
async def recording(sandbox: Sandbox) -> AsyncIterator[asyncio.Task[None]]:
    """Record the phones' status for as long as a test runs."""
    task = asyncio.create_task(record_changes(sandbox))
    yield task
    assert not task.done()
    task.cancel()


def statuses(sandbox: Sandbox, phone: str = PHONE) -> list[PhoneStatus]:
    entries = sandbox.telnyx.journal.entries
    return [entry for entry in entries if isinstance(entry, PhoneStatus) and entry.phone == phone]


async def status_with(
    sandbox: Sandbox, state: State, tries_left: int = 5, phone: str = PHONE
) -> PhoneStatus:
    """Wait until a phone has a state and a number of tries, and return its status."""
    journal = sandbox.telnyx.journal
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            count, found = len(journal.entries), statuses(sandbox, phone)
            if found and (found[-1].state, found[-1].tries_left) == (state, tries_left):
                return found[-1]
            await journal.wait_for_more_than(count)


async def request_code(sandbox: Sandbox, phone: str = PHONE) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    code = code_in(sent.text)
    assert code is not None
    return code


async def text_wrong_codes(sandbox: Sandbox, code: str, count: int) -> None:
    for _ in range(count):
        await sandbox.text(PHONE, code[:-1] + ("1" if code[-1] != "1" else "2"))


async def test_a_phone_with_a_new_code_has_all_tries_and_the_time_of_expiry(
    sandbox: Sandbox,
) -> None:
    await request_code(sandbox)
    status = await status_with(sandbox, State.AWAITING_CODE)
    assert status == PhoneStatus(
        at=NOON,
        phone=PHONE,
        bot_number=BOT_NUMBER,
        state=State.AWAITING_CODE,
        tries_left=5,
        expires_at=NOON + 10 * MINUTE,
        locked_until=None,
        verified_at=None,
    )


async def test_each_wrong_code_takes_a_try_and_the_right_one_gives_them_back(
    sandbox: Sandbox,
) -> None:
    code = await request_code(sandbox)
    for left in (4, 3):
        await text_wrong_codes(sandbox, code, 1)
        assert (await status_with(sandbox, State.AWAITING_CODE, left)).expires_at is not None
    sandbox.move_clock(MINUTE)
    await sandbox.text(PHONE, code)
    status = await status_with(sandbox, State.VERIFIED)
    assert (status.at, status.verified_at) == (NOON + MINUTE, NOON + MINUTE)
    assert status.expires_at is None


async def test_a_code_that_is_sent_again_does_not_expire_later(sandbox: Sandbox) -> None:
    await request_code(sandbox)
    await status_with(sandbox, State.AWAITING_CODE)
    sandbox.move_clock(MINUTE)
    assert len(await sandbox.text(PHONE, "RESEND")) == 1
    await text_wrong_codes(sandbox, "000000", 1)
    status = await status_with(sandbox, State.AWAITING_CODE, 4)
    assert status.expires_at == NOON + 10 * MINUTE


async def test_a_lock_is_recorded_with_its_end(sandbox: Sandbox) -> None:
    code = await request_code(sandbox)
    await text_wrong_codes(sandbox, code, 5)
    status = await status_with(sandbox, State.LOCKED)
    assert status.locked_until == NOON + 15 * MINUTE
    assert status.expires_at is None


async def test_a_phone_that_telnyx_blocks_is_recorded_as_opted_out_without_a_text(
    sandbox: Sandbox,
) -> None:
    sandbox.arm("500")
    sandbox.arm("40300")
    assert await sandbox.text(PHONE, "VERIFY") == []
    await status_with(sandbox, State.AWAITING_CODE)
    assert await sandbox.travel(PHONE, MINUTE) == []
    assert (await status_with(sandbox, State.OPTED_OUT)).at == NOON + MINUTE


async def test_a_status_is_recorded_only_when_it_has_changed(sandbox: Sandbox) -> None:
    code = await request_code(sandbox)
    await status_with(sandbox, State.AWAITING_CODE)
    for text in ("STATUS", "thanks", "RESEND", "hello?"):
        sandbox.move_clock(timedelta(seconds=1))
        await sandbox.text(PHONE, text)
    await sandbox.text(PHONE, code)
    await status_with(sandbox, State.VERIFIED)
    assert [status.state for status in statuses(sandbox)] == [State.AWAITING_CODE, State.VERIFIED]


async def test_each_phone_has_a_status_of_its_own(sandbox: Sandbox) -> None:
    await request_code(sandbox)
    await sandbox.text(OTHER_PHONE, "STOP")
    await status_with(sandbox, State.OPTED_OUT, phone=OTHER_PHONE)
    await status_with(sandbox, State.AWAITING_CODE)
    assert [status.state for status in statuses(sandbox)] == [State.AWAITING_CODE]


async def test_an_unavailable_database_is_read_again_later(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, failed = sandbox.bot.database, asyncio.Event()
    read = type(database).read

    async def failing(*_: object) -> None:
        failed.set()
        raise UnavailableError("unavailable")

    await request_code(sandbox)
    await status_with(sandbox, State.AWAITING_CODE)
    monkeypatch.setattr(type(database), "read", failing)
    assert await sandbox.telnyx.text(PHONE, BOT_NUMBER, "NOT ME") == 200
    async with asyncio.timeout(TEST_TIMEOUT):
        await failed.wait()
    assert [status.state for status in statuses(sandbox)] == [State.AWAITING_CODE]
    monkeypatch.setattr(type(database), "read", read)
    await status_with(sandbox, State.IDLE)


async def test_a_code_that_an_app_requested_has_a_time_of_expiry(sandbox: Sandbox) -> None:
    apps = sandbox.bot.verifications
    assert apps is not None
    await apps.begin(VerificationRequest(Origin.APP, PHONE))
    status = await status_with(sandbox, State.AWAITING_CODE)
    assert status.expires_at == NOON + 10 * MINUTE


async def test_a_phone_under_the_other_spelling_of_its_number_has_its_status(
    sandbox: Sandbox,
) -> None:
    other = "+5215512345678"
    await request_code(sandbox, other)
    status = await status_with(sandbox, State.AWAITING_CODE, phone=other)
    assert status.bot_number == BOT_NUMBER
