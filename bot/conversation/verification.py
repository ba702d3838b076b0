"""A verification: an app's request that a number be proven, and its result."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Origin(StrEnum):
    """Who asked for a code, and how the person comes to type it."""

    PERSON = "person"
    REFERENCE = "reference"
    APP = "app"
    FORM = "form"


class Status(StrEnum):
    """Where a verification stands; all but `pending` are final."""

    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


class Reason(StrEnum):
    """Why a verification failed, or was never begun."""

    TOO_MANY_GUESSES = "too_many_guesses"
    NOT_ME = "not_me"
    OPTED_OUT = "opted_out"
    UNDELIVERABLE = "undeliverable"
    LOCKED = "locked"
    TOO_MANY_CODES = "too_many_codes"


class EventType(StrEnum):
    """What an app is told of, by the names it is told it under."""

    PENDING = "verification.pending"
    SENT = "verification.sent"
    DELIVERED = "verification.delivered"
    VERIFIED = "verification.verified"
    FAILED = "verification.failed"
    EXPIRED = "verification.expired"
    CANCELED = "verification.canceled"
    OPTED_OUT = "number.opted_out"
    OPTED_IN = "number.opted_in"


FINAL_STATUS: Mapping[EventType, Status] = {
    EventType.VERIFIED: Status.VERIFIED,
    EventType.FAILED: Status.FAILED,
    EventType.EXPIRED: Status.EXPIRED,
    EventType.CANCELED: Status.CANCELED,
}
"""The occurrences that end a verification, and the status it then has for good."""


class Verification(Struct, frozen=True):
    """An app's request and its result. Numbers are E.164, times UTC.

    `id` is unguessable. `phone` is None until somebody has texted the reference. `reference` is
    the word to text where `origin` says so, else the app's own name for its session. `session`
    names the browser session of a web form, `asked_from` the network it was asked from; neither
    can be read back. `test` tells that no text is sent and the code is fixed.
    """

    id: str
    origin: Origin
    bot_number: str
    created_at: datetime
    expires_at: datetime
    phone: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = {}
    status: Status = Status.PENDING
    reason: Reason | None = None
    ended_at: datetime | None = None
    session: str | None = None
    asked_from: str | None = None
    test: bool = False

    def status_at(self, now: datetime) -> Status:
        """Tell the status; one whose time is over has expired, noted or not."""
        over = self.status is Status.PENDING and now >= self.expires_at
        return Status.EXPIRED if over else self.status


class AppEvent(Struct, frozen=True):
    """Something an app is to be told of; without a verification it is about the number."""

    occurrence: EventType
    verification: str | None = None
    reason: Reason | None = None


class RequestOutcome(StrEnum):
    """What became of an app's request."""

    DONE = "done"
    RIGHT = "right"
    WRONG = "wrong"
    TOO_SOON = "too_soon"
    TOO_MANY_CODES = "too_many_codes"
    TOO_MANY_REQUESTS = "too_many_requests"
    TOO_MANY_GUESSES = "too_many_guesses"
    LOCKED = "locked"
    NOT_ME = "not_me"
    OPTED_OUT = "opted_out"
    NOT_PENDING = "not_pending"
    NOT_FOUND = "not_found"
    KEY_REUSED = "key_reused"


class AppAnswer(Struct, frozen=True):
    """What an app is answered; `retry_at` (UTC) where time will mend it.

    `tries_left` are the guesses that may still be typed; `counted` tells of a guess that it cost
    one.
    """

    outcome: RequestOutcome
    retry_at: datetime | None = None
    tries_left: int = 0
    counted: bool = True
