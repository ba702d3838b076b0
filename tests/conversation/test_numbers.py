from __future__ import annotations

from random import Random

import phonenumbers
import pytest

from bot.conversation.numbers import (
    canonical,
    example,
    readable,
    region_of,
    spelling_to_text,
    spellings,
    to_e164,
    why_not_textable,
)

CANONICAL, OTHER = "+525512345678", "+5215512345678"


@pytest.mark.parametrize(
    "number",
    [
        "+13125550001",  # in the USA nobody can tell a mobile phone from a landline
        "+14165550123",
        "+491711234567",
        "+5511987654321",
        "+447400123456",
    ],
)
def test_a_mobile_phone_may_be_texted(number: str) -> None:
    assert why_not_textable(number) is None


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("+442079460000", "a landline"),
        ("+493012345678", "a landline"),
        ("+18005551234", "a toll-free number"),
        ("+19005551234", "a premium-rate number"),
        ("+448431234567", "a premium-rate number"),
        ("+39848123456", "a shared-cost number"),
        ("+447012345678", "a forwarding number"),
        ("+447640123456", "a pager"),
        ("+443001234567", "a company's shared number"),
        # Numbers that the library does not know, in the ranges of such numbers:
        ("+19001234567", "a premium-rate number"),
        ("+4490912345678", "a premium-rate number"),
        ("+33899123456", "a premium-rate number"),
        ("+18001234567", "a toll-free number"),
        ("+979223456789", "a premium-rate number"),
        ("+808923456789", "a shared-cost number"),
    ],
)
def test_the_kind_of_a_number_that_must_not_be_texted_is_named(number: str, why: str) -> None:
    assert why_not_textable(number) == why


@pytest.mark.parametrize("number", ["+15551234567", "+491611234567", "+4915112345"])
def test_a_possible_number_of_an_unknown_range_may_be_texted(number: str) -> None:
    parsed = phonenumbers.parse(number)
    assert phonenumbers.is_possible_number(parsed)
    assert why_not_textable(number) is None


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("+13125550001", "US"),
        ("+14165550123", "CA"),
        ("+491711234567", "DE"),
        # Ranges that the library does not know:
        ("+15551234567", "US"),
        ("+12688991234", "AG"),
        ("+88213123456", None),
    ],
)
def test_the_country_of_a_number_is_known(number: str, region: str | None) -> None:
    assert region_of(number) == region


def test_numbers_are_written_as_people_read_them() -> None:
    assert readable("+13125550001") == "+1 312-555-0001"
    assert readable("+491711234567") == "+49 171 1234567"


def test_an_example_is_a_number_of_its_country() -> None:
    assert example("+1") == "(201) 555-0123"
    assert example("+49") == "01512 3456789"
    assert example("+979") == ""


@pytest.mark.parametrize("written", ["(312) 555-0001 ext. 5", "+13125550001;ext=5", "3125550001x5"])
def test_a_number_with_an_extension_is_refused_rather_than_cut(written: str) -> None:
    with pytest.raises(ValueError, match="extension"):
        to_e164(written, "+1")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("+5215512345678", "+525512345678"),
        ("+541123456789", "+5491123456789"),
        ("+543764123456", "+5493764123456"),
        ("+551187654321", "+5511987654321"),
        ("+552199876543", "+5521999876543"),
        ("+558567654321", "+5585967654321"),
    ],
)
def test_two_spellings_of_a_line_have_one_canonical_spelling(other: str, expected: str) -> None:
    assert canonical(other) == canonical(expected) == expected
    assert spellings(other) == spellings(expected) == (expected, other)


@pytest.mark.parametrize(
    "number",
    [
        "+12125550000",
        "+5211234567890",  # no number has a 1 after the 1
        "+521551234567",
        "+52155123456789",
        "+548001234567",  # toll-free, and no line of a person
        "+551132654321",  # landlines begin with 2 to 5
        "+551177654321",  # trunked radio, a number of its own
        "+5511977654321",
        "+5511957654321",  # a mobile number that never had eight digits
        "+345512345678",
    ],
)
def test_a_number_of_its_own_has_one_spelling(number: str) -> None:
    assert spellings(number) == (number,)


@pytest.mark.parametrize("country_code", [52, 54, 55])
def test_the_canonical_spelling_is_valid_and_the_other_is_no_number_of_another_line(
    country_code: int,
) -> None:
    random = Random(country_code)  # noqa: S311 - no secret
    respelled = 0
    for _ in range(20_000):
        digits = f"{country_code}{random.randrange(10**9, 10**11)}"
        found = spellings(f"+{digits}")
        if len(found) == 1:
            continue
        first, other = (phonenumbers.parse(each) for each in found)
        assert [canonical(each) for each in found] == [found[0]] * 2
        assert phonenumbers.is_possible_number(first)
        if phonenumbers.is_valid_number(first):
            respelled += 1
            # In Argentina, the library cannot tell that the ten digits are those of a mobile phone.
            assert country_code == 54 or not phonenumbers.is_valid_number(other)
    assert respelled > 100


@pytest.mark.parametrize("written", [OTHER, "+52 1 55 1234 5678", "1 55 1234 5678"])
def test_a_number_is_read_in_either_spelling(written: str) -> None:
    assert to_e164(written, "+52") == OTHER


INVISIBLE = "\u200b\u200d\u200e\u202a\u202c\u2060\u2066\u2069\ufeff\u00ad\ufe0f\u20e3\u061c"


@pytest.mark.parametrize("mark", INVISIBLE)
def test_invisible_marks_in_a_typed_number_are_dropped(mark: str) -> None:
    typed = mark + mark.join("+1 312 555 0001") + mark
    assert to_e164(typed, "+1") == "+13125550001"
    assert to_e164(mark.join("(312) 555-0001"), "+1") == "+13125550001"


@pytest.mark.parametrize(
    ("texted_from", "unreachable", "expected"),
    [
        (None, None, CANONICAL),
        (OTHER, None, OTHER),
        (None, CANONICAL, OTHER),
        (OTHER, OTHER, CANONICAL),
        (OTHER, CANONICAL, OTHER),
        (None, OTHER, CANONICAL),
    ],
)
def test_texts_go_to_the_spelling_that_last_texted_unless_it_fails(
    texted_from: str | None, unreachable: str | None, expected: str
) -> None:
    assert spelling_to_text(CANONICAL, texted_from, unreachable) == expected


def test_a_number_with_one_spelling_is_texted_even_if_it_failed() -> None:
    number = "+13125550001"
    assert spelling_to_text(number, None, number) == number
