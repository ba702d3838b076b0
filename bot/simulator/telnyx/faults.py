"""Faults that can be armed; each one affects the next request, report or webhook of its kind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.carrier.errors import OPTED_OUT_FAULT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class ApiFault:
    """A faulty response to the next API request.

    Without a `status` the connection is dropped; if `cut`, it is dropped in the middle of the
    body. If `accepted`, the text is sent all the same. `after` is the delay in seconds.
    """

    status: int | None
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    after: float = 0.0
    cut: bool = False

    @classmethod
    def error(cls, status: int, code: str, **headers: str) -> Self:
        """Return an error in Telnyx's format."""
        body = json.dumps({"errors": [{"code": code, "title": "A simulated fault"}]})
        return cls(status, body, _JSON | headers)


class ReportFault(StrEnum):
    """A fault in the delivery reports of the next text to a phone."""

    EARLY = "early"
    LATE = "late"
    FAILED = "failed"
    REVERSED = "reversed"
    REPEATED = "repeated"


class WebhookFault(StrEnum):
    """A fault in the webhook of the next text from a phone."""

    TWICE = "twice"


Fault = ApiFault | ReportFault | WebhookFault


@dataclass(frozen=True, slots=True)
class NamedFault:
    """A fault and its title for people."""

    title: str
    fault: Fault


NAMED_FAULTS: Mapping[str, NamedFault] = {
    "429": NamedFault(
        "Telnyx answers 429: too many requests",
        ApiFault.error(429, "10011", **{"Retry-After": "2"}),
    ),
    "500": NamedFault("Telnyx answers 500", ApiFault.error(500, "10007")),
    "40300": NamedFault(
        "Telnyx answers 40300: the person has opted out", ApiFault.error(400, OPTED_OUT_FAULT)
    ),
    "hang": NamedFault("Telnyx does not answer for 30 seconds", ApiFault(None, after=30)),
    "drop": NamedFault(
        "Telnyx accepts the text, then drops the connection", ApiFault(None, accepted=True)
    ),
    "refuse": NamedFault(
        "Telnyx drops the connection and does not accept the text", ApiFault(None)
    ),
    "cut": NamedFault(
        "Telnyx accepts the text, and its answer breaks off",
        ApiFault(200, '{"data": {"id": "', _JSON, accepted=True, cut=True),
    ),
    "html": NamedFault(
        "a proxy answers instead of Telnyx",
        ApiFault(200, "<html>Sign in to this network</html>", {"Content-Type": "text/html"}),
    ),
    "broken": NamedFault(
        "Telnyx accepts the text, and its answer is not JSON",
        ApiFault(200, '{"data": {"id"', _JSON, accepted=True),
    ),
    ReportFault.EARLY: NamedFault(
        "delivery reports come before the API's answer", ReportFault.EARLY
    ),
    ReportFault.LATE: NamedFault("delivery reports come 20 seconds late", ReportFault.LATE),
    ReportFault.FAILED: NamedFault("the text does not reach the phone", ReportFault.FAILED),
    ReportFault.REVERSED: NamedFault(
        "delivery reports come in the wrong order", ReportFault.REVERSED
    ),
    ReportFault.REPEATED: NamedFault("delivery reports come twice", ReportFault.REPEATED),
    WebhookFault.TWICE: NamedFault("Telnyx delivers the webhook twice", WebhookFault.TWICE),
}
"""The faults by their names in the story language, the terminal and the page."""


def find_fault(name: str) -> Fault:
    """Return the fault with this name; raise ValueError, which lists the names."""
    if name not in NAMED_FAULTS:
        raise ValueError(f"unknown fault {name!r}, not one of {', '.join(NAMED_FAULTS)}")
    return NAMED_FAULTS[name].fault


def fault_name(fault: Fault) -> str | None:
    """Return the name of a fault, or None if it has none."""
    return next((name for name, named in NAMED_FAULTS.items() if named.fault == fault), None)
