from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.conversation.replies import (
    CODE_PLACEHOLDER,
    CODE_WORDINGS,
    GSM7_BASIC,
    MAX_APP_NAME_LENGTH,
    MAX_SUPPORT_CONTACT_LENGTH,
    SEGMENT,
    Reply,
    compose,
    duration,
)

SINCE = datetime(2026, 9, 30, 23, 59, tzinfo=UTC)
ABOUT_A_CODES_LIFE = [
    Reply.CODE,
    Reply.STATUS_QUEUED,
    Reply.STATUS_SENT,
    Reply.WAIT_CODE,
]
ABOUT_A_WAIT = [Reply.LOCKED, Reply.STATUS_LOCKED, Reply.WAIT, Reply.WAIT_CODE, Reply.NOT_ME]
ANSWERS_TO_A_CODE = {
    Reply.CODE_SPENT,
    Reply.WRONG,
    Reply.WRONG_TYPE_IT,
    Reply.MISTYPED,
    Reply.EXPIRED,
    Reply.NO_CODE,
    Reply.LOCKED,
    Reply.HINT_CODE,
}
LENGTHS = [(4, False), (6, False), (10, False), (4, True), (64, True)]

modest = settings(max_examples=60, deadline=None)


def longest_duration(up_to: timedelta) -> timedelta:
    """Find the duration that takes the most characters to write."""
    minutes = range(1, up_to // timedelta(minutes=1) + 1)
    return max((timedelta(minutes=it) for it in minutes), key=lambda it: len(duration(it)))


MAX_WAIT_LENGTH = longest_duration(timedelta(hours=24))
MAX_CODE_LIFE_LENGTH = longest_duration(timedelta(hours=1))


def written(  # noqa: PLR0913 - as many values as a reply may name
    reply: Reply,
    *,
    app: str = "Textproof",
    support: str = "",
    code_length: int = 6,
    hexadecimal: bool = False,
    wait: timedelta = timedelta(minutes=10),
    refusal: timedelta = timedelta(minutes=10),
    life: timedelta = timedelta(minutes=10),
    tries: int = 5,
    since: datetime | None = SINCE,
) -> str:
    return compose(
        reply,
        app=app,
        support=support,
        host="verify.example.com",
        code_length=code_length,
        hexadecimal=hexadecimal,
        wait=wait,
        refusal=refusal,
        life=life,
        tries=tries,
        since=since,
    )


def longest(reply: Reply, code_length: int, *, hexadecimal: bool, support: str) -> str:
    """Write a reply with the longest possible values, and with a code in its place."""
    body = written(
        reply,
        app="W" * MAX_APP_NAME_LENGTH,
        support=support,
        code_length=code_length,
        hexadecimal=hexadecimal,
        wait=MAX_WAIT_LENGTH,
        refusal=MAX_CODE_LIFE_LENGTH,
        life=MAX_CODE_LIFE_LENGTH,
        tries=100,
    )
    return body.replace(CODE_PLACEHOLDER, ("D" if hexadecimal else "9") * code_length)


def test_the_maximum_lengths_are_the_documented_ones() -> None:
    assert (MAX_APP_NAME_LENGTH, MAX_SUPPORT_CONTACT_LENGTH, SEGMENT) == (24, 40, 160)


@pytest.mark.parametrize(("code_length", "hexadecimal"), LENGTHS)
@pytest.mark.parametrize("reply", sorted(set(Reply) - {Reply.CODE_FORM}))
def test_a_reply_fits_one_segment_with_its_longest_values(
    reply: Reply, code_length: int, *, hexadecimal: bool
) -> None:
    support = "W" * MAX_SUPPORT_CONTACT_LENGTH

    text = longest(reply, code_length, hexadecimal=hexadecimal, support=support)

    assert len(text) <= SEGMENT
    assert set(text) <= GSM7_BASIC


def test_no_character_of_a_gsm7_text_counts_double() -> None:
    assert len(GSM7_BASIC) == 127
    assert GSM7_BASIC.isdisjoint("^{}\\[~]|€\f")
    assert GSM7_BASIC.isdisjoint(
        "“”„«»…\N{EN DASH}\N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}\t`ç"
    )


def test_only_replies_to_verified_people_contain_the_word_verified() -> None:
    said = {
        reply
        for reply in Reply
        for hexadecimal in (False, True)
        if "verified" in written(reply, hexadecimal=hexadecimal, support="+13125550123").casefold()
    }

    assert said == {Reply.SUCCESS, Reply.STATUS_VERIFIED}


def test_only_the_code_text_has_a_place_for_a_code() -> None:
    placed = {reply for reply in Reply if CODE_PLACEHOLDER in written(reply)}

    assert placed == {Reply.CODE, Reply.CODE_TYPED, Reply.CODE_FORM}


@modest
@given(st.text("0123456789", min_size=4, max_size=10) | st.text("0123456789ABCDEF", min_size=4))
def test_the_code_stands_in_one_piece_and_apart_from_words(code: str) -> None:
    text = written(Reply.CODE).replace(CODE_PLACEHOLDER, code)

    assert re.search(rf"(?<![\w-]){code}(?![\w-])", text)
    assert text.count(CODE_PLACEHOLDER) == 0


def test_no_other_number_in_a_code_text_could_be_taken_for_the_code() -> None:
    figures = re.findall(r"\d+", written(Reply.CODE, life=timedelta(minutes=59)))

    assert figures == ["59"]


def test_the_code_text_names_the_app_the_time_and_the_way_out() -> None:
    assert written(Reply.CODE, app="Harbor", life=timedelta(minutes=10)) == (
        "Harbor code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME."
    )


@pytest.mark.parametrize("reply", list(Reply))
def test_no_reply_contains_an_unfilled_placeholder(reply: Reply) -> None:
    text = written(reply).replace(CODE_PLACEHOLDER, "123456")

    assert [name for _, name, _, _ in Formatter().parse(text) if name is not None] == []
    assert "  " not in text
    assert text == text.strip()


@pytest.mark.parametrize(
    ("reply", "next_word"),
    [
        (Reply.WRONG, "RESEND"),
        (Reply.MISTYPED, "RESEND"),
        (Reply.EXPIRED, "VERIFY"),
        (Reply.NO_CODE, "VERIFY"),
        (Reply.LOCKED, "VERIFY"),
        (Reply.WAIT, "VERIFY"),
        (Reply.STATUS, "VERIFY"),
        (Reply.STATUS_SENT, "RESEND"),
        (Reply.STATUS_FAILED, "RESEND"),
        (Reply.STATUS_LOCKED, "VERIFY"),
        (Reply.HELP, "VERIFY"),
        (Reply.HELP, "STOP"),
        (Reply.HINT, "VERIFY"),
        (Reply.HINT, "HELP"),
        (Reply.HINT_CODE, "RESEND"),
        (Reply.NOT_ME, "VERIFY"),
        (Reply.STOPPED, "START"),
        (Reply.WELCOME, "VERIFY"),
    ],
)
def test_a_reply_says_what_to_text_next(reply: Reply, next_word: str) -> None:
    assert re.search(rf"\b{next_word}\b", written(reply))


@pytest.mark.parametrize("reply", [Reply.WRONG, Reply.STATUS_QUEUED, Reply.STATUS_SENT])
def test_a_reply_about_a_code_counts_the_tries_left(reply: Reply) -> None:
    assert "1 try left" in written(reply, tries=1)
    assert "2 tries left" in written(reply, tries=2)


@pytest.mark.parametrize("reply", list(Reply))
def test_a_reply_names_a_wait_or_a_codes_lifetime_exactly_if_it_is_about_one(reply: Reply) -> None:
    text = written(reply, wait=timedelta(minutes=17), life=timedelta(minutes=7))

    assert ("17 minutes" in text) == (reply in ABOUT_A_WAIT)
    assert (" 7 minutes" in text) == (reply in ABOUT_A_CODES_LIFE)


def test_only_the_code_text_contains_the_words_that_identify_it_when_sent_back() -> None:
    assert {
        reply for reply in Reply if any(wording in written(reply) for wording in CODE_WORDINGS)
    } == {
        Reply.CODE,
        Reply.CODE_TYPED,
        Reply.CODE_FORM,
    }


@pytest.mark.parametrize("reply", sorted(set(Reply) - ANSWERS_TO_A_CODE))
def test_a_reply_that_may_be_unexpected_names_the_app(reply: Reply) -> None:
    assert "Harbor" in written(reply, app="Harbor")


def test_help_names_the_support_contact_if_there_is_one() -> None:
    assert "Help: help@example.com." in written(Reply.HELP, support="help@example.com")
    assert "Help" not in written(Reply.HELP, support="")


def test_help_says_how_often_texts_come_that_they_may_cost_and_how_to_end_them() -> None:
    assert written(Reply.HELP, app="Harbor") == (
        "Harbor: text VERIFY to get a code. 1 msg/request. Msg&data rates may apply."
        " STOP to opt out."
    )


def test_the_reply_to_a_mistyped_code_says_what_a_code_looks_like() -> None:
    assert "8 digits" in written(Reply.MISTYPED, code_length=8)
    assert "8 characters, 0-9 and A-F" in written(Reply.MISTYPED, code_length=8, hexadecimal=True)


def test_status_says_since_when_in_utc() -> None:
    assert "since 30 Sep 2026, 23:59 UTC" in written(Reply.STATUS_VERIFIED, since=SINCE)


@modest
@given(st.text("{}code:apsu!0.", max_size=24), st.text("{}code:apsu!0.", max_size=40))
def test_braces_in_a_name_are_printed_as_they_are(app: str, support: str) -> None:
    assert app in written(Reply.CODE, app=app)
    assert support in written(Reply.HELP, support=support)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(), "1 second"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=20.2), "21 seconds"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(seconds=59.1), "1 minute"),
        (timedelta(seconds=60), "1 minute"),
        (timedelta(seconds=60.5), "2 minutes"),
        (timedelta(seconds=61), "2 minutes"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(minutes=59), "59 minutes"),
        (timedelta(minutes=59, seconds=1), "1 hour"),
        (timedelta(minutes=60), "1 hour"),
        (timedelta(minutes=61), "61 minutes"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(minutes=120), "2 hours"),
        (timedelta(minutes=121), "3 hours"),
        (timedelta(minutes=240), "4 hours"),
        (timedelta(minutes=241), "5 hours"),
        (timedelta(hours=24), "24 hours"),
    ],
)
def test_a_duration_is_written_in_seconds_then_minutes_then_hours_rounded_up(
    length: timedelta, words: str
) -> None:
    assert duration(length) == words


@modest
@given(st.integers(min_value=1, max_value=86_400))
def test_a_wait_is_never_written_shorter_than_it_is(seconds: int) -> None:
    figure, unit = duration(timedelta(seconds=seconds)).split()
    told = int(figure) * {"second": 1, "minute": 60, "hour": 3600}[unit.removesuffix("s")]

    assert seconds <= told < seconds + 3600
