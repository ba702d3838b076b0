from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.conversation import decision
from bot.conversation.answering import TEXT_LIFETIME
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.inputs import (
    AutoReply,
    Cancelled,
    CodeRequested,
    CodeSubmitted,
    DeliveryFailed,
    Input,
    OptedOutAtCarrier,
    ReferenceLookup,
    ResendRequested,
    Shape,
    TextReceived,
    TimePassed,
)
from bot.conversation.intents import STOP_WORDS
from bot.conversation.machine import Action, Event
from bot.conversation.policy import Policy
from bot.conversation.replies import CODE_PLACEHOLDER, GSM7_BASIC, SEGMENT, Reply
from bot.conversation.state import (
    Alphabet,
    CodeDelivery,
    CodeFormat,
    Conversation,
    PhoneLimits,
    State,
    Token,
)
from bot.conversation.turn import ACTIONS, Cancel, Message, Turn
from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

BOT, OTHER_BOT = "+13125550100", "+13125550101"
PHONE = "+13125550199"
SECRET, OTHER_SECRET = "s" * 32, "t" * 32
MORNING = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
INSTANT, SECOND, MINUTE, HOUR, DAY = (
    timedelta(microseconds=1),
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
RIGHT, WRONG = "<the right code>", "<a wrong code>"
"""Stand for a code in a script, where the code is not known before the script runs."""
HINTS = {Reply.HINT, Reply.HINT_CODE}

Step = str | timedelta | Input
"""What a script is made of: something said, something that happened, or time that passes."""


def but_for_its_times(person: Person, before: Decision) -> Conversation:
    """Take a conversation as it was, and the times of STOP and START as they are now."""
    after = person.conversations[BOT]
    times = {"opted_out_at": after.opted_out_at, "opted_in_at": after.opted_in_at}
    return replace(before.conversation, **times)


def fresh_conversations() -> dict[str, Conversation]:
    return {number: Conversation(number, PHONE) for number in (BOT, OTHER_BOT)}


@dataclass
class Person:
    """A person with one phone and a clock, texting the bot."""

    policy: Policy = field(default_factory=Policy)
    keyring: Keyring = field(default_factory=lambda: Keyring([SECRET]))
    now: datetime = MORNING
    limits: PhoneLimits = field(default_factory=PhoneLimits)
    web_limits: PhoneLimits = field(default_factory=PhoneLimits)
    conversations: dict[str, Conversation] = field(default_factory=fresh_conversations)
    decided: list[Decision] = field(default_factory=list)

    def texts(
        self,
        text: str,
        *,
        to: str = BOT,
        shape: Shape = Shape.PLAIN,
        answered: AutoReply | None = None,
    ) -> Reply | None:
        return self.meets(TextReceived(text, shape, answered), at=to)

    def meets(self, happened: Input, *, at: str = BOT) -> Reply | None:
        decision = decide(
            self.conversations[at],
            self.limits,
            happened,
            now=self.now,
            policy=self.policy,
            keyring=self.keyring,
            fresh_id=f"{len(self.decided):032x}",
            web_limits=self.web_limits,
        )
        self.conversations[at], self.limits = decision.conversation, decision.limits
        self.web_limits = decision.web_limits
        self.decided.append(decision)
        return decision.message.reply if decision.message else None

    def plays(self, *script: Step, at: str = BOT) -> Reply | None:
        """Go through a script and give the reply to its last step."""
        reply = None
        for step in script:
            match step:
                case timedelta():
                    self.now += step
                case str():
                    reply = self.texts(self.spelled(step, at=at), to=at)
                case _:
                    reply = self.meets(step, at=at)
        return reply

    def spelled(self, text: str, *, at: str = BOT) -> str:
        if text not in {RIGHT, WRONG}:
            return text
        if self.conversations[at].token is None:
            return "123456"
        return self.code(at=at) if text == RIGHT else self.wrong_code(at=at)

    def state(self, at: str = BOT) -> State:
        return self.conversations[at].state

    def token(self, at: str = BOT) -> Token:
        token = self.conversations[at].token
        assert token is not None
        return token

    def code(self, *, at: str = BOT) -> str:
        return self.keyring.code(self.token(at), at, PHONE)

    def wrong_code(self, *, at: str = BOT) -> str:
        code = self.code(at=at)
        return ("1" if code[0] == "0" else "0") + code[1:]

    def verified_at(self, at: str = BOT) -> datetime | None:
        return self.conversations[at].verified_at

    def last(self) -> Decision:
        return self.decided[-1]

    def message(self) -> Message:
        message = self.last().message
        assert message is not None
        return message

    def changes_token(self, **facts: object) -> None:
        token = replace(self.token(), **facts)
        self.conversations[BOT] = replace(self.conversations[BOT], token=token)


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def awaiting() -> Person:
    someone = Person()
    assert someone.texts("VERIFY") is Reply.CODE
    return someone


@pytest.fixture
def verified() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", RIGHT) is Reply.SUCCESS
    return someone


@pytest.fixture
def locked() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    return someone


@pytest.fixture
def opted_out() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", "STOP") is Reply.STOPPED
    return someone


IN_STATE: dict[State, tuple[Step, ...]] = {
    State.IDLE: (),
    State.AWAITING_CODE: ("VERIFY",),
    State.VERIFIED: ("VERIFY", RIGHT),
    State.LOCKED: ("VERIFY", *[WRONG] * 5),
    State.OPTED_OUT: ("VERIFY", "STOP"),
}
REACHABLE = [state for state in State if state is not State.OPTED_OUT]


def someone_in(state: State) -> Person:
    someone = Person()
    someone.plays(*IN_STATE[state])
    assert someone.state() is state
    return someone


# The main way


def test_a_person_who_texts_verify_and_replies_with_the_code_is_verified(person: Person) -> None:
    assert person.texts("VERIFY") is Reply.CODE
    assert person.state() is State.AWAITING_CODE

    person.now += MINUTE

    assert person.texts(person.code()) is Reply.SUCCESS
    assert person.state() is State.VERIFIED
    assert person.verified_at() == person.now == MORNING + MINUTE
    assert person.token().used_at == person.now


def test_a_new_token_is_as_the_policy_says(person: Person) -> None:
    person.policy = Policy(
        code_format=CodeFormat(8, Alphabet.HEX),
        code_lifetime=timedelta(minutes=7),
        resend_cooldown=timedelta(seconds=45),
    )
    person.plays("hello", "VERIFY")

    assert person.token() == Token(
        id=f"{1:032x}",
        key_id=person.keyring.signing_key_id,
        format=CodeFormat(8, Alphabet.HEX),
        issued_at=MORNING,
        expires_at=MORNING + timedelta(minutes=7),
        resend_after=MORNING + timedelta(seconds=45),
    )


def test_the_code_text_carries_its_token_and_never_the_code(awaiting: Person) -> None:
    message = awaiting.message()

    assert message.token == awaiting.token()
    assert CODE_PLACEHOLDER in message.body
    assert awaiting.code() not in message.body
    assert awaiting.code() not in repr(awaiting.last())


def test_a_code_text_is_not_to_be_sent_after_the_code_has_expired(awaiting: Person) -> None:
    assert awaiting.message().send_by == MORNING + timedelta(minutes=10)
    assert awaiting.plays(MINUTE, "RESEND") is Reply.CODE
    assert awaiting.message().send_by == MORNING + timedelta(minutes=10)


@pytest.mark.parametrize("text", ["hello", "HELP", "STATUS", "STOP", "NOT ME", "123456"])
def test_a_text_without_a_code_is_worth_sending_for_a_quarter_of_an_hour(
    person: Person, text: str
) -> None:
    person.texts(text)

    assert person.message().token is None
    assert person.message().send_by == MORNING + TEXT_LIFETIME == MORNING + timedelta(minutes=15)


def test_replies_name_the_app_and_whom_to_ask() -> None:
    someone = Person(Policy(app_name="Harbor", support_contact="help@example.com"))

    someone.texts("HELP")

    assert "Harbor" in someone.message().body
    assert "help@example.com" in someone.message().body


def test_success_cancels_the_code_texts_still_queued(verified: Person) -> None:
    assert verified.last().cancel is Cancel.CODES


def test_texts_that_end_no_code_cancel_nothing(awaiting: Person) -> None:
    for text in ("HELP", "STATUS", "hello", awaiting.wrong_code(), "12345"):
        awaiting.texts(text)
        assert awaiting.last().cancel is Cancel.NOTHING


# Asking again


@pytest.mark.parametrize("text", ["VERIFY", "RESEND", "verify me", "send it again"])
def test_asking_again_while_a_code_lives_sends_the_same_code(awaiting: Person, text: str) -> None:
    before, code = awaiting.token(), awaiting.code()

    assert awaiting.plays(4 * MINUTE, text) is Reply.CODE
    assert awaiting.message().token == awaiting.token()
    assert awaiting.code() == code
    assert awaiting.token() == replace(before, resend_after=awaiting.now + 30 * SECOND)
    assert "within 6 minutes" in awaiting.message().body


@pytest.mark.parametrize("text", ["VERIFY", "RESEND"])
def test_asking_again_within_the_cooldown_is_met_with_silence(awaiting: Person, text: str) -> None:
    before = awaiting.last()

    assert awaiting.plays(30 * SECOND - INSTANT, text) is None
    assert awaiting.last() == Decision(before.conversation, before.limits)
    assert awaiting.plays(INSTANT, text) is Reply.CODE


def test_every_code_text_starts_the_cooldown_anew(awaiting: Person) -> None:
    assert awaiting.plays(30 * SECOND, "RESEND") is Reply.CODE
    assert awaiting.plays(29 * SECOND, "RESEND") is None
    assert awaiting.plays(SECOND, "RESEND") is Reply.CODE


def test_without_a_cooldown_every_asking_is_answered_at_once() -> None:
    someone = Person(Policy(resend_cooldown=timedelta()))

    assert [someone.texts("VERIFY"), someone.texts("RESEND")] == [Reply.CODE, Reply.CODE]


@pytest.mark.parametrize("text", ["RESEND", "send it again"])
@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_resend_without_a_code_says_that_none_is_waiting(state: State, text: str) -> None:
    someone = someone_in(state)

    assert someone.texts(text) is Reply.NO_CODE
    assert someone.state() is state


@pytest.mark.parametrize("text", ["VERIFY", "RESEND"])
def test_asking_after_the_code_has_expired_brings_a_new_one_at_once(
    awaiting: Person, text: str
) -> None:
    old = awaiting.token()

    assert awaiting.plays(10 * MINUTE, text) is Reply.CODE
    assert awaiting.token().id != old.id
    assert awaiting.token().issued_at == awaiting.now
    assert awaiting.message().token == awaiting.token()
    assert awaiting.last().cancel is Cancel.CODES


def test_an_earlier_code_no_longer_works_once_a_new_one_is_out(awaiting: Person) -> None:
    old_code = awaiting.code()
    awaiting.plays(10 * MINUTE, "VERIFY")

    assert awaiting.texts(old_code) is Reply.WRONG
    assert awaiting.texts(awaiting.code()) is Reply.SUCCESS


def test_asking_anew_never_erases_that_a_person_was_verified(verified: Person) -> None:
    assert verified.plays(DAY, "VERIFY") is Reply.CODE
    assert verified.state() is State.AWAITING_CODE
    assert verified.verified_at() == MORNING

    verified.plays(10 * MINUTE, "hello")
    assert verified.state() is State.IDLE
    assert verified.verified_at() == MORNING


def test_a_further_success_is_the_time_that_counts(verified: Person) -> None:
    assert verified.plays(DAY, "VERIFY", RIGHT) is Reply.SUCCESS
    assert verified.verified_at() == MORNING + DAY


def test_a_person_just_verified_may_ask_anew_without_a_cooldown(verified: Person) -> None:
    used = verified.token()

    assert verified.texts("VERIFY") is Reply.CODE
    assert verified.token().id != used.id


# Guesses


def test_each_wrong_guess_says_how_many_tries_are_left(awaiting: Person) -> None:
    said = []
    for _ in range(4):
        assert awaiting.plays(WRONG) is Reply.WRONG
        said.append(awaiting.message().body.partition(", ")[2].partition(".")[0])

    assert said == ["4 tries left", "3 tries left", "2 tries left", "1 try left"]


def test_the_last_wrong_guess_locks_ends_the_code_and_says_how_long(awaiting: Person) -> None:
    code = awaiting.code()

    assert awaiting.plays(*[WRONG] * 5) is Reply.LOCKED
    assert awaiting.state() is State.LOCKED
    assert awaiting.token().ended_at == MORNING
    assert awaiting.last().cancel is Cancel.CODES
    assert awaiting.limits.locked_until == MORNING + 15 * MINUTE
    assert "15 minutes" in awaiting.message().body
    assert awaiting.plays(15 * MINUTE, code) is Reply.NO_CODE
    assert awaiting.verified_at() is None


def test_the_right_code_on_the_last_try_verifies(awaiting: Person) -> None:
    assert awaiting.plays(*[WRONG] * 4, RIGHT) is Reply.SUCCESS


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_a_code_takes_as_many_wrong_guesses_as_the_operator_says(attempts: int) -> None:
    someone = Person(Policy(attempts=attempts))
    someone.texts("VERIFY")

    replies = [someone.plays(WRONG) for _ in range(attempts)]

    assert replies == [Reply.WRONG] * (attempts - 1) + [Reply.LOCKED]


def test_a_guess_is_counted_whether_it_is_wrong_or_right(awaiting: Person) -> None:
    awaiting.plays(WRONG, WRONG)
    assert (awaiting.token().guesses, awaiting.limits.wrong_guesses) == (2, 2)

    awaiting.plays(RIGHT)
    assert (awaiting.token().guesses, awaiting.limits.wrong_guesses) == (3, 0)


@pytest.mark.parametrize(
    "between",
    [
        (30 * SECOND, "RESEND"),
        (30 * SECOND, "VERIFY"),
        (10 * MINUTE, "VERIFY"),
        (DAY, "VERIFY"),
        ("STOP", "START", "VERIFY"),
        ("NOT ME", HOUR, "VERIFY"),
        (
            TextReceived("STOP", answered=AutoReply.STOP),
            TextReceived("START", answered=AutoReply.START),
            "VERIFY",
        ),
        (OptedOutAtCarrier("40300"), "START", "VERIFY"),
    ],
    ids=["resend", "verify", "expiry", "a day", "stop", "not me", "carrier", "blocked"],
)
def test_a_new_code_gives_no_new_tries(awaiting: Person, between: tuple[Step, ...]) -> None:
    awaiting.plays(WRONG, WRONG, WRONG)

    assert awaiting.plays(*between) is Reply.CODE
    assert awaiting.plays(WRONG) is Reply.WRONG
    assert "1 try left" in awaiting.message().body
    assert awaiting.plays(WRONG) is Reply.LOCKED


def test_wrong_guesses_count_whichever_number_of_the_bot_they_are_texted_to(
    awaiting: Person,
) -> None:
    awaiting.plays(WRONG, WRONG, WRONG)
    awaiting.plays("VERIFY", WRONG, at=OTHER_BOT)

    assert awaiting.plays(WRONG, at=OTHER_BOT) is Reply.LOCKED


def test_success_gives_all_tries_back(awaiting: Person) -> None:
    assert awaiting.plays(*[WRONG] * 4, RIGHT, "VERIFY") is Reply.CODE
    assert awaiting.plays(*[WRONG] * 4) is Reply.WRONG
    assert awaiting.plays(WRONG) is Reply.LOCKED


def test_no_code_takes_more_guesses_than_its_own_tries_even_after_a_success_elsewhere(
    awaiting: Person,
) -> None:
    awaiting.plays(*[WRONG] * 3)
    assert awaiting.plays("VERIFY", RIGHT, at=OTHER_BOT) is Reply.SUCCESS

    assert awaiting.plays(WRONG) is Reply.WRONG
    assert "1 try left" in awaiting.message().body
    assert awaiting.plays(WRONG) is Reply.LOCKED


@pytest.mark.parametrize("typed", ["12345", "1234567", "1234 5", "12345 1234567"])
def test_a_code_of_a_wrong_length_costs_no_try(awaiting: Person, typed: str) -> None:
    before = awaiting.last()

    assert awaiting.texts(typed) is Reply.MISTYPED
    assert "6 digits" in awaiting.message().body
    assert awaiting.token() == before.conversation.token
    assert awaiting.limits == before.limits


def test_digits_of_a_wrong_number_are_chatter_where_no_code_is_awaited(person: Person) -> None:
    assert person.texts("12345") is Reply.HINT


def test_a_guess_where_no_code_was_asked_for_says_so(person: Person) -> None:
    assert person.texts("123456") is Reply.NO_CODE
    assert person.state() is State.IDLE
    assert person.limits == PhoneLimits()


def test_the_code_of_one_number_of_the_bot_does_not_work_at_another(awaiting: Person) -> None:
    awaiting.texts("VERIFY", to=OTHER_BOT)
    code, other_code = awaiting.code(), awaiting.code(at=OTHER_BOT)
    assert code != other_code

    assert awaiting.texts(other_code) is Reply.WRONG
    assert awaiting.texts(code) is Reply.SUCCESS


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_chatter_is_told_what_to_text(state: State) -> None:
    assert someone_in(state).texts("hello") is Reply.HINT


def test_chatter_while_a_code_is_awaited_is_told_to_reply_with_it_and_costs_no_try(
    awaiting: Person,
) -> None:
    assert awaiting.texts("call me at 312-555-0001") is Reply.HINT_CODE
    assert awaiting.token().guesses == awaiting.limits.wrong_guesses == 0


@pytest.mark.parametrize(
    "spelling",
    ["{} ", "my code is {}", "“{}”", "VERIFY {}", "\u200b{}"],
)
def test_the_code_verifies_however_it_is_typed(awaiting: Person, spelling: str) -> None:
    assert awaiting.texts(spelling.format(awaiting.code())) is Reply.SUCCESS


def test_a_hex_code_is_read_in_any_case() -> None:
    someone = Person(Policy(code_format=CodeFormat(8, Alphabet.HEX)))
    someone.texts("VERIFY")

    assert someone.texts(f"My code is {someone.code()}") is Reply.HINT_CODE
    assert someone.texts("1234") is Reply.MISTYPED
    assert "8 characters" in someone.message().body
    assert someone.texts(someone.code().lower()) is Reply.SUCCESS


def test_a_code_is_read_as_it_was_sent_when_the_operator_has_changed_the_format_since(
    awaiting: Person,
) -> None:
    awaiting.policy = Policy(code_format=CodeFormat(8, Alphabet.HEX))

    assert awaiting.texts("12345678") is Reply.MISTYPED
    assert "6 digits" in awaiting.message().body
    assert awaiting.texts(awaiting.code()) is Reply.SUCCESS


# Locks


def test_each_further_lock_is_twice_as_long_up_to_a_day(person: Person) -> None:
    lengths = []
    for _ in range(9):
        assert person.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
        assert person.limits.locked_until is not None
        lengths.append((person.limits.locked_until - person.now) // MINUTE)
        person.now = person.limits.locked_until

    assert lengths == [15, 30, 60, 120, 240, 480, 960, 1440, 1440]


def test_only_success_makes_the_next_lock_short_again(locked: Person) -> None:
    assert locked.plays(15 * MINUTE, "VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "30 minutes" in locked.message().body

    assert locked.plays(30 * MINUTE, "VERIFY", RIGHT) is Reply.SUCCESS
    assert locked.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "15 minutes" in locked.message().body


@pytest.mark.parametrize(
    "between", [("STOP", "START"), (15 * DAY,), (15 * MINUTE, "NOT ME", HOUR)], ids=repr
)
def test_nothing_but_success_makes_the_next_lock_short_again(
    locked: Person, between: tuple[Step, ...]
) -> None:
    locked.plays(*between, 15 * MINUTE)

    assert locked.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    assert "30 minutes" in locked.message().body


@pytest.mark.parametrize(
    "text", ["VERIFY", "RESEND", "hello", "START", "123456", "12345", RIGHT, WRONG]
)
def test_a_lock_is_told_once_and_then_there_is_silence_until_it_ends(
    locked: Person, text: str
) -> None:
    before = locked.last()

    assert locked.plays(15 * MINUTE - INSTANT, text) is None
    assert locked.last() == Decision(but_for_its_times(locked, before), before.limits)


def test_a_lock_ends_on_time_and_all_tries_are_back(locked: Person) -> None:
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.CODE
    assert locked.plays(*[WRONG] * 4) is Reply.WRONG
    assert locked.plays(RIGHT) is Reply.SUCCESS


def test_whatever_is_texted_after_a_lock_finds_it_ended(locked: Person) -> None:
    assert locked.plays(15 * MINUTE, "hello") is Reply.HINT
    assert locked.state() is State.IDLE


def test_during_a_lock_status_says_how_long_it_lasts(locked: Person) -> None:
    assert locked.plays(5 * MINUTE, "STATUS") is Reply.STATUS_LOCKED
    assert "10 minutes" in locked.message().body


def test_during_a_lock_help_is_given(locked: Person) -> None:
    assert locked.texts("HELP") is Reply.HELP
    assert locked.state() is State.LOCKED


def test_a_lock_holds_at_every_number_of_the_bot_and_ends_the_codes_there(
    awaiting: Person,
) -> None:
    code = awaiting.code()
    assert awaiting.plays("VERIFY", *[WRONG] * 5, at=OTHER_BOT) is Reply.LOCKED

    assert awaiting.texts(code) is None
    assert awaiting.state() is State.LOCKED
    assert awaiting.token().ended_at == MORNING
    assert awaiting.last().cancel is Cancel.CODES
    assert awaiting.plays(15 * MINUTE, code) is Reply.NO_CODE


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_a_lock_at_another_number_holds_here_where_no_code_was_asked_for(state: State) -> None:
    someone = someone_in(state)
    someone.plays("VERIFY", *[WRONG] * 5, at=OTHER_BOT)

    assert someone.texts("VERIFY") is None
    assert someone.state() is State.LOCKED


def test_stop_and_start_lift_no_lock(locked: Person) -> None:
    assert locked.plays("STOP", "START") is Reply.STATUS_LOCKED
    assert locked.texts("VERIFY") is None
    assert locked.state() is State.LOCKED
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.CODE


def test_somebody_who_only_guesses_gets_few_tries_on_the_first_day_and_five_on_each_later() -> None:
    someone = Person()
    tries = [0, 0, 0, 0]
    for minute in range(4 * 24 * 60):
        someone.now = MORNING + minute * MINUTE
        someone.texts("VERIFY")
        while someone.plays(WRONG) in {Reply.WRONG, Reply.LOCKED}:
            tries[minute // (24 * 60)] += 1

    assert tries[0] == 7 * 5
    assert max(tries[1:]) == 5


# Expiry


def test_a_code_works_until_just_before_it_expires(awaiting: Person) -> None:
    assert awaiting.plays(10 * MINUTE - INSTANT, RIGHT) is Reply.SUCCESS


def test_a_code_that_has_expired_verifies_nobody_and_costs_no_try(awaiting: Person) -> None:
    code = awaiting.code()

    assert awaiting.plays(10 * MINUTE, code) is Reply.EXPIRED
    assert awaiting.state() is State.IDLE
    assert awaiting.verified_at() is None
    assert awaiting.token().ended_at == awaiting.now
    assert (awaiting.token().guesses, awaiting.limits.wrong_guesses) == (0, 0)
    assert awaiting.last().cancel is Cancel.CODES
    assert awaiting.texts(code) is Reply.NO_CODE


@pytest.mark.parametrize("lifetime", [SECOND, MINUTE, HOUR])
def test_a_code_lives_as_long_as_the_operator_says(lifetime: timedelta) -> None:
    someone = Person(Policy(code_lifetime=lifetime))

    assert someone.plays("VERIFY", lifetime, RIGHT) is Reply.EXPIRED
    assert someone.plays("VERIFY", lifetime - INSTANT, RIGHT) is Reply.SUCCESS


@pytest.mark.parametrize("text", ["hello", "STATUS", "HELP", "12345"])
def test_an_expiry_is_noticed_with_whatever_is_texted(awaiting: Person, text: str) -> None:
    expected = {"STATUS": Reply.STATUS, "HELP": Reply.HELP}.get(text, Reply.HINT)

    assert awaiting.plays(10 * MINUTE, text) is expected
    assert awaiting.state() is State.IDLE


def test_a_token_from_the_future_counts_as_expired(awaiting: Person) -> None:
    awaiting.now -= SECOND

    assert awaiting.plays(RIGHT) is Reply.EXPIRED
    assert awaiting.state() is State.IDLE


def test_a_token_whose_key_is_gone_counts_as_expired(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.keyring = Keyring([OTHER_SECRET])

    assert awaiting.texts(code) is Reply.EXPIRED
    assert awaiting.plays("VERIFY", RIGHT) is Reply.SUCCESS


def test_a_code_signed_with_the_key_before_still_verifies(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.keyring = Keyring([OTHER_SECRET, SECRET])

    assert awaiting.plays(MINUTE, "RESEND") is Reply.CODE
    assert awaiting.texts(code) is Reply.SUCCESS


# Used codes


@pytest.mark.parametrize("later", [timedelta(), MINUTE, DAY])
def test_a_used_code_texted_again_is_met_with_silence(verified: Person, later: timedelta) -> None:
    before = verified.last()

    assert verified.plays(later, RIGHT) is None
    assert verified.last() == Decision(before.conversation, before.limits)


def test_another_code_from_a_verified_person_finds_none_waiting(verified: Person) -> None:
    assert verified.plays(WRONG) is Reply.NO_CODE
    assert verified.state() is State.VERIFIED
    assert verified.limits.wrong_guesses == 0


# NOT ME


def test_not_me_ends_the_pending_code(awaiting: Person) -> None:
    code = awaiting.code()

    assert awaiting.texts("NOT ME") is Reply.NOT_ME
    assert "1 hour." in awaiting.message().body
    assert awaiting.state() is State.IDLE
    assert awaiting.token().ended_at == MORNING
    assert awaiting.last().cancel is Cancel.CODES
    assert awaiting.plays(HOUR, code) is Reply.NO_CODE
    assert awaiting.verified_at() is None


@pytest.mark.parametrize("state", [State.IDLE, State.AWAITING_CODE, State.VERIFIED])
def test_not_me_refuses_new_codes_for_an_hour_and_says_so_once(state: State) -> None:
    someone = someone_in(state)

    assert someone.texts("NOT ME") is Reply.NOT_ME
    assert someone.plays(10 * MINUTE, "VERIFY") is Reply.WAIT
    assert "50 minutes" in someone.message().body
    assert someone.plays(50 * MINUTE - INSTANT, "VERIFY") is None
    assert someone.plays(INSTANT, "VERIFY") is Reply.CODE


def test_not_me_refuses_codes_at_every_number_of_the_bot(awaiting: Person) -> None:
    awaiting.texts("NOT ME")

    assert awaiting.texts("VERIFY", to=OTHER_BOT) is Reply.WAIT


def test_not_me_during_a_lock_refuses_codes_beyond_it(locked: Person) -> None:
    assert locked.texts("NOT ME") is Reply.NOT_ME
    assert locked.state() is State.LOCKED
    assert locked.plays(15 * MINUTE, "VERIFY") is Reply.WAIT
    assert locked.plays(45 * MINUTE, "VERIFY") is Reply.CODE


def test_not_me_erases_no_earlier_verification(verified: Person) -> None:
    verified.plays("VERIFY", "NOT ME")

    assert verified.verified_at() == MORNING


def test_stop_and_start_lift_no_refusal(awaiting: Person) -> None:
    assert awaiting.plays("NOT ME", "STOP", "START") is Reply.WAIT
    assert awaiting.plays(HOUR - INSTANT, "VERIFY") is None
    assert awaiting.plays(INSTANT, "VERIFY") is Reply.CODE


# Limits on code texts


def test_beyond_the_hours_limit_one_text_says_when_and_then_there_is_silence(
    person: Person,
) -> None:
    for _ in range(5):
        assert person.plays("VERIFY", RIGHT) is Reply.SUCCESS

    assert person.plays(20 * MINUTE, "VERIFY") is Reply.WAIT
    assert "40 minutes" in person.message().body
    assert person.state() is State.VERIFIED
    assert person.plays("VERIFY", "VERIFY", 40 * MINUTE - INSTANT, "VERIFY") is None
    assert person.plays(INSTANT, "VERIFY") is Reply.CODE


def test_code_texts_sent_again_count_towards_the_limit(awaiting: Person) -> None:
    assert [awaiting.plays(30 * SECOND, "RESEND") for _ in range(4)] == [Reply.CODE] * 4
    assert awaiting.plays(30 * SECOND, "RESEND") is Reply.WAIT_CODE
    assert awaiting.plays(30 * SECOND, "RESEND") is None


@pytest.mark.parametrize("text", ["VERIFY", "RESEND"])
def test_beyond_the_limit_who_has_a_code_is_told_how_long_it_works_and_when_it_can_be_resent(
    text: str,
) -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", 2 * MINUTE + SECOND, text) is Reply.WAIT_CODE
    assert "works for 7 minutes more" in someone.message().body
    assert "for 58 minutes" in someone.message().body
    assert someone.state() is State.AWAITING_CODE
    assert someone.message().token is None


def test_beyond_the_limit_the_code_that_lives_still_works(awaiting: Person) -> None:
    for _ in range(5):
        awaiting.plays(30 * SECOND, "RESEND")

    assert awaiting.plays(RIGHT) is Reply.SUCCESS


def test_beyond_the_days_limit_the_wait_lasts_until_a_day_after_the_first() -> None:
    someone = Person()
    for _ in range(10):
        assert someone.plays("VERIFY", RIGHT, HOUR) is Reply.SUCCESS

    assert someone.texts("VERIFY") is Reply.WAIT
    assert "14 hours" in someone.message().body
    assert someone.plays(14 * HOUR - INSTANT, "VERIFY") is None
    assert someone.plays(INSTANT, "VERIFY") is Reply.CODE


def test_the_limits_count_whichever_number_of_the_bot_is_texted(person: Person) -> None:
    for number in (BOT, OTHER_BOT, BOT, OTHER_BOT, BOT):
        assert person.plays("VERIFY", RIGHT, at=number) is Reply.SUCCESS

    assert person.texts("VERIFY", to=OTHER_BOT) is Reply.WAIT
    assert person.texts("VERIFY") is None


def test_a_wait_is_told_anew_when_the_limit_is_reached_anew() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", RIGHT, "VERIFY") is Reply.WAIT
    assert someone.plays(HOUR, "VERIFY", RIGHT) is Reply.SUCCESS
    assert someone.texts("VERIFY") is Reply.WAIT


def test_the_cooldown_is_silent_even_at_the_limit() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", "RESEND") is None
    assert someone.plays(30 * SECOND, "RESEND") is Reply.WAIT_CODE


def test_silence_and_waits_count_towards_no_limit(awaiting: Person) -> None:
    awaiting.plays(*["VERIFY"] * 20)

    assert awaiting.plays(30 * SECOND, "RESEND") is Reply.CODE


# The truth about VERIFY


REFUSING: dict[str, tuple[Step, ...]] = {
    "not me": ("VERIFY", "NOT ME"),
    "the hour's limit": ("VERIFY", RIGHT) * 5,
}


@pytest.mark.parametrize("text", ["RESEND", "123456", "hello", "START"])
@pytest.mark.parametrize("before", REFUSING.values(), ids=REFUSING)
def test_while_verify_is_refused_no_text_invites_to_it_but_names_the_wait(
    before: tuple[Step, ...], text: str
) -> None:
    someone = Person()
    someone.plays(*before)

    assert someone.plays(20 * MINUTE, text) is Reply.WAIT
    assert "Please wait 40 minutes, then text VERIFY" in someone.message().body


def test_status_while_verify_is_refused_names_the_wait_to_who_is_not_verified(
    awaiting: Person,
) -> None:
    assert awaiting.plays("NOT ME", "STATUS") is Reply.WAIT
    assert "1 hour" in awaiting.message().body


def test_a_late_code_beyond_the_limit_is_told_when_verify_works() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", 10 * MINUTE, RIGHT) is Reply.WAIT
    assert "50 minutes" in someone.message().body


def test_who_was_told_the_wait_in_another_answer_is_not_told_again_on_verify(
    awaiting: Person,
) -> None:
    assert awaiting.plays("NOT ME", "hello") is Reply.WAIT
    assert awaiting.texts("VERIFY") is None


def test_a_lock_that_ends_before_the_limit_does_names_the_longer_wait() -> None:
    someone = Person(Policy(attempts=1, codes_per_hour=1))

    assert someone.plays("VERIFY", WRONG) is Reply.LOCKED
    assert "wait 1 hour," in someone.message().body
    assert someone.plays(10 * MINUTE, "STATUS") is Reply.STATUS_LOCKED
    assert "wait 50 minutes," in someone.message().body


def test_a_clock_that_once_ran_ahead_refuses_and_locks_no_longer_than_the_rules_allow(
    person: Person,
) -> None:
    ahead = MORNING + 365 * DAY
    person.limits = PhoneLimits(
        locked_until=ahead, refused_until=ahead, told_until=ahead, code_times=(ahead,) * 10
    )

    assert person.texts("VERIFY") is None
    assert person.state() is State.LOCKED
    assert person.plays(DAY, "VERIFY") is Reply.CODE


# STOP and START


@pytest.mark.parametrize(
    "text", [*sorted(STOP_WORDS), "Stop texting me", "don't text me", "remove me", "STOP!"]
)
def test_every_stop_word_is_confirmed_once_and_kept_with_its_time_and_wording(
    awaiting: Person, text: str
) -> None:
    awaiting.now += MINUTE

    assert awaiting.texts(text) is Reply.STOPPED
    assert awaiting.state() is State.OPTED_OUT
    assert awaiting.conversations[BOT].opted_out_at == MORNING + MINUTE
    assert awaiting.conversations[BOT].opt_out_wording == text
    assert awaiting.texts(text) is None


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize(
    ("happened", "reply", "wording"),
    [
        (TextReceived("Stop"), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", Shape.MEDIA), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", Shape.GROUP), Reply.STOPPED, "Stop"),
        (TextReceived("Stop", answered=AutoReply.STOP), None, "Stop"),
        (TextReceived("arrêt", answered=AutoReply.STOP), None, "arrêt"),
        (OptedOutAtCarrier("40300"), None, "40300"),
    ],
    ids=["said", "media", "group", "carrier", "other language", "blocked"],
)
def test_stop_is_honoured_in_every_state(
    state: State, happened: TextReceived | OptedOutAtCarrier, reply: Reply | None, wording: str
) -> None:
    someone = someone_in(state)

    assert someone.meets(happened) is reply
    assert someone.state() is State.OPTED_OUT
    assert someone.conversations[BOT].opted_out_at == someone.now
    assert someone.conversations[BOT].opt_out_wording == wording
    assert someone.last().cancel is Cancel.ALL


def test_only_the_beginning_of_a_long_wording_is_kept(person: Person) -> None:
    person.texts("stop " + "x" * 100)

    assert person.conversations[BOT].opt_out_wording == "stop " + "x" * 59


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("stop 123456", "stop …"),
        ("123-456 Stop texting me", "… Stop texting me"),
        ("stop 12 34 56 please", "stop … … … please"),
        ("stop FACADE", "stop …"),
    ],
)
def test_what_may_be_a_code_is_left_out_of_the_wording(
    person: Person, text: str, kept: str
) -> None:
    assert person.texts(text) is Reply.STOPPED
    assert person.conversations[BOT].opt_out_wording == kept


def test_a_second_opt_out_changes_only_until_when_a_start_is_outdated(opted_out: Person) -> None:
    before = opted_out.conversations[BOT]

    assert opted_out.plays(HOUR, OptedOutAtCarrier("40300")) is None
    assert opted_out.conversations[BOT] == before
    assert opted_out.plays(TextReceived("END", answered=AutoReply.STOP)) is None
    assert opted_out.plays(HOUR, "cancel") is None
    assert opted_out.conversations[BOT] == replace(before, opted_out_at=opted_out.now)


def test_stop_ends_the_code(awaiting: Person) -> None:
    code = awaiting.code()

    awaiting.texts("STOP")
    assert awaiting.token().ended_at == MORNING
    assert awaiting.plays("START", code) is Reply.NO_CODE


@pytest.mark.parametrize(
    "happened",
    [
        TextReceived("VERIFY"),
        TextReceived("RESEND"),
        TextReceived("STATUS"),
        TextReceived("HELP"),
        TextReceived("STOP"),
        TextReceived("123456"),
        TextReceived("12345"),
        TextReceived("hello"),
        TextReceived("VERIFY", Shape.MEDIA),
        TextReceived("START", Shape.GROUP),
        TextReceived("HELP", answered=AutoReply.OTHER),
        TextReceived("STOP", answered=AutoReply.STOP),
        OptedOutAtCarrier("40300"),
    ],
)
@pytest.mark.parametrize("later", [timedelta(), 11 * MINUTE, DAY])
def test_who_has_opted_out_is_heard_only_with_start(
    opted_out: Person, happened: TextReceived | OptedOutAtCarrier, later: timedelta
) -> None:
    before = opted_out.last()
    opted_out.now += later

    assert opted_out.meets(happened) is None
    assert opted_out.last() == Decision(but_for_its_times(opted_out, before), before.limits)


def test_the_code_of_who_has_opted_out_verifies_nobody(opted_out: Person) -> None:
    assert opted_out.plays(RIGHT) is None
    assert opted_out.verified_at() is None


@pytest.mark.parametrize("text", ["START", "unstop", "Start please"])
def test_start_welcomes_back_and_what_is_known_of_the_opt_out_is_kept(
    opted_out: Person, text: str
) -> None:
    assert opted_out.plays(DAY, text) is Reply.WELCOME
    assert opted_out.state() is State.IDLE
    assert opted_out.conversations[BOT].opted_out_at == MORNING
    assert opted_out.conversations[BOT].opt_out_wording == "STOP"


def test_start_that_the_carrier_has_answered_opts_in_without_a_text(opted_out: Person) -> None:
    assert opted_out.texts("START", answered=AutoReply.START) is None
    assert opted_out.state() is State.IDLE


def test_after_start_a_new_code_comes_without_a_cooldown(opted_out: Person) -> None:
    old = opted_out.token()

    assert opted_out.plays("START", "VERIFY") is Reply.CODE
    assert opted_out.token().id != old.id


@pytest.mark.parametrize(
    "happened", [TextReceived("START"), TextReceived("START", answered=AutoReply.START)]
)
def test_start_while_a_code_is_awaited_clears_the_cooldown(
    awaiting: Person, happened: TextReceived
) -> None:
    before = awaiting.token()

    awaiting.meets(happened)
    assert awaiting.state() is State.AWAITING_CODE
    assert awaiting.texts("RESEND") is Reply.CODE
    assert awaiting.token().id == before.id


def test_stop_and_start_erase_no_verification(verified: Person) -> None:
    assert verified.plays("STOP", "START", "STATUS") is Reply.STATUS_VERIFIED
    assert verified.verified_at() == MORNING


def test_stop_and_start_give_no_code_beyond_the_limit(person: Person) -> None:
    for _ in range(5):
        assert person.plays("VERIFY") is Reply.CODE
        welcome = person.plays("STOP", "START")

    assert welcome is Reply.WAIT
    assert person.texts("VERIFY") is None


def test_an_opt_out_is_between_one_phone_and_one_number_of_the_bot(opted_out: Person) -> None:
    assert opted_out.texts("VERIFY", to=OTHER_BOT) is Reply.CODE


# Answered by the carrier


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("text", ["HELP", "INFO", "aide", "VERIFY"])
def test_what_the_carrier_has_answered_is_met_with_silence(state: State, text: str) -> None:
    someone = someone_in(state)
    before = (
        someone.last() if someone.decided else Decision(Conversation(BOT, PHONE), PhoneLimits())
    )

    assert someone.texts(text, answered=AutoReply.OTHER) is None
    assert someone.last() == Decision(before.conversation, before.limits)


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED, State.LOCKED])
def test_start_answered_by_the_carrier_changes_nothing_where_nobody_opted_out(
    state: State,
) -> None:
    someone = someone_in(state)
    before = someone.conversations[BOT]

    assert someone.texts("START", answered=AutoReply.START) is None
    assert someone.conversations[BOT] == replace(before, opted_in_at=someone.now)


def texted(text: str, at: datetime, **more: Any) -> TextReceived:
    return TextReceived(text, received_at=at, **more)


BOTH = {"carrier": (AutoReply.STOP, AutoReply.START), "bot": (None, None)}


@pytest.mark.parametrize("stop_first", [True, False])
@pytest.mark.parametrize("answered_by", list(BOTH))
@pytest.mark.parametrize(
    ("between", "opted_out"),
    [
        (SECOND, False),
        (INSTANT, False),
        (timedelta(), True),
        (-INSTANT, True),
        (-HOUR, True),
    ],
)
def test_of_stop_and_start_the_later_one_holds_whichever_is_decided_first(
    answered_by: str, between: timedelta, *, opted_out: bool, stop_first: bool
) -> None:
    stopped_by, started_by = BOTH[answered_by]
    for before in ((), (HOUR, "STOP"), (HOUR, "VERIFY"), (HOUR, "VERIFY", RIGHT)):
        someone = Person()
        someone.plays(*before)
        stopped_at = someone.now + 2 * HOUR
        someone.now += DAY
        script = [
            texted("opt out", stopped_at, answered=stopped_by),
            texted("START", stopped_at + between, answered=started_by),
        ]
        someone.plays(*(script if stop_first else reversed(script)))
        assert (someone.state() is State.OPTED_OUT) is opted_out
        assert (someone.plays("VERIFY") is Reply.CODE) is not opted_out


def test_a_start_between_two_stops_opts_in_nobody_whenever_it_is_decided() -> None:
    texts = [texted("STOP", MORNING), texted("START", MORNING + SECOND)]
    texts += [texted("revoke", MORNING + 2 * SECOND)]
    for order in permutations(texts):
        someone = Person()
        someone.plays(HOUR, *order)
        assert someone.state() is State.OPTED_OUT


def test_an_opt_out_without_a_text_has_the_time_of_its_decision(person: Person) -> None:
    person.plays(HOUR, OptedOutAtCarrier("40300"))
    assert person.plays(texted("START", person.now - SECOND)) is None
    assert person.plays(MINUTE, texted("START", person.now + SECOND)) is Reply.WELCOME


def test_a_time_of_a_clock_that_ran_ahead_keeps_nobody_opted_out(person: Person) -> None:
    person.now += DAY
    person.plays(OptedOutAtCarrier("40300"))
    person.now -= DAY
    assert person.plays(texted("START", person.now)) is Reply.WELCOME


@pytest.mark.parametrize("text", ["VERIFY", "RESEND", "START", "hello", RIGHT])
def test_what_was_texted_before_not_me_undoes_nothing_even_after_its_time(
    awaiting: Person, text: str
) -> None:
    asked_at = awaiting.now
    said = awaiting.spelled(text, at=BOT)
    awaiting.plays(SECOND, texted("NOT ME", awaiting.now + SECOND))
    before = awaiting.conversations[BOT]
    assert awaiting.plays(MINUTE, texted(said, asked_at)) is None
    assert awaiting.plays(2 * HOUR, texted(said, asked_at + SECOND)) is None
    assert awaiting.conversations[BOT] == before
    assert awaiting.plays(texted("VERIFY", awaiting.now)) is Reply.CODE


def test_not_me_holds_for_its_time_from_when_it_was_texted(awaiting: Person) -> None:
    said_at = awaiting.now
    assert awaiting.plays(20 * MINUTE, texted("NOT ME", said_at)) is Reply.NOT_ME
    assert awaiting.limits.refused_until == said_at + HOUR
    assert awaiting.plays(texted("VERIFY", awaiting.now)) is not Reply.CODE
    assert awaiting.plays(40 * MINUTE, texted("VERIFY", awaiting.now)) is Reply.CODE
    assert awaiting.plays(texted("NOT ME", said_at + SECOND - HOUR)) is None
    assert awaiting.state() is State.AWAITING_CODE


def test_not_me_after_stop_keeps_codes_away_after_start_too(opted_out: Person) -> None:
    assert opted_out.plays(MINUTE, "NOT ME") is None
    assert opted_out.plays(MINUTE, "START", "VERIFY") is not Reply.CODE


def test_clocks_that_differ_as_they_may_do_not_undo_a_stop(person: Person) -> None:
    person.plays(texted("STOP", person.now))
    person.now -= 4 * SECOND  # decided by another process
    assert person.plays(texted("START", person.now + SECOND)) is None
    assert person.state() is State.OPTED_OUT


def test_an_outdated_guess_costs_no_try(awaiting: Person) -> None:
    early = awaiting.now
    awaiting.plays(MINUTE, "STOP", MINUTE, "START", "VERIFY")
    before = awaiting.limits
    assert awaiting.plays(texted(awaiting.wrong_code(), early)) is None
    assert awaiting.limits == before


# Media, groups and reactions


def test_a_code_in_a_media_message_is_never_a_guess(awaiting: Person) -> None:
    before = awaiting.last()

    assert awaiting.texts(awaiting.code(), shape=Shape.MEDIA) is Reply.HINT_CODE
    assert awaiting.texts(awaiting.wrong_code(), shape=Shape.MEDIA) is Reply.HINT_CODE
    assert awaiting.state() is State.AWAITING_CODE
    assert awaiting.token() == before.conversation.token
    assert awaiting.limits == before.limits


def test_a_picture_without_words_is_told_what_to_text(person: Person) -> None:
    assert person.texts("", shape=Shape.MEDIA) is Reply.HINT


@pytest.mark.parametrize(
    ("text", "reply"),
    [("VERIFY", Reply.CODE), ("HELP", Reply.HELP), ("STOP", Reply.STOPPED)],
)
def test_words_in_a_media_message_are_understood(person: Person, text: str, reply: Reply) -> None:
    assert person.texts(text, shape=Shape.MEDIA) is reply


@pytest.mark.parametrize(
    "text", ["VERIFY", "RESEND", "HELP", "STATUS", "NOT ME", "START", "hello", "12345", RIGHT]
)
@pytest.mark.parametrize("state", list(State))
def test_a_group_message_is_met_with_silence_and_never_a_guess(state: State, text: str) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    assert someone.texts(someone.spelled(text), shape=Shape.GROUP) is None
    assert someone.last() == Decision(conversation, limits)


@pytest.mark.parametrize(
    "reaction",
    [
        "Liked “Textproof code: {}. Reply with it within 10 minutes. Not you? Reply NOT ME.”",
        "Liked “Textproof code: {}. Reply with it …”",
        "Hat „Textproof code: {}. Reply with it within 10 minutes.“ geliked",
        "A aimé « Textproof code: {}. Reply with it within 10 minutes. »",
        "「Textproof code: {}. Reply with it within 10 minutes.」にいいね",
        "👍 to “{}”",
    ],
)
@pytest.mark.parametrize("state", list(State))
def test_a_reaction_never_verifies_costs_no_try_and_is_met_with_silence(
    state: State, reaction: str
) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    for quoted in (RIGHT, WRONG):
        assert someone.texts(reaction.format(someone.spelled(quoted))) is None
        assert someone.last() == Decision(conversation, limits)


@pytest.mark.parametrize("text", ["thanks", "thank you!", "ok", "👍", "again"])
@pytest.mark.parametrize("state", list(State))
def test_thanks_are_met_with_silence_in_every_state(state: State, text: str) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    assert someone.texts(text) is None
    assert someone.last() == Decision(conversation, limits)


@pytest.mark.parametrize("spelling", ["{}", "> {}", "{} {code}"])
def test_our_code_text_sent_back_unquoted_verifies_nobody_and_costs_no_try(
    awaiting: Person, spelling: str
) -> None:
    for code in (awaiting.code(), awaiting.wrong_code()):
        sent = awaiting.decided[0].message
        assert sent is not None
        body = sent.body.replace(CODE_PLACEHOLDER, code)

        assert awaiting.texts(spelling.format(body, code=code)) is Reply.HINT_CODE
        assert awaiting.state() is State.AWAITING_CODE
        assert awaiting.limits.wrong_guesses == 0


@pytest.mark.parametrize(
    ("spelling", "reply"),
    [
        ("Not me! {}", Reply.NOT_ME),
        ("I didn't request this {}", Reply.NOT_ME),
        ("{} STOP", Reply.STOPPED),
        ("please stop {} codes", Reply.STOPPED),
    ],
)
def test_the_right_code_beside_stop_or_not_me_verifies_nobody(
    awaiting: Person, spelling: str, reply: Reply
) -> None:
    assert awaiting.texts(spelling.format(awaiting.code())) is reply
    assert awaiting.verified_at() is None
    assert awaiting.token().ended_at == MORNING


# Courtesy towards robots


@pytest.mark.parametrize("state", [State.IDLE, State.AWAITING_CODE, State.VERIFIED])
def test_after_three_hints_in_a_row_there_is_an_hour_of_silence(state: State) -> None:
    someone = Person(Policy(code_lifetime=3 * HOUR))
    someone.plays(*IN_STATE[state])

    assert None not in [someone.texts("hello") for _ in range(3)]
    assert someone.texts("hello") is None
    assert someone.plays(HOUR - INSTANT, "hello") is None
    assert someone.plays(INSTANT, "hello") in HINTS


def test_after_the_silence_there_are_three_hints_again(person: Person) -> None:
    person.plays(*["hello"] * 4, HOUR)

    assert [person.texts("hello") for _ in range(4)] == [*[Reply.HINT] * 3, None]


def test_what_is_texted_into_the_silence_does_not_prolong_it(person: Person) -> None:
    person.plays(*["hello"] * 4, 30 * MINUTE, "hello")

    assert person.plays(30 * MINUTE, "hello") is Reply.HINT


@pytest.mark.parametrize("between", ["HELP", "STATUS", "123456", "RESEND", "START"])
def test_any_other_reply_starts_the_count_of_hints_anew(person: Person, between: str) -> None:
    person.plays("hello", "hello")
    assert person.texts(between) is not None

    assert [person.texts("hello") for _ in range(4)] == [*[Reply.HINT] * 3, None]


@pytest.mark.parametrize("between", ["HELP", "STATUS", "123456", "RESEND", "START"])
def test_no_other_reply_ends_the_silence_once_it_has_begun(person: Person, between: str) -> None:
    person.plays("hello", "hello", "hello")
    assert person.texts(between) is not None

    assert person.texts("hello") is None


@pytest.mark.parametrize("between", ["thanks", "Liked “hello”"])
def test_what_is_met_with_silence_does_not_start_the_count_of_hints_anew(
    person: Person, between: str
) -> None:
    assert person.plays("hello", "hello", between, "hello") is Reply.HINT
    assert person.texts("hello") is None


def test_a_code_typed_short_is_answered_after_the_hints_have_ended(awaiting: Person) -> None:
    assert awaiting.plays("hello", "hello", "hello", "hello") is None
    assert awaiting.texts("12345") is Reply.MISTYPED


def test_a_code_where_none_lives_is_answered_after_the_hints_have_ended(person: Person) -> None:
    assert person.plays("hello", "hello", "hello", "hello") is None
    assert person.texts("123456") is Reply.NO_CODE


def test_start_is_answered_after_the_hints_have_ended(awaiting: Person) -> None:
    assert awaiting.plays("hello", "hello", "hello", "hello") is None
    assert awaiting.texts("START") is Reply.STATUS_QUEUED


def test_an_answer_does_not_make_the_silence_longer(person: Person) -> None:
    person.plays("hello", "hello", "hello", "hello")
    assert person.plays(59 * MINUTE, "HELP") is Reply.HELP
    assert person.plays(2 * MINUTE, "hello") is Reply.HINT


def test_not_me_at_one_number_ends_the_code_of_another(awaiting: Person) -> None:
    code = awaiting.code()
    assert awaiting.texts("NOT ME", to=OTHER_BOT) is Reply.NOT_ME
    assert awaiting.texts(code) is Reply.WAIT
    assert awaiting.state() is State.IDLE
    assert awaiting.verified_at() is None


def test_not_me_in_a_long_lock_says_how_long_the_lock_is() -> None:
    someone = Person(Policy(attempts=1, codes_per_hour=100, codes_per_day=100))
    for wait in (15, 30, 60, 120):
        someone.plays("VERIFY", WRONG)
        someone.plays(wait * MINUTE, "VERIFY")
    someone.plays(WRONG, "NOT ME")
    assert "4 hours" in someone.message().body


def test_a_code_does_not_outlive_a_lock_at_another_number() -> None:
    someone = Person(Policy(attempts=1, code_lifetime=HOUR))
    someone.texts("VERIFY")
    code = someone.code()
    someone.texts("VERIFY", to=OTHER_BOT)
    assert someone.texts("000000", to=OTHER_BOT) is Reply.LOCKED
    assert someone.plays(16 * MINUTE, code) is Reply.EXPIRED


def test_where_fewer_tries_are_given_than_were_spent_nothing_more_is_compared() -> None:
    someone = Person()
    someone.plays("VERIFY", WRONG, WRONG, WRONG, WRONG)
    someone.policy = Policy(attempts=2)
    assert someone.texts(someone.code()) is Reply.LOCKED


def test_a_used_code_is_met_with_silence_in_every_state(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.plays(RIGHT, "STOP", "START")
    assert awaiting.texts(code) is None


@pytest.mark.parametrize("chatter", ["hello", "HELP"])
def test_codes_verify_and_stop_are_never_silenced(awaiting: Person, chatter: str) -> None:
    until_silence = [chatter] * 11
    awaiting.plays(*until_silence)

    assert awaiting.plays(WRONG) is Reply.WRONG
    assert awaiting.plays(RIGHT) is Reply.SUCCESS
    awaiting.plays(*until_silence)
    assert awaiting.texts("VERIFY") is Reply.CODE
    awaiting.plays(*until_silence)
    assert awaiting.plays(10 * MINUTE, RIGHT) is Reply.EXPIRED
    awaiting.texts("STOP")
    assert awaiting.state() is State.OPTED_OUT
    awaiting.texts("START")
    assert awaiting.state() is State.IDLE


def test_stop_and_start_are_answered_after_the_hints_have_ended(person: Person) -> None:
    assert person.plays("hello", "hello", "hello", "hello") is None
    assert person.texts("STOP") is Reply.STOPPED
    assert person.texts("START") is Reply.WELCOME


def test_who_cycles_through_stop_and_start_is_obeyed_but_not_answered_for_ever(
    person: Person,
) -> None:
    answers = 0
    for _ in range(50):
        answers += person.texts("STOP") is not None
        assert person.state() is State.OPTED_OUT
        answers += person.texts("START") is not None
        assert person.state() is State.IDLE
    assert answers == 10


@pytest.mark.parametrize(
    ("before", "forward"),
    [
        ((), ("VERIFY",)),
        (("VERIFY",), (MINUTE, "RESEND")),
        (("VERIFY",), (RIGHT,)),
    ],
    ids=["a code", "a code again", "success"],
)
@pytest.mark.parametrize(("text", "times"), [("hello", 3), ("HELP", 10)])
def test_what_moves_things_forward_ends_the_silence(
    before: tuple[Step, ...], forward: tuple[Step, ...], text: str, times: int
) -> None:
    someone = Person()
    someone.plays(*before, *[text] * times)
    assert someone.texts(text) is None
    someone.plays(*forward)

    assert None not in [someone.texts(text) for _ in range(times)]
    assert someone.texts(text) is None


def test_help_and_status_are_still_answered_when_hints_are_not(person: Person) -> None:
    person.plays(*["hello"] * 4)

    assert person.texts("HELP") is Reply.HELP
    assert person.texts("STATUS") is Reply.STATUS


def test_help_and_status_are_not_answered_for_ever(person: Person) -> None:
    answers = [person.texts(text) for text in ("HELP", "STATUS") * 5]

    assert None not in answers
    assert person.texts("HELP") is None
    assert person.texts("STATUS") is None
    assert person.plays(HOUR, "HELP") is Reply.HELP


def test_a_silenced_not_me_still_ends_the_code(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.plays(*["HELP"] * 10)

    assert awaiting.texts("NOT ME") is None
    assert awaiting.state() is State.IDLE
    assert awaiting.plays(HOUR, code) is Reply.NO_CODE


# STATUS and HELP


def test_status_before_anything_says_that_nothing_is_confirmed(person: Person) -> None:
    assert person.texts("STATUS") is Reply.STATUS


def test_status_says_whether_the_code_was_sent_and_what_is_left_of_it(awaiting: Person) -> None:
    awaiting.plays(WRONG, 2 * MINUTE + 20 * SECOND)

    assert awaiting.texts("STATUS") is Reply.STATUS_QUEUED
    assert "7 minutes" in awaiting.message().body
    assert "4 tries left" in awaiting.message().body

    awaiting.changes_token(text=CodeDelivery.SENT)
    assert awaiting.texts("STATUS") is Reply.STATUS_SENT
    assert "7 minutes" in awaiting.message().body
    assert "4 tries left" in awaiting.message().body


def test_status_of_a_code_that_could_not_be_delivered_says_so(awaiting: Person) -> None:
    awaiting.changes_token(text=CodeDelivery.FAILED)

    assert awaiting.texts("STATUS") is Reply.STATUS_FAILED
    assert awaiting.plays(MINUTE, "RESEND") is Reply.CODE


def test_status_of_a_verified_person_says_since_when(verified: Person) -> None:
    assert verified.plays(3 * DAY, "am I verified?") is Reply.STATUS_VERIFIED
    assert "since 01 Mar 2026, 09:00 UTC" in verified.message().body


def test_status_while_verifying_anew_is_about_the_code(verified: Person) -> None:
    assert verified.plays("VERIFY", "STATUS") is Reply.STATUS_QUEUED
    assert verified.plays(10 * MINUTE, "STATUS") is Reply.STATUS_VERIFIED


@pytest.mark.parametrize("text", ["STATUS", "HELP"])
@pytest.mark.parametrize("state", list(State))
def test_asking_for_status_or_help_changes_nothing_but_the_count_of_answers(
    state: State, text: str
) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    someone.texts(text)

    assert someone.last().cancel is Cancel.NOTHING
    assert someone.limits == limits
    assert (
        replace(
            someone.conversations[BOT],
            answers=conversation.answers,
            answered_at=conversation.answered_at,
        )
        == conversation
    )


# The whole of it


def test_every_action_of_the_table_can_be_carried_out() -> None:
    assert set(ACTIONS) == set(Action)


FIRST_TOKEN = Token(
    f"{0:032x}",
    Keyring([SECRET]).signing_key_id,
    CodeFormat(6, Alphabet.DIGITS),
    issued_at=MORNING,
    expires_at=MORNING,
    resend_after=MORNING,
)
"""What a script's first step issues."""
CODE_OF_FIRST = Keyring([SECRET]).code(FIRST_TOKEN, BOT, PHONE)
WRONG_FOR_FIRST = ("1" if CODE_OF_FIRST[0] == "0" else "0") + CODE_OF_FIRST[1:]

SCRIPT_OF: dict[Event, tuple[Step, ...]] = {
    Event.CODE_ASKED: ("VERIFY",),
    Event.OUTDATED: ("STOP", HOUR, TextReceived("START", received_at=MORNING)),
    Event.CODE_ASKED_AGAIN: ("VERIFY", MINUTE, "RESEND"),
    Event.ASKED_TOO_SOON: ("VERIFY", "VERIFY"),
    Event.ASKED_TOO_OFTEN: ("NOT ME", "VERIFY"),
    Event.ASKED_TOO_OFTEN_AGAIN: ("NOT ME", "VERIFY", "VERIFY"),
    Event.RESEND_WITHOUT_CODE: ("RESEND",),
    Event.GUESS_RIGHT: ("VERIFY", RIGHT),
    Event.GUESS_WRONG: ("VERIFY", WRONG),
    Event.LAST_GUESS_WRONG: ("VERIFY", *[WRONG] * 5),
    Event.GUESS_TOO_LATE: ("VERIFY", HOUR, RIGHT),
    Event.GUESS_WITHOUT_CODE: ("123456",),
    Event.GUESS_USED: ("VERIFY", RIGHT, RIGHT),
    Event.GUESS_MISTYPED: ("VERIFY", "12345"),
    Event.STATUS: ("STATUS",),
    Event.HELP: ("HELP",),
    Event.NOT_ME: ("NOT ME",),
    Event.START: ("START",),
    Event.STOP: ("STOP",),
    Event.CHATTER: ("hello",),
    Event.NOT_FOR_US: ("Liked “hello”",),
    Event.ANSWERED: (TextReceived("HELP", answered=AutoReply.OTHER),),
    Event.STARTED_AT_CARRIER: (TextReceived("START", answered=AutoReply.START),),
    Event.STOPPED_AT_CARRIER: (OptedOutAtCarrier("40300"),),
    Event.CODE_EXPIRED: ("VERIFY", HOUR, "hello"),
    Event.REFERENCE_UNKNOWN: ("VERIFY 7Q2K42",),
    Event.REFERENCE_SPENT: (
        TextReceived(
            "VERIFY 7Q2K42", referenced=ReferenceLookup("v", free=False, begun_here=False)
        ),
    ),
    Event.APP_ASKS: (CodeRequested("v", Origin.APP),),
    Event.APP_ASKS_AGAIN: (CodeRequested("v", Origin.APP), MINUTE, ResendRequested("v")),
    Event.APP_CANCELS: (CodeRequested("v", Origin.APP), Cancelled("v")),
    Event.TYPED_RIGHT: (CodeRequested("v", Origin.APP), CodeSubmitted("v", CODE_OF_FIRST)),
    Event.TYPED_RIGHT_OF_SEVERAL: (
        CodeRequested("v", Origin.APP),
        CodeRequested("w", Origin.APP),
        CodeSubmitted("v", CODE_OF_FIRST),
    ),
    Event.TYPED_WRONG: (CodeRequested("v", Origin.APP), CodeSubmitted("v", WRONG_FOR_FIRST)),
    Event.LAST_TYPED_WRONG: (
        CodeRequested("v", Origin.APP),
        *[CodeSubmitted("v", WRONG_FOR_FIRST)] * 5,
    ),
    Event.GUESS_RIGHT_OF_SEVERAL: (CodeRequested("v", Origin.APP), "VERIFY", RIGHT),
    Event.GUESS_WRONG_CODES_SPENT: (
        CodeRequested("v", Origin.APP),
        *[CodeSubmitted("v", WRONG_FOR_FIRST)] * 4,
        WRONG_FOR_FIRST,
    ),
    Event.ONE_CODE_EXPIRED: (
        CodeRequested("v", Origin.APP),
        9 * MINUTE,
        "VERIFY",
        MINUTE,
        TimePassed(),
    ),
    Event.CODE_UNDELIVERABLE: (CodeRequested("v", Origin.APP), DeliveryFailed(f"{0:032x}")),
    Event.LAST_CODE_ENDED: (CodeRequested("v", Origin.APP), Cancelled("v")),
    Event.NOTHING: (TimePassed(),),
    Event.LOCK_ENDED: ("VERIFY", *[WRONG] * 5, HOUR, "hello"),
}


@pytest.mark.parametrize("event", list(Event))
def test_every_event_is_perceived_somewhere(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    perceived: set[Event] = set()
    make = decision._make

    def make_and_tell(turn: Turn, event: Event) -> None:
        perceived.add(event)
        make(turn, event)

    monkeypatch.setattr(decision, "_make", make_and_tell)
    someone = Person()
    if event is Event.LOCKED_ELSEWHERE:
        someone.plays("VERIFY", *[WRONG] * 5, at=OTHER_BOT)
        someone.texts("hello")
    else:
        someone.plays(*SCRIPT_OF[event])

    assert event in perceived


Happening = str | TextReceived | OptedOutAtCarrier
Script = list[tuple[str, timedelta, Happening]]

PASSAGES: tuple[tuple[Happening, ...], ...] = (
    *[("VERIFY",), (RIGHT,), ("VERIFY", RIGHT), (WRONG, WRONG), ("VERIFY", *[WRONG] * 5)] * 3,
    *[("hello",) * 4, ("NOT ME", "VERIFY"), ("RESEND", "RESEND"), ("STATUS", "HELP"), ("12345",)],
    *[("Liked “123456”",), ("",), ("STOP",), ("STOP", "VERIFY", RIGHT, "hello", "HELP", "START")],
    ("START", "VERIFY"),
    (OptedOutAtCarrier("40300"), "VERIFY", TextReceived("START", answered=AutoReply.START)),
    (TextReceived("STOP", answered=AutoReply.STOP), "RESEND", "START"),
    (TextReceived("HELP", answered=AutoReply.OTHER),),
    *[(TextReceived(text, shape),) for text in ("123456", "START") for shape in Shape],
)
PAUSES = (
    *[timedelta()] * 8,
    *(SECOND, 29 * SECOND, 30 * SECOND, 10 * MINUTE - INSTANT, 10 * MINUTE, 15 * MINUTE, HOUR, DAY),
)
passages = st.builds(
    lambda at, pause, passage: [(at, pause, passage[0]), *((at, SECOND, it) for it in passage[1:])],
    st.sampled_from((BOT, BOT, BOT, OTHER_BOT)),
    st.sampled_from(PAUSES),
    st.sampled_from(PASSAGES),
)
scripts: st.SearchStrategy[Script] = st.lists(passages, min_size=10, max_size=40).map(
    lambda lists: [step for steps in lists for step in steps]
)
policies = st.builds(
    Policy,
    code_format=st.sampled_from((CodeFormat(6, Alphabet.DIGITS), CodeFormat(64, Alphabet.HEX))),
    code_lifetime=st.sampled_from((10 * MINUTE, HOUR)),
    attempts=st.integers(1, 6),
    resend_cooldown=st.sampled_from((timedelta(), 30 * SECOND)),
    codes_per_hour=st.integers(1, 6),
    codes_per_day=st.integers(1, 10),
    app_name=st.just("W" * 24),
)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Moment(NamedTuple):
    """One step of a long script: what was, what happened, and what it led to."""

    at: str
    before: Conversation
    said: str
    now: datetime
    decision: Decision

    @property
    def reply(self) -> Reply | None:
        return self.decision.message.reply if self.decision.message else None

    @property
    def after(self) -> Conversation:
        return self.decision.conversation


def moments(someone: Person, script: Script) -> Iterator[Moment]:
    for at, pause, happens in script:
        someone.now += pause
        happened = (
            TextReceived(someone.spelled(happens, at=at)) if isinstance(happens, str) else happens
        )
        before = someone.conversations[at]
        someone.meets(happened, at=at)
        said = happened.text if isinstance(happened, TextReceived) else ""
        yield Moment(at, before, said, someone.now, someone.last())


@thorough
@given(policies, scripts)
def test_whatever_happens_state_and_facts_agree(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        after = moment.after
        assert (after.opted_out_at is None) == (after.opt_out_wording is None)
        match after.state:
            case State.OPTED_OUT:
                assert after.opted_out_at is not None
            case State.AWAITING_CODE:
                assert after.token is not None
                assert after.token.works_at(moment.now)
            case State.LOCKED:
                assert moment.decision.limits.locked_at(moment.now)
            case State.VERIFIED:
                assert after.token is not None
                assert after.token.used_at is not None
                assert after.verified_at is not None


@thorough
@given(policies, scripts)
def test_whatever_happens_no_token_takes_more_guesses_than_the_policy_allows(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    wrong_in_a_row = 0
    guessed: Counter[str] = Counter()
    for moment in moments(someone, script):
        token = moment.after.token
        if moment.reply in {Reply.WRONG, Reply.LOCKED, Reply.SUCCESS}:
            assert token is not None
            guessed[token.id] += 1
            assert token.guesses == guessed[token.id] <= policy.attempts
        wrong_in_a_row += moment.reply in {Reply.WRONG, Reply.LOCKED}
        assert wrong_in_a_row <= policy.attempts
        assert moment.decision.limits.wrong_guesses < policy.attempts
        if moment.reply in {Reply.LOCKED, Reply.SUCCESS}:
            wrong_in_a_row = 0


@thorough
@given(policies, scripts)
def test_whatever_happens_only_the_right_code_in_time_verifies(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        before, after = moment.before, moment.after
        token = before.token
        right = token is not None and moment.said == someone.keyring.code(token, moment.at, PHONE)
        if moment.reply is Reply.SUCCESS:
            assert before.state is State.AWAITING_CODE
            assert token is not None
            assert right
            assert token.works_at(moment.now)
            assert after.verified_at == moment.now
        else:
            assert after.verified_at == before.verified_at


@thorough
@given(policies, scripts)
def test_whatever_happens_no_text_follows_stop_until_start(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        if moment.before.state is State.OPTED_OUT:
            assert moment.reply in {None, Reply.WELCOME, Reply.WAIT, Reply.STATUS_LOCKED}
            before = replace(moment.before, opted_out_at=moment.after.opted_out_at)
            assert moment.after == before or moment.after.state is State.IDLE
        if moment.after.state is State.OPTED_OUT:
            assert moment.reply in {None, Reply.STOPPED}


@thorough
@given(policies, scripts)
def test_whatever_happens_the_limits_on_code_texts_hold(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    sent: list[datetime] = []
    for moment in moments(someone, script):
        if moment.reply is Reply.CODE:
            sent.append(moment.now)
            assert sum(time > moment.now - HOUR for time in sent) <= policy.codes_per_hour
            assert sum(time > moment.now - DAY for time in sent) <= policy.codes_per_day


@thorough
@given(policies, scripts)
def test_whatever_happens_hints_stop_after_three_in_a_row(policy: Policy, script: Script) -> None:
    someone = Person(policy)
    hinted: dict[str, list[datetime]] = {BOT: [], OTHER_BOT: []}
    for moment in moments(someone, script):
        if moment.reply in HINTS:
            hinted[moment.at].append(moment.now)
            recent = [time for time in hinted[moment.at] if time > moment.now - HOUR]
            assert len(recent) <= 3
        elif moment.reply in {Reply.CODE, Reply.SUCCESS}:
            hinted[moment.at].clear()
        elif moment.reply is not None:
            recent = [time for time in hinted[moment.at] if time > moment.now - HOUR]
            hinted[moment.at] = recent if len(recent) == 3 else []


@thorough
@given(policies, scripts)
def test_whatever_happens_a_text_fits_one_segment_and_only_code_texts_carry_a_token(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is None:
            continue
        text = message.body.replace(CODE_PLACEHOLDER, "D" * policy.code_format.length)
        assert len(text) <= SEGMENT
        assert set(text) <= GSM7_BASIC
        assert message.send_by > moment.now
        assert (message.token is not None) == (message.reply is Reply.CODE)
        if message.token is not None:
            assert message.token == moment.after.token
            assert message.token.works_at(moment.now)


@thorough
@given(policies, scripts)
def test_whatever_happens_the_word_verified_is_read_only_by_who_is(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is not None and "verified" in message.body.casefold():
            assert moment.after.verified_at is not None


def told(body: str) -> timedelta:
    """Read the wait that a text names."""
    found = re.search(r"(?:wait|for) (\d+) (second|minute|hour)", body)
    assert found is not None
    return int(found[1]) * {"second": SECOND, "minute": MINUTE, "hour": HOUR}[found[2]]


@thorough
@given(policies, scripts)
def test_whatever_happens_verify_works_from_when_a_text_says_so(
    policy: Policy, script: Script
) -> None:
    someone = Person(policy)
    for moment in moments(someone, script):
        message = moment.decision.message
        if message is None or "ext VERIFY" not in message.body or message.reply is Reply.HELP:
            continue
        named = {Reply.WAIT, Reply.LOCKED, Reply.STATUS_LOCKED, Reply.NOT_ME}
        wait = told(message.body) if message.reply in named else timedelta()
        decision = decide(
            moment.after,
            moment.decision.limits,
            TextReceived("VERIFY"),
            now=moment.now + wait,
            policy=policy,
            keyring=someone.keyring,
            fresh_id="f" * 32,
        )
        assert decision.message is not None
        assert decision.message.reply is Reply.CODE


def test_a_wait_that_was_told_is_told_again_only_to_who_asks_for_the_status() -> None:
    someone = Person(Policy(codes_per_hour=1))
    someone.plays("VERIFY", RIGHT)
    assert someone.texts("VERIFY") is Reply.WAIT
    for said in ("RESEND", "hello", "123456"):
        assert someone.texts(said) is None
    assert someone.plays("START") is Reply.WAIT


@pytest.mark.parametrize("said", ["stop ①②③④⑤⑥", "Stop \uff21\uff22\uff23\uff24 now"])
def test_no_code_however_typed_is_kept_with_an_opt_out(person: Person, said: str) -> None:
    person.texts(said)
    wording = person.conversations[BOT].opt_out_wording
    assert wording is not None
    assert wording.startswith(("stop", "Stop"))
    assert "…" in wording
    assert not set(wording) & set("①⑥ＡＤ")


def test_a_right_code_never_costs_the_last_try_of_another() -> None:
    person = Person()
    person.plays("VERIFY", *[WRONG] * 4, CodeRequested("v", Origin.APP))
    (asked,) = person.conversations[BOT].asked
    assert person.texts(person.keyring.code(asked, BOT, PHONE)) is Reply.SUCCESS
    assert person.state() is State.VERIFIED
    assert person.token().spent
    assert person.plays(RIGHT) is Reply.NO_CODE
    assert not person.limits.locked_at(person.now)


def test_a_right_code_by_text_gives_no_further_guess_at_another() -> None:
    person = Person()
    person.plays(CodeRequested("v", Origin.APP), CodeRequested("w", Origin.APP))
    for number in range(4):
        person.meets(CodeSubmitted("w", f"{number:06}"))
    asked = {token.verification: token for token in person.conversations[BOT].asked}
    person.texts(person.keyring.code(asked["v"], BOT, PHONE))
    person.meets(CodeSubmitted("w", "999999"))
    guesses = [token.guesses for token in person.conversations[BOT].asked]
    assert max(guesses) <= person.policy.attempts


@pytest.mark.parametrize("written", ["ab-cd-ef", "a.b.c.d.e.f", "A_B_C_D_E_F", "(abc)(def)"])
def test_no_hexadecimal_code_is_kept_in_a_wording_however_it_is_divided(written: str) -> None:
    person = Person(Policy(code_format=CodeFormat(6, Alphabet.HEX)))
    person.plays("VERIFY", f"stop {written}")
    assert person.conversations[BOT].opt_out_wording == "stop \N{HORIZONTAL ELLIPSIS}"
