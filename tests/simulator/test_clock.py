from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.services.clock import SystemClock
from bot.simulator.clock import NOON, StoppedClock, TravelClock, parse_duration

TEN_YEARS = timedelta(days=3650)


@pytest.mark.parametrize(
    ("written", "duration"),
    [
        ("30s", timedelta(seconds=30)),
        ("11m", timedelta(minutes=11)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("0s", timedelta()),
        ("1.5s", timedelta(seconds=1, milliseconds=500)),
        ("0.1s", timedelta(milliseconds=100)),
        ("2.5h", timedelta(hours=2, minutes=30)),
        ("999999s", timedelta(seconds=999_999)),
        (" 10 m ", timedelta(minutes=10)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(written: str, duration: timedelta) -> None:
    assert parse_duration(written) == duration


@pytest.mark.parametrize(
    "written",
    ["", "s", "5", "-5m", "+5m", ".5s", "1.s", "1.55s", "1e3s", "5w", "5M", "1h30m", "1000000s"],
)
def test_anything_else_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match=r"^write a duration like 30s, 11m, 2h or 1d$"):
        parse_duration(written)


def test_a_stopped_clock_starts_at_noon_and_moves_only_when_moved() -> None:
    clock = StoppedClock()
    assert clock.now() == clock.wall() == NOON == datetime(2026, 1, 15, 12, tzinfo=UTC)
    clock.travel(timedelta(minutes=11))
    clock.travel(timedelta(milliseconds=100))
    assert clock.now() == clock.wall() == NOON + timedelta(minutes=11, milliseconds=100)


def test_a_moved_clock_continues_from_the_time_of_the_system() -> None:
    system, clock = SystemClock(), TravelClock()
    clock.travel(timedelta(days=2))
    before = clock.now()
    assert before - timedelta(days=2) >= system.now() - timedelta(minutes=1)
    assert before <= clock.now() <= clock.wall()


def test_a_clock_can_be_moved_ten_years_ahead_in_all_and_no_further() -> None:
    clock = StoppedClock()
    clock.travel(TEN_YEARS - timedelta(seconds=1))
    with pytest.raises(ValueError, match=r"^the clock cannot be more than ten years ahead$"):
        clock.travel(timedelta(seconds=1.1))
    clock.travel(timedelta(seconds=1))
    assert clock.now() == NOON + TEN_YEARS
