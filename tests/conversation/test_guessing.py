"""The bounds on wrong verifications, compared with attacks that are played through `decide()`.

Each attack goes on for a day or a year of a stopped clock that moves only to the moments that
matter. Every guess is wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.conversation import channels, guessing
from bot.conversation.channels import FORM, TEXT, Channel, ChannelClass
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.guessing import Bounds, Comparisons
from bot.conversation.inputs import (
    CodeRequested,
    CodeSubmitted,
    ReferenceLookup,
    TextReceived,
    channel_of,
)
from bot.conversation.policy import GROWTH_PERIOD, Policy
from bot.conversation.replies import Reply
from bot.conversation.state import (
    NOTHING_GUESSED,
    Alphabet,
    ChannelLimits,
    CodeFormat,
    Conversation,
    PhoneLimits,
    Token,
)
from bot.conversation.verification import Complete, Origin, RequestOutcome
from tests.conversation.person import BOT, DAY, HOUR, MINUTE, MORNING, PHONE, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from bot.conversation.inputs import Input

YEAR = 365 * DAY
KEY = channels.of_key("0123456789ab")


class CountingKeyring(Keyring):
    """Counts the comparisons of an attacker's guesses with live codes; all of them are wrong."""

    def __init__(self) -> None:
        super().__init__([SECRET])
        self.guesses_in: Channel | None = None
        self.comparisons: Counter[tuple[ChannelClass, int]] = Counter()

    def matches(self, guess: str, token: Token, bot_number: str, phone: str) -> bool:
        if self.guesses_in is None:
            return super().matches(guess, token, bot_number, phone)
        channel = TEXT if token.by_text else self.guesses_in
        self.comparisons[channels.class_of(channel), token.format.length] += not token.spent
        return False

    def in_class(self, channel: ChannelClass) -> Mapping[int, int]:
        """Return how many comparisons a channel had, by the length of the codes."""
        return {length: n for (each, length), n in self.comparisons.items() if each is channel}


