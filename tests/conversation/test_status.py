from __future__ import annotations

import pytest
from msgspec.structs import replace

from bot.conversation.actions import Cancel
from bot.conversation.replies import Reply
from bot.conversation.state import CodeDelivery, State
from tests.conversation.person import BOT, DAY, MINUTE, SECOND, WRONG, Person, someone_in


def test_status_before_anything_says_that_nothing_is_confirmed(person: Person) -> None:
    assert person.texts("STATUS") is Reply.STATUS


def test_status_says_whether_the_code_was_sent_and_how_long_it_works(awaiting: Person) -> None:
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


def test_status_while_verifying_again_is_about_the_code(verified: Person) -> None:
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
