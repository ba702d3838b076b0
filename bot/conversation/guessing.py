"""The chance that guessing verifies a phone: the most comparisons that the rules allow.

NIST SP 800-63B-4 §3.2.2 requires a limit on wrong guesses; this module derives what the limits of a
`Policy` leave to a patient attacker. A *comparison* is one guess compared with one live code. Codes
are drawn evenly, so n comparisons succeed with a chance of at most n ÷ possible codes.

Two bounds hold, and the smaller one counts:

- **Codes.** Each code is compared at most `attempts` times, in both channels together. A phone gets
  at most `codes_per_day` codes in each channel. Either channel can guess at the codes of both: a
  text with the letters of an app's request is compared with its code, and the code of a reference,
  which is counted by text, can be typed into the app. A day has at most 2 x `codes_per_day` x
  `attempts` comparisons.
- **Locks.** A channel is locked after `attempts` wrong guesses, a *round*: for 15 minutes, then
  twice as long each time, up to 24 hours. A first day has 7 rounds, a first year 371. A guess that
  is typed, or texted with letters, is compared with one code. A text without letters is compared
  with all live codes that were asked for by text, at most `codes_per_hour`, since no code lives
  longer than an hour.

A success gives the tries of its channel back, and makes its next lock short again. If the owner
verifies every day, each day is like the first one, and `attempts` - 1 guesses, which do not lock
yet, come on top before each success. Rounds that end within a time t are a concave function of t,
so over a year no rhythm of successes allows more than the value of its concave hull at 24 hours.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import count, islice
from math import ceil, floor
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.limits import lock_length
from bot.conversation.state import Alphabet, CodeFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.conversation.policy import Policy

MAX_CHANCE_PER_DAY = Fraction(1, 10_000)
"""The start-up rule: what CODES_PER_DAY x TOKEN_ATTEMPTS ÷ possible codes must not exceed."""
_SYMBOLS = {Alphabet.DIGITS: 10, Alphabet.HEX: 16}
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_DAYS_IN_YEAR = 365
_HOURS_IN_DAY = 24


class Channel(StrEnum):
    """A channel with counts and locks of its own for each phone."""

    TEXT = "by text"
    WEB = "by apps and the form"


class Comparisons(Struct, frozen=True):
    """The most comparisons in the first day of an attack, and in a year of 365 days."""

    day: int
    year: int


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


def for_phone(policy: Policy, channel: Channel, *, owner_verifies: bool) -> Comparisons:
    """Return the bounds for one phone in one channel.

    `owner_verifies` means that the owner of the phone verifies once a day, in the same channel, at
    the times that suit an attacker best.
    """
    if owner_verifies:
        day, year = _guesses_around_a_success(policy), _guesses_with_daily_successes(policy)
    else:
        day = policy.attempts * _rounds_begun(policy, _DAY)
        year = policy.attempts * _rounds_begun(policy, _DAYS_IN_YEAR * _DAY)
    if channel is Channel.TEXT:
        return Comparisons(_by_text(policy, day, 1), _by_text(policy, year, _DAYS_IN_YEAR))
    by_codes = _by_codes(policy)
    return Comparisons(min(day, by_codes.day), min(year, by_codes.year))


def for_phone_in_all_channels(policy: Policy, *, owner_verifies: bool) -> Comparisons:
    """Return the bounds for one phone in both channels together, as in `for_phone`."""
    each = [for_phone(policy, channel, owner_verifies=owner_verifies) for channel in Channel]
    by_codes = _by_codes(policy)
    return Comparisons(
        min(sum(bound.day for bound in each), by_codes.day),
        min(sum(bound.year for bound in each), by_codes.year),
    )


def at_form(policy: Policy) -> Comparisons:
    """Return the bounds for codes that the web form requests, over all phones together."""
    day = policy.form_codes_per_day * policy.attempts
    return Comparisons(day, _DAYS_IN_YEAR * day)


def _by_codes(policy: Policy) -> Comparisons:
    codes = min(policy.codes_per_day, _HOURS_IN_DAY * policy.codes_per_hour)
    day = len(Channel) * codes * policy.attempts
    return Comparisons(day, _DAYS_IN_YEAR * day)


def _by_text(policy: Policy, guesses: int, days: int) -> int:
    """Return the most comparisons of guesses by text: some alone, the others with letters."""
    of_one_channel = days * _by_codes(policy).day // len(Channel)
    live = _live_codes(policy)
    alone = min(guesses, ceil(of_one_channel / live))
    with_letters = min(guesses - alone, of_one_channel)
    return min(live * alone, of_one_channel) + with_letters


def _live_codes(policy: Policy) -> int:
    """Return how many codes of one channel can be live at once."""
    return min(policy.codes_per_hour, policy.codes_per_day)


def _starts(policy: Policy) -> Iterator[timedelta]:
    """Return when each round can begin: at once, and after each lock."""
    start = timedelta()
    for locks in count():
        yield start
        start += lock_length(locks, policy.max_lock)


def _rounds_begun(policy: Policy, within: timedelta) -> int:
    """Return how many rounds begin before a time has passed."""
    return next(number for number, start in enumerate(_starts(policy)) if start >= within)


def _guesses_around_a_success(policy: Policy) -> int:
    """Return the most guesses in a day with one success in between.

    The success must come after a lock has ended; until it comes, and after that, all rounds begin
    as early as they can.
    """
    rounds = []
    for ended, success_at in enumerate(_starts(policy)):
        if success_at > _DAY:
            break
        rounds.append(ended + _rounds_begun(policy, _DAY - success_at))
    return policy.attempts * max(rounds) + policy.attempts - 1


def _guesses_with_daily_successes(policy: Policy) -> int:
    """Return the most guesses in a year with a success a day on average."""
    a_day = policy.attempts * _rounds_ended_in_a_day(policy) + policy.attempts - 1
    return floor(_DAYS_IN_YEAR * a_day)


def _rounds_ended_in_a_day(policy: Policy) -> Fraction:
    """Return how many rounds end, with their locks, in a day; of the last one, the part of it."""
    rounds = _rounds_begun(policy, _DAY) - 1
    start, following = islice(_starts(policy), rounds, rounds + 2)
    return rounds + Fraction((_DAY - start) // _SECOND, (following - start) // _SECOND)
