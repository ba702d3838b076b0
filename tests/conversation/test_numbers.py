from __future__ import annotations

import pytest

from bot.conversation.numbers import example, readable, region_of, to_e164, why_not_textable


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
        ("+390848123456", "not a number that is in use"),
        ("+39848123456", "a shared-cost number"),
        ("+447012345678", "a forwarding number"),
        ("+447640123456", "a pager"),
        ("+443001234567", "a company's shared number"),
        ("+15551234567", "not a number that is in use"),
        ("+88213123456", "not a number that is in use"),
    ],
)
def test_the_kind_of_a_number_that_must_not_be_texted_is_named(number: str, why: str) -> None:
    assert why_not_textable(number) == why


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("+13125550001", "US"),
        ("+14165550123", "CA"),
        ("+491711234567", "DE"),
        ("+15551234567", None),
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
