"""Phone numbers: as people write them, in E.164, and masked for the log."""

from __future__ import annotations

import re

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
"""A number in the format of ITU-T E.164; short codes and alphanumeric senders do not match."""

_SHOWN_DIGITS = 4
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
    """Return whether `number` is a phone number in E.164."""
    return E164.fullmatch(number) is not None


def to_e164(written: str, country_code: str) -> str:
    """Convert a number as people write it to E.164; `country_code`, like "+1", is the default.

    Raises ValueError if no such number can exist, or if it has an extension.
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
    """Return what kind of number (E.164) this is if no code may be sent to it, else None.

    If texts to it cost extra, or nobody can read them, a code serves only SMS pumping fraud.
    """
    kind = phonenumbers.number_type(phonenumbers.parse(number))
    return _NOT_TEXTABLE.get(kind)


def region_of(number: str) -> str | None:
    """Return the country of a number (E.164) in two letters (ISO 3166-1), if it has one."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number))


def readable(number: str) -> str:
    """Return a number (E.164) in the international notation: `+1 312-555-0001`."""
    return phonenumbers.format_number(phonenumbers.parse(number), PhoneNumberFormat.INTERNATIONAL)


def example(country_code: str) -> str:
    """Return an example mobile number of a country code (like "+1"), or "" if none is known."""
    region = phonenumbers.region_code_for_country_code(int(country_code))
    number = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
    if number is None:
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)


def masked(number: str) -> str:
    """Return the end of a number: enough to tell two apart in a log, too little to call."""
    return f"…{number[-_SHOWN_DIGITS:]}"
