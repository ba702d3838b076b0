"""The sending throttle: how many texts may be sent now, from one number or by the account."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.limits import MAX_CLOCK_SKEW

if TYPE_CHECKING:
    from datetime import datetime

ACCOUNT = "account"
"""The name of the throttle that all numbers share; a number's throttle is named by it (E.164)."""
MAX_CATCH_UP = timedelta(milliseconds=100)
"""How much delay is made up for: in any second, at most as many texts are sent as the rate allows
in 1.1 seconds."""
BATCH_SPAN = timedelta(milliseconds=60)
"""Texts that become due within this time are sent together, since each transaction costs a commit.
The rest of `MAX_CATCH_UP` allows for a worker that wakes late."""
HALVING_INTERVAL = timedelta(seconds=3)
"""The shortest time between two halvings, so that the first can take effect."""
RECOVERY_INTERVAL = timedelta(seconds=10)
"""After this time without another halving, one halving is undone: the rate doubles."""
MAX_HALVINGS = 6
UNLIMITED = 1_000_000
_MAX_INTERVAL = timedelta(days=1)


class Throttle(Struct, frozen=True):
    """When the next text may be sent (UTC), and how often and when the rate was last halved.

    A `rate` is in texts a second before any halving; 0 means no limit.
    """

    next_at: datetime
    halvings: int = 0
    halved_at: datetime | None = None

    def allowed(self, rate: float, now: datetime) -> int:
        """Return how many texts may be sent now; a small delay is made up for."""
        if not rate:
            return UNLIMITED
        start = self._start(now)
        return (now - start) // self._interval(rate, now) + 1 if start <= now else 0

    def after_sending(self, count: int, rate: float, now: datetime) -> Throttle:
        """Return the throttle after `count` texts are sent now."""
        if not rate:
            return self
        next_at = self._start(now) + count * self._interval(rate, now)
        return replace(self, next_at=next_at)

    def resumes_at(self, rate: float, now: datetime) -> datetime:
        """Return when to poll the queue again: when a batch of texts may be sent."""
        rest_of_batch = BATCH_SPAN - self._interval(rate, now)
        return self._start(now) + max(rest_of_batch, timedelta())

    def bounded(self, rate: float, now: datetime) -> Throttle:
        """Correct a `next_at` that a clock running ahead has written, in this or another process.

        The next text waits as long as clocks may differ. If it were sent at once, two processes
        whose clocks differ by more would each reset the throttle of the other.
        """
        latest = now + self._interval(rate, now) + MAX_CLOCK_SKEW
        return replace(self, next_at=min(self.next_at, latest))

    def halved(self, now: datetime, claimed_at: datetime) -> Throttle:
        """Halve the rate, since a text claimed at `claimed_at` has exceeded the carrier's limit.

        Texts that exceed it together halve the rate once: a text claimed before the last halving
        does not halve it again.
        """
        halvings = self.halvings_at(now)
        if self.halved_at and halvings and self.halved_at > min(now - HALVING_INTERVAL, claimed_at):
            return self
        return replace(self, halvings=min(halvings + 1, MAX_HALVINGS), halved_at=now)

    def halvings_at(self, now: datetime) -> int:
        """Return how many halvings have not been undone yet."""
        if self.halved_at is None or self.halved_at - now > MAX_CLOCK_SKEW:
            return 0
        since = max(now - self.halved_at, timedelta())
        return max(self.halvings - since // RECOVERY_INTERVAL, 0)

    def _interval(self, rate: float, now: datetime) -> timedelta:
        seconds = 2 ** self.halvings_at(now) / rate
        return timedelta(seconds=min(seconds, _MAX_INTERVAL.total_seconds()))

    def _start(self, now: datetime) -> datetime:
        """Return the time from which texts are counted, at most `MAX_CATCH_UP` ago."""
        return max(self.next_at, now - MAX_CATCH_UP)
