"""What an app may send: bodies and queries. A member that there is not is refused."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bot.conversation.verification import Status

MAX_METADATA_BYTES = 4096
"""Bytes of an app's metadata, as compact JSON in UTF-8."""
_MAX_METADATA_DEPTH = 8
_MAX_TO_LENGTH, _MAX_REFERENCE_LENGTH, _MAX_CODE_LENGTH, _MAX_CURSOR_LENGTH = 64, 128, 64, 64
_DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE = 50, 100
_DIGITS = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"[0-9A-Za-z_-]{1,32}")


def is_id(text: str) -> bool:
    """Tell whether a text has the shape of a verification's id."""
    return _ID.fullmatch(text) is not None


def cursor_after(name: str) -> str:
    """Write a cursor for what comes after the verification with this id."""
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def name_in(cursor: str) -> str:
    """Read the id in a cursor; raises ValueError where none of ours is written so."""
    try:
        name = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        decoded = name.decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        decoded = ""
    if not is_id(decoded) or cursor_after(decoded) != cursor:
        raise ValueError("is not a next_cursor of this list")
    return decoded


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("is to be of printable characters")
    return text


def _whole(value: object) -> object:
    """Read a number as a query has it, and not as a generous parser might."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("is to be a whole number")
    return value


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Expect what both databases keep and give back unchanged."""
    if not _flat_enough(metadata, _MAX_METADATA_DEPTH):
        raise ValueError(f"is to be nested at most {_MAX_METADATA_DEPTH} deep")
    try:
        written = json.dumps(
            metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except ValueError:
        raise ValueError("holds a number or a character that cannot be kept") from None
    if b"\\u0000" in written and "\0" in _all_text(metadata):
        raise ValueError("holds a number or a character that cannot be kept")
    if len(written) > MAX_METADATA_BYTES:
        raise ValueError(f"is to take at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _flat_enough(value: object, deepest: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return deepest > 0 and all(_flat_enough(each, deepest - 1) for each in inner)


def _all_text(value: object) -> str:
    """Put all strings of a JSON value together, names included."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(name + _all_text(inner) for name, inner in value.items())
    return "".join(map(_all_text, value)) if isinstance(value, list) else ""


class RequestParams(BaseModel):
    """What a request may ask for."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, title="Wish"
    )


class NoParams(RequestParams):
    """A request that says all by its address."""


class CreateParams(RequestParams):
    """A verification to begin: of the number `to`, or of whoever texts a reference."""

    model_config = ConfigDict(title="NewVerification")

    to: str | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_TO_LENGTH,
        description="The number to send a code to, as people write it; one without a country code"
        " is read in COUNTRY_CODE. Without it, a reference is issued that the person texts.",
        examples=["+13125550001"],
    )
    reference: Annotated[str, AfterValidator(_printable)] | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_REFERENCE_LENGTH,
        description="Your own name for what this is about, to find it by. Only with `to`.",
        examples=["order-1138"],
    )
    metadata: Annotated[dict[str, Any], AfterValidator(_storable)] | None = Field(
        default=None,
        description=f"An object of your own that comes back unchanged, at most {MAX_METADATA_BYTES}"
        f" bytes as JSON and {_MAX_METADATA_DEPTH} deep.",
        examples=[{"user": "u_17"}],
    )


class CheckParams(RequestParams):
    """A code that the person typed at the app's own place."""

    model_config = ConfigDict(title="Guess")

    code: str = Field(
        min_length=1,
        max_length=_MAX_CODE_LENGTH,
        description="What the person typed, as they typed it.",
        examples=["123456"],
    )


class ListParams(RequestParams):
    """Which verifications to list, the latest first."""

    # A query has nothing but strings.
    model_config = ConfigDict(strict=False, title="Filter")

    status: Status | None = Field(default=None, description="Only those with this status.")
    to: str | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_TO_LENGTH,
        description="Only those of this number, as people write it (`+` is `%2B` in a query).",
    )
    reference: Annotated[str, AfterValidator(_printable)] | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_REFERENCE_LENGTH,
        description="Only those with this reference.",
    )
    limit: Annotated[int, BeforeValidator(_whole)] = Field(
        default=_DEFAULT_PAGE_SIZE,
        ge=1,
        le=_MAX_PAGE_SIZE,
        description="How many to answer at most.",
    )
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_CURSOR_LENGTH,
        description="The `next_cursor` of the answer before, to go on from there.",
    )
