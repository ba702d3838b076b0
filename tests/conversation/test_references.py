"""The codes of references: what their texts name, and what their app learns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.inputs import ReferenceLookup, ResendRequested, TextReceived
from bot.conversation.policy import Policy
from bot.conversation.references import to_label
from bot.conversation.replies import (
    CODE_PLACEHOLDER,
    GSM7_BASIC,
    MAX_APP_NAME_LENGTH,
    MAX_LABEL_LENGTH,
    SEGMENT,
)
from bot.conversation.state import Alphabet, CodeFormat
from bot.conversation.verification import Complete
from tests.conversation.person import MINUTE, Person

REFERENCE = "7Q2K42"
LABEL = "Ann's login"
NOT_IN_TELNYXS_GSM7 = frozenset("Ç¤ΓΔΘΛΞΠΣΦΨΩ")
BOTH_RULES = pytest.mark.parametrize("complete", list(Complete))


def text_of(person: Person, label: str = "", complete: Complete = Complete.REPLY) -> str:
    """Text a reference, and return the text with its code."""
    lookup = ReferenceLookup(
        "v",
        available=True,
        begun_here=False,
        complete=complete,
        reference=REFERENCE,
        label=label,
    )
    person.handle(TextReceived(f"VERIFY {REFERENCE}", reference=lookup))
    return person.message().body


def someone_with(code_length: int = 6, **policy: Any) -> Person:
    alphabet = Alphabet.HEX if code_length > 10 else Alphabet.DIGITS
    return Person(policy=Policy(code_format=CodeFormat(code_length, alphabet), **policy))


def test_the_text_names_the_app_the_label_and_the_reference() -> None:
    person = someone_with(app_name="Harbor")

    assert text_of(person, LABEL) == (
        "Harbor code: {code}. It is for Ann's login, reference 7Q2K42."
        " Reply with it within 10 minutes. Not you? Reply NOT ME."
    )


def test_the_text_of_a_code_to_be_typed_names_them_too() -> None:
    assert text_of(Person(), LABEL, Complete.TYPED) == (
        "Textproof code: {code}. It is for Ann's login, reference 7Q2K42."
        " Type it where you asked, never share it. Not you? Reply NOT ME."
    )


def test_without_a_label_the_text_names_the_reference() -> None:
    assert "code: {code}. It is for reference 7Q2K42. Reply with it" in text_of(Person())


def test_a_code_without_a_reference_has_no_purpose_in_its_text() -> None:
    person = Person()
    person.texts("VERIFY")

    assert "It is for" not in person.message().body


@BOTH_RULES
def test_the_text_fits_one_segment_with_its_longest_values_and_leaves_nothing_out(
    complete: Complete,
) -> None:
    label = "W" * MAX_LABEL_LENGTH
    person = someone_with(
        code_length=10,
        app_name="W" * MAX_APP_NAME_LENGTH,
        code_lifetime=timedelta(minutes=59),
    )

    text = text_of(person, label, complete).replace(CODE_PLACEHOLDER, "9" * 10)

    assert f"It is for {label}, reference {REFERENCE}." in text
    assert len(text) <= SEGMENT


@BOTH_RULES
@pytest.mark.parametrize("code_length", [11, 32, 40, 64])
def test_a_code_that_leaves_no_room_takes_the_place_of_the_label_first(
    code_length: int, complete: Complete
) -> None:
    person = someone_with(code_length, app_name="W" * MAX_APP_NAME_LENGTH)

    text = text_of(person, "W" * MAX_LABEL_LENGTH, complete)

    assert len(text.replace(CODE_PLACEHOLDER, "D" * code_length)) <= SEGMENT
    assert (REFERENCE in text) or code_length > 32


def test_the_text_is_the_same_when_the_code_is_sent_again() -> None:
    person = Person()
    first = text_of(person, LABEL)
    person.now += MINUTE

    person.texts("RESEND")
    assert person.message().body == first.replace("10 minutes", "9 minutes")
    person.now += MINUTE
    person.handle(ResendRequested("v"))
    assert person.message().body == first.replace("10 minutes", "8 minutes")


def test_the_app_learns_that_its_reference_was_texted_and_only_once() -> None:
    person = Person()
    text_of(person)
    assert person.last().app_events == (AppEvent(EventType.PENDING, "v"),)

    person.now += MINUTE
    again = ReferenceLookup("v", available=False, begun_here=True, reference=REFERENCE)
    person.handle(TextReceived(f"VERIFY {REFERENCE}", reference=again))
    assert person.last().message is not None
    assert person.last().app_events == ()


def test_a_code_that_no_app_has_asked_for_is_reported_to_none() -> None:
    person = Person()
    person.texts("VERIFY")

    assert person.last().message is not None
    assert person.last().app_events == ()


def test_a_reference_that_is_refused_for_now_is_not_reported() -> None:
    person = Person()
    for _ in range(person.policy.codes_per_hour):
        person.texts("VERIFY")
        person.now += MINUTE
    person.limits = replace(person.limits, told_until=None)

    text_of(person)

    assert person.last().app_events == ()


@pytest.mark.parametrize(
    "label",
    [
        "A",
        LABEL,
        "R&D",
        "Mary-Jane",
        "Order 17",
        "7th floor 2",
        "Zoé",
        "ÄÅÆÉÑÖØÜßàäåæèéìñòöøùü",
        "W" * 24,
    ],
)
def test_a_label_of_letters_and_few_marks_is_accepted(label: str) -> None:
    assert to_label(label) == label


def test_a_label_is_kept_in_one_form_of_unicode() -> None:
    assert to_label("Rene\u0301") == "René"
    assert to_label("e\u0301" * MAX_LABEL_LENGTH) == "é" * MAX_LABEL_LENGTH


@pytest.mark.parametrize(
    "label",
    [
        "",
        " ",
        "'",
        "&-'",
        "12",
        " Ann",
        "Ann ",
        "W" * 25,
        "call 112",
        "a1b2c3",
        "evil.example",
        "evil/x",
        "a:b",
        "a_b",
        "Ann\n",
        "Ann\tB",
        "Ann\u00a0B",
        "Ann\u2019s",
        "Ann\u200dB",
        "{code}",
        "Çelik",
        "François",
        "Zoë",
        "Ω",
        "验证",
        "\u0661\u0662",
        "😀",
        "!",
    ],
)
def test_anything_else_is_refused_as_a_label(label: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 24 letters"):
        to_label(label)


def test_a_label_leaves_a_text_in_telnyxs_gsm7() -> None:
    accepted: set[str] = set()
    for number in range(0x250):
        try:
            accepted.update(to_label(f"a{chr(number)}a"))
        except ValueError:
            continue

    assert accepted <= GSM7_BASIC - NOT_IN_TELNYXS_GSM7
