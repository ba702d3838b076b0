"""The paces at which texts leave, one of the account and one of each number of the bot.

All processes on one database share them: who holds the row of a pace decides for all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from bot.conversation.policy import MAX_CLOCK_SKEW
from bot.store.sql.bulk_insert import insert_or_update
from bot.store.tables import ThrottleRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Select

ACCOUNT = "account"
"""The name of the pace that all numbers share; those of the numbers are named by them (E.164)."""
CATCH_UP = timedelta(milliseconds=100)
"""How much delay is made up for: in no second leave more texts than in this and one second."""
SPAN = timedelta(milliseconds=60)
"""Of a queue, the texts of this time leave together, since each transaction costs a commit; the
rest of `CATCH_UP` is for waking late."""
HALVED_ONCE_IN = timedelta(seconds=3)
"""How long a halving gets to show."""
RECOVERS_IN = timedelta(seconds=10)
"""After so long without another fault, half of a halving is taken back: the pace doubles."""
MAX_HALVINGS = 6
UNLIMITED = 1_000_000
_SLOWEST = timedelta(days=1)

_THROTTLES = ThrottleRow.__table__
# The numbers begin with a plus, which sorts before a letter.
_ALL = select(_THROTTLES).order_by(_THROTTLES.c.name.desc())
_LOCKED = _ALL.with_for_update()


@dataclass(frozen=True, slots=True)
class Throttle:
    """From when on the next text may leave, and how often and when last the pace was halved.

    A `rate` is in texts a second before any halving; 0 lets all leave at once.
    """

    next_at: datetime
    halvings: int = 0
    halved_at: datetime | None = None

    def allowed(self, rate: float, now: datetime) -> int:
        """Return how many texts may leave now; a little is made up for after a delay."""
        if not rate:
            return UNLIMITED
        begun = self._begun(now)
        return (now - begun) // self._interval(rate, now) + 1 if begun <= now else 0

    def left(self, count: int, rate: float, now: datetime) -> Throttle:
        """Note that `count` texts leave now."""
        if not rate:
            return self
        next_at = self._begun(now) + count * self._interval(rate, now)
        return replace(self, next_at=next_at)

    def resumes_at(self, rate: float, now: datetime) -> datetime:
        """Return from when on a queue is worth another look."""
        behind = SPAN - self._interval(rate, now)
        return self._begun(now) + max(behind, timedelta())

    def bounded(self, rate: float, now: datetime) -> Throttle:
        """Correct what a clock that ran ahead has left, of this process or of another one.

        The next text waits for the longest that clocks may differ: were it let go at once, two
        processes whose clocks differ by more would each set the pace back for the other.
        """
        latest = now + self._interval(rate, now) + MAX_CLOCK_SKEW
        return replace(self, next_at=min(self.next_at, latest))

    def halved(self, now: datetime, claimed_at: datetime) -> Throttle:
        """Slow down, since a text that was claimed then has met a limit.

        Once for all texts that met it together, and not for those that left before.
        """
        halvings = self.halvings_at(now)
        if self.halved_at and halvings and self.halved_at > min(now - HALVED_ONCE_IN, claimed_at):
            return self
        return replace(self, halvings=min(halvings + 1, MAX_HALVINGS), halved_at=now)

    def halvings_at(self, now: datetime) -> int:
        """Return how many halvings have not been recovered from."""
        if self.halved_at is None or self.halved_at - now > MAX_CLOCK_SKEW:
            return 0
        since = max(now - self.halved_at, timedelta())
        return max(self.halvings - since // RECOVERS_IN, 0)

    def _interval(self, rate: float, now: datetime) -> timedelta:
        seconds = 2 ** self.halvings_at(now) / rate
        return timedelta(seconds=min(seconds, _SLOWEST.total_seconds()))

    def _begun(self, now: datetime) -> datetime:
        """Return when the next text's time began: not long ago."""
        return max(self.next_at, now - CATCH_UP)


def lock(connection: Connection) -> dict[str, Throttle]:
    """Take and read the paces there are, by name.

    The account's is made with the table and taken first, so it is by that one that processes take
    turns.
    """
    return _throttles(connection, _LOCKED)


def read(connection: Connection) -> dict[str, Throttle]:
    """Read the paces there are, by name, without taking them."""
    return _throttles(connection, _ALL)


def save(connection: Connection, paces: Mapping[str, Throttle]) -> None:
    """Write paces by name, all in one statement."""
    if paces:
        rows = [{"name": name} | asdict(pace) for name, pace in paces.items()]
        insert_or_update(connection, _THROTTLES, rows)


def _throttles(connection: Connection, which: Select[Any]) -> dict[str, Throttle]:
    rows = connection.execute(which)
    return {row.name: Throttle(row.next_at, row.halvings, row.halved_at) for row in rows}
