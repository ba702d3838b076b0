"""The chance that guessing verifies a phone: the most comparisons that the rules allow.

NIST SP 800-63B-4 §3.2.2 requires a limit on wrong guesses; this module derives what the limits of a
`Policy` leave to a patient attacker. A *comparison* is one guess compared with one live code. Codes
are drawn evenly, so n comparisons succeed with a chance of at most n ÷ possible codes.

A comparison belongs to the channel `text` if the guess was texted, or if the code was asked for by
text; else to the channel in which it was typed. Four bounds hold for one phone in one channel:

- **Codes.** Each code is compared at most `attempts` times. In any day a phone gets at most
  `codes_per_day` codes, and fewer that can be typed: some are kept for others (`reserves`).
- **Growth.** After 8 wrong comparisons within `GROWTH_PERIOD` (31 days) no code of 6 characters is
  compared, after 40 none of 8. So 31 days in a row have at most 8 comparisons at 6 characters, and
  40 at 6 or 8: a year, of at most 12 such periods, has 96 and 480. To reach 96, an attacker must
  begin 12 times, and keep still for 31 days before each but the first: comparisons with longer
  codes fill only the days between. `_in_a_year` tries all numbers of beginnings. A success does not
  make codes shorter, so this bound holds also if the owner verifies every day.
- **Locks.** Texts and a key are locked after `attempts` wrong guesses, a *round*: for 15 minutes,
  then twice as long each time, up to 24 hours. A first day has 7 rounds. (Waiting until a lock
  counts less costs a day for each step, as much as the longest lock.)
- **Closing.** After `failures_to_close` wrong guesses in a row the channel is closed for 30 days.

A success gives back the tries of its channel, so the last two count only if the owner does not
verify in it. They limit guesses: one that is typed, or texted with letters, is compared with one
code, a text without letters with all that were asked for by text, at most `codes_per_hour`, since
no code lives longer than an hour. The form, which needs no credential, locks no phone.
"""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.channels import ChannelClass
from bot.conversation.limits import lock_length
from bot.conversation.policy import CLOSED_PERIOD, GROWTH_PERIOD
from bot.conversation.state import Alphabet, CodeFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.conversation.policy import GrowthStep, Policy

MAX_CHANCE_PER_DAY = Fraction(1, 10_000)
"""The start-up rule: what CODES_PER_DAY x TOKEN_ATTEMPTS ÷ possible codes must not exceed."""
_SYMBOLS = {Alphabet.DIGITS: 10, Alphabet.HEX: 16}
_DAY = timedelta(days=1)
_DAYS_IN_YEAR = 365
_YEAR = _DAYS_IN_YEAR * _DAY
_HOURS_IN_DAY = 24


class Comparisons(Struct, frozen=True):
    """The most comparisons in some time: their number with codes of each length, shortest first."""

    alphabet: Alphabet
    numbers: tuple[tuple[int, int], ...]

    @property
    def total(self) -> int:
        """Return the number with codes of all lengths."""
        return sum(number for _, number in self.numbers)

    @property
    def chance(self) -> Fraction:
        """Return the greatest chance that any of them is right."""
        each = (
            chance(number, CodeFormat(length, self.alphabet)) for length, number in self.numbers
        )
        return min(Fraction(1), sum(each, Fraction(0)))


class Bounds(Struct, frozen=True):
    """The bounds in the first day of an attack, and in a year of 365 days."""

    day: Comparisons
    year: Comparisons


def possible_codes(code_format: CodeFormat) -> int:
    """Return how many codes a format allows."""
    possible: int = _SYMBOLS[code_format.alphabet] ** code_format.length
    return possible


def chance(comparisons: int, code_format: CodeFormat) -> Fraction:
    """Return the most likely that any of so many comparisons is right."""
    return min(Fraction(1), Fraction(comparisons, possible_codes(code_format)))


def chance_per_day(code_format: CodeFormat, codes_per_day: int, attempts: int) -> Fraction:
    """Return the figure of the start-up rule, for the codes of one channel."""
    return chance(codes_per_day * attempts, code_format)


def shown(figure: Fraction) -> str:
    """Return a chance as people read it, like "1.0e-04 (1 in 10,000)"."""
    return f"{float(figure):.1e} (1 in {round(1 / figure):,})"


def shortest_length(alphabet: Alphabet, codes_per_day: int, attempts: int) -> int:
    """Return the shortest length of codes that follows the start-up rule."""
    for length in count(1):
        figure = chance_per_day(CodeFormat(length, alphabet), codes_per_day, attempts)
        if figure <= MAX_CHANCE_PER_DAY:
            break
    return length


def for_phone(policy: Policy, channel: ChannelClass, *, owner_verifies: bool) -> Bounds:
    """Return the bounds for one phone by text, by one API key, or at the form.

    `owner_verifies` means that the owner of the phone verifies once a day, in the same channel, at
    the times that suit an attacker best.
    """
    a_day = _codes_in_a_day(policy, channel) * policy.attempts
    day, year = a_day, a_day * _DAYS_IN_YEAR
    if not owner_verifies and channel is not ChannelClass.FORM:
        compared = _live_codes(policy) if channel is ChannelClass.TEXT else 1
        day = min(day, compared * _guesses_within(policy, _DAY))
        year = min(year, compared * _guesses_within(policy, _YEAR))
    return Bounds(_in_a_period(policy, day), _in_a_year(policy, a_day, year))


