"""Scopes: how small the limits are, and which inputs are made.

All lengths of time are multiples of a quarter of an hour, so that many moments coincide. Every rule
compares the time with a moment in one way: before it, or not before it. So the stops of the clock
at the quarters cover both sides of each moment, and the moment itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation import policy as policy_module
from bot.conversation.limits import FIRST_LOCK
from bot.conversation.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

QUARTER, HOUR = timedelta(minutes=15), timedelta(hours=1)
NUMBERS = ("+13125550100", "+13125550101")
PHONE = "+13125550199"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""The time of every decision: all moments are kept relative to it."""
DAY = timedelta(hours=2)
"""A day of this check: a window that is longer than the hour, in which one more code is allowed.

In a real day there are a hundred quarters, hence too many combinations of the times of three codes.
"""
UNLIMITED = 1_000_000
"""No count in this check reaches it."""


class Scope(Struct, frozen=True):
    """A part of the space: the numbers of the bot (1 or 2), the rules and the inputs.

    Without `apps` no app and no reference takes part. `old_texts` are texts that arrive late.
    """

    name: str
    numbers: int
    policy: Policy
    apps: bool = False
    old_texts: bool = False

    @property
    def counts_courtesy(self) -> bool:
        """Return whether courtesy replies can reach their limit."""
        return self.policy.answers_in_a_row < UNLIMITED


def small_policy(*, courtesy: int, codes_per_day: int = 3) -> Policy:
    """Return the smallest limits with which every rule still has an effect."""
    return Policy(
        code_lifetime=2 * QUARTER,
        resend_cooldown=QUARTER,
        attempts=2,
        codes_per_hour=2,
        codes_per_day=codes_per_day,
        max_lock=FIRST_LOCK,
        hints_in_a_row=courtesy,
        answers_in_a_row=courtesy,
    )


@contextmanager
def short_day() -> Iterator[None]:
    """Make the day of the rules as short as `DAY`."""
    real = policy_module._DAY
    policy_module._DAY = DAY
    try:
        yield
    finally:
        policy_module._DAY = real


SCOPES = {
    scope.name: scope
    for scope in (
        Scope("own", 1, small_policy(courtesy=UNLIMITED)),
        Scope("courtesy", 1, small_policy(courtesy=1)),
        Scope("old", 1, small_policy(courtesy=UNLIMITED), old_texts=True),
        Scope("two", 2, small_policy(courtesy=UNLIMITED)),
        Scope("apps", 1, small_policy(courtesy=UNLIMITED), apps=True),
        Scope("full", 2, small_policy(courtesy=1), apps=True, old_texts=True),
    )
}
