from __future__ import annotations

import pytest
from msgspec.structs import replace

from bot.conversation.app_events import EventType
from bot.conversation.inputs import (
    CodeRequested,
    CodeSubmitted,
    ReferenceLookup,
    ResendRequested,
    TextReceived,
)
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State, Token
from bot.conversation.verification import Complete, Origin, Reason
from tests.conversation.person import BOT, HOUR, MINUTE, OTHER_BOT, PHONE, RIGHT, WRONG, Person


def asked(person: Person, *, complete: Complete = Complete.TYPED, id_: str = "v") -> Token:
    """Let an app request a code, and return its token."""
    person.handle(CodeRequested(id_, Origin.APP, complete))
    return token_of(person, id_)


def token_of(person: Person, id_: str) -> Token:
    tokens = person.conversations[BOT].verification_tokens
    return next(token for token in tokens if token.verification == id_)


def code_of(person: Person, token: Token) -> str:
    return person.keyring.code(token, BOT, PHONE)


def with_letters(person: Person, token: Token) -> str:
    letters = person.keyring.letters(token.verification or "", token.letters_index)
    return f"{code_of(person, token)} {letters}"


@pytest.mark.parametrize("origin", [Origin.APP, Origin.FORM])
@pytest.mark.parametrize("complete", list(Complete))
def test_a_code_alone_never_completes_what_an_app_or_the_form_asked_for(
    origin: Origin, complete: Complete
) -> None:
    person = Person()
    person.handle(CodeRequested("v", origin, complete))
    token = token_of(person, "v")
    assert person.message().reply is Reply.CODE_TYPED

    assert person.texts(code_of(person, token)) is Reply.TYPE_IT
    assert token_of(person, "v") == replace(token, explained=True)
    assert person.verified_at() is None
    assert person.limits.wrong_guesses == 0


@pytest.mark.parametrize("text", ["123456", "12345", "RESEND", "STATUS"])
def test_where_to_type_a_code_is_said_once_each_time_it_is_sent(text: str) -> None:
    person = Person()
    asked(person)

    assert [person.texts(text) for _ in range(3)] == [Reply.TYPE_IT, None, None]
    person.plays(MINUTE, ResendRequested("v"))
    assert [person.texts(text) for _ in range(2)] == [Reply.TYPE_IT, None]


def test_a_code_alone_is_compared_with_the_persons_own_only() -> None:
    person = Person()
    other = asked(person)
    person.texts("VERIFY")

    assert person.texts(code_of(person, other)) is Reply.WRONG_TYPE_IT
    assert token_of(person, "v") == other
    assert person.token().guesses == person.limits.wrong_guesses == 1
    assert person.plays(RIGHT) is Reply.SUCCESS
    assert token_of(person, "v") == other
    assert person.state() is State.AWAITING_CODE


@pytest.mark.parametrize(
    "form",
    ["{0} {1}", "{1}{0}", "{0}{1}", "{0} {2}. {3}.", "it is {0}, letters: {1}", "{0} and {1}"],
)
def test_a_code_with_the_letters_of_its_request_completes_it(form: str) -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)
    code, letters = with_letters(person, token).split()

    assert person.texts(form.format(code, letters.lower(), *letters)) is Reply.SUCCESS
    (event,) = person.last().app_events
    assert (event.type, event.verification) == (EventType.VERIFIED, "v")
    assert person.state() is State.VERIFIED


def test_the_letters_choose_the_request_that_a_code_is_compared_with() -> None:
    person = Person()
    first = asked(person, complete=Complete.REPLY)
    second = asked(person, complete=Complete.REPLY, id_="w")
    letters = with_letters(person, second).split()[1]

    assert person.texts(f"{code_of(person, first)} {letters}") is Reply.WRONG_TYPE_IT
    assert [token_of(person, id_).guesses for id_ in "vw"] == [0, 1]
    assert person.texts(with_letters(person, first)) is Reply.SUCCESS
    assert person.state() is State.AWAITING_CODE


def test_letters_of_no_live_request_compare_with_nothing_and_cost_a_try() -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)
    person.texts("VERIFY")
    taken = person.keyring.letters("v", token.letters_index)
    others = "GH" if taken != "GH" else "HG"

    assert person.texts(f"{code_of(person, token)} {others}") is Reply.WRONG_TYPE_IT
    assert person.texts(f"{person.code()} {others}") is Reply.WRONG_TYPE_IT
    assert person.limits.wrong_guesses == 2
    assert token_of(person, "v").guesses == person.token().guesses == 0


