"""Time, as the process lives it and as the world has it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from, always in UTC."""

    def now(self) -> datetime:
        """Return the time to decide by; it never runs backwards within a process."""

    def wall(self) -> datetime:
        """Return the world's time, to judge the timestamps of others by."""


class SystemClock:
    """The time since the process began, whatever the wall clock is set to meanwhile.

    A wall clock that jumps would otherwise stretch a code's life or a lock. One that was wrong at
    the start leaves this one wrong until a restart, of which `clock_monitor` warns.
    """

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._elapsed_then = _elapsed()

    def now(self) -> datetime:
        """Return the time to decide by."""
        return self._began + timedelta(seconds=_elapsed() - self._elapsed_then)

    def wall(self) -> datetime:
        """Return the world's time."""
        return datetime.now(UTC)


def drift_of(clock: Clock) -> timedelta:
    """Return how far the wall clock is ahead of the time to decide by."""
    return clock.wall() - clock.now()


def _elapsed() -> float:
    """Count seconds that nobody can set; where the system can tell, its sleep included."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
