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

from bot.conversation import guessing
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.guessing import Channel, Comparisons
from bot.conversation.inputs import CodeRequested, CodeSubmitted, ReferenceLookup, TextReceived
from bot.conversation.limits import lock_length
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import Alphabet, CodeFormat, Conversation, PhoneLimits, Token
from bot.conversation.verification import Complete, Origin, RequestOutcome
from tests.conversation.person import BOT, DAY, HOUR, MINUTE, MORNING, PHONE, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from bot.conversation.inputs import Input

YEAR = 365 * DAY
GUESS = "123456"


class CountingKeyring(Keyring):
    """Counts the comparisons of an attacker's guesses with live codes; all of them are wrong."""

    def __init__(self) -> None:
        super().__init__([SECRET])
        self.guesses_by: Channel | None = None
        self.comparisons: Counter[Channel] = Counter()

    def matches(self, guess: str, token: Token, bot_number: str, phone: str) -> bool:
        if self.guesses_by is None:
            return super().matches(guess, token, bot_number, phone)
        self.comparisons[self.guesses_by] += not token.spent
        return False


@dataclass
class Attack:
    """Somebody who forges texts of a phone, and uses an app that verifies it, as the form does."""

    policy: Policy
    lasts: timedelta
    now: datetime = MORNING
    keyring: CountingKeyring = field(default_factory=CountingKeyring)
    limits: PhoneLimits = field(default_factory=PhoneLimits)
    web_limits: PhoneLimits = field(default_factory=PhoneLimits)
    conversation: Conversation = field(default_factory=lambda: Conversation(BOT, PHONE))
    inputs: int = 0

    @property
    def over(self) -> bool:
        return self.now >= MORNING + self.lasts

    def handle(self, incoming: Input) -> Decision:
        self.inputs += 1
        decision = decide(
            self.conversation,
            self.limits,
            incoming,
            now=self.now,
            policy=self.policy,
            keyring=self.keyring,
            new_token_id=f"{self.inputs:032x}",
            web_limits=self.web_limits,
        )
        # As the database does, keep only the codes of verifications that still matter.
        relevant = [
            token
            for token in decision.conversation.verification_tokens
            if not token.spent and token.expires_at > self.now
        ]
        self.conversation = replace(decision.conversation, verification_tokens=tuple(relevant))
        self.limits, self.web_limits = decision.limits, decision.web_limits
        return decision

    def app_code(self) -> str | None:
        """Ask for a code at the app; return its verification, or None if that is refused."""
        verification = f"app-{self.inputs}"
        answer = self.handle(CodeRequested(verification, Origin.APP, Complete.REPLY)).answer
        assert answer is not None
        return verification if answer.outcome is RequestOutcome.DONE else None

    def reference_code(self) -> str | None:
        """Text a reference of the app; return its verification, or None if that is refused."""
        verification = f"reference-{self.inputs}"
        reference = ReferenceLookup(verification, available=True, begun_here=False)
        message = self.handle(TextReceived("VERIFY 7Q2K42", reference=reference)).message
        is_code = message is not None and message.reply is Reply.CODE
        return verification if is_code else None

    def guess_by_text(self, times: int, letters: str = "") -> None:
        self.keyring.guesses_by = Channel.TEXT
        for _ in range(times):
            self.handle(TextReceived(f"{GUESS} {letters}"))
        self.keyring.guesses_by = None

    def round_by_text(self, spared: int) -> bool:
        """Guess until the phone is locked; return whether there was a code to guess at.

        As many codes of references as can be live are requested, except those that are spared.
        """
        needed = min(self.policy.codes_per_hour, self.policy.codes_per_day) - spared
        free_at = codes_free_at(self.policy, self.limits.code_times, needed + spared)
        if free_at is None or free_at <= self.now:
            for _ in range(needed):
                assert self.reference_code()
            self.guess_by_text(self.policy.attempts)
            return True
        return self.guess_with_letters(self.policy.attempts)

    def guess_with_letters(self, times: int) -> bool:
        """Text guesses at a new code of the app with its letters; return whether one was given."""
        verification = self.app_code()
        if verification is None:
            return False
        (token,) = (
            each
            for each in self.conversation.verification_tokens
            if each.verification == verification
        )
        self.guess_by_text(times, self.keyring.letters(verification, token.letters_index))
        return True

    def guess_at_app(self, times: int) -> bool:
        """Type guesses for a new code, however it was requested; return whether one was given."""
        verification = self.app_code() or self.reference_code()
        if verification is None:
            return False
        self.keyring.guesses_by = Channel.WEB
        for _ in range(times):
            self.handle(CodeSubmitted(verification, GUESS))
        self.keyring.guesses_by = None
        return True

    def wait_for_a_code(self) -> None:
        """Wait until a code may be requested in either way."""
        ends = [self.policy.next_code_at(each) for each in (self.limits, self.web_limits)]
        self.now = max(self.now, min(end or self.now for end in ends))

    def owner_texts_the_code(self) -> None:
        token = self.conversation.token
        assert token is not None
        message = self.handle(TextReceived(self.keyring.code(token, BOT, PHONE))).message
        assert message is not None
        assert message.reply is Reply.SUCCESS

    def owner_types_the_code(self) -> None:
        verification = self.app_code() or self.reference_code()
        (token,) = (
            each
            for each in self.conversation.verification_tokens
            if each.verification == verification
        )
        code = self.keyring.code(token, BOT, PHONE)
        answer = self.handle(CodeSubmitted(token.verification or "", code)).answer
        assert answer is not None
        assert answer.outcome is RequestOutcome.RIGHT

    def wait(self, moment: datetime | None) -> None:
        self.now = max(self.now, moment or self.now)


