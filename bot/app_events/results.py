"""The results of posting an event, and the operator's remedy for each fault."""

from __future__ import annotations

from dataclasses import dataclass

REFUSED = "address refused"
"""EVENTS_URL resolves to this machine or a private network, without EVENTS_TO_PRIVATE=on."""
GONE = "HTTP 410"
"""The app wants no more events at this address."""


@dataclass(frozen=True, slots=True)
class PostAccepted:
    """The app accepted the event."""


@dataclass(frozen=True, slots=True)
class PostLater:
    """The post failed; try again, not before `retry_after` seconds if the app asked for that."""

    fault: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointGone:
    """The app wants no more events at this address."""


PostResult = PostAccepted | PostLater | EndpointGone


def advice(fault: str) -> str:
    """Return what the operator must do about a fault."""
    if fault == REFUSED:
        return "set EVENTS_TO_PRIVATE=on if your app is on this machine or a private network"
    if fault == GONE:
        return "check EVENTS_URL, then run: bot events resume"
    if fault.startswith("HTTP 3"):
        return "set EVENTS_URL to the redirect's target: redirects are not followed"
    if fault.startswith("HTTP "):
        return "look into your app's log: it must answer with 2xx"
    return "check that this machine reaches EVENTS_URL and that your app answers within 15 seconds"
