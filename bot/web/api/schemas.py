"""Bodies and queries of API requests; unknown fields are refused.

Each property is described in openapi.json.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from bot.conversation.references import to_label
from bot.conversation.verification import Complete, Status
from bot.services.schemas import VerificationView

MAX_METADATA_BYTES = 4096
"""Bytes of an app's metadata, as compact JSON in UTF-8."""
_MAX_METADATA_DEPTH = 8
_MAX_TO_LENGTH, _MAX_REFERENCE_LENGTH, _MAX_CODE_LENGTH, _MAX_CURSOR_LENGTH = 64, 128, 64, 64
_DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE = 50, 100
_DIGITS = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"[0-9A-Za-z_-]{1,32}")


def is_id(text: str) -> bool:
    """Return whether a text has the form of a verification's id."""
    return _ID.fullmatch(text) is not None


def cursor_after(verification_id: str) -> str:
    """Return the cursor of the page that follows a verification."""
    return base64.urlsafe_b64encode(verification_id.encode()).decode().rstrip("=")


def id_in_cursor(cursor: str) -> str:
    """Return the verification id in a cursor; raise ValueError if it is not one of ours."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        verification_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        verification_id = ""
    if not is_id(verification_id) or cursor_after(verification_id) != cursor:
        raise ValueError("must be a next_cursor of this list")
    return verification_id


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have printable characters only")
    return text


def _whole_number(value: object) -> object:
    """Refuse texts that pydantic would read as a number, like `1_0` and `1.0`."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number")
    return value


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuse metadata that SQLite or PostgreSQL would not store and return unchanged."""
    if not _is_nested_within(metadata, _MAX_METADATA_DEPTH):
        raise ValueError(f"must be nested at most {_MAX_METADATA_DEPTH} levels deep")
    try:
        encoded = json.dumps(
            metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except ValueError:
        raise ValueError("has a number or a character that cannot be stored") from None
    if b"\\u0000" in encoded and "\0" in _all_text(metadata):
        raise ValueError("has a number or a character that cannot be stored")
    if len(encoded) > MAX_METADATA_BYTES:
        raise ValueError(f"must take at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _is_nested_within(value: object, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_nested_within(item, depth - 1) for item in items)


def _all_text(value: object) -> str:
    """Return all strings of a JSON value as one, names included."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(name + _all_text(item) for name, item in value.items())
    return "".join(map(_all_text, value)) if isinstance(value, list) else ""


_To = Annotated[str, Field(min_length=1, max_length=_MAX_TO_LENGTH)]
_Reference = Annotated[
    str, Field(min_length=1, max_length=_MAX_REFERENCE_LENGTH), AfterValidator(_printable)
]


class RequestParams(BaseModel):
    """The parameters of a request."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class NoParams(RequestParams):
    """No parameters but the path."""


class CreateParams(RequestParams):
    """The body of a new verification: without `to`, the person texts a reference."""

    to: _To | None = None
    complete: Annotated[Complete, Strict(strict=False)] | None = None
    reference: _Reference | None = None
    label: Annotated[str, AfterValidator(to_label)] | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None


class CheckParams(RequestParams):
    """A code that the person typed in the app."""

    code: str = Field(min_length=1, max_length=_MAX_CODE_LENGTH)


class ListParams(RequestParams):
    """The query of a list of verifications, newest first."""

    model_config = ConfigDict(strict=False)  # a query has strings only

    status: Status | None = None
    to: _To | None = None
    reference: _Reference | None = None
    limit: Annotated[int, BeforeValidator(_whole_number)] = Field(
        default=_DEFAULT_PAGE_SIZE, ge=1, le=_MAX_PAGE_SIZE
    )
    cursor: Annotated[str, Field(min_length=1, max_length=_MAX_CURSOR_LENGTH)] | None = None


class CreatedView(VerificationView):
    """A new verification, and the letters that a reply with its code must have."""

    reply_with: str


class VerificationListView(BaseModel):
    """A page of verifications, newest first."""

    model_config = ConfigDict(frozen=True)

    data: list[VerificationView]
    next_cursor: str | None


class CheckView(BaseModel):
    """The result of checking a code."""

    model_config = ConfigDict(frozen=True)

    valid: bool
    tries_left: int
    verification: VerificationView
