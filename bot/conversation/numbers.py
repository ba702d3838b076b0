"""Phone numbers: how people write them, how we keep them (E.164), how we show them in a log."""

from __future__ import annotations

import re

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
"""A number as ITU-T E.164 has it; short codes and alphanumeric senders do not match."""

_SHOWN = 4
_NOT_TEXTABLE = {
    PhoneNumberType.FIXED_LINE: "a landline",
    PhoneNumberType.TOLL_FREE: "a toll-free number",
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PERSONAL_NUMBER: "a forwarding number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.UAN: "a company's shared number",
    PhoneNumberType.VOICEMAIL: "a voicemail",
    PhoneNumberType.UNKNOWN: "not a number that is in use",
}


def is_e164(number: str) -> bool:
    """Tell whether `number` is a phone's in E.164."""
    return E164.fullmatch(number) is not None


def to_e164(written: str, country_code: str) -> str:
    """Read a number as people write one; without a country code it is read in `country_code`.

    Raises ValueError where no such number can exist, or where it has an extension. `country_code`
    is like "+1".
    """
    region = phonenumbers.region_code_for_country_code(int(country_code))
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException as error:
        raise ValueError("this is not a phone number") from error
    if not phonenumbers.is_possible_number(number):
        raise ValueError("no phone number has this many digits")
    if number.extension:
        raise ValueError("a number with an extension cannot be texted")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def why_not_textable(number: str) -> str | None:
    """Say what a number (E.164) is, if it is none to text a code to; None where it may be.

    Where texts cost extra, or nobody can read them, a code only serves whoever earns by it.
    """
    kind = phonenumbers.number_type(phonenumbers.parse(number))
    return _NOT_TEXTABLE.get(kind)


def region_of(number: str) -> str | None:
    """Tell the country of a number (E.164) in two letters (ISO 3166-1); None where it has none."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number))


def readable(number: str) -> str:
    """Write a number (E.164) as people read it: `+1 312-555-0001`."""
    return phonenumbers.format_number(phonenumbers.parse(number), PhoneNumberFormat.INTERNATIONAL)


def example(country_code: str) -> str:
    """Write a mobile number of a country (like "+1") as people there do; empty for none known."""
    region = phonenumbers.region_code_for_country_code(int(country_code))
    number = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
    if number is None:
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)


def masked(number: str) -> str:
    """Show the end of a number: enough to tell two apart in a log, too little to call."""
    return f"…{number[-_SHOWN:]}"