def for_phone_in_all_channels(policy: Policy, *, owner_verifies: bool) -> Bounds:
    """Return the bounds for one phone by text, by one API key and at the form together."""
    each = [for_phone(policy, channel, owner_verifies=owner_verifies) for channel in ChannelClass]
    a_day = _codes_in_a_day(policy, ChannelClass.TEXT) * policy.attempts
    return Bounds(
        _together(policy, [bounds.day for bounds in each], a_day),
        _together(policy, [bounds.year for bounds in each], a_day * _DAYS_IN_YEAR),
    )


def at_form(policy: Policy) -> Bounds:
    """Return the bounds for codes of the web form to numbers that were not verified before.

    They are over all phones together. A code that was given back is not included.
    """
    day = policy.form_codes_per_day * policy.attempts
    alphabet, length = policy.code_format.alphabet, policy.code_format.length
    return Bounds(
        Comparisons(alphabet, ((length, day),)),
        Comparisons(alphabet, ((length, _DAYS_IN_YEAR * day),)),
    )


def _codes_in_a_day(policy: Policy, channel: ChannelClass) -> int:
    """Return how many codes a day can be compared in a channel.

    A text with letters is compared with the code of an app or the form, too, and a key can type the
    code that the form has asked for.
    """
    for_texts, for_keys, _ = policy.reserves
    an_hour = _HOURS_IN_DAY * policy.codes_per_hour
    match channel:
        case ChannelClass.TEXT:
            return min(policy.codes_per_day, 3 * an_hour)
        case ChannelClass.KEYS:
            return min(policy.codes_per_day - for_texts, 2 * an_hour)
        case ChannelClass.FORM:
            return min(policy.codes_per_day - for_texts - for_keys, an_hour)


def _live_codes(policy: Policy) -> int:
    """Return how many codes that were asked for by text can be live at once."""
    return min(policy.codes_per_hour, policy.codes_per_day)


def _guesses_within(policy: Policy, within: timedelta) -> int:
    """Return the most guesses without a success, by text or by one key."""
    closings = -(-within // CLOSED_PERIOD)
    by_locks = policy.attempts * _rounds_begun(policy, within)
    return min(by_locks, policy.failures_to_close * closings)


def _starts(policy: Policy) -> Iterator[timedelta]:
    """Return when each round can begin: at once, and after each lock."""
    start = timedelta()
    for locks in count():
        yield start
        start += lock_length(locks, policy.max_lock)


def _rounds_begun(policy: Policy, within: timedelta) -> int:
    """Return how many rounds begin before a time has passed."""
    return next(number for number, start in enumerate(_starts(policy)) if start >= within)


def _in_a_period(policy: Policy, total: int) -> Comparisons:
    """Return the comparisons within GROWTH_PERIOD: as many as may be at each length."""
    most = [step.comparisons for step in _steps(policy)]
    return _filled(policy, total, most)


def _in_a_year(policy: Policy, a_day: int, year: int) -> Comparisons:
    """Return the comparisons of a year: of all numbers of beginnings, those most likely right."""
    steps, periods = _steps(policy), -(-_YEAR // GROWTH_PERIOD)
    if not steps:
        return _filled(policy, year, [])

    def of(beginnings: int) -> Comparisons:
        still = (beginnings - 1) * GROWTH_PERIOD.days
        # Of the days between, each begun one counts: a part of a day has the codes of a whole one.
        between = a_day * (_DAYS_IN_YEAR - still + beginnings)
        meanwhile = (steps[0].comparisons - 1) * (beginnings - 1)
        most = [steps[0].comparisons * beginnings]
        most += [step.comparisons * periods for step in steps[1:]]
        return _filled(policy, min(year, between + meanwhile), most)

    return max((of(each) for each in range(1, periods + 1)), key=lambda found: found.chance)


def _steps(policy: Policy) -> list[GrowthStep]:
    return [step for step in policy.growth if step.length > policy.code_format.length]


def _filled(policy: Policy, total: int, most: list[int]) -> Comparisons:
    """Distribute comparisons to the lengths of codes, the shortest first.

    `most` is how many there may be, with codes of up to each length but the last.
    """
    lengths = [policy.code_format.length, *(step.length for step in _steps(policy))]
    numbers: list[tuple[int, int]] = []
    used = 0
    for length, limit in zip(lengths, [*most, total], strict=True):
        number = max(0, min(total, limit) - used)
        numbers.append((length, number))
        used += number
    return Comparisons(policy.code_format.alphabet, tuple(numbers))


def _together(policy: Policy, each: list[Comparisons], total: int) -> Comparisons:
    """Return the comparisons of several channels together, at most `total`."""
    sums = [
        sum(number for _, number in same) for same in zip(*(c.numbers for c in each), strict=True)
    ]
    most = [sum(sums[: place + 1]) for place in range(len(sums))]
    return _filled(policy, min(total, most[-1]), most[:-1])
