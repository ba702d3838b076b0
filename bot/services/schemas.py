"""A verification as an app sees it: the same in API responses and in app events.

Each property is described in web/api/openapi.json.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from bot.conversation.app_events import EventType
from bot.conversation.verification import Complete, Origin, Reason, Status

if TYPE_CHECKING:
    from typing import Self

    from bot.conversation.verification import Verification


class VerificationView(BaseModel):
    """A request to verify a number, and its result. Numbers are E.164, times UTC."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: Status
    reason: Reason | None
    to: str | None
    bot_number: str
    reference: str | None
    label: str | None
    metadata: dict[str, Any]
    origin: Origin
    complete: Complete
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    revoked_at: datetime | None
    test: bool
    code_length: int | None

    @classmethod
    def of(cls, verification: Verification, now: datetime) -> Self:
        """Return the view of a verification at `now` (UTC)."""
        return cls(
            id=verification.id,
            status=verification.status_at(now),
            reason=verification.reason,
            to=verification.phone,
            bot_number=verification.bot_number,
            reference=verification.reference_shown_at(now),
            label=verification.label,
            metadata=dict(verification.metadata),
            origin=verification.origin,
            complete=verification.complete,
            created_at=verification.created_at,
            expires_at=verification.expires_at,
            ended_at=verification.ended_at,
            revoked_at=verification.revoked_at,
            test=verification.test,
            code_length=verification.code_length,
        )


class NumberView(BaseModel):
    """A number that has opted out of texts, opted in again or revoked its verification (E.164).

    `bot_number` is the one of the bot's numbers that was texted. `left_out` is how many opt-outs
    and opt-ins before this one had no event, since there were too many.
    """

    model_config = ConfigDict(frozen=True)

    number: str
    bot_number: str
    left_out: int


class AlertView(BaseModel):
    """Something that the operator must look at.

    `code` says what, for programs; `scope` what it concerns; `message` and `action` say in plain
    words what has happened and what to do.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    scope: str
    message: str
    action: str


class NumberLockView(BaseModel):
    """A number (E.164) for which a channel was closed until a time (UTC), or opened again."""

    model_config = ConfigDict(frozen=True)

    number: str
    channel: str
    until: datetime | None


class AppEventView(BaseModel):
    """The body of an app event (Standard Webhooks); `timestamp` is UTC."""

    model_config = ConfigDict(frozen=True)

    type: EventType
    timestamp: datetime
    data: VerificationView | NumberView | NumberLockView | AlertView
