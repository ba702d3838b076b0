"""Classifies responses of Telnyx's API: accepted, retry later, never retry, or hold all sending.

The same error can come with different HTTP statuses, so Telnyx's own error code decides if there is
one (Telnyx, "Messaging error codes").
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
    """The rate limit that a text exceeded; the values are Telnyx's error codes."""

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
    Limit.ACCOUNT: "lower SEND_RATE_ACCOUNT, or ask Telnyx to raise the account's limit",
    "40010": "register the number for 10DLC in the Telnyx portal",
    "40013": "check FROM_NUMBER",
    "40305": "check FROM_NUMBER and its messaging profile",
    "40310": "nothing: this phone cannot receive texts",
    OPTED_OUT_FAULT: "nothing: this person has opted out",
    Limit.NUMBER: "lower SEND_RATE_PER_NUMBER, or ask Telnyx to raise the number's limit",
    "40333": "raise the messaging profile's spend limit",
    "HTTP 401": "check TELNYX_API_KEY",
    "HTTP 403": "check the permissions of TELNYX_API_KEY",
    "HTTP 404": "check TELNYX_BASE_URL",
    "HTTP 429": "lower SEND_RATE_ACCOUNT, or ask Telnyx to raise the account's limit",
    "too late": "nothing: the text could not be sent before it expired",
    "in doubt": "check Telnyx's status page: two requests were sent, and neither was answered",
    "code gone": "keep a replaced SECRET_KEY for an hour, as SECRET_KEY=new,old",
}


@dataclass(frozen=True, slots=True)
class SendAccepted:
    """Telnyx accepted the text under this id; it is None if an earlier attempt was accepted."""

    carrier_id: str | None


@dataclass(frozen=True, slots=True)
class SendLater:
    """The send failed; try again, not before `retry_after` seconds if Telnyx asked for that.

    `in_doubt` means that Telnyx may have accepted the text nevertheless.
    """

    fault: str
    retry_after: float | None = None
    in_doubt: bool = False
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class SendNever:
    """The send failed, and would fail again: this text cannot reach this phone."""

    fault: str


@dataclass(frozen=True, slots=True)
class SendHold:
    """The account or its settings are at fault: no text can be sent until that is fixed."""

    fault: str


SendResult = SendAccepted | SendLater | SendNever | SendHold


def advice(fault: str) -> str:
    """Return what the operator must do about a fault."""
    if fault.startswith("HTTP 3"):
        return _ADVICE["HTTP 404"]
    if not fault.isdecimal() and fault not in _ADVICE:
        return "check that this machine reaches TELNYX_BASE_URL; the text is tried again"
    return _ADVICE.get(fault, "look the code up in Telnyx's list of messaging error codes")


def classify(  # noqa: PLR0911 - rules in order of precedence
    status: int, body: object, headers: Mapping[str, str], *, retried: bool
) -> SendResult:
    """Classify an error response.

    `retried` means that an earlier attempt may have succeeded.
    """
    code = _error_code(body)
    fault = code or f"HTTP {status}"
    # A proxy that cannot reach Telnyx answers 503. Another 5xx without a Telnyx error code may be a
    # proxy's answer to a request that Telnyx accepted.
    in_doubt = code is None and status >= _SERVER_ERROR and status != _SERVICE_UNAVAILABLE
    later = SendLater(fault, _retry_after(headers), in_doubt, _limit(status, code))
    if code in _NEVER:
        return SendNever(fault)
    if code in _HOLD:
        return SendHold(fault)
    if code in _LATER or status in _LATER_STATUSES or status >= _SERVER_ERROR:
        return later
    redirected = _REDIRECT <= status < _BAD_REQUEST
    if redirected or status == _UNAUTHORIZED or (code is None and status in _HOLD_STATUSES):
        return SendHold(fault)
    if status in _HOLD_STATUSES:
        return later
    if status == _UNPROCESSABLE and retried:
        # The idempotency key was used before. Telnyx keeps keys of successes only, so an earlier
        # attempt succeeded (Telnyx, "Idempotency").
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
    """Return the seconds of Retry-After (RFC 9110 §10.2.3); Telnyx does not use dates."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, _MAX_RETRY_AFTER) if seconds > 0 else None
