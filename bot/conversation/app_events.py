"""App events: what the bot reports to an app about a verification or a number."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.verification import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.conversation.verification import Reason


class EventType(StrEnum):
    """The types of app events, by the names that apps receive."""

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
"""The app events that end a verification, and the final status that each gives it."""


class AppEvent(Struct, frozen=True):
    """An event to send to an app; without a verification (its id) it is about the number."""

    type: EventType
    verification: str | None = None
    reason: Reason | None = None