@dataclass
class Attack:
    """Somebody who forges texts of a phone, and uses an app that verifies it, and the form."""

    policy: Policy
    now: datetime = MORNING
    keyring: CountingKeyring = field(default_factory=CountingKeyring)
    limits: PhoneLimits = field(default_factory=PhoneLimits)
    channels: dict[Channel, ChannelLimits] = field(default_factory=dict)
    conversation: Conversation = field(default_factory=lambda: Conversation(BOT, PHONE))
    inputs: int = 0

    def handle(self, incoming: Input) -> Decision:
        self.inputs += 1
        channel = channel_of(incoming)
        decision = decide(
            self.conversation,
            self.limits,
            incoming,
            now=self.now,
            policy=self.policy,
            keyring=self.keyring,
            new_token_id=f"{self.inputs:032x}",
            channel_limits=self.channels.get(channel, NOTHING_GUESSED),
        )
        # As the database does, keep only the codes of verifications that still matter.
        relevant = [
            token
            for token in decision.conversation.verification_tokens
            if not token.spent and token.expires_at > self.now
        ]
        self.conversation = replace(decision.conversation, verification_tokens=tuple(relevant))
        self.limits = decision.limits
        if channel != TEXT:
            self.channels[channel] = decision.channel_limits
        return decision

    def typed_code(self, channel: Channel) -> str | None:
        """Ask for a code at the app or the form; return its verification, or None if refused."""
        verification = f"{channel}-{self.inputs}"
        origin = Origin.FORM if channel == FORM else Origin.APP
        answer = self.handle(CodeRequested(verification, origin, Complete.REPLY, channel)).answer
        assert answer is not None
        return verification if answer.outcome is RequestOutcome.DONE else None

    def reference_code(self) -> str | None:
        """Text a reference of the app; return its verification, or None if that is refused."""
        verification = f"reference-{self.inputs}"
        reference = ReferenceLookup(verification, available=True, begun_here=False)
        message = self.handle(TextReceived("VERIFY 7Q2K42", reference=reference)).message
        is_code = message is not None and message.reply is Reply.CODE
        return verification if is_code else None

    def token_of(self, verification: str) -> Token | None:
        tokens = self.conversation.verification_tokens
        return next((each for each in tokens if each.verification == verification), None)

    def guess_by_text(self, times: int, token: Token | None, letters: str = "") -> None:
        """Text guesses as long as the code of a token, with which they may be compared."""
        self.keyring.guesses_in = TEXT
        for _ in range(times):
            if token is not None:
                self.handle(TextReceived(f"{'1' * token.format.length} {letters}"))
        self.keyring.guesses_in = None

    def guess_with_letters(self, times: int, channel: Channel = KEY) -> bool:
        """Text guesses at a new code of an app with its letters; return whether one was given."""
        verification = self.typed_code(channel)
        token = self.token_of(verification or "")
        if verification is None or token is None:
            return False
        letters = self.keyring.letters(verification, token.letters_index)
        self.guess_by_text(times, token, letters)
        return True

    def guess_at_references(self, times: int, references: int = 1) -> bool:
        """Text guesses at the codes of new references; return whether one was given."""
        begun = [found for _ in range(references) if (found := self.reference_code())]
        if begun:
            self.guess_by_text(times, self.token_of(begun[0]))
        return bool(begun)

    def type_guesses(self, channel: Channel, times: int, *, for_reference: bool = False) -> bool:
        """Type guesses for a new code; return whether one was given."""
        verification = self.reference_code() if for_reference else self.typed_code(channel)
        if verification is None:
            return False
        self.keyring.guesses_in = channel
        for _ in range(times):
            token = self.token_of(verification)
            if token is not None:
                length = token.format.length
                self.handle(CodeSubmitted(verification, "1" * length, channel))
        self.keyring.guesses_in = None
        return True

    def owner_verifies(self, channel: Channel) -> None:
        """Let the owner verify in a channel, if a code is given."""
        if channel == TEXT:
            self.handle(TextReceived("VERIFY"))
            token = self.conversation.token
            if token is not None and not token.spent:
                self.handle(TextReceived(self.keyring.code(token, BOT, PHONE)))
            return
        token = self.token_of(self.typed_code(channel) or "")
        if token is not None:
            code = self.keyring.code(token, BOT, PHONE)
            self.handle(CodeSubmitted(token.verification or "", code, channel))

    def guess(self, channel: Channel) -> bool:
        """Guess at one more code in a channel; return whether that could be done."""
        if self.locked_until(channel) > self.now:
            return False
        if channel != TEXT:
            return self.type_guesses(channel, self.policy.attempts)
        return self.guess_at_references(self.policy.attempts) or any(
            self.guess_with_letters(self.policy.attempts, each) for each in (KEY, FORM)
        )

    def locked_until(self, channel: Channel) -> datetime:
        counts = self.limits if channel == TEXT else self.channels.get(channel, NOTHING_GUESSED)
        ends = counts.locked_until, self.limits.closed_until(channel)
        return max(end or self.now for end in ends)

    def next_try(self, channel: Channel) -> datetime:
        """Return when a lock has ended, or a code may be free; at least a moment later."""
        locked_until = self.locked_until(channel)
        if locked_until > self.now:
            return locked_until
        classes = list(ChannelClass) if channel == TEXT else [channels.class_of(channel)]
        free = [self.policy.next_code_at(self.limits, each) or self.now for each in classes]
        return max(min(free), self.now + MINUTE)


def attack(
    policy: Policy, channel: Channel, lasts: timedelta, beginnings: int, *, owner: bool = False
) -> CountingKeyring:
    """Guess in one channel as soon as it can be done, in several parts of a time.

    Between two parts nothing is guessed until the wrong comparisons are forgotten. With `owner`,
    the owner verifies every day.
    """
    attack = Attack(policy)
    part = (lasts - (beginnings - 1) * GROWTH_PERIOD) / beginnings
    for _ in range(beginnings):
        end, verifies_at = attack.now + part, attack.now
        while attack.now < end:
            if owner and attack.now >= verifies_at:
                attack.owner_verifies(channel)
                verifies_at = attack.now + DAY
            if not attack.guess(channel):
                attack.now = min(end, attack.next_try(channel))
        attack.now = end + GROWTH_PERIOD
    return attack.keyring


