"""What an answer of Telnyx's API means for a text: accepted, later, never, or hold everything.

The HTTP status of one error varies, so Telnyx's own error code decides where there is one
(Telnyx, "Messaging error codes").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTED_OUT_FAULT = "40300"
"""The person has opted out at Telnyx."""


class Limit(StrEnum):
    """Whose limit a text has met, more leaving than Telnyx takes; the values are its codes."""

    ACCOUNT = "10011"
    NUMBER = "40318"


_NEVER = frozenset(
    {"40001", "40003", "40012", OPTED_OUT_FAULT, "40301", "40302", "40309", "40310"}
    | {"40312", "40314", "40316", "40317", "40322"}
)
_HOLD = frozenset(
    {"10009", "10010", "40010", "40013", "40015", "40019", "40020"}
    | {"40305", "40315", "40320", "40329", "40333"}
)
_LATER = frozenset({"10007", Limit.ACCOUNT, "10037", "40006", "40008", Limit.NUMBER})
_REDIRECT, _BAD_REQUEST, _UNAUTHORIZED = 300, 400, 401
_TOO_MANY_REQUESTS = 429
_HOLD_STATUSES = frozenset({403, 404})
_LATER_STATUSES = frozenset({408, 409, _TOO_MANY_REQUESTS})
_UNPROCESSABLE = 422
_SERVER_ERROR, _SERVICE_UNAVAILABLE = 500, 503
_MAX_FAULT_LENGTH = 32
_MAX_RETRY_AFTER = 300.0

_ADVICE = {
    "10009": "check TELNYX_API_KEY",
    "10010": "check the permissions of TELNYX_API_KEY",
    Limit.ACCOUNT: "lower SEND_RATE_ACCOUNT, or have Telnyx raise the account's limit",
    "40010": "register the number for 10DLC in the Telnyx portal",
    "40013": "check FROM_NUMBER",
    "40305": "check FROM_NUMBER and its messaging profile",
    "40310": "nothing: this phone cannot get texts",
    OPTED_OUT_FAULT: "nothing: this person has opted out",
    Limit.NUMBER: "lower SEND_RATE_PER_NUMBER, or have Telnyx raise the number's limit",
    "40333": "raise the messaging profile's spend limit",
    "HTTP 401": "check TELNYX_API_KEY",
    "HTTP 403": "check the permissions of TELNYX_API_KEY",
    "HTTP 404": "check TELNYX_BASE_URL",
    "HTTP 429": "lower SEND_RATE_ACCOUNT, or have Telnyx raise the account's limit",
    "too late": "nothing: it could not leave before it was of no use any more",
    "in doubt": "look at Telnyx's status: it took the request twice and said nothing of it",
    "code gone": "keep a replaced SECRET_KEY for an hour, as SECRET_KEY=new,old",
}


@dataclass(frozen=True, slots=True)
class SendAccepted:
    """Telnyx has the text under this id; None where an earlier attempt was the accepted one."""

    carrier_id: str | None


@dataclass(frozen=True, slots=True)
class SendLater:
    """Try again; not before `retry_after` seconds where Telnyx asked for that.

    `in_doubt` where Telnyx may have taken the text without saying so.
    """

    fault: str
    retry_after: float | None = None
    in_doubt: bool = False
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class SendNever:
    """This text will not reach this person."""

    fault: str


@dataclass(frozen=True, slots=True)
class SendHold:
    """A fault of the account: no text will leave until the operator has mended it."""

    fault: str


SendResult = SendAccepted | SendLater | SendNever | SendHold


def advice(fault: str) -> str:
    """Say what the operator is to do about a fault."""
    if fault.startswith("HTTP 3"):
        return _ADVICE["HTTP 404"]
    if not fault.isdecimal() and fault not in _ADVICE:
        return "it is tried again; check that this machine reaches TELNYX_BASE_URL"
    return _ADVICE.get(fault, "look the code up in Telnyx's list of messaging error codes")


def classify(  # noqa: PLR0911 - a table of answers, read from the top
    status: int, body: object, headers: Mapping[str, str], *, retried: bool
) -> SendResult:
    """Read an answer that is not a success; `retried` where the text may have left before."""
    code = _error_code(body)
    fault = code or f"HTTP {status}"
    # A proxy that cannot reach Telnyx says 503; other faults without a code of Telnyx's may have
    # come about on the way back.
    in_doubt = code is None and status >= _SERVER_ERROR and status != _SERVICE_UNAVAILABLE
    later = SendLater(fault, _retry_after(headers), in_doubt, _limit(status, code))
    if code in _NEVER:
        return SendNever(fault)
    if code in _HOLD:
        return SendHold(fault)
    if code in _LATER or status in _LATER_STATUSES or status >= _SERVER_ERROR:
        return later
    moved = _REDIRECT <= status < _BAD_REQUEST
    if moved or status == _UNAUTHORIZED or (code is None and status in _HOLD_STATUSES):
        return SendHold(fault)
    if status in _HOLD_STATUSES:
        return later
    if status == _UNPROCESSABLE and retried:
        # A key that was used before: only a success is remembered, so an earlier attempt was one
        # (Telnyx, "Idempotency").
        return SendAccepted(None)
    return SendNever(fault)


def _limit(status: int, code: str | None) -> Limit | None:
    if code == Limit.NUMBER:
        return Limit.NUMBER
    return Limit.ACCOUNT if code == Limit.ACCOUNT or status == _TOO_MANY_REQUESTS else None


def _error_code(body: object) -> str | None:
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return str(code)[:_MAX_FAULT_LENGTH] if isinstance(code, (str, int)) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After in seconds (RFC 9110 §10.2.3); a date there is not used by Telnyx."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, _MAX_RETRY_AFTER) if seconds > 0 else None
