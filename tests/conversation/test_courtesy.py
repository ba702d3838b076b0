from __future__ import annotations

import pytest

from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from tests.conversation.person import (
    HINTS,
    HOUR,
    IN_STATE,
    INSTANT,
    MINUTE,
    RIGHT,
    WRONG,
    Person,
    Step,
    someone_in,
)


@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_chatter_gets_a_hint_on_what_to_text(state: State) -> None:
    assert someone_in(state).texts("hello") is Reply.HINT


def test_chatter_while_a_code_is_awaited_gets_a_hint_to_reply_with_it_and_costs_no_try(
    awaiting: Person,
) -> None:
    assert awaiting.texts("call me at 312-555-0001") is Reply.HINT_CODE
    assert awaiting.token().guesses == awaiting.limits.wrong_guesses == 0


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
def test_any_other_reply_restarts_the_count_of_hints(person: Person, between: str) -> None:
    person.plays("hello", "hello")
    assert person.texts(between) is not None

    assert [person.texts("hello") for _ in range(4)] == [*[Reply.HINT] * 3, None]


@pytest.mark.parametrize("between", ["HELP", "STATUS", "123456", "RESEND", "START"])
def test_no_other_reply_ends_the_silence_once_it_has_begun(person: Person, between: str) -> None:
    person.plays("hello", "hello", "hello")
    assert person.texts(between) is not None

    assert person.texts("hello") is None


@pytest.mark.parametrize("between", ["thanks", "Liked “hello”"])
def test_a_text_without_a_reply_does_not_restart_the_count_of_hints(
    person: Person, between: str
) -> None:
    assert person.plays("hello", "hello", between, "hello") is Reply.HINT
    assert person.texts("hello") is None


def test_a_code_typed_too_short_is_answered_after_the_hints_have_ended(awaiting: Person) -> None:
    assert awaiting.plays("hello", "hello", "hello", "hello") is None
    assert awaiting.texts("12345") is Reply.MISTYPED


def test_a_code_when_none_is_live_is_answered_after_the_hints_have_ended(person: Person) -> None:
    assert person.plays("hello", "hello", "hello", "hello") is None
    assert person.texts("123456") is Reply.NO_CODE


def test_start_is_answered_after_the_hints_have_ended(awaiting: Person) -> None:
    assert awaiting.plays("hello", "hello", "hello", "hello") is None
    assert awaiting.texts("START") is Reply.STATUS_QUEUED


def test_an_answer_does_not_make_the_silence_longer(person: Person) -> None:
    person.plays("hello", "hello", "hello", "hello")
    assert person.plays(59 * MINUTE, "HELP") is Reply.HELP
    assert person.plays(2 * MINUTE, "hello") is Reply.HINT


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


@pytest.mark.parametrize(
    ("before", "forward"),
    [((), ("VERIFY",)), (("VERIFY",), (MINUTE, "RESEND")), (("VERIFY",), (RIGHT,))],
    ids=["a code", "a code again", "success"],
)
@pytest.mark.parametrize(("text", "times"), [("hello", 3), ("HELP", 10)])
def test_progress_towards_a_verification_ends_the_silence(
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


def test_help_and_status_are_not_answered_endlessly(person: Person) -> None:
    answers = [person.texts(text) for text in ("HELP", "STATUS") * 5]

    assert None not in answers
    assert person.texts("HELP") is None
    assert person.texts("STATUS") is None
    assert person.plays(HOUR, "HELP") is Reply.HELP
