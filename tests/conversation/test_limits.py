from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.limits import TokenBucket, Window, lock_length

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def test_a_bucket_allows_its_burst_at_once_and_then_one_use_each_interval() -> None:
    bucket, full_at = TokenBucket(SECOND, 3), NOON
    for _ in range(3):
        full_at, free_at = bucket.take(full_at, NOON)
        assert free_at is None

    assert bucket.take(full_at, NOON) == (full_at, NOON + SECOND)
    assert bucket.take(full_at, NOON + SECOND) == (full_at + SECOND, None)


def test_a_bucket_holds_no_more_than_its_burst_however_long_it_was_idle() -> None:
    bucket, full_at = TokenBucket(SECOND, 3), NOON - DAY
    results = []
    for _ in range(5):
        full_at, free_at = bucket.take(full_at, NOON)
        results.append(free_at is None)

    assert results == [True] * 3 + [False] * 2


@pytest.mark.parametrize("ahead", [MINUTE, DAY])
def test_a_clock_that_ran_ahead_or_a_slower_rate_before_empties_a_bucket_and_no_more(
    ahead: timedelta,
) -> None:
    bucket = TokenBucket(SECOND, 3)
    full_at, free_at = bucket.take(NOON + ahead, NOON)

    assert free_at == NOON + SECOND
    assert bucket.take(full_at, NOON + SECOND)[1] is None


@given(st.lists(st.integers(0, 5_000), max_size=40), st.integers(1, 5))
def test_a_bucket_never_allows_more_than_its_burst_and_its_rate(
    pauses: list[int], burst: int
) -> None:
    bucket, now, full_at, used = TokenBucket(SECOND, burst), NOON, NOON, list[datetime]()
    for pause in pauses:
        now += timedelta(milliseconds=pause)
        full_at, free_at = bucket.take(full_at, now)
        if free_at is None:
            used.append(now)
        else:
            assert now < free_at <= now + SECOND

    for first, start in enumerate(used):
        for count, end in enumerate(used[first:], start=1):
            assert count <= burst + (end - start) / SECOND


def test_a_window_is_free_again_once_the_oldest_use_that_fills_it_has_left_it() -> None:
    window = Window(2, MINUTE)
    times = (NOON - 50 * SECOND, NOON - 40 * SECOND, NOON - 10 * SECOND)

    assert window.free_at(times[:1]) is None
    assert window.free_at(times) == NOON + 20 * SECOND


def test_a_window_forgets_the_uses_that_have_left_it() -> None:
    times = (NOON - 2 * MINUTE, NOON - MINUTE, NOON - SECOND)

    assert Window(2, MINUTE).add(times, NOON) == (NOON - SECOND, NOON)


def test_a_window_counts_the_uses_that_are_left_without_those_that_have_left_it() -> None:
    window = Window(2, MINUTE)
    times = (NOON - MINUTE, NOON - MINUTE + SECOND, NOON, NOON + SECOND)

    assert window.left((), NOON) == 2
    assert window.left(times[:2], NOON) == 1
    assert window.left(times[:3], NOON) == 0
    assert window.left((*times, *times), NOON) == 0
    assert window.left(times[3:], NOON) == 1  # by a decision of a moment ago
    assert window.left((NOON + MINUTE,), NOON) == 2  # left behind by a clock that ran ahead


@pytest.mark.parametrize(
    ("locks", "minutes"),
    [(0, 15), (1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 960), (7, 1440), (8, 1440)],
)
def test_each_further_lock_lasts_twice_as_long_up_to_a_day(locks: int, minutes: int) -> None:
    assert lock_length(locks) == timedelta(minutes=minutes)


@given(st.integers(min_value=0, max_value=10**9))
def test_no_number_of_locks_makes_a_shorter_one_or_overflows(locks: int) -> None:
    assert timedelta(minutes=15) <= lock_length(locks) <= lock_length(locks + 1) <= DAY
