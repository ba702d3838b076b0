from __future__ import annotations

import pytest

from bot.conversation.actions import Cancel
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import State
from tests.conversation.person import (
    BOT,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    RIGHT,
    SECOND,
    WRONG,
    Person,
    someone_in,
    texted,
)


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


def test_stop_and_start_do_not_end_the_refusal_of_codes(awaiting: Person) -> None:
    assert awaiting.plays("NOT ME", "STOP", "START") is Reply.WAIT
    assert awaiting.plays(HOUR - INSTANT, "VERIFY") is None
    assert awaiting.plays(INSTANT, "VERIFY") is Reply.CODE


@pytest.mark.parametrize("text", ["VERIFY", "RESEND", "START", "hello", RIGHT])
def test_a_text_from_before_not_me_does_not_undo_it_even_after_its_period(
    awaiting: Person, text: str
) -> None:
    asked_at = awaiting.now
    said = awaiting.with_real_code(text, at=BOT)
    awaiting.plays(SECOND, texted("NOT ME", awaiting.now + SECOND))
    before = awaiting.conversations[BOT]
    assert awaiting.plays(MINUTE, texted(said, asked_at)) is None
    assert awaiting.plays(2 * HOUR, texted(said, asked_at + SECOND)) is None
    assert awaiting.conversations[BOT] == before
    assert awaiting.plays(texted("VERIFY", awaiting.now)) is Reply.CODE


def test_not_me_lasts_for_its_period_from_when_it_was_texted(awaiting: Person) -> None:
    said_at = awaiting.now
    assert awaiting.plays(20 * MINUTE, texted("NOT ME", said_at)) is Reply.NOT_ME
    assert awaiting.limits.refused_until == said_at + HOUR
    assert awaiting.plays(texted("VERIFY", awaiting.now)) is not Reply.CODE
    assert awaiting.plays(40 * MINUTE, texted("VERIFY", awaiting.now)) is Reply.CODE
    assert awaiting.plays(texted("NOT ME", said_at + SECOND - HOUR)) is None
    assert awaiting.state() is State.AWAITING_CODE


def test_not_me_after_stop_refuses_codes_after_start_too(opted_out: Person) -> None:
    assert opted_out.plays(MINUTE, "NOT ME") is None
    assert opted_out.plays(MINUTE, "START", "VERIFY") is not Reply.CODE


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


def test_a_silenced_not_me_still_ends_the_code(awaiting: Person) -> None:
    code = awaiting.code()
    awaiting.plays(*["HELP"] * 10)

    assert awaiting.texts("NOT ME") is None
    assert awaiting.state() is State.IDLE
    assert awaiting.plays(HOUR, code) is Reply.NO_CODE
