"""What can be made to go wrong on purpose, each time with the next thing that happens."""

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
    """How the next API request is answered instead.

    Without a `status` the connection is dropped; where it is `cut`, that happens in the middle of
    the body. `accepted` tells that the text leaves all the same, and `after` how many seconds
    pass before the answer.
    """

    status: int | None
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    after: float = 0.0
    cut: bool = False

    @classmethod
    def error(cls, status: int, code: str, **headers: str) -> Self:
        """Make an error as Telnyx writes them."""
        body = json.dumps({"errors": [{"code": code, "title": "A fault that was asked for"}]})
        return cls(status, body, _JSON | headers)


class ReportFault(StrEnum):
    """What goes wrong with the delivery reports of the next text to a phone."""

    EARLY = "early"
    LATE = "late"
    FAILED = "failed"
    REVERSED = "reversed"
    REPEATED = "repeated"


class WebhookFault(StrEnum):
    """What goes wrong with the webhook of the next text from a phone."""

    TWICE = "twice"


Fault = ApiFault | ReportFault | WebhookFault


@dataclass(frozen=True, slots=True)
class Choice:
    """A fault that has a name, as people pick it."""

    title: str
    fault: Fault


MENU: Mapping[str, Choice] = {
    "429": Choice(
        "Telnyx answers 429: too many requests",
        ApiFault.error(429, "10011", **{"Retry-After": "2"}),
    ),
    "500": Choice("Telnyx answers 500", ApiFault.error(500, "10007")),
    "40300": Choice(
        "Telnyx answers 40300: the person has opted out", ApiFault.error(400, OPTED_OUT_FAULT)
    ),
    "hang": Choice("Telnyx does not answer for 30 seconds", ApiFault(None, after=30)),
    "drop": Choice(
        "Telnyx takes the text, then drops the connection", ApiFault(None, accepted=True)
    ),
    "refuse": Choice("Telnyx drops the connection, and does not take the text", ApiFault(None)),
    "cut": Choice(
        "Telnyx takes the text, and its answer breaks off",
        ApiFault(200, '{"data": {"id": "', _JSON, accepted=True, cut=True),
    ),
    "html": Choice(
        "a proxy answers in Telnyx's place",
        ApiFault(200, "<html>Sign in to this network</html>", {"Content-Type": "text/html"}),
    ),
    "broken": Choice(
        "Telnyx takes the text, and answers what is no JSON",
        ApiFault(200, '{"data": {"id"', _JSON, accepted=True),
    ),
    ReportFault.EARLY: Choice("delivery reports come before the API's answer", ReportFault.EARLY),
    ReportFault.LATE: Choice("delivery reports come 20 seconds late", ReportFault.LATE),
    ReportFault.FAILED: Choice("the text does not reach the phone", ReportFault.FAILED),
    ReportFault.REVERSED: Choice("delivery reports come in the wrong order", ReportFault.REVERSED),
    ReportFault.REPEATED: Choice("delivery reports come twice", ReportFault.REPEATED),
    WebhookFault.TWICE: Choice("Telnyx delivers the webhook twice", WebhookFault.TWICE),
}
"""Every fault with a name: a word of the story language, of the terminal and of the page."""


def fault_named(name: str) -> Fault:
    """Find a fault by its name; raises ValueError, which lists the names."""
    if name not in MENU:
        raise ValueError(f"there is no fault {name!r}, but {', '.join(MENU)}")
    return MENU[name].fault


def name_of(fault: Fault) -> str | None:
    """Name a fault; None for one that is not on the menu."""
    return next((name for name, choice in MENU.items() if choice.fault == fault), None)
