from __future__ import annotations

import pytest

from bot.conversation.decision import Decision
from bot.conversation.inputs import Shape
from bot.conversation.replies import CODE_PLACEHOLDER, Reply
from bot.conversation.state import State
from tests.conversation.person import BOT, MORNING, RIGHT, WRONG, Person, someone_in


def test_a_code_in_a_media_message_is_never_a_guess(awaiting: Person) -> None:
    before = awaiting.last()

    assert awaiting.texts(awaiting.code(), shape=Shape.MEDIA) is Reply.HINT_CODE
    assert awaiting.texts(awaiting.wrong_code(), shape=Shape.MEDIA) is Reply.HINT_CODE
    assert awaiting.state() is State.AWAITING_CODE
    assert awaiting.token() == before.conversation.token
    assert awaiting.limits == before.limits


def test_a_picture_without_words_gets_a_hint_on_what_to_text(person: Person) -> None:
    assert person.texts("", shape=Shape.MEDIA) is Reply.HINT


@pytest.mark.parametrize(
    ("text", "reply"), [("VERIFY", Reply.CODE), ("HELP", Reply.HELP), ("STOP", Reply.STOPPED)]
)
def test_words_in_a_media_message_are_understood(person: Person, text: str, reply: Reply) -> None:
    assert person.texts(text, shape=Shape.MEDIA) is reply


@pytest.mark.parametrize(
    "text", ["VERIFY", "RESEND", "HELP", "STATUS", "NOT ME", "START", "hello", "12345", RIGHT]
)
@pytest.mark.parametrize("state", list(State))
def test_a_group_message_gets_no_reply_and_is_never_a_guess(state: State, text: str) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    assert someone.texts(someone.with_real_code(text), shape=Shape.GROUP) is None
    assert someone.last() == Decision(conversation, limits, person=someone.known)


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
def test_a_reaction_never_verifies_costs_no_try_and_gets_no_reply(
    state: State, reaction: str
) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    for quoted in (RIGHT, WRONG):
        assert someone.texts(reaction.format(someone.with_real_code(quoted))) is None
        assert someone.last() == Decision(conversation, limits, person=someone.known)


@pytest.mark.parametrize("text", ["thanks", "thank you!", "ok", "👍", "again"])
@pytest.mark.parametrize("state", list(State))
def test_thanks_get_no_reply_in_every_state(state: State, text: str) -> None:
    someone = someone_in(state)
    conversation, limits = someone.conversations[BOT], someone.limits

    assert someone.texts(text) is None
    assert someone.last() == Decision(conversation, limits, person=someone.known)


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
