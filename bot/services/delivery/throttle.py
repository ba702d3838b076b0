"""How many texts may leave now, as one transaction sees and changes the paces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.store import throttle
from bot.store.throttle import ACCOUNT, Throttle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class SendRates:
    """How many texts a second may leave, of all numbers together and of each; 0 is no limit."""

    account: float
    per_number: float


class SendThrottle:
    """The paces, held until the end of a transaction.

    A text is let go before it is claimed: one that waits for its turn after that could be
    overtaken by a STOP, or outlive its lease.
    """

    def __init__(self, connection: Connection, rates: SendRates, now: datetime) -> None:
        self._connection = connection
        self._rates = rates
        self._now = now
        self._known = throttle.lock(connection) if rates.account or rates.per_number else {}
        self._paces = dict(self._known)
        self._paces |= {
            name: pace.bounded(rate, now)
            for name, pace in self._known.items()
            if (rate := self._rate(name))
        }

    def allowed(self, name: str) -> int:
        """Return how many texts may leave now from a number (E.164), or by the account."""
        return self._pace(name).allowed(self._rate(name), self._now)

    def left(self, counts: Mapping[str, int]) -> None:
        """Note that texts leave, so many from each number."""
        for name, count in ({ACCOUNT: sum(counts.values())} | dict(counts)).items():
            if rate := self._rate(name):
                self._paces[name] = self._pace(name).after_sending(count, rate, self._now)
        self._save()

    def halve(self, name: str, claimed_at: datetime) -> bool:
        """Slow a number or the account down, whose limit was met by a text that was claimed then.

        Tells whether it was at its full pace before.
        """
        before = self._pace(name)
        if not self._full(name):
            return False
        self._paces[name] = before.halved(self._now, claimed_at)
        self._save()
        return not before.halvings_at(self._now)

    def waits(self) -> dict[str, datetime]:
        """Tell of the account and the numbers that may send no text now when they may again."""
        return {
            name: pace.resumes_at(rate, self._now)
            for name, pace in self._paces.items()
            if (rate := self._rate(name)) and not pace.allowed(rate, self._now)
        }

    def _pace(self, name: str) -> Throttle:
        return self._paces.get(name) or Throttle(self._now)

    def _rate(self, name: str) -> float:
        """Return the pace before its halvings; without one of its own, a number has one then."""
        own = name == ACCOUNT or self._rates.per_number
        return self._full(name) if own or self._pace(name).halvings_at(self._now) else 0

    def _full(self, name: str) -> float:
        account = self._rates.account
        return account if name == ACCOUNT else self._rates.per_number or account

    def _save(self) -> None:
        changed = self._paces.items() - self._known.items()
        throttle.save(self._connection, dict(changed))
