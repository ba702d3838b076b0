"""The rules that have figures: how long, how many, how often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.state import NOTHING_USED, Alphabet, CodeFormat

if TYPE_CHECKING:
    from bot.conversation.state import PhoneLimits, Token

MAX_CLOCK_SKEW = timedelta(seconds=5)
"""How far the clocks of two processes may be apart; a time beyond that is not believed."""
FIRST_LOCK = timedelta(minutes=15)
MAX_LOCK = timedelta(hours=24)
NOT_ME_PERIOD = timedelta(hours=1)
"""How long NOT ME keeps new codes from a phone."""
COURTESY_SILENCE = timedelta(hours=1)
MAX_HINTS_IN_A_ROW = 3
MAX_ANSWERS_IN_A_ROW = 10
"""HELP and STATUS are answered more patiently than what was not understood, but not for ever."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class Policy(Struct, frozen=True):
    """What the operator has chosen.

    `code_lifetime` ≤ 1 hour by the settings, 10 minutes by NIST SP 800-63B-4 §3.1.3.2. `attempts`
    are wrong guesses a code takes; `codes_per_hour` and `codes_per_day` are code texts to a phone.
    `reference_lifetime` is how long an app's reference waits to be texted; `form_host` is the name
    of the web form's site, "" where there is none; `form_codes_per_day` is what it may ask for.
    """

    code_format: CodeFormat = CodeFormat(6, Alphabet.DIGITS)
    code_lifetime: timedelta = timedelta(minutes=10)
    attempts: int = 5
    resend_cooldown: timedelta = timedelta(seconds=30)
    codes_per_hour: int = 5
    codes_per_day: int = 10
    app_name: str = "Textproof"
    support_contact: str = ""
    reference_lifetime: timedelta = timedelta(minutes=15)
    form_host: str = ""
    form_codes_per_day: int = 500

    def tries_left(self, limits: PhoneLimits, token: Token | None) -> int:
        """Count the wrong guesses a phone may still make before it is locked."""
        spent = max(limits.wrong_guesses, token.guesses if token else 0)
        return max(0, self.attempts - spent)

    def next_code_at(self, limits: PhoneLimits) -> datetime | None:
        """Tell from when a further code may be texted; None means at once."""
        times = limits.code_times
        waits = [limits.refused_until]
        if len(times) >= self.codes_per_hour:
            waits.append(times[-self.codes_per_hour] + _HOUR)
        if len(times) >= self.codes_per_day:
            waits.append(times[-self.codes_per_day] + _DAY)
        return max((wait for wait in waits if wait is not None), default=None)


def code_times_with(times: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    """Add a code text sent at `now`, and forget those of more than a day ago."""
    return (*(time for time in times if time > now - _DAY), now)


def lock_length(locks: int) -> timedelta:
    """Tell how long the lock after `locks` earlier ones lasts: doubling (RFC 4226 §7.3)."""
    doublings = min(locks, 10)  # far beyond LONGEST_LOCK, and safely short of overflow
    return min(FIRST_LOCK * (1 << doublings), MAX_LOCK)


def clamped(limits: PhoneLimits, now: datetime) -> PhoneLimits:
    """Correct what a clock that once ran ahead has left: no wait beyond the longest there is."""
    if limits == NOTHING_USED:
        return limits
    return replace(
        limits,
        locked_until=_at_most(limits.locked_until, now + MAX_LOCK),
        refused_until=_at_most(limits.refused_until, now + NOT_ME_PERIOD),
        told_until=_at_most(limits.told_until, now + _DAY),
        code_times=tuple(time for time in limits.code_times if time <= now),
    )


def _at_most(moment: datetime | None, latest: datetime) -> datetime | None:
    return None if moment is None else min(moment, latest)
