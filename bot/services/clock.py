"""The two clocks of a process: a monotonic one for decisions, and the wall clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The source of the time, always in UTC."""

    def now(self) -> datetime:
        """Return the time for decisions; it never runs backwards within a process."""

    def wall(self) -> datetime:
        """Return the wall clock's time, to compare with the timestamps of others."""


class SystemClock:
    """The wall clock's time at the start of the process, plus the time since then.

    Otherwise a wall clock that jumps would change how long a code or a lock lasts. If the wall
    clock was wrong at the start, this one stays wrong until a restart: `clock_monitor` warns.
    """

    def __init__(self) -> None:
        self._started_at = datetime.now(UTC)
        self._elapsed_at_start = _elapsed()

    def now(self) -> datetime:
        """Return the time for decisions."""
        return self._started_at + timedelta(seconds=_elapsed() - self._elapsed_at_start)

    def wall(self) -> datetime:
        """Return the wall clock's time."""
        return datetime.now(UTC)


def drift_of(clock: Clock) -> timedelta:
    """Return how far the wall clock is ahead of the time for decisions."""
    return clock.wall() - clock.now()


def _elapsed() -> float:
    """Return monotonic seconds, which include the system's sleep if it has such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
