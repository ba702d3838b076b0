"""The rules with numbers in them: how long, how many, how often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.channels import ChannelClass
from bot.conversation.limits import (
    MAX_CLOCK_SKEW,
    MAX_LOCK,
    Shares,
    Window,
    lock_length,
    locks_left,
)
from bot.conversation.state import NOTHING_USED, Alphabet, Closing, CodeFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.conversation.channels import Channel
    from bot.conversation.state import ChannelLimits, PhoneLimits, Token

COURTESY_PERIOD = timedelta(hours=1)
"""How long courtesy replies pause after too many in a row."""
MAX_UNKNOWN_REFERENCES_PER_HOUR = 10
"""From one phone; after that its references are not looked up, so that none can be guessed."""
UNKNOWN_REFERENCES_FOR_ALERT = 100
"""From all phones together in an hour: somebody may be guessing references from many numbers."""
GROWTH_PERIOD = timedelta(days=31)
"""How long a wrong comparison makes codes longer: 30 days and one more, so that a year has at most
twelve such periods in a row."""
CLOSED_PERIOD = timedelta(days=30)
"""How long a channel stays closed for a phone, unless it is opened before."""
MAX_WRONG_TIMES = 40
"""As many wrong comparisons are kept as the last step of growth asks for."""
_RESERVED_TENTHS = 3
_MIN_CODES_TO_RESERVE = 3
_CLASSES = (ChannelClass.TEXT, ChannelClass.KEYS, ChannelClass.FORM)
_CODE_TIMES = ("code_times", "key_code_times", "form_code_times")
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
L = TypeVar("L", bound="ChannelLimits")
_UNKNOWN_REFERENCES = Window(MAX_UNKNOWN_REFERENCES_PER_HOUR, _HOUR)


class GrowthStep(NamedTuple):
    """After so many wrong comparisons, codes have at least this length."""

    comparisons: int
    length: int


class Policy(Struct, frozen=True):
    """The operator's choices.

    The settings allow a `code_lifetime` of up to 1 hour, NIST SP 800-63B-4 §3.1.3.2 of 10 minutes.
    `attempts` are the wrong guesses allowed for a code. `codes_per_hour` limits the code texts to a
    phone in each class of channels, `codes_per_day` those in all. `reference_lifetime` is how long
    an app's reference may be texted; `form_host` is the host name of the web form, "" without one;
    `form_codes_per_day` limits the form's codes.

    The last five have no setting. `max_lock` is the longest lock; `hints_in_a_row` and
    `answers_in_a_row` limit courtesy replies: HELP and STATUS are answered more often than unclear
    texts, but not endlessly. `growth` has the steps by which the codes of a channel grow, the
    shortest first. After `failures_to_close` wrong guesses in a row a channel is closed for the
    phone (NIST SP 800-63B-4 §3.2.2: at most 100).
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
    growth: tuple[GrowthStep, ...] = (GrowthStep(8, 8), GrowthStep(MAX_WRONG_TIMES, 10))
    failures_to_close: int = 100

    def tries_left(self, limits: ChannelLimits, token: Token | None) -> int:
        """Return how many wrong guesses a phone may still make before a lock in the channel."""
        spent = max(limits.wrong_guesses, token.guesses if token else 0)
        return max(0, self.attempts - spent)

    def next_code_at(
        self, limits: PhoneLimits, of: ChannelClass = ChannelClass.TEXT
    ) -> datetime | None:
        """Return when the next code may be texted to a phone; None means at once.

        Each class of channels has a limit an hour. They share the codes of a day, of which some are
        kept for texts and for apps, so that the form, which is open to everybody, leaves them some.
        """
        index = _CLASSES.index(of)
        times = [getattr(limits, name) for name in _CODE_TIMES]
        waits = [
            Window(self.codes_per_hour, _HOUR).free_at(times[index]),
            Shares(self.codes_per_day, _DAY, self.reserves).free_at(times, index),
        ]
        return max((wait for wait in waits if wait is not None), default=None)

    @property
    def reserves(self) -> tuple[int, int, int]:
        """Return how many codes a day are kept for texts, for all keys together, and the form."""
        least = int(self.codes_per_day >= _MIN_CODES_TO_RESERVE)
        kept = max(self.codes_per_day * _RESERVED_TENTHS // 10, least)
        return kept, kept, 0

    def with_code_sent(
        self, limits: PhoneLimits, now: datetime, of: ChannelClass = ChannelClass.TEXT
    ) -> PhoneLimits:
        """Return the limits of a phone after a code text at `now`."""
        name = _CODE_TIMES[_CLASSES.index(of)]
        times = Window(self.codes_per_day, _DAY).add(getattr(limits, name), now)
        return replace(limits, **{name: times})

    def code_length(self, limits: ChannelLimits, now: datetime) -> int:
        """Return how many characters a new code of a channel has."""
        return max(self.code_format.length, self.least_length(limits, now))

    def least_length(self, limits: ChannelLimits, now: datetime) -> int:
        """Return how many characters codes must have after a channel's wrong guesses; 0: any."""
        if not limits.wrong_times:
            return 0
        wrong = _recent_comparisons(limits, now)
        return max((step.length for step in self.growth if wrong >= step.comparisons), default=0)

    def comparisons_left(self, limits: ChannelLimits, length: int, now: datetime) -> int | None:
        """Return how many wrong comparisons a code of this length has left before it is too short.

        None means as many as its tries allow.
        """
        step = next((step for step in self.growth if step.length > length), None)
        return None if step is None else max(0, step.comparisons - _recent_comparisons(limits, now))

    def with_comparisons(self, limits: L, now: datetime, wrong: int) -> L:
        """Return limits after so many wrong comparisons at `now`."""
        recent = [time for time in limits.wrong_times if time > now - GROWTH_PERIOD]
        times = (*recent, *[now] * wrong)[-MAX_WRONG_TIMES:]
        return replace(limits, wrong_times=times)

    def with_failure(self, limits: L, now: datetime, wrong: int) -> L:
        """Return limits after a wrong guess at `now`, compared with so many codes."""
        counted = self.with_comparisons(limits, now, wrong)
        return replace(counted, failures=limits.failures + 1)

    def with_lock(self, limits: L, now: datetime) -> L:
        """Return limits with a lock from `now` on: twice as long as the last one."""
        locks = locks_left(limits.locks, limits.locked_until, now)
        until = now + lock_length(locks, self.max_lock)
        return replace(limits, wrong_guesses=0, locks=locks + 1, locked_until=until)


def _recent_comparisons(limits: ChannelLimits, now: datetime) -> int:
    return sum(time > now - GROWTH_PERIOD for time in limits.wrong_times)


def with_success(limits: L) -> L:
    """Return the limits of a channel after a success in it."""
    return replace(limits, wrong_guesses=0, locks=0, failures=0)


def unlocked(limits: L, now: datetime) -> L:
    """Return the limits of a channel after its lock is lifted; codes stay as long as they are."""
    until = limits.locked_until and min(limits.locked_until, now)
    return replace(with_success(limits), locked_until=until)


def closed(limits: PhoneLimits, channel: Channel, now: datetime) -> PhoneLimits:
    """Return the limits of a phone after a channel is closed for it."""
    others = tuple(each for each in limits.closed if each.channel != channel)
    return replace(limits, closed=(*others, Closing(channel, now + CLOSED_PERIOD)))


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
        clamped_channel(limits, now),
        told_until=_at_most(limits.told_until, now + CLOSED_PERIOD),
        unknown_reference_times=_until(now, limits.unknown_reference_times),
        closed=tuple(
            Closing(each.channel, min(each.until, now + CLOSED_PERIOD)) for each in limits.closed
        ),
        **{name: _until(now, getattr(limits, name)) for name in _CODE_TIMES},
    )


def clamped_channel(limits: L, now: datetime) -> L:
    """Return the limits of a channel without impossibly long waits, as `clamped` does."""
    return replace(
        limits,
        locked_until=_at_most(limits.locked_until, now + MAX_LOCK),
        wrong_times=_until(now, limits.wrong_times),
    )


def _until(now: datetime, times: Sequence[datetime]) -> tuple[datetime, ...]:
    return tuple(time for time in times if time <= now + MAX_CLOCK_SKEW)


def _at_most(moment: datetime | None, latest: datetime) -> datetime | None:
    return None if moment is None else min(moment, latest)