def attack_by_text(policy: Policy, lasts: timedelta, successes: Sequence[timedelta] = ()) -> int:
    """Guess by text as soon as a lock ends, but not if it would keep the owner from verifying.

    A round is compared with as many codes of references as can be live, if they are free, else with
    one code of the app.
    """
    attack = Attack(policy, lasts)
    for success in [*successes, None]:
        end = MORNING + (lasts if success is None else success)
        while attack.now < end:
            lock = lock_length(attack.limits.locks, policy.max_lock)
            if success is not None and end < attack.now + lock:
                break
            if attack.round_by_text(spared=1 if success else 0):
                attack.wait(attack.limits.locked_until)
            else:
                attack.wait_for_a_code()
        if success is not None:
            attack.now = end
            attack.handle(TextReceived("VERIFY"))
            attack.guess_by_text(policy.attempts - 1)
            attack.owner_texts_the_code()
    return attack.keyring.comparisons[Channel.TEXT]


def codes_free_at(policy: Policy, times: Sequence[datetime], needed: int) -> datetime | None:
    """Return when so many codes, at most those of an hour, may be texted at once."""
    ends = [times[-1] + HOUR] if times else []
    filling = policy.codes_per_day - needed + 1
    if len(times) >= filling:
        ends.append(times[-filling] + DAY)
    return max(ends, default=None)


def attack_at_app(policy: Policy, lasts: timedelta, successes: Sequence[timedelta] = ()) -> int:
    """Type guesses as soon as a lock ends, but not if it would keep the owner from verifying."""
    attack = Attack(policy, lasts)
    for success in [*successes, None]:
        end = MORNING + (lasts if success is None else success)
        while attack.now < end:
            if success is not None and end < attack.now + next_lock(attack):
                break
            if attack.guess_at_app(policy.attempts):
                attack.wait(attack.web_limits.locked_until)
            else:
                attack.wait_for_a_code()
        if success is not None:
            attack.now = end
            attack.guess_at_app(policy.attempts - 1)
            attack.owner_types_the_code()
    return attack.keyring.comparisons[Channel.WEB]


def next_lock(attack: Attack) -> timedelta:
    return lock_length(attack.web_limits.locks, attack.policy.max_lock)


def most(policy: Policy, channel: Channel, *, owner_verifies: bool = False) -> Comparisons:
    return guessing.for_phone(policy, channel, owner_verifies=owner_verifies)


POLICIES = {
    "defaults": Policy(),
    "one attempt": Policy(attempts=1),
    "one code a day": Policy(codes_per_day=1),
    "one code an hour": Policy(codes_per_hour=1, codes_per_day=100),
}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
MARGIN = Fraction(2, 100)
"""Codes are requested at whole rounds, so that a bound is not reached to the last comparison."""


def assert_reached(comparisons: int, bound: int) -> None:
    assert bound * (1 - MARGIN) <= comparisons <= bound


