"""Limits that depend on time, as pure values: how often, how many, and how long a lock lasts.

`policy.py` has the figures.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

FIRST_LOCK = timedelta(minutes=15)
MAX_LOCK = timedelta(hours=24)


class TokenBucket(Struct, frozen=True):
    """One use every `interval`, of which up to `burst` may come at once.

    Its whole state is the time when it is full again (generic cell rate algorithm, ITU-T I.371).
    """

    interval: timedelta
    burst: int = 1

    def take(self, full_at: datetime, now: datetime) -> tuple[datetime, datetime | None]:
        """Return the new `full_at`, and None if a use was free, else when the next one will be."""
        # A clock that ran ahead, or an earlier, slower rate, costs no more than an empty bucket.
        full_at = min(max(full_at, now), now + self.burst * self.interval)
        free_at = full_at - (self.burst - 1) * self.interval
        return (full_at, free_at) if free_at > now else (full_at + self.interval, None)


class Window(Struct, frozen=True):
    """At most `limit` uses in any period of this `length`; `times` are the uses, oldest first."""

    limit: int
    length: timedelta

    def free_at(self, times: Sequence[datetime]) -> datetime | None:
        """Return when the next use is free; None if the limit was not reached."""
        return times[-self.limit] + self.length if len(times) >= self.limit else None

    def left(self, times: Sequence[datetime], now: datetime) -> int:
        """Return how many uses are free now."""
        return max(0, self.limit - sum(now - self.length < time <= now for time in times))

    def add(self, times: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
        """Return `times` with a use now, and without those that have left the window."""
        return (*(time for time in times if time > now - self.length), now)


def lock_length(locks: int, longest: timedelta = MAX_LOCK) -> timedelta:
    """Return how long the lock after `locks` earlier ones lasts: twice as long (RFC 4226 §7.3)."""
    doublings = min(locks, 10)  # far beyond MAX_LOCK, and safely short of overflow
    return min(FIRST_LOCK * (1 << doublings), longest)
