"""Phone numbers: how people write them, how we keep them (E.164), how we show them in a log."""

from __future__ import annotations

import re

import phonenumbers

E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
"""A number as ITU-T E.164 has it; short codes and alphanumeric senders do not match."""

_SHOWN = 4


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
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def masked(number: str) -> str:
    """Show the end of a number: enough to tell two apart in a log, too little to call."""
    return f"…{number[-_SHOWN:]}"
