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
from bot.simulator.phone_status import keep_updated
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
async def telling(sandbox: Sandbox) -> AsyncIterator[asyncio.Task[None]]:
    """Tell where the phones stand, for as long as a test runs."""
    task = asyncio.create_task(keep_updated(sandbox))
    yield task
    assert not task.done()
    task.cancel()


def told(sandbox: Sandbox, phone: str = PHONE) -> list[PhoneStatus]:
    entries = sandbox.telnyx.journal.entries
    return [entry for entry in entries if isinstance(entry, PhoneStatus) and entry.phone == phone]


async def told_that(
    sandbox: Sandbox, state: State, tries_left: int = 5, phone: str = PHONE
) -> PhoneStatus:
    """Wait until a phone is told to stand somewhere."""
    journal = sandbox.telnyx.journal
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            count, known = len(journal.entries), told(sandbox, phone)
            if known and (known[-1].state, known[-1].tries_left) == (state, tries_left):
                return known[-1]
            await journal.longer_than(count)


async def asked_for_a_code(sandbox: Sandbox, phone: str = PHONE) -> str:
    (sent,) = await sandbox.text(phone, "VERIFY")
    code = code_in(sent.text)
    assert code is not None
    return code


async def wrong_codes(sandbox: Sandbox, code: str, count: int) -> None:
    for _ in range(count):
        await sandbox.text(PHONE, code[:-1] + ("1" if code[-1] != "1" else "2"))


async def test_a_phone_that_waits_for_its_code_has_all_tries_until_the_code_ends(
    sandbox: Sandbox,
) -> None:
    await asked_for_a_code(sandbox)
    stands = await told_that(sandbox, State.AWAITING_CODE)
    assert stands == PhoneStatus(
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
    code = await asked_for_a_code(sandbox)
    for left in (4, 3):
        await wrong_codes(sandbox, code, 1)
        assert (await told_that(sandbox, State.AWAITING_CODE, left)).expires_at is not None
    sandbox.move_clock(MINUTE)
    await sandbox.text(PHONE, code)
    stands = await told_that(sandbox, State.VERIFIED)
    assert (stands.at, stands.verified_at) == (NOON + MINUTE, NOON + MINUTE)
    assert stands.expires_at is None


async def test_a_code_that_is_sent_again_does_not_end_later(sandbox: Sandbox) -> None:
    await asked_for_a_code(sandbox)
    await told_that(sandbox, State.AWAITING_CODE)
    sandbox.move_clock(MINUTE)
    assert len(await sandbox.text(PHONE, "RESEND")) == 1
    await wrong_codes(sandbox, "000000", 1)
    stands = await told_that(sandbox, State.AWAITING_CODE, 4)
    assert stands.expires_at == NOON + 10 * MINUTE


async def test_a_lock_is_told_with_its_end(sandbox: Sandbox) -> None:
    code = await asked_for_a_code(sandbox)
    await wrong_codes(sandbox, code, 5)
    stands = await told_that(sandbox, State.LOCKED)
    assert stands.locked_until == NOON + 15 * MINUTE
    assert stands.expires_at is None


async def test_who_is_refused_by_telnyx_is_told_as_opted_out_though_no_text_was_seen(
    sandbox: Sandbox,
) -> None:
    sandbox.arm("500")
    sandbox.arm("40300")
    assert await sandbox.text(PHONE, "VERIFY") == []
    await told_that(sandbox, State.AWAITING_CODE)
    assert await sandbox.travel(PHONE, MINUTE) == []
    assert (await told_that(sandbox, State.OPTED_OUT)).at == NOON + MINUTE


async def test_where_a_phone_stands_is_told_only_when_it_is_news(sandbox: Sandbox) -> None:
    code = await asked_for_a_code(sandbox)
    await told_that(sandbox, State.AWAITING_CODE)
    for said in ("STATUS", "thanks", "RESEND", "hello?"):
        sandbox.move_clock(timedelta(seconds=1))
        await sandbox.text(PHONE, said)
    await sandbox.text(PHONE, code)
    await told_that(sandbox, State.VERIFIED)
    assert [stands.state for stands in told(sandbox)] == [State.AWAITING_CODE, State.VERIFIED]


async def test_each_phone_stands_where_it_stands(sandbox: Sandbox) -> None:
    await asked_for_a_code(sandbox)
    await sandbox.text(OTHER_PHONE, "STOP")
    await told_that(sandbox, State.OPTED_OUT, phone=OTHER_PHONE)
    await told_that(sandbox, State.AWAITING_CODE)
    assert [stands.state for stands in told(sandbox)] == [State.AWAITING_CODE]


async def test_a_database_out_of_reach_is_looked_at_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, failed = sandbox.bot.database, asyncio.Event()
    read = type(database).read

    async def failing(*_: object) -> None:
        failed.set()
        raise UnavailableError("out of reach")

    await asked_for_a_code(sandbox)
    await told_that(sandbox, State.AWAITING_CODE)
    monkeypatch.setattr(type(database), "read", failing)
    status = await sandbox.telnyx.text(PHONE, BOT_NUMBER, "NOT ME")
    assert status == 200
    async with asyncio.timeout(TEST_TIMEOUT):
        await failed.wait()
    assert [stands.state for stands in told(sandbox)] == [State.AWAITING_CODE]
    monkeypatch.setattr(type(database), "read", read)
    await told_that(sandbox, State.IDLE)


async def test_a_code_that_an_app_asked_for_has_a_time_to_expire(sandbox: Sandbox) -> None:
    apps = sandbox.bot.verifications
    assert apps is not None
    await apps.begin(VerificationRequest(Origin.APP, PHONE))
    standing = await told_that(sandbox, State.AWAITING_CODE)
    assert standing.expires_at == NOON + 10 * MINUTE
