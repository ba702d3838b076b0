"""The rules with numbers in them: how long, how many, how often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.limits import MAX_LOCK, Window
from bot.conversation.state import NOTHING_USED, Alphabet, CodeFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.conversation.state import PhoneLimits, Token

MAX_CLOCK_SKEW = timedelta(seconds=5)
"""How far the clocks of two processes may differ; a time beyond that is taken as wrong."""
NOT_ME_PERIOD = timedelta(hours=1)
"""How long no code is sent to a phone after NOT ME."""
COURTESY_PERIOD = timedelta(hours=1)
"""How long courtesy replies pause after too many in a row."""
MAX_FORM_REQUESTS_PER_HOUR = 10
"""From one network (Telnyx, "Verify: rate limits")."""
MAX_UNKNOWN_REFERENCES_PER_HOUR = 10
"""From one phone; after that its references are not looked up, so that none can be guessed."""
UNKNOWN_REFERENCES_FOR_ALERT = 100
"""From all phones together in an hour: somebody may be guessing references from many numbers."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_UNKNOWN_REFERENCES = Window(MAX_UNKNOWN_REFERENCES_PER_HOUR, _HOUR)


class Policy(Struct, frozen=True):
    """The operator's choices.

    The settings allow a `code_lifetime` of up to 1 hour, NIST SP 800-63B-4 §3.1.3.2 of 10 minutes.
    `attempts` are the wrong guesses allowed for a code; `codes_per_hour` and `codes_per_day` limit
    the code texts to a phone. `reference_lifetime` is how long an app's reference may be texted;
    `form_host` is the host name of the web form, "" without one; `form_codes_per_day` limits the
    form's codes.

    The last three have no setting. `max_lock` is the longest lock; `hints_in_a_row` and
    `answers_in_a_row` limit courtesy replies: HELP and STATUS are answered more often than unclear
    texts, but not endlessly.
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
    max_lock: timedelta = MAX_LOCK
    hints_in_a_row: int = 3
    answers_in_a_row: int = 10

    def tries_left(self, limits: PhoneLimits, token: Token | None) -> int:
        """Return how many wrong guesses a phone may still make before it is locked."""
        spent = max(limits.wrong_guesses, token.guesses if token else 0)
        return max(0, self.attempts - spent)

    def next_code_at(self, limits: PhoneLimits) -> datetime | None:
        """Return when the next code may be texted; None means at once."""
        windows = Window(self.codes_per_hour, _HOUR), Window(self.codes_per_day, _DAY)
        waits = [limits.refused_until, *(window.free_at(limits.code_times) for window in windows)]
        return max((wait for wait in waits if wait is not None), default=None)

    def with_code_sent(self, limits: PhoneLimits, now: datetime) -> PhoneLimits:
        """Return the limits of a phone after a code text at `now`."""
        times = Window(self.codes_per_day, _DAY).add(limits.code_times, now)
        return replace(limits, code_times=times)


def look_ups_left(limits: PhoneLimits, now: datetime) -> int:
    """Return how many unknown references a phone may still text before none is looked up."""
    return _UNKNOWN_REFERENCES.left(limits.unknown_reference_times, now)


def with_unknown_reference(limits: PhoneLimits, now: datetime) -> PhoneLimits:
    """Return the limits of a phone after a look-up at `now` that found no reference."""
    times = _UNKNOWN_REFERENCES.add(limits.unknown_reference_times, now)
    return replace(limits, unknown_reference_times=times)


def clamped(limits: PhoneLimits, now: datetime) -> PhoneLimits:
    """Return limits without impossibly long waits, which a clock that ran ahead leaves behind."""
    if limits == NOTHING_USED:
        return limits
    return replace(
        limits,
        locked_until=_at_most(limits.locked_until, now + MAX_LOCK),
        refused_until=_at_most(limits.refused_until, now + NOT_ME_PERIOD),
        told_until=_at_most(limits.told_until, now + _DAY),
        code_times=_until(now, limits.code_times),
        unknown_reference_times=_until(now, limits.unknown_reference_times),
    )


def _until(now: datetime, times: Sequence[datetime]) -> tuple[datetime, ...]:
    return tuple(time for time in times if time <= now)


def _at_most(moment: datetime | None, latest: datetime) -> datetime | None:
    return None if moment is None else min(moment, latest)
