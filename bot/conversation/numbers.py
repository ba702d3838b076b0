"""Phone numbers: how people write them, how we keep them (E.164), how we show them in a log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

if TYPE_CHECKING:
    from collections.abc import Mapping

E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
"""A number as ITU-T E.164 has it; short codes and alphanumeric senders do not match."""

_SHOWN = 4
_UNTEXTABLE: Mapping[int, str] = {
    PhoneNumberType.FIXED_LINE: "a landline",
    PhoneNumberType.TOLL_FREE: "a toll-free number",
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.UAN: "a company's number",
    PhoneNumberType.VOICEMAIL: "a voicemail number",
}
"""Kinds of numbers that no code should go to: nobody reads it there, or somebody earns by it."""


def is_e164(number: str) -> bool:
    """Tell whether `number` is a phone's in E.164."""
    return E164.fullmatch(number) is not None


def to_e164(written: str, country_code: str) -> str:
    """Read a number as people write one; without a country code it is read in `country_code`.

    Raises ValueError where no such number can exist. `country_code` is like "+1".
    """
    region = phonenumbers.region_code_for_country_code(int(country_code))
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException as error:
        raise ValueError("this is not a phone number") from error
    if not phonenumbers.is_possible_number(number):
        raise ValueError("no phone number has this many digits")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def masked(number: str) -> str:
    """Show the end of a number: enough to tell two apart in a log, too little to call."""
    return f"…{number[-_SHOWN:]}"


def why_untextable(number: str) -> str | None:
    """Say why no code should go to a number (E.164), by its country's plan; None where one may.

    Where a plan does not tell landlines from mobiles, as in the USA, both may.
    """
    parsed = phonenumbers.parse(number)
    if not phonenumbers.is_valid_number(parsed):
        return "no such number is in use"
    kind = _UNTEXTABLE.get(phonenumbers.number_type(parsed))
    return kind and f"{kind} cannot be texted"


def spaced(number: str) -> str:
    """Write a number (E.164) as people read one, like +1 312-555-0100."""
    return phonenumbers.format_number(phonenumbers.parse(number), PhoneNumberFormat.INTERNATIONAL)
