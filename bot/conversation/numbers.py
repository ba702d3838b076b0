"""Phone numbers: as people write them, in E.164, in the canonical spelling, masked for the log.

In three countries one line has two spellings in E.164, and carriers, apps and people use both. The
bot knows a person by the canonical spelling alone: whatever receives a number calls `canonical`.
Rows are stored under it, so the rules depend on the numbering plans only, not on the data of a
version of a library.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberFormat, PhoneNumberType

from bot.conversation.invisible import is_invisible

E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
"""A number in the format of ITU-T E.164; short codes and alphanumeric senders do not match."""

_SHOWN_DIGITS = 4


class _Respelling(NamedTuple):
    """A rule from one spelling to the other, for numbers of one form."""

    form: re.Pattern[str]
    other: str

    def apply(self, number: str) -> str | None:
        """Return the other spelling of a number (E.164), or None if it has another form."""
        match = self.form.fullmatch(number)
        return match and match.expand(self.other)


class _TwoSpellings(NamedTuple):
    """How the numbers of a country are spelled in two ways."""

    to_canonical: _Respelling
    from_canonical: _Respelling


def _spelled(form: str, canonical: str, canonical_form: str, other: str) -> _TwoSpellings:
    return _TwoSpellings(
        _Respelling(re.compile(form, re.ASCII), canonical),
        _Respelling(re.compile(canonical_form, re.ASCII), other),
    )


_TWO_SPELLINGS = {
    # Mexico: a 1 before mobile numbers, for calls from abroad. Since 3 August 2019 all numbers have
    # ten digits, the first 2 to 9, so that no other line has eleven (IFT, Plan Técnico Fundamental
    # de Numeración, Diario Oficial de la Federación of 11 May 2018).
    "+52": _spelled(r"\+521([2-9]\d{9})", r"+52\1", r"\+52([2-9]\d{9})", r"+521\1"),
    # Argentina: a 9 before mobile numbers, for calls from abroad; carriers leave it out in texts.
    # The ten digits after it, with area codes from 11 to 3, are given to one line only, mobile or
    # not, so that the two spellings never are two lines (ENACOM, Plan Fundamental de Numeración
    # Nacional, Resolución SC 46/97). What texts is mobile.
    "+54": _spelled(r"\+54(11\d{8}|[23]\d{9})", r"+549\1", r"\+549(11\d{8}|[23]\d{9})", r"+54\1"),
    # Brazil: mobile numbers of eight digits, the first 6, 8 or 9, got a 9 in front from 2012 to
    # 2016 (ANATEL, Resolução 553/2010). Those that begin with 7 are left out: trunked radio kept
    # its eight digits there, so that the other spelling may be another line. Landlines begin with 2
    # to 5.
    "+55": _spelled(
        r"\+55([1-9]{2})([689]\d{7})", r"+55\g<1>9\2", r"\+55([1-9]{2})9([689]\d{7})", r"+55\1\2"
    ),
}
_COUNTRY_CODE_LENGTH = 3
_NOT_TEXTABLE = {
    PhoneNumberType.FIXED_LINE: "a landline",
    PhoneNumberType.TOLL_FREE: "a toll-free number",
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PERSONAL_NUMBER: "a forwarding number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.UAN: "a company's shared number",
    PhoneNumberType.VOICEMAIL: "a voicemail",
}
_COSTLY = {
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.TOLL_FREE: "toll_free",
}
"""The kinds whose ranges are refused as a whole, with their names in the library's metadata."""
_NO_COUNTRY = phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY
_RANGE_DIGITS = 3
"""How many digits after the country code distinguish these ranges in nearly all countries."""
_COSTLY_COUNTRY_CODES = {
    808: PhoneNumberType.SHARED_COST,
    979: PhoneNumberType.PREMIUM_RATE,
}
"""Country codes that are such a range themselves (ITU-T E.169.2 and E.169.3)."""