def most(policy: Policy, channel: Channel, *, owner: bool = False) -> Bounds:
    return guessing.for_phone(policy, channels.class_of(channel), owner_verifies=owner)


def figure(keyring: CountingKeyring, channel: Channel) -> Fraction:
    """Return the chance that any of the comparisons in a channel would have been right."""
    numbers = keyring.in_class(channels.class_of(channel))
    return Comparisons(Alphabet.DIGITS, tuple(numbers.items())).chance


def exceeded(keyring: CountingKeyring, channel: ChannelClass, bound: Comparisons) -> list[int]:
    """Return the lengths up to which a channel had more comparisons than its bound."""
    had, found, so_far, allowed = keyring.in_class(channel), [], 0, 0
    for length, number in bound.numbers:
        so_far += had.get(length, 0)
        allowed += number
        if so_far > allowed:
            found.append(length)
    return found


def without_the_longest(bound: Comparisons) -> Comparisons:
    """Return a bound without its longest codes.

    The bound of a year is that of the most likely attack: another one has more of the longest.
    """
    return replace(bound, numbers=bound.numbers[:-1])


POLICIES = {
    "defaults": Policy(),
    "one attempt": Policy(attempts=1),
    "three codes a day": Policy(codes_per_day=3),
    "one code an hour": Policy(codes_per_hour=1, codes_per_day=100),
    "eight digits": Policy(code_format=CodeFormat(8, Alphabet.DIGITS)),
    "ten digits": Policy(code_format=CodeFormat(10, Alphabet.DIGITS)),
}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
each_channel = pytest.mark.parametrize("channel", [TEXT, KEY, FORM])
TARGET = Fraction(1, 10_000)
"""The chance in a year, for one phone in one channel."""


def test_the_bounds_at_the_defaults_are_the_documented_ones() -> None:
    def numbers(bounds: Bounds) -> list[list[int]]:
        return [[number for _, number in each.numbers] for each in (bounds.day, bounds.year)]

    assert numbers(most(Policy(), TEXT)) == [[8, 32, 10], [96, 384, 1_397]]
    assert numbers(most(Policy(), KEY)) == [[8, 27, 0], [96, 384, 820]]
    assert numbers(most(Policy(), KEY, owner=True)) == [[8, 27, 0], [96, 384, 857]]
    assert numbers(most(Policy(), FORM)) == [[8, 12, 0], [96, 384, 317]]
    assert guessing.at_form(Policy()).year.total == 912_500


@each_channel
@pytest.mark.parametrize("owner", [False, True])
def test_the_chance_in_a_year_is_at_most_one_in_ten_thousand(
    channel: Channel, *, owner: bool
) -> None:
    assert most(Policy(), channel, owner=owner).year.chance <= TARGET


@each_policy
@each_channel
def test_a_patient_attacker_exceeds_no_bound(policy: Policy, channel: Channel) -> None:
    bounds, class_ = most(policy, channel), channels.class_of(channel)
    assert not exceeded(attack(policy, channel, DAY, 1), class_, bounds.day)
    for beginnings in (1, 12):
        keyring = attack(policy, channel, YEAR, beginnings)
        assert not exceeded(keyring, class_, without_the_longest(bounds.year))
        assert figure(keyring, channel) <= bounds.year.chance


@each_channel
def test_a_patient_attacker_reaches_the_bounds_at_the_defaults(channel: Channel) -> None:
    bounds = most(Policy(), channel)
    for lasts, beginnings, bound in ((DAY, 1, bounds.day), (YEAR, 12, bounds.year)):
        reached = figure(attack(Policy(), channel, lasts, beginnings), channel)
        assert Fraction(98, 100) * bound.chance <= reached <= bound.chance


@each_channel
def test_an_owner_who_verifies_every_day_changes_little(channel: Channel) -> None:
    bounds, class_ = most(Policy(), channel, owner=True), channels.class_of(channel)
    for beginnings in (1, 12):
        keyring = attack(Policy(), channel, YEAR, beginnings, owner=True)
        assert not exceeded(keyring, class_, without_the_longest(bounds.year))
        assert figure(keyring, channel) <= bounds.year.chance <= TARGET


