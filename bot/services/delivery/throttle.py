"""The sending throttle: how many texts may be sent now, as one transaction reads and changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.conversation.throttle import ACCOUNT, Throttle
from bot.store import throttle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class SendRates:
    """Texts per second from all numbers together and from each; 0 means no limit."""

    account: float
    per_number: float


class SendThrottle:
    """The throttles of the account and of its numbers, locked until the transaction ends.

    The throttle counts a text before it is claimed: a text that waited after its claim could be
    overtaken by a STOP, or outlive its lease.
    """

    def __init__(self, connection: Connection, rates: SendRates, now: datetime) -> None:
        self._connection = connection
        self._rates = rates
        self._now = now
        self._stored = throttle.lock(connection) if rates.account or rates.per_number else {}
        self._throttles = dict(self._stored)
        self._throttles |= {
            name: stored.bounded(rate, now)
            for name, stored in self._stored.items()
            if (rate := self._rate(name))
        }

    def allowed(self, name: str) -> int:
        """Return how many texts a number (E.164) or the account may send now."""
        return self._throttle(name).allowed(self._rate(name), self._now)

    def record_sends(self, counts: Mapping[str, int]) -> None:
        """Count the texts that are sent now, by number."""
        for name, count in ({ACCOUNT: sum(counts.values())} | dict(counts)).items():
            if rate := self._rate(name):
                self._throttles[name] = self._throttle(name).after_sending(count, rate, self._now)
        self._save()

    def halve(self, name: str, claimed_at: datetime) -> bool:
        """Halve the rate of a number or the account after a text exceeded the carrier's limit.

        `claimed_at` (UTC) is when that text was claimed. Return whether the rate was full before.
        """
        before = self._throttle(name)
        if not self._full_rate(name):
            return False
        self._throttles[name] = before.halved(self._now, claimed_at)
        self._save()
        return not before.halvings_at(self._now)

    def waits(self) -> dict[str, datetime]:
        """Return the account and the numbers that may send nothing now, and until when (UTC)."""
        return {
            name: each.resumes_at(rate, self._now)
            for name, each in self._throttles.items()
            if (rate := self._rate(name)) and not each.allowed(rate, self._now)
        }

    def _throttle(self, name: str) -> Throttle:
        return self._throttles.get(name) or Throttle(self._now)

    def _rate(self, name: str) -> float:
        """Return the rate before halvings; 0 means no limit.

        A number without a rate of its own is limited only while halvings slow it.
        """
        limited = name == ACCOUNT or self._rates.per_number
        return (
            self._full_rate(name) if limited or self._throttle(name).halvings_at(self._now) else 0
        )

    def _full_rate(self, name: str) -> float:
        account = self._rates.account
        return account if name == ACCOUNT else self._rates.per_number or account

    def _save(self) -> None:
        changed = self._throttles.items() - self._stored.items()
        throttle.save(self._connection, dict(changed))
