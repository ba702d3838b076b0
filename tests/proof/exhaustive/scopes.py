"""Scopes: how small the limits are, and which inputs are made.

All lengths of time are multiples of a quarter of an hour, so that many moments coincide. Every rule
compares the time with a moment in one way: before it, or not before it. So the stops of the clock
at the quarters cover both sides of each moment, and the moment itself. Left out are inputs between
the quarters, hence moments that differ by less.

No scope has everything and can be exhausted: each says what it leaves out by what it has.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation import actions, guards
from bot.conversation import person as person_module
from bot.conversation import policy as policy_module
from bot.conversation.limits import FIRST_LOCK
from bot.conversation.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

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
SHORT_NOT_ME = {
    "NOT_ME_REACH": HOUR,
    "FORM_REFUSALS": (HOUR, 2 * HOUR),
    "NOT_ME_MEMORY": 2 * HOUR,
    "OWN_CODE_INTERVAL": HOUR,
}
"""The lengths of time of NOT ME in this check; that of its refusal for apps is an hour as it is."""
UNLIMITED = 1_000_000
"""No count in this check reaches it."""


class Scope(Struct, frozen=True):
    """A part of the space: the numbers of the bot (1 or 2), the rules and the inputs.

    The person may always request a code of their own. `app` and `reference` are whether an app may
    request one, and whether a reference may be texted: one of each at a time, and again when it has
    ended. `old_texts` are texts that arrive late, `not_me` is whether NOT ME may be texted. `day`
    is the length of the day of `codes_per_day`.
    """

    name: str
    numbers: int
    policy: Policy
    app: bool = False
    reference: bool = False
    old_texts: bool = False
    not_me: bool = False
    day: timedelta = SHORT_DAY

    @property
    def own_codes_per_day(self) -> int:
        """Return how many codes the person gets in a day: some are kept for apps."""
        return self.policy.codes_per_day - self.policy.reserves[1]

    @property
    def counts_courtesy(self) -> bool:
        """Return whether courtesy replies can reach their limit."""
        return self.policy.answers_in_a_row < UNLIMITED


def small_policy(*, courtesy: int, codes_per_day: int = 4) -> Policy:
    """Return the smallest limits with which every rule still has an effect.

    Growth and closing are off. Of four codes a day, one is kept for apps.
    """
    return Policy(
        code_lifetime=2 * QUARTER,
        resend_cooldown=QUARTER,
        attempts=2,
        codes_per_hour=2,
        codes_per_day=codes_per_day,
        max_lock=FIRST_LOCK,
        hints_in_a_row=courtesy,
        answers_in_a_row=courtesy,
        growth=(),
        failures_to_close=UNLIMITED,
    )


@contextmanager
def day_of(scope: Scope) -> Iterator[None]:
    """Make the day of the rules as long as that of a scope, and those of NOT ME short."""
    with ExitStack() as stack:
        stack.enter_context(_replaced(policy_module, _DAY=scope.day))
        stack.enter_context(_replaced(person_module, **SHORT_NOT_ME))
        for module in (guards, actions):
            reach = SHORT_NOT_ME["NOT_ME_REACH"]
            stack.enter_context(_replaced(module, NOT_ME_REACH=reach))
        yield


@contextmanager
def _replaced(module: ModuleType, **values: object) -> Iterator[None]:
    """Replace constants of a module for a while."""
    real = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(real)


_PLAIN = small_policy(courtesy=UNLIMITED)
_ONLY_COURTESY = small_policy(courtesy=1, codes_per_day=UNLIMITED)
_WITHOUT_DAY = small_policy(courtesy=UNLIMITED, codes_per_day=UNLIMITED)
_SCOPES = (
    Scope("own code", 1, _PLAIN),
    Scope("own code, courtesy", 1, _ONLY_COURTESY),
    Scope("own code, old texts", 1, _PLAIN, old_texts=True),
    Scope("own code, two numbers", 2, _PLAIN),
    Scope("own code, not me", 1, _WITHOUT_DAY, not_me=True),
    Scope("own code, not me, two numbers", 2, _WITHOUT_DAY, not_me=True),
    Scope("app, not me", 1, _WITHOUT_DAY, app=True, not_me=True),
    Scope("own code, a real day", 1, _PLAIN, day=DAY),
    Scope("app", 1, _WITHOUT_DAY, app=True),
    Scope("reference", 1, _WITHOUT_DAY, reference=True),
    Scope("app and reference", 1, _WITHOUT_DAY, app=True, reference=True),
    Scope("app, old texts", 1, _WITHOUT_DAY, app=True, old_texts=True),
    Scope("app, two numbers", 2, _WITHOUT_DAY, app=True),
    Scope("reference, two numbers", 2, _WITHOUT_DAY, reference=True),
    Scope("everything", 2, _ONLY_COURTESY, app=True, reference=True, old_texts=True, not_me=True),
)
SCOPES = {scope.name: scope for scope in _SCOPES}
"""All scopes by name. The last one has all the others, but for the codes of a day, and is too large
to be exhausted; the others each leave something out so that they can be."""