def test_the_bounds_at_the_defaults_are_the_documented_ones() -> None:
    assert most(Policy(), Channel.TEXT) == Comparisons(75, 9_275)
    assert most(Policy(), Channel.TEXT, owner_verifies=True) == Comparisons(100, 27_951)
    assert most(Policy(), Channel.WEB) == Comparisons(35, 1_855)
    assert most(Policy(), Channel.WEB, owner_verifies=True) == Comparisons(64, 13_351)
    assert guessing.for_phone_in_all_channels(Policy(), owner_verifies=False) == (
        Comparisons(100, 11_130)
    )
    assert guessing.at_form(Policy()) == Comparisons(2_500, 912_500)


@each_policy
def test_a_patient_attacker_by_text_reaches_the_bounds(policy: Policy) -> None:
    bounds = most(policy, Channel.TEXT)
    assert attack_by_text(policy, DAY) == bounds.day
    assert_reached(attack_by_text(policy, YEAR), bounds.year)


@each_policy
def test_a_patient_attacker_at_an_app_reaches_the_bounds(policy: Policy) -> None:
    bounds = most(policy, Channel.WEB)
    assert attack_at_app(policy, DAY) == bounds.day
    assert_reached(attack_at_app(policy, YEAR), bounds.year)


def test_an_owner_who_texts_the_code_every_day_gives_an_attacker_by_text_the_tries_back() -> None:
    policy, bounds = Policy(), most(Policy(), Channel.TEXT, owner_verifies=True)
    lock_ends = 465 * MINUTE
    day = attack_by_text(policy, DAY, [lock_ends])
    assert bounds.day * Fraction(3, 4) <= day <= bounds.day
    in_turn = [day * DAY + lock_ends * (day % 2) for day in range(1, 365)]
    year = attack_by_text(policy, YEAR, in_turn)
    assert bounds.year * Fraction(3, 4) <= year <= bounds.year


def test_an_owner_who_types_the_code_every_day_gives_an_attacker_at_an_app_the_tries_back() -> None:
    policy, bounds = Policy(), most(Policy(), Channel.WEB, owner_verifies=True)
    lock_ends = 465 * MINUTE
    assert attack_at_app(policy, DAY, [lock_ends]) == bounds.day
    # Each second day later: a seventh lock has then ended before every other success.
    in_turn = [day * DAY + lock_ends * (day % 2) for day in range(1, 365)]
    assert_reached(attack_at_app(policy, YEAR, in_turn), bounds.year)


def test_an_owner_who_verifies_at_the_same_time_every_day_gives_less_back() -> None:
    every_day = [day * DAY for day in range(1, 365)]
    bounds = most(Policy(), Channel.WEB, owner_verifies=True)
    assert attack_at_app(Policy(), YEAR, every_day) == 364 * 34 + 35 < bounds.year


moves = st.sampled_from(
    [
        Attack.app_code,
        Attack.reference_code,
        lambda attack: attack.handle(TextReceived("VERIFY")),
        lambda attack: attack.guess_by_text(1),
        lambda attack: attack.guess_by_text(5),
        lambda attack: attack.guess_with_letters(1),
        lambda attack: attack.guess_with_letters(5),
        lambda attack: attack.guess_at_app(1),
        lambda attack: attack.guess_at_app(5),
        lambda attack: attack.wait(attack.limits.locked_until),
        lambda attack: attack.wait(attack.web_limits.locked_until),
        Attack.wait_for_a_code,
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
    attack = Attack(policy, DAY)
    for move in script:
        if not attack.over:
            move(attack)

    together = guessing.for_phone_in_all_channels(policy, owner_verifies=False)
    assert attack.keyring.comparisons.total() <= together.day
    for channel in Channel:
        assert attack.keyring.comparisons[channel] <= most(policy, channel).day


def test_the_chance_is_that_of_all_comparisons_together_and_at_most_one() -> None:
    six_digits, four_hex = CodeFormat(6, Alphabet.DIGITS), CodeFormat(4, Alphabet.HEX)
    assert guessing.possible_codes(six_digits) == 1_000_000
    assert guessing.possible_codes(four_hex) == 65_536
    assert guessing.chance(18_550, six_digits) == Fraction(18_550, 1_000_000)
    assert guessing.chance(100_000, four_hex) == 1


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
