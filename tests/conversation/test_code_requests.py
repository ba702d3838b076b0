from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from bot.conversation.actions import Cancel
from bot.conversation.channels import TEXT
from bot.conversation.decision import Decision
from bot.conversation.policy import Policy
from bot.conversation.replies import CODE_PLACEHOLDER, Reply
from bot.conversation.reply_choice import TEXT_LIFETIME
from bot.conversation.state import Alphabet, CodeFormat, State, Token
from tests.conversation.person import (
    BOT,
    DAY,
    HOUR,
    INSTANT,
    MINUTE,
    MORNING,
    OTHER_BOT,
    RIGHT,
    SECOND,
    Person,
    someone_in,
)


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
        channel=TEXT,
    )


def test_the_code_text_carries_its_token_and_never_the_code(awaiting: Person) -> None:
    message = awaiting.message()

    assert message.token == awaiting.token()
    assert CODE_PLACEHOLDER in message.body
    assert awaiting.code() not in message.body
    assert awaiting.code() not in repr(awaiting.last())


def test_a_code_text_is_not_sent_after_the_code_has_expired(awaiting: Person) -> None:
    assert awaiting.message().send_by == MORNING + timedelta(minutes=10)
    assert awaiting.plays(MINUTE, "RESEND") is Reply.CODE
    assert awaiting.message().send_by == MORNING + timedelta(minutes=10)


@pytest.mark.parametrize("text", ["hello", "HELP", "STATUS", "STOP", "NOT ME", "123456"])
def test_a_text_without_a_code_is_sent_within_a_quarter_of_an_hour_or_not_at_all(
    person: Person, text: str
) -> None:
    person.texts(text)

    assert person.message().token is None
    assert person.message().send_by == MORNING + TEXT_LIFETIME == MORNING + timedelta(minutes=15)


def test_replies_name_the_app_and_its_support_contact() -> None:
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


@pytest.mark.parametrize("text", ["VERIFY", "RESEND", "verify me", "send it again"])
def test_another_request_while_a_code_is_live_sends_the_same_code(
    awaiting: Person, text: str
) -> None:
    before, code = awaiting.token(), awaiting.code()

    assert awaiting.plays(4 * MINUTE, text) is Reply.CODE
    assert awaiting.message().token == awaiting.token()
    assert awaiting.code() == code
    assert awaiting.token() == replace(before, resend_after=awaiting.now + 30 * SECOND)
    assert "within 6 minutes" in awaiting.message().body


@pytest.mark.parametrize("text", ["VERIFY", "RESEND"])
def test_another_request_within_the_cooldown_gets_no_reply(awaiting: Person, text: str) -> None:
    before = awaiting.last()

    assert awaiting.plays(30 * SECOND - INSTANT, text) is None
    assert awaiting.last() == Decision(before.conversation, before.limits)
    assert awaiting.plays(INSTANT, text) is Reply.CODE


def test_every_code_text_restarts_the_cooldown(awaiting: Person) -> None:
    assert awaiting.plays(30 * SECOND, "RESEND") is Reply.CODE
    assert awaiting.plays(29 * SECOND, "RESEND") is None
    assert awaiting.plays(SECOND, "RESEND") is Reply.CODE


def test_without_a_cooldown_every_request_gets_the_code_at_once() -> None:
    someone = Person(Policy(resend_cooldown=timedelta()))

    assert [someone.texts("VERIFY"), someone.texts("RESEND")] == [Reply.CODE, Reply.CODE]


@pytest.mark.parametrize("text", ["RESEND", "send it again"])
@pytest.mark.parametrize("state", [State.IDLE, State.VERIFIED])
def test_resend_without_a_code_says_that_none_is_waiting(state: State, text: str) -> None:
    someone = someone_in(state)

    assert someone.texts(text) is Reply.NO_CODE
    assert someone.state() is state


