"""App events: what the bot reports to an app about a verification or a number."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation.verification import Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from bot.conversation.channels import Channel
    from bot.conversation.verification import Reason


MAX_OPT_EVENTS_PER_HOUR = 6
"""Events about opt-outs and opt-ins of one number. Somebody who texts STOP and START by turns must
not keep an app busy."""
_HOUR = timedelta(hours=1)


class EventType(StrEnum):
    """The types of app events, by the names that apps receive."""

    PENDING = "verification.pending"
    SENT = "verification.sent"
    DELIVERED = "verification.delivered"
    VERIFIED = "verification.verified"
    REVOKED = "verification.revoked"
    FAILED = "verification.failed"
    EXPIRED = "verification.expired"
    CANCELED = "verification.canceled"
    OPTED_OUT = "number.opted_out"
    OPTED_IN = "number.opted_in"
    NUMBER_REVOKED = "number.revoked"
    LOCKED = "number.locked"
    UNLOCKED = "number.unlocked"
    ALERT = "service.alert"


FINAL_STATUS: Mapping[EventType, Status] = {
    EventType.VERIFIED: Status.VERIFIED,
    EventType.FAILED: Status.FAILED,
    EventType.EXPIRED: Status.EXPIRED,
    EventType.CANCELED: Status.CANCELED,
}
"""The app events that end a verification, and the final status that each gives it."""


class AppEvent(Struct, frozen=True):
    """An event to send to an app; without a verification (its id) it is about the number.

    `channel` is the one that was closed or opened for the number, `until` when it opens by itself.
    """

    type: EventType
    verification: str | None = None
    reason: Reason | None = None
    channel: Channel | None = None
    until: datetime | None = None


class OptEventCount(Struct, frozen=True):
    """When opt-outs and opt-ins of one number were reported, and how many were left out since.

    `reported_at` (UTC) are the reports of the last hour, the oldest first.
    """

    reported_at: tuple[datetime, ...] = ()
    left_out: int = 0

    def after(self, now: datetime) -> tuple[OptEventCount, int | None]:
        """Return the count after a change at `now`, and how many before it were left out.

        None means that this change is left out as well.
        """
        recent = tuple(time for time in self.reported_at if now - _HOUR < time <= now + _HOUR)
        if len(recent) >= MAX_OPT_EVENTS_PER_HOUR:
            return OptEventCount(recent, self.left_out + 1), None
        return OptEventCount((*recent, now)), self.left_out

    @property
    def due_at(self) -> datetime:
        """Return when the changes that were left out may be reported, or the count forgotten."""
        time = self.reported_at[0] if self.left_out else self.reported_at[-1]
        return time + _HOUR
