"""Which numbers may be texted a code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from bot.conversation.numbers import canonical, region_of, to_e164, why_not_textable

if TYPE_CHECKING:
    from collections.abc import Collection


class Refusal(Enum):
    """Why a number is refused."""

    NOT_A_NUMBER = "not a number"
    BOT_NUMBER = "bot number"
    NOT_TEXTABLE = "not textable"
    OTHER_COUNTRY = "other country"


class RecipientError(ValueError):
    """A number that no code may be texted to.

    The message is for developers; `kind` names what a NOT_TEXTABLE number is, like "a landline".
    """

    def __init__(self, refusal: Refusal, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Recipients:
    """Numbers that may be texted a code: all but the bot's own, landlines and costly numbers.

    `country_code` is like "+1". `countries` are two-letter codes (ISO 3166-1); None allows all.
    `test_numbers` (E.164) may be of any kind and country.
    """

    country_code: str
    bot_numbers: Collection[str]
    test_numbers: Collection[str] = ()
    countries: Collection[str] | None = None

    def parse(self, text: str) -> str:
        """Return a number as E.164, in its canonical spelling; raise RecipientError.

        It need not be one that may be texted.
        """
        try:
            return canonical(to_e164(text, self.country_code))
        except ValueError as error:
            raise RecipientError(Refusal.NOT_A_NUMBER, str(error)) from error

    def accept(self, text: str) -> str:
        """Return a number that may be texted, as `parse` does; raise RecipientError for others."""
        number = self.parse(text)
        if number in map(canonical, self.bot_numbers):
            raise RecipientError(Refusal.BOT_NUMBER, "this is the bot's own number")
        if number in map(canonical, self.test_numbers):
            return number
        kind = why_not_textable(number)
        if kind is not None:
            message = f"this is {kind}; give the number of a phone that can be texted"
            raise RecipientError(Refusal.NOT_TEXTABLE, message, kind)
        if self.countries is not None and region_of(number) not in self.countries:
            message = "numbers of this country may not be texted"
            raise RecipientError(Refusal.OTHER_COUNTRY, message)
        return number