def is_e164(number: str) -> bool:
    """Return whether `number` is a phone number in E.164."""
    return E164.fullmatch(number) is not None


def to_e164(written: str, country_code: str) -> str:
    """Convert a number as people write it to E.164; `country_code`, like "+1", is the default.

    Invisible characters are dropped. The number keeps its spelling; see `canonical`. Raises
    ValueError if no such number can exist, or if it has an extension.
    """
    region = phonenumbers.region_code_for_country_code(int(country_code))
    try:
        number = phonenumbers.parse("".join(_visible(written)), region)
    except phonenumbers.NumberParseException as error:
        raise ValueError("this is not a phone number") from error
    if number.extension:
        raise ValueError("a number with an extension cannot be texted")
    spelling = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # A number without its area code is possible too, but only within the area.
    possible = phonenumbers.is_possible_number_with_reason(phonenumbers.parse(canonical(spelling)))
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise ValueError("no phone number has this many digits")
    return spelling


def _visible(text: str) -> list[str]:
    return [char for char in text if not is_invisible(char)]


def canonical(number: str) -> str:
    """Return the canonical spelling of a number (E.164); a person is known by it."""
    rules = _TWO_SPELLINGS.get(number[:_COUNTRY_CODE_LENGTH])
    return (rules and rules.to_canonical.apply(number)) or number


def spellings(number: str) -> tuple[str, ...]:
    """Return all spellings of a number (E.164), the canonical one first: one or two."""
    first = canonical(number)
    rules = _TWO_SPELLINGS.get(first[:_COUNTRY_CODE_LENGTH])
    other = rules and rules.from_canonical.apply(first)
    return (first, other) if other else (first,)


def spelling_to_text(number: str, texted_from: str | None, unreachable: str | None) -> str:
    """Return the spelling (E.164) to which texts for `number` go.

    That is the one that last texted us, else the canonical one; but the other one if texts to it
    have failed (`unreachable`).
    """
    preferred = texted_from or canonical(number)
    if preferred != unreachable:
        return preferred
    return next((other for other in spellings(number) if other != preferred), preferred)


def why_not_textable(number: str) -> str | None:
    """Return what kind of number (E.164) this is if no code may be sent to it, else None.

    If texts to it cost extra, or nobody can read them, a code serves only SMS pumping fraud. A
    number in a range that the library does not know yet may be texted, unless the range is costly.
    """
    parsed = phonenumbers.parse(number)
    kind = phonenumbers.number_type(parsed)
    if kind == PhoneNumberType.UNKNOWN:
        kind = _costly_range(parsed)
    return _NOT_TEXTABLE.get(kind)


def _costly_range(number: phonenumbers.PhoneNumber) -> int:
    """Return the costly kind of the range in which an unknown number is, or UNKNOWN.

    The number is in the range if the library's example of this kind is still of this kind when it
    begins with the digits of the number.
    """
    country_code = number.country_code or 0
    if country_code in _COSTLY_COUNTRY_CODES:
        return _COSTLY_COUNTRY_CODES[country_code]
    digits = phonenumbers.national_significant_number(number)
    region = phonenumbers.region_code_for_country_code(country_code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    for kind, name in _COSTLY.items() if metadata else ():
        range_ = getattr(metadata, name)
        example_of_kind = range_ and range_.example_number
        if example_of_kind:
            near = digits[:_RANGE_DIGITS] + example_of_kind[_RANGE_DIGITS:]
            if re.fullmatch(range_.national_number_pattern, near):
                return kind
    return PhoneNumberType.UNKNOWN


def region_of(number: str) -> str | None:
    """Return the country of a number (E.164) in two letters (ISO 3166-1), if it has one.

    A number in a range that the library does not know yet belongs to the main country of its
    country code.
    """
    parsed = phonenumbers.parse(number)
    region = phonenumbers.region_code_for_number(parsed)
    if region is None:
        region = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return None if region in (_NO_COUNTRY, phonenumbers.UNKNOWN_REGION) else region


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
