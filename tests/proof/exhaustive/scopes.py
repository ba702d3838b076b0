"""Scopes: how small the limits are, and which inputs are made.

All lengths of time are multiples of a quarter of an hour, so that many moments coincide. Every rule
compares the time with a moment in one way: before it, or not before it. So the stops of the clock
at the quarters cover both sides of each moment, and the moment itself. Left out are inputs between
the quarters, hence moments that differ by less.

No scope has everything and can be exhausted: each says what it leaves out by what it has.
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
SHORT_DAY, DAY = timedelta(hours=2), timedelta(hours=24)
"""A short day is still longer than the hour, and one more code is allowed in it. A real day has a
hundred quarters, hence many more combinations of the times of three codes."""
LONG_AGO = NOW - 2 * DAY
"""Every moment that has passed."""
UNLIMITED = 1_000_000
"""No count in this check reaches it."""


class Scope(Struct, frozen=True):
    """A part of the space: the numbers of the bot (1 or 2), the rules and the inputs.

    The person may always request a code of their own. `app` and `reference` are whether an app may
    request one, and whether a reference may be texted: one of each at a time, and again when it has
    ended. `old_texts` are texts that arrive late. `day` is the length of the day of
    `codes_per_day`.
    """

    name: str
    numbers: int
    policy: Policy
    app: bool = False
    reference: bool = False
    old_texts: bool = False
    day: timedelta = SHORT_DAY

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
def day_of(scope: Scope) -> Iterator[None]:
    """Make the day of the rules as long as that of a scope."""
    real = policy_module._DAY
    policy_module._DAY = scope.day
    try:
        yield
    finally:
        policy_module._DAY = real


_PLAIN = small_policy(courtesy=UNLIMITED)
_WITH_COURTESY = small_policy(courtesy=1)
_ONLY_COURTESY = small_policy(courtesy=1, codes_per_day=UNLIMITED)
_WITHOUT_DAY = small_policy(courtesy=UNLIMITED, codes_per_day=UNLIMITED)
_SCOPES = (
    Scope("own code", 1, _PLAIN),
    Scope("own code, courtesy", 1, _ONLY_COURTESY),
    Scope("own code, old texts", 1, _PLAIN, old_texts=True),
    Scope("own code, two numbers", 2, _PLAIN),
    Scope("own code, a real day", 1, _PLAIN, day=DAY),
    Scope("app", 1, _WITHOUT_DAY, app=True),
    Scope("reference", 1, _WITHOUT_DAY, reference=True),
    Scope("app and reference", 1, _WITHOUT_DAY, app=True, reference=True),
    Scope("app, old texts", 1, _WITHOUT_DAY, app=True, old_texts=True),
    Scope("app, two numbers", 2, _WITHOUT_DAY, app=True),
    Scope("reference, two numbers", 2, _WITHOUT_DAY, reference=True),
    Scope("everything", 2, _WITH_COURTESY, app=True, reference=True, old_texts=True),
)
SCOPES = {scope.name: scope for scope in _SCOPES}
"""All scopes by name. The last one has all the others, but for the real day, and is too large to be
exhausted; the others each leave something out so that they can be."""
