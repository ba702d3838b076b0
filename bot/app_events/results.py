"""What came of posting an event, and what the operator is to do about it."""

from __future__ import annotations

from dataclasses import dataclass

REFUSED = "address refused"
"""EVENTS_URL leads to this machine or a private network, and may not."""
GONE = "HTTP 410"
"""The app wants no more events at this address."""


@dataclass(frozen=True, slots=True)
class PostAccepted:
    """The app has the event."""


@dataclass(frozen=True, slots=True)
class PostLater:
    """Try again; not before `retry_after` seconds where the app asked for that."""

    fault: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointGone:
    """The app wants no more events at this address."""


PostResult = PostAccepted | PostLater | EndpointGone


def advice(fault: str) -> str:
    """Say what the operator is to do about a fault."""
    if fault == REFUSED:
        return "set EVENTS_TO_PRIVATE=on if your app is on this machine or a private network"
    if fault == GONE:
        return "check EVENTS_URL, then run: bot events resume"
    if fault.startswith("HTTP 3"):
        return "set EVENTS_URL to where it leads: a redirect is not followed"
    if fault.startswith("HTTP "):
        return "look into your app's log: it is to answer with 2xx"
    return "check that this machine reaches EVENTS_URL and is answered within 15 seconds"