def test_a_code_that_can_only_be_typed_takes_no_letters() -> None:
    person = Person()
    token = asked(person)

    assert person.texts(with_letters(person, token)) is Reply.TYPE_IT
    assert token_of(person, "v").guesses == person.limits.wrong_guesses == 0
    assert person.verified_at() is None


def test_letters_are_only_a_word_while_no_live_request_has_any() -> None:
    person = Person()
    asked(person)
    person.texts("VERIFY")

    assert person.texts(f"{person.code()} pm") is Reply.SUCCESS


def test_what_an_app_asked_for_and_has_expired_brings_no_code_by_text() -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)

    assert person.plays(HOUR, code_of(person, token)) is Reply.NO_CODE
    asked(person, id_="w")
    assert person.plays(HOUR, "RESEND") is Reply.NO_CODE


def test_an_unclear_text_is_answered_with_where_to_type_the_code_at_first() -> None:
    person = Person()
    asked(person)

    assert [person.texts("hello") for _ in range(2)] == [Reply.TYPE_IT, Reply.HINT]


def test_texts_that_get_no_reply_use_up_no_answer() -> None:
    person = Person()
    asked(person)
    assert [person.texts("123456") for _ in range(12)] == [Reply.TYPE_IT, *[None] * 11]
    asked(person, id_="w")

    assert person.texts("123456") is Reply.TYPE_IT
    assert person.texts("HELP") is Reply.HELP


def test_a_wrong_reply_says_how_many_tries_its_request_has_left() -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)
    for number in range(3):
        person.handle(CodeSubmitted("v", f"{number:06}"))
    letters = with_letters(person, token).split()[1]

    assert person.texts(f"999999 {letters}") is Reply.WRONG_TYPE_IT
    assert "1 try left" in person.message().body


def test_letters_without_any_live_code_cost_no_try() -> None:
    person = Person()

    assert person.texts("123456 KT") is Reply.NO_CODE
    assert person.limits.wrong_guesses == 0


def test_all_live_requests_of_a_phone_have_different_letters() -> None:
    person = Person(Policy(codes_per_hour=100, codes_per_day=100))
    tokens = [asked(person, complete=Complete.REPLY, id_=f"v{n}") for n in range(60)]

    assert len({with_letters(person, token).split()[1] for token in tokens}) == 60
    assert any(token.letters_index for token in tokens)


@pytest.mark.parametrize(
    ("complete", "text", "guess"),
    [
        (Complete.REPLY, Reply.CODE, Reply.SUCCESS),
        (Complete.TYPED, Reply.CODE_TYPED, Reply.TYPE_IT),
    ],
)
def test_a_reply_completes_a_reference_unless_its_code_must_be_typed(
    complete: Complete, text: Reply, guess: Reply
) -> None:
    person = Person()
    lookup = ReferenceLookup("v", available=True, begun_here=False, complete=complete)

    assert person.handle(TextReceived("VERIFY 7Q2K42", reference=lookup)) is text
    assert person.texts(code_of(person, token_of(person, "v"))) is guess


def test_no_text_shows_the_letters() -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)
    letters = with_letters(person, token).split()[1]

    assert letters not in person.message().body.replace("NOT ME", "").split()


def test_wrong_replies_by_text_count_for_what_they_are_compared_with() -> None:
    person = Person()
    token = asked(person, complete=Complete.REPLY)
    for number in range(4):
        person.handle(CodeSubmitted("v", f"{number:06}"))
    letters = with_letters(person, token).split()[1]

    assert person.texts(f"999999 {letters}") is Reply.CODE_SPENT
    assert token_of(person, "v").spent
    assert person.state() is State.IDLE


def test_an_app_learns_of_guesses_at_another_number() -> None:
    person = Person()
    lookup = ReferenceLookup("v", available=True, begun_here=False)
    person.handle(TextReceived("VERIFY 7Q2K42", reference=lookup))
    person.plays("VERIFY", *[WRONG] * 5, "NOT ME", at=OTHER_BOT)
    (event,) = [event for followed in person.followed for event in followed.app_events]
    assert (event.type, event.reason) == (EventType.FAILED, Reason.TOO_MANY_GUESSES)


def test_an_app_learns_of_not_me_at_another_number() -> None:
    person = Person()
    person.handle(CodeRequested("v", Origin.APP))
    person.plays("NOT ME", at=OTHER_BOT)
    (event,) = person.followed[-1].app_events
    assert (event.type, event.reason) == (EventType.FAILED, Reason.NOT_ME)
