from __future__ import annotations

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from bot.conversation.numbers import spaced, why_untextable


@pytest.mark.parametrize(
    ("kind", "region", "reason"),
    [
        (PhoneNumberType.FIXED_LINE, "GB", "a landline cannot be texted"),
        (PhoneNumberType.TOLL_FREE, "US", "a toll-free number cannot be texted"),
        (PhoneNumberType.PREMIUM_RATE, "US", "a premium-rate number cannot be texted"),
        (PhoneNumberType.SHARED_COST, "DE", "a shared-cost number cannot be texted"),
        (PhoneNumberType.PAGER, "GB", "a pager cannot be texted"),
        (PhoneNumberType.UAN, "GB", "a company's number cannot be texted"),
        (PhoneNumberType.VOICEMAIL, "DE", "a voicemail number cannot be texted"),
        (PhoneNumberType.MOBILE, "GB", None),
        (PhoneNumberType.FIXED_LINE_OR_MOBILE, "US", None),
        (PhoneNumberType.VOIP, "GB", None),
        (PhoneNumberType.PERSONAL_NUMBER, "GB", None),
    ],
)
def test_a_number_is_refused_by_its_kind(kind: int, region: str, reason: str | None) -> None:
    number = phonenumbers.example_number_for_type(region, kind)
    assert number is not None
    written = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    assert why_untextable(written) == reason


@pytest.mark.parametrize("number", ["+12005550001", "+15550001"])
def test_a_number_that_is_not_in_use_is_refused(number: str) -> None:
    assert why_untextable(number) == "no such number is in use"


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+13125550100", "+1 312-555-0100"), ("+447400123456", "+44 7400 123456")],
)
def test_a_number_is_written_as_people_read_it(number: str, shown: str) -> None:
    assert spaced(number) == shown
