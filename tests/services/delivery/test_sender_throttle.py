from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bot.carrier.errors import (
    Limit,
    SendLater,
)
from bot.conversation.throttle import ACCOUNT
from bot.services.status import overview
from bot.store import throttle
from bot.store.tables import OutboxState
from tests.kit.samples import BOT_NUMBER
from tests.kit.stored import outbox_rows
from tests.kit.timeouts import slow_database, wait_until
from tests.services.delivery.senders import OTHERS, RunningSender, running_sender

if TYPE_CHECKING:
    from sqlalchemy import URL

    from bot.simulator.clock import StoppedClock
    from bot.store.engine.database import Database


async def test_a_throttled_text_is_not_claimed_so_stop_still_cancels_it(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, rate=0.01) as running:
        for phone in OTHERS[:4]:
            await running.text("VERIFY", phone)
        await running.until_sent(1)
        await running.text("revoke", OTHERS[3])
    states = [row.state for row in await outbox_rows(database)]
    assert states == [
        OutboxState.ACCEPTED,
        OutboxState.QUEUED,
        OutboxState.QUEUED,
        OutboxState.CANCELLED,
        OutboxState.QUEUED,
    ]


async def test_two_senders_on_one_database_share_the_throttle(
    database_url: URL, clock: StoppedClock
) -> None:
    first, second = slow_database(database_url), slow_database(database_url)
    async with (
        running_sender(first, clock, rate=10, poll_interval=0.005) as one,
        running_sender(second, clock, rate=10, poll_interval=0.005) as other,
    ):
        await asyncio.gather(*(one.text("VERIFY", phone) for phone in OTHERS))
        for seconds in (0, 1, 2):
            await until_both_wait(one, other)
            # One text, and one more that makes up for a delay.
            sent = len(one.client.sent) + len(other.client.sent)
            assert 2 * seconds + 1 <= sent <= 2 * (seconds + 1)
            for running in (one, other):
                clock.travel(timedelta(milliseconds=100))
                running.sender.wake()
    await first.close()
    await second.close()


async def until_both_wait(*senders: RunningSender) -> None:
    """Wait until the throttle has stopped both."""
    await wait_until(
        lambda: all(each.sender.idle and each.delivery.pauses().all for each in senders)
    )


async def test_each_number_has_its_own_throttle_and_holds_up_no_other(
    database: Database, clock: StoppedClock
) -> None:
    slow, other = "+13125550101", "+13125550102"
    async with running_sender(database, clock, per_number=0.1, poll_interval=0.005) as running:
        for phone in OTHERS[:3]:
            await running.text("VERIFY", phone, bot_number=slow)
        await running.text("VERIFY", OTHERS[3], bot_number=other)
        await running.until_sent(2)
        assert {one.phone for one in running.client.sent} == {OTHERS[0], OTHERS[3]}
        assert sorted(running.delivery.paused(clock.now())) == [slow, other]
        for count in (3, 4):
            await running.travel(timedelta(seconds=10))
            await running.until_sent(count)
            assert len(running.client.sent) == count


@pytest.mark.parametrize(
    ("limit", "slowed"), [(Limit.ACCOUNT, ACCOUNT), (Limit.NUMBER, BOT_NUMBER)]
)
async def test_a_limit_slows_the_number_or_account_that_met_it_and_is_logged_once(
    database: Database,
    clock: StoppedClock,
    capsys: pytest.CaptureFixture[str],
    limit: Limit,
    slowed: str,
) -> None:
    met = [SendLater(limit.value, limit=limit)] * 20
    async with running_sender(database, clock, *met, rate=1000) as running:
        for phone in OTHERS[:20]:
            await running.text("VERIFY", phone)
            clock.travel(timedelta(milliseconds=10))
        await running.until(lambda rows: all(row.fault == limit for row in rows))
        known = await database.read(throttle.read)
        assert known.pop(slowed).halvings_at(clock.now()) == 1
        assert not any(each.halvings_at(clock.now()) for each in known.values())
        shown = await database.read(overview, clock.now())
        await running.travel(timedelta(minutes=1))
        await running.until_state(*[OutboxState.ACCEPTED] * 20)
        assert "slowed" not in await database.read(overview, clock.now())
    assert f"sending slowed to 1/2: {slowed}" in shown
    assert "SEND_RATE_" in shown
    assert capsys.readouterr().out.count("sending slowed") == 1


async def test_a_throttle_that_is_off_is_not_slowed(
    database: Database, clock: StoppedClock
) -> None:
    met = [SendLater("10011", limit=Limit.ACCOUNT), SendLater("40318", limit=Limit.NUMBER)]
    async with running_sender(database, clock, *met) as running:
        await running.text("VERIFY")
        await running.text("VERIFY", OTHERS[0])
        await running.until(lambda rows: all(row.fault for row in rows))
    assert not any(each.halvings for each in (await database.read(throttle.read)).values())


async def test_codes_are_sent_first_even_before_earlier_texts_to_the_same_person(
    database: Database, clock: StoppedClock
) -> None:
    async with running_sender(database, clock, rate=0.1, poll_interval=0.005) as running:
        await running.text("VERIFY", OTHERS[0])
        await running.until_sent(1)
        for phone in OTHERS[1:4]:
            await running.text("STATUS", phone)
        await running.text("VERIFY", OTHERS[3])
        await running.text("VERIFY", OTHERS[4])
        for count in range(2, 7):
            await running.travel(timedelta(seconds=10))
            await running.until_sent(count)
    phones = [one.phone for one in running.client.sent]
    assert phones[1:] == [*OTHERS[3:5], *OTHERS[1:4]]
