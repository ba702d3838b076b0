from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.policy import MAX_CLOCK_SKEW
from bot.simulator.clock import NOON
from bot.store import throttle
from bot.store.throttle import (
    ACCOUNT,
    CATCH_UP,
    HALVED_ONCE_IN,
    MAX_HALVINGS,
    RECOVERS_IN,
    SPAN,
    UNLIMITED,
    Throttle,
)

if TYPE_CHECKING:
    from datetime import datetime

    from bot.store.engine.database import Database

SECOND = timedelta(seconds=1)
FRESH = Throttle(NOON - SECOND)


def emptied(rate: float) -> Throttle:
    """A pace by which nothing may leave at noon any more."""
    return FRESH.left(FRESH.allowed(rate, NOON), rate, NOON)


@given(
    rate=st.sampled_from([0.1, 1, 7, 50, 1000]),
    looks=st.lists(st.integers(0, 300_000), min_size=1, max_size=200),
)
def test_no_more_leave_in_a_second_than_the_pace_and_a_little_to_catch_up(
    rate: float, looks: list[int]
) -> None:
    pace, now, left = FRESH, NOON, []
    for microseconds in looks:
        now += timedelta(microseconds=microseconds)
        count = pace.allowed(rate, now)
        pace = pace.left(count, rate, now)
        left += [now] * count
    most = rate * (SECOND + CATCH_UP).total_seconds() + 1
    assert all(sum(at <= each < at + SECOND for each in left) <= most for at in set(left))


@pytest.mark.parametrize(("rate", "wait"), [(50, 0.06), (20, 0.05), (1, 1), (0.1, 10)])
def test_a_queue_leaves_at_the_pace_whoever_wakes_late(rate: float, wait: float) -> None:
    pace, now, count = emptied(rate), NOON, 0
    end = NOON + timedelta(seconds=100)
    while now < end:
        now = pace.resumes_at(rate, now) + timedelta(milliseconds=20)
        allowed = pace.allowed(rate, now)
        count += allowed
        pace = pace.left(allowed, rate, now)
    assert count == pytest.approx(100 * rate, abs=rate * (2 * wait + 0.1) + 1)


def met(pace: Throttle, now: datetime) -> Throttle:
    return pace.halved(now, claimed_at=now)


def test_what_comes_to_an_idle_sender_leaves_at_once() -> None:
    pace = FRESH
    for number in range(5):
        at = NOON + number * timedelta(milliseconds=5)
        assert pace.allowed(50, at)
        pace = pace.left(1, 50, at)


def test_without_a_rate_all_leave_at_once() -> None:
    assert FRESH.left(7, 0, NOON) == FRESH
    assert FRESH.allowed(0, NOON) == UNLIMITED


def test_a_pace_is_halved_once_for_all_that_met_the_limit_together() -> None:
    pace = FRESH
    for number in range(20):
        pace = met(pace, NOON + number * timedelta(milliseconds=40))
    assert pace.halvings_at(NOON) == 1
    assert met(pace, NOON + HALVED_ONCE_IN).halvings_at(NOON + HALVED_ONCE_IN) == 2
    for number in range(20):
        pace = met(pace, NOON + number * HALVED_ONCE_IN)
    assert pace.halvings_at(NOON + 19 * HALVED_ONCE_IN) == MAX_HALVINGS


def test_a_text_that_left_before_a_halving_does_not_halve_again_however_late() -> None:
    pace = FRESH
    for seconds in range(10):
        pace = pace.halved(NOON + seconds * SECOND, NOON - SECOND)
    assert pace.halvings == 1


def test_a_limit_that_is_met_now_and_then_does_not_stop_all_in_the_end() -> None:
    pace = FRESH
    for number in range(100):
        pace = met(pace, NOON + number * (RECOVERS_IN + SECOND))
    assert pace.halvings == 1


def test_a_halved_pace_is_half_as_fast_and_recovers_step_by_step() -> None:
    since = NOON + HALVED_ONCE_IN
    pace = met(met(emptied(50), NOON), since)
    steps = [pace.halvings_at(since + wait * RECOVERS_IN / 2) for wait in range(6)]
    assert steps == [2, 2, 1, 1, 0, 0]
    quarter = pace.left(10, 50, since)
    assert quarter.next_at - pace.left(0, 50, since).next_at == timedelta(milliseconds=800)


@pytest.mark.parametrize("rate", [50, 0.1])
def test_a_clock_that_was_set_back_stops_nothing(rate: float) -> None:
    earlier = NOON - timedelta(hours=1)
    pace = met(emptied(rate), NOON).bounded(rate, earlier)
    assert pace.halvings_at(earlier) == 0
    assert not pace.allowed(rate, earlier)
    assert pace.allowed(rate, earlier + MAX_CLOCK_SKEW + timedelta(seconds=1 / rate)) == 1


def test_clocks_that_differ_more_than_they_may_do_not_undo_the_pace() -> None:
    apart, pace, sent = MAX_CLOCK_SKEW + SECOND / 2, FRESH, 0
    for look in range(500):
        ahead = NOON + look * SECOND / 50
        for at in (ahead, ahead - apart) if look % 50 == 0 else (ahead,):
            pace = pace.bounded(50, at)
            count = pace.allowed(50, at)
            pace = pace.left(count, 50, at)
            sent += count
    assert sent <= 10 * 50 * 1.2


def test_clocks_that_differ_a_little_share_a_pace() -> None:
    behind = NOON - MAX_CLOCK_SKEW
    pace = emptied(50)
    assert pace.allowed(50, behind) == 0
    assert pace.resumes_at(50, behind) == pace.next_at + SPAN - SECOND / 50


async def test_paces_are_kept_by_name_and_that_of_the_account_is_there(database: Database) -> None:
    assert (await database.write(throttle.lock)).keys() == {ACCOUNT}
    number = "+13125550100"
    changed = {ACCOUNT: Throttle(NOON, 1, NOON), number: Throttle(NOON + SECOND)}
    await database.write(throttle.save, changed)
    assert await database.read(throttle.read) == changed
    await database.write(throttle.save, {number: Throttle(NOON, 2, NOON)})
    assert list(await database.write(throttle.lock)) == [ACCOUNT, number]
    assert (await database.read(throttle.read))[number].halvings == 2
