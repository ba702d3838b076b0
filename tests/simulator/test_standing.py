from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from harness.patience import PATIENCE

from bot.conversation.state import State
from bot.conversation.verification import Origin
from bot.services.verifications import Wish
from bot.simulator.clock import NOON
from bot.simulator.journal import Standing
from bot.simulator.stage import BOT_NUMBER, PHONE
from bot.simulator.standing import keep_told
from bot.simulator.transcript import code_in
from bot.store.outages import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.simulator.stage import Stage

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

OTHER_PHONE = "+13125550002"
MINUTE = timedelta(minutes=1)


@pytest_asyncio.fixture(autouse=True)
async def telling(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    """Tell where the phones stand, for as long as a test runs."""
    task = asyncio.create_task(keep_told(stage))
    yield task
    assert not task.done()
    task.cancel()


def told(stage: Stage, phone: str = PHONE) -> list[Standing]:
    entries = stage.telnyx.journal.entries
    return [entry for entry in entries if isinstance(entry, Standing) and entry.phone == phone]


async def told_that(
    stage: Stage, state: State, tries_left: int = 5, phone: str = PHONE
) -> Standing:
    """Wait until a phone is told to stand somewhere."""
    journal = stage.telnyx.journal
    async with asyncio.timeout(PATIENCE):
        while True:
            count, known = len(journal.entries), told(stage, phone)
            if known and (known[-1].state, known[-1].tries_left) == (state, tries_left):
                return known[-1]
            await journal.longer_than(count)


async def asked_for_a_code(stage: Stage, phone: str = PHONE) -> str:
    (sent,) = await stage.text(phone, "VERIFY")
    code = code_in(sent.text)
    assert code is not None
    return code


async def wrong_codes(stage: Stage, code: str, count: int) -> None:
    for _ in range(count):
        await stage.text(PHONE, code[:-1] + ("1" if code[-1] != "1" else "2"))


async def test_a_phone_that_waits_for_its_code_has_all_tries_until_the_code_ends(
    stage: Stage,
) -> None:
    await asked_for_a_code(stage)
    stands = await told_that(stage, State.AWAITING_CODE)
    assert stands == Standing(
        at=NOON,
        phone=PHONE,
        bot_number=BOT_NUMBER,
        state=State.AWAITING_CODE,
        tries_left=5,
        expires_at=NOON + 10 * MINUTE,
        locked_until=None,
        verified_at=None,
    )


async def test_each_wrong_code_takes_a_try_and_the_right_one_gives_them_back(stage: Stage) -> None:
    code = await asked_for_a_code(stage)
    for left in (4, 3):
        await wrong_codes(stage, code, 1)
        assert (await told_that(stage, State.AWAITING_CODE, left)).expires_at is not None
    stage.move_clock(MINUTE)
    await stage.text(PHONE, code)
    stands = await told_that(stage, State.VERIFIED)
    assert (stands.at, stands.verified_at) == (NOON + MINUTE, NOON + MINUTE)
    assert stands.expires_at is None


async def test_a_code_that_is_sent_again_does_not_end_later(stage: Stage) -> None:
    await asked_for_a_code(stage)
    await told_that(stage, State.AWAITING_CODE)
    stage.move_clock(MINUTE)
    assert len(await stage.text(PHONE, "RESEND")) == 1
    await wrong_codes(stage, "000000", 1)
    stands = await told_that(stage, State.AWAITING_CODE, 4)
    assert stands.expires_at == NOON + 10 * MINUTE


async def test_a_lock_is_told_with_its_end(stage: Stage) -> None:
    code = await asked_for_a_code(stage)
    await wrong_codes(stage, code, 5)
    stands = await told_that(stage, State.LOCKED)
    assert stands.locked_until == NOON + 15 * MINUTE
    assert stands.expires_at is None


async def test_who_is_refused_by_telnyx_is_told_as_opted_out_though_no_text_was_seen(
    stage: Stage,
) -> None:
    stage.arm("500")
    stage.arm("40300")
    assert await stage.text(PHONE, "VERIFY") == []
    await told_that(stage, State.AWAITING_CODE)
    assert await stage.travel(PHONE, MINUTE) == []
    assert (await told_that(stage, State.OPTED_OUT)).at == NOON + MINUTE


async def test_where_a_phone_stands_is_told_only_when_it_is_news(stage: Stage) -> None:
    code = await asked_for_a_code(stage)
    await told_that(stage, State.AWAITING_CODE)
    for said in ("STATUS", "thanks", "RESEND", "hello?"):
        stage.move_clock(timedelta(seconds=1))
        await stage.text(PHONE, said)
    await stage.text(PHONE, code)
    await told_that(stage, State.VERIFIED)
    assert [stands.state for stands in told(stage)] == [State.AWAITING_CODE, State.VERIFIED]


async def test_each_phone_stands_where_it_stands(stage: Stage) -> None:
    await asked_for_a_code(stage)
    await stage.text(OTHER_PHONE, "STOP")
    await told_that(stage, State.OPTED_OUT, phone=OTHER_PHONE)
    await told_that(stage, State.AWAITING_CODE)
    assert [stands.state for stands in told(stage)] == [State.AWAITING_CODE]


async def test_a_database_out_of_reach_is_looked_at_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, failed = stage.bot.database, asyncio.Event()
    read = type(database).read

    async def failing(*_: object) -> None:
        failed.set()
        raise UnavailableError("out of reach")

    await asked_for_a_code(stage)
    await told_that(stage, State.AWAITING_CODE)
    monkeypatch.setattr(type(database), "read", failing)
    status = await stage.telnyx.text(PHONE, BOT_NUMBER, "NOT ME")
    assert status == 200
    async with asyncio.timeout(PATIENCE):
        await failed.wait()
    assert [stands.state for stands in told(stage)] == [State.AWAITING_CODE]
    monkeypatch.setattr(type(database), "read", read)
    await told_that(stage, State.IDLE)


async def test_a_code_that_an_app_asked_for_has_a_time_to_expire(stage: Stage) -> None:
    apps = stage.bot.verifications
    assert apps is not None
    await apps.begin(Wish(Origin.APP, PHONE))
    standing = await told_that(stage, State.AWAITING_CODE)
    assert standing.expires_at == NOON + 10 * MINUTE