@pytest.mark.parametrize("text", ["VERIFY", "RESEND"])
def test_a_request_after_the_code_has_expired_gets_a_new_one_at_once(
    awaiting: Person, text: str
) -> None:
    old = awaiting.token()

    assert awaiting.plays(10 * MINUTE, text) is Reply.CODE
    assert awaiting.token().id != old.id
    assert awaiting.token().issued_at == awaiting.now
    assert awaiting.message().token == awaiting.token()
    assert awaiting.last().cancel is Cancel.CODES


def test_an_earlier_code_no_longer_works_once_a_new_one_is_issued(awaiting: Person) -> None:
    old_code = awaiting.code()
    awaiting.plays(10 * MINUTE, "VERIFY")

    assert awaiting.texts(old_code) is Reply.WRONG
    assert awaiting.texts(awaiting.code()) is Reply.SUCCESS


def test_a_new_request_never_erases_that_a_person_was_verified(verified: Person) -> None:
    assert verified.plays(DAY, "VERIFY") is Reply.CODE
    assert verified.state() is State.AWAITING_CODE
    assert verified.verified_at() == MORNING

    verified.plays(10 * MINUTE, "hello")
    assert verified.state() is State.IDLE
    assert verified.verified_at() == MORNING


def test_the_time_of_the_latest_success_counts(verified: Person) -> None:
    assert verified.plays(DAY, "VERIFY", RIGHT) is Reply.SUCCESS
    assert verified.verified_at() == MORNING + DAY


def test_a_person_just_verified_may_request_a_code_without_a_cooldown(verified: Person) -> None:
    used = verified.token()

    assert verified.texts("VERIFY") is Reply.CODE
    assert verified.token().id != used.id


def test_beyond_the_hours_limit_one_reply_names_the_wait_and_then_there_is_none(
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
def test_beyond_the_limit_a_person_with_a_code_learns_how_long_it_works_and_when_it_can_be_resent(
    text: str,
) -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", 2 * MINUTE + SECOND, text) is Reply.WAIT_CODE
    assert "works for 7 minutes more" in someone.message().body
    assert "for 58 minutes" in someone.message().body
    assert someone.state() is State.AWAITING_CODE
    assert someone.message().token is None


def test_beyond_the_limit_a_live_code_still_works(awaiting: Person) -> None:
    for _ in range(5):
        awaiting.plays(30 * SECOND, "RESEND")

    assert awaiting.plays(RIGHT) is Reply.SUCCESS


def test_beyond_the_days_limit_the_wait_lasts_until_a_day_after_the_first() -> None:
    someone = Person()
    for _ in range(7):  # three of ten are kept for apps
        assert someone.plays("VERIFY", RIGHT, HOUR) is Reply.SUCCESS

    assert someone.texts("VERIFY") is Reply.WAIT
    assert "17 hours" in someone.message().body
    assert someone.plays(17 * HOUR - INSTANT, "VERIFY") is None
    assert someone.plays(INSTANT, "VERIFY") is Reply.CODE


def test_the_limits_count_whichever_number_of_the_bot_is_texted(person: Person) -> None:
    for number in (BOT, OTHER_BOT, BOT, OTHER_BOT, BOT):
        assert person.plays("VERIFY", RIGHT, at=number) is Reply.SUCCESS

    assert person.texts("VERIFY", to=OTHER_BOT) is Reply.WAIT
    assert person.texts("VERIFY") is None


def test_a_wait_is_announced_again_when_the_limit_is_reached_again() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", RIGHT, "VERIFY") is Reply.WAIT
    assert someone.plays(HOUR, "VERIFY", RIGHT) is Reply.SUCCESS
    assert someone.texts("VERIFY") is Reply.WAIT


def test_a_request_within_the_cooldown_gets_no_reply_even_at_the_limit() -> None:
    someone = Person(Policy(codes_per_hour=1))

    assert someone.plays("VERIFY", "RESEND") is None
    assert someone.plays(30 * SECOND, "RESEND") is Reply.WAIT_CODE


def test_requests_without_a_code_count_towards_no_limit(awaiting: Person) -> None:
    awaiting.plays(*["VERIFY"] * 20)

    assert awaiting.plays(30 * SECOND, "RESEND") is Reply.CODE