def test_without_a_success_a_key_has_a_hundred_guesses_in_thirty_days() -> None:
    policy = Policy(growth=())
    bounds = guessing.for_phone(policy, ChannelClass.KEYS, owner_verifies=False)
    assert bounds.year.total == 1_300
    keyring = attack(policy, KEY, YEAR, 1)
    assert not exceeded(keyring, ChannelClass.KEYS, bounds.year)
    assert keyring.comparisons.total() >= 800


moves = st.sampled_from(
    [
        lambda attack: attack.typed_code(KEY),
        lambda attack: attack.typed_code(FORM),
        Attack.reference_code,
        lambda attack: attack.handle(TextReceived("VERIFY")),
        lambda attack: attack.guess_by_text(1, attack.conversation.token),
        lambda attack: attack.guess_by_text(5, attack.conversation.token),
        lambda attack: attack.guess_at_references(2, 5),
        lambda attack: attack.guess_with_letters(1),
        lambda attack: attack.guess_with_letters(5, FORM),
        lambda attack: attack.type_guesses(KEY, 1),
        lambda attack: attack.type_guesses(KEY, 5),
        lambda attack: attack.type_guesses(FORM, 5),
        lambda attack: attack.type_guesses(KEY, 5, for_reference=True),
        *(
            lambda attack, channel=channel: setattr(attack, "now", attack.next_try(channel))
            for channel in (TEXT, KEY, FORM)
        ),
    ]
)
policies = st.builds(
    Policy,
    attempts=st.integers(1, 5),
    codes_per_hour=st.integers(1, 5),
    codes_per_day=st.integers(1, 10),
    code_lifetime=st.sampled_from([MINUTE, 10 * MINUTE, HOUR]),
)


@settings(max_examples=60)
@given(policies, st.lists(moves, max_size=60))
def test_no_attack_of_a_day_exceeds_the_bounds(
    policy: Policy, script: list[Callable[[Attack], object]]
) -> None:
    attack = Attack(policy)
    for move in script:
        if attack.now < MORNING + DAY:
            move(attack)

    keyring = attack.keyring
    together = guessing.for_phone_in_all_channels(policy, owner_verifies=False).day
    assert keyring.comparisons.total() <= together.total
    for channel in ChannelClass:
        bound = guessing.for_phone(policy, channel, owner_verifies=False).day
        assert not exceeded(keyring, channel, bound)


def test_the_chance_is_that_of_all_comparisons_together_and_at_most_one() -> None:
    six_digits, four_hex = CodeFormat(6, Alphabet.DIGITS), CodeFormat(4, Alphabet.HEX)
    assert guessing.possible_codes(six_digits) == 1_000_000
    assert guessing.possible_codes(four_hex) == 65_536
    assert guessing.chance(18_550, six_digits) == Fraction(18_550, 1_000_000)
    assert guessing.chance(100_000, four_hex) == 1
    mixed = Comparisons(Alphabet.DIGITS, ((6, 96), (8, 384)))
    assert mixed.chance == Fraction(96, 10**6) + Fraction(384, 10**8)
    assert Comparisons(Alphabet.HEX, ((4, 60_000), (4, 60_000))).chance == 1


def test_the_figure_of_the_start_up_rule_is_shown_as_a_number_and_as_odds() -> None:
    figure = guessing.chance_per_day(CodeFormat(6, Alphabet.DIGITS), codes_per_day=10, attempts=5)
    assert figure < guessing.MAX_CHANCE_PER_DAY
    assert guessing.shown(figure) == "5.0e-05 (1 in 20,000)"


@pytest.mark.parametrize(
    ("alphabet", "codes_per_day", "attempts", "length"),
    [
        (Alphabet.DIGITS, 10, 5, 6),
        (Alphabet.DIGITS, 10, 10, 6),
        (Alphabet.DIGITS, 1, 1, 4),
        (Alphabet.DIGITS, 100, 10, 7),
        (Alphabet.HEX, 10, 5, 5),
    ],
)
def test_the_shortest_length_is_the_first_that_follows_the_start_up_rule(
    alphabet: Alphabet, codes_per_day: int, attempts: int, length: int
) -> None:
    assert guessing.shortest_length(alphabet, codes_per_day, attempts) == length
