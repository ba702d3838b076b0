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

MAX_CLOCK_SKEW = timedelta(seconds=5)
"""How far the clocks of two processes may differ. A time further in the future is taken as wrong;
one that is not may come from a decision of a moment ago, and counts."""
FIRST_LOCK = timedelta(minutes=15)
MAX_LOCK = timedelta(hours=24)
LOCK_DECAY = timedelta(days=1)
"""After so long without a lock, the next one is a step shorter."""


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
        latest = now + MAX_CLOCK_SKEW
        return max(0, self.limit - sum(now - self.length < time <= latest for time in times))

    def add(self, times: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
        """Return `times` with a use now, and without those that have left the window."""
        return tuple(sorted((*(time for time in times if time > now - self.length), now)))


class Shares(Struct, frozen=True):
    """Uses that several share: of `limit` in any period of this `length`, each has a `reserve`.

    The rest goes to those that come first.
    """

    limit: int
    length: timedelta
    reserves: tuple[int, ...]

    def free_at(self, times: Sequence[Sequence[datetime]], user: int) -> datetime | None:
        """Return when the next use of a user (an index) is free; None if it is free at once.

        `times` are the uses of each user, oldest first.
        """
        if self._is_free([len(each) for each in times], user):
            return None
        ends = sorted(time + self.length for each in times for time in each)
        return next(end for end in ends if self._is_free(self._counts_at(times, end), user))

    def _counts_at(self, times: Sequence[Sequence[datetime]], at: datetime) -> list[int]:
        return [sum(time + self.length > at for time in each) for each in times]

    def _is_free(self, counts: Sequence[int], user: int) -> bool:
        if counts[user] < self.reserves[user]:
            return True
        beyond = sum(
            max(0, used - reserve) for used, reserve in zip(counts, self.reserves, strict=True)
        )
        return beyond < self.limit - sum(self.reserves)


def locks_left(locks: int, last_end: datetime | None, now: datetime) -> int:
    """Return how many earlier locks still count at `now`: one less for each day without a lock."""
    if last_end is None or now <= last_end:
        return locks
    return max(0, locks - (now - last_end) // LOCK_DECAY)


def lock_length(locks: int, longest: timedelta = MAX_LOCK) -> timedelta:
    """Return how long the lock after `locks` earlier ones lasts: twice as long (RFC 4226 §7.3)."""
    doublings = min(locks, 10)  # far beyond MAX_LOCK, and safely short of overflow
    return min(FIRST_LOCK * (1 << doublings), longest)
