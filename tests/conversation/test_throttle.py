from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.throttle import (
    BATCH_SPAN,
    HALVING_INTERVAL,
    MAX_CATCH_UP,
    MAX_HALVINGS,
    RECOVERY_INTERVAL,
    UNLIMITED,
    Throttle,
)
from bot.simulator.clock import NOON

if TYPE_CHECKING:
    from datetime import datetime


SECOND = timedelta(seconds=1)
FRESH = Throttle(NOON - SECOND)


def exhausted(rate: float) -> Throttle:
    """Return a throttle by which no more texts may be sent at noon."""
    return FRESH.after_sending(FRESH.allowed(rate, NOON), rate, NOON)


@given(
    rate=st.sampled_from([0.1, 1, 7, 50, 1000]),
    looks=st.lists(st.integers(0, 300_000), min_size=1, max_size=200),
)
def test_no_second_has_more_texts_than_the_rate_and_the_catch_up_allow(
    rate: float, looks: list[int]
) -> None:
    current, now, left = FRESH, NOON, []
    for microseconds in looks:
        now += timedelta(microseconds=microseconds)
        count = current.allowed(rate, now)
        current = current.after_sending(count, rate, now)
        left += [now] * count
    most = rate * (SECOND + MAX_CATCH_UP).total_seconds() + 1
    assert all(sum(at <= each < at + SECOND for each in left) <= most for at in set(left))


@pytest.mark.parametrize(("rate", "wait"), [(50, 0.06), (20, 0.05), (1, 1), (0.1, 10)])
def test_a_queue_is_sent_at_the_rate_however_late_the_sender_wakes(
    rate: float, wait: float
) -> None:
    current, now, count = exhausted(rate), NOON, 0
    end = NOON + timedelta(seconds=100)
    while now < end:
        now = current.resumes_at(rate, now) + timedelta(milliseconds=20)
        allowed = current.allowed(rate, now)
        count += allowed
        current = current.after_sending(allowed, rate, now)
    assert count == pytest.approx(100 * rate, abs=rate * (2 * wait + 0.1) + 1)


def halved(current: Throttle, now: datetime) -> Throttle:
    return current.halved(now, claimed_at=now)


def test_an_idle_sender_sends_at_once() -> None:
    current = FRESH
    for number in range(5):
        at = NOON + number * timedelta(milliseconds=5)
        assert current.allowed(50, at)
        current = current.after_sending(1, 50, at)


def test_without_a_rate_nothing_is_throttled() -> None:
    assert FRESH.after_sending(7, 0, NOON) == FRESH
    assert FRESH.allowed(0, NOON) == UNLIMITED


def test_a_rate_is_halved_once_for_all_texts_that_met_the_limit_together() -> None:
    current = FRESH
    for number in range(20):
        current = halved(current, NOON + number * timedelta(milliseconds=40))
    assert current.halvings_at(NOON) == 1
    assert halved(current, NOON + HALVING_INTERVAL).halvings_at(NOON + HALVING_INTERVAL) == 2
    for number in range(20):
        current = halved(current, NOON + number * HALVING_INTERVAL)
    assert current.halvings_at(NOON + 19 * HALVING_INTERVAL) == MAX_HALVINGS


def test_a_text_claimed_before_a_halving_does_not_halve_the_rate_again() -> None:
    current = FRESH
    for seconds in range(10):
        current = current.halved(NOON + seconds * SECOND, NOON - SECOND)
    assert current.halvings == 1


def test_a_limit_that_is_met_now_and_then_never_stops_the_sending() -> None:
    current = FRESH
    for number in range(100):
        current = halved(current, NOON + number * (RECOVERY_INTERVAL + SECOND))
    assert current.halvings == 1


def test_a_halved_rate_is_half_as_fast_and_recovers_step_by_step() -> None:
    since = NOON + HALVING_INTERVAL
    current = halved(halved(exhausted(50), NOON), since)
    steps = [current.halvings_at(since + wait * RECOVERY_INTERVAL / 2) for wait in range(6)]
    assert steps == [2, 2, 1, 1, 0, 0]
    quarter = current.after_sending(10, 50, since)
    assert quarter.next_at - current.after_sending(0, 50, since).next_at == timedelta(
        milliseconds=800
    )


@pytest.mark.parametrize("rate", [50, 0.1])
def test_a_clock_that_was_set_back_does_not_stop_the_sending(rate: float) -> None:
    earlier = NOON - timedelta(hours=1)
    current = halved(exhausted(rate), NOON).bounded(rate, earlier)
    assert current.halvings_at(earlier) == 0
    assert not current.allowed(rate, earlier)
    assert current.allowed(rate, earlier + MAX_CLOCK_SKEW + timedelta(seconds=1 / rate)) == 1


def test_clocks_that_differ_too_much_do_not_undo_the_throttle() -> None:
    apart, current, sent = MAX_CLOCK_SKEW + SECOND / 2, FRESH, 0
    for look in range(500):
        ahead = NOON + look * SECOND / 50
        for at in (ahead, ahead - apart) if look % 50 == 0 else (ahead,):
            current = current.bounded(50, at)
            count = current.allowed(50, at)
            current = current.after_sending(count, 50, at)
            sent += count
    assert sent <= 10 * 50 * 1.2


def test_processes_whose_clocks_differ_a_little_share_a_throttle() -> None:
    behind = NOON - MAX_CLOCK_SKEW
    current = exhausted(50)
    assert current.allowed(50, behind) == 0
    assert current.resumes_at(50, behind) == current.next_at + BATCH_SPAN - SECOND / 50
