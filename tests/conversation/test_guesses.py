from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from bot.conversation.actions import Cancel
from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision
from bot.conversation.inputs import AutoReply, OptedOutAtCarrier, TextReceived
from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.person import Person as KnownPerson
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import Alphabet, CodeFormat, PhoneLimits, State
from bot.conversation.transitions import ImpossibleError
from tests.conversation.person import (
    BOT,
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    OTHER_SECRET,
    RIGHT,
    SECOND,
    SECRET,
    WRONG,
    Person,
    Step,
)


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
def test_a_code_allows_as_many_wrong_guesses_as_the_operator_says(attempts: int) -> None:
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
            TextReceived("STOP", auto_reply=AutoReply.STOP),
            TextReceived("START", auto_reply=AutoReply.START),
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
    awaiting.policy = Policy(growth=())
    assert awaiting.plays(*[WRONG] * 4, RIGHT, "VERIFY") is Reply.CODE
    assert awaiting.plays(*[WRONG] * 4) is Reply.WRONG
    assert awaiting.plays(WRONG) is Reply.LOCKED


def test_no_code_allows_more_guesses_than_its_own_tries_even_after_a_success_elsewhere(
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


def test_too_few_digits_are_chatter_if_no_code_is_awaited(person: Person) -> None:
    assert person.texts("12345") is Reply.HINT


def test_a_guess_without_a_request_gets_a_reply_that_says_so(person: Person) -> None:
    assert person.texts("123456") is Reply.NO_CODE
    assert person.state() is State.IDLE
    assert person.limits == PhoneLimits()


def test_the_code_of_one_number_of_the_bot_does_not_work_at_another(awaiting: Person) -> None:
    awaiting.texts("VERIFY", to=OTHER_BOT)
    code, other_code = awaiting.code(), awaiting.code(at=OTHER_BOT)
    assert code != other_code

    assert awaiting.texts(other_code) is Reply.WRONG
    assert awaiting.texts(code) is Reply.SUCCESS


@pytest.mark.parametrize("spelling", ["{} ", "my code is {}", "“{}”", "VERIFY {}", "\u200b{}"])
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
def test_an_expiry_is_noticed_with_any_text(awaiting: Person, text: str) -> None:
    expected = {"STATUS": Reply.STATUS, "HELP": Reply.HELP}.get(text, Reply.HINT)

    assert awaiting.plays(10 * MINUTE, text) is expected
    assert awaiting.state() is State.IDLE


def test_a_token_that_another_process_issued_a_moment_ahead_works(awaiting: Person) -> None:
    awaiting.now -= MAX_CLOCK_SKEW

    assert awaiting.plays(RIGHT) is Reply.SUCCESS


def test_a_token_from_the_future_counts_as_expired(awaiting: Person) -> None:
    awaiting.now -= MINUTE

    assert awaiting.plays(RIGHT) is Reply.EXPIRED
    assert awaiting.state() is State.IDLE


def test_a_token_whose_key_is_gone_counts_as_expired(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.keyring = Keyring([OTHER_SECRET])

    assert awaiting.texts(code) is Reply.EXPIRED
    assert awaiting.plays("VERIFY", RIGHT) is Reply.SUCCESS


def test_a_code_signed_with_the_previous_key_still_verifies(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.keyring = Keyring([OTHER_SECRET, SECRET])

    assert awaiting.plays(MINUTE, "RESEND") is Reply.CODE
    assert awaiting.texts(code) is Reply.SUCCESS


@pytest.mark.parametrize("later", [timedelta(), MINUTE, DAY])
def test_a_used_code_texted_again_gets_no_reply(verified: Person, later: timedelta) -> None:
    before = verified.last()

    assert verified.plays(later, RIGHT) is None
    assert verified.last() == Decision(before.conversation, before.limits, person=before.person)


def test_another_code_from_a_verified_person_gets_the_reply_that_none_is_waiting(
    verified: Person,
) -> None:
    assert verified.plays(WRONG) is Reply.NO_CODE
    assert verified.state() is State.VERIFIED
    assert verified.limits.wrong_guesses == 0


def test_a_used_code_gets_no_reply_in_every_state(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.plays(RIGHT, "STOP", "START")
    assert awaiting.texts(code) is None


FACTS_THAT_CONTRADICT = [State.IDLE, State.VERIFIED, State.OPTED_OUT]


@pytest.mark.parametrize("state", FACTS_THAT_CONTRADICT)
def test_a_guess_at_facts_that_contradict_each_other_raises(awaiting: Person, state: State) -> None:
    code = awaiting.code()
    awaiting.conversations[BOT] = replace(awaiting.conversations[BOT], state=state)
    awaiting.known = KnownPerson(opted_out=state is State.OPTED_OUT)

    with pytest.raises(ImpossibleError):
        awaiting.texts(code)
    assert awaiting.verified_at() is None


@pytest.mark.parametrize("text", ["STOP", "START", "NOT ME", "HELP", "STATUS", "hello"])
@pytest.mark.parametrize("state", FACTS_THAT_CONTRADICT)
def test_other_texts_work_even_if_the_facts_contradict_each_other(
    awaiting: Person, state: State, text: str
) -> None:
    awaiting.conversations[BOT] = replace(awaiting.conversations[BOT], state=state)
    awaiting.known = KnownPerson(opted_out=state is State.OPTED_OUT)

    awaiting.texts(text)

    assert (awaiting.state() is State.OPTED_OUT) is (
        text == "STOP" or (state is State.OPTED_OUT and text != "START")
    )
