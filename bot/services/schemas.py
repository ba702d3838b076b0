"""A verification as an app sees it: the same in every answer and in every event."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from bot.conversation.verification import EventType, Origin, Reason, Status

if TYPE_CHECKING:
    from typing import Self

    from bot.conversation.verification import Verification


class VerificationView(BaseModel):
    """A request that a number be proven, and its result."""

    model_config = ConfigDict(frozen=True, title="Verification")

    id: str = Field(description="Names the verification; nobody can guess it.")
    status: Status = Field(description="All but `pending` are final.")
    reason: Reason | None = Field(description="Why it failed; else null.")
    to: str | None = Field(
        description="The phone's number (E.164); null until somebody texts the reference."
    )
    bot_number: str = Field(description="The number the code comes from, or is asked from (E.164).")
    reference: str | None = Field(
        description="The app's own name for its session or, where the person starts by text,"
        " the word they text."
    )
    metadata: dict[str, Any] = Field(description="What the app gave when it asked, unchanged.")
    origin: Origin = Field(description="Who asked for the code.")
    created_at: datetime = Field(description="When it was asked for (UTC).")
    expires_at: datetime = Field(description="When its code, or its reference, ends (UTC).")
    ended_at: datetime | None = Field(description="When it got its final status (UTC); else null.")
    test: bool = Field(description="True for a number of TEST_NUMBERS: no text is sent.")

    @classmethod
    def of(cls, verification: Verification, now: datetime) -> Self:
        """Show a verification as it stands at `now` (UTC)."""
        return cls(
            id=verification.id,
            status=verification.status_at(now),
            reason=verification.reason,
            to=verification.phone,
            bot_number=verification.bot_number,
            reference=verification.reference,
            metadata=dict(verification.metadata),
            origin=verification.origin,
            created_at=verification.created_at,
            expires_at=verification.expires_at,
            ended_at=verification.ended_at,
            test=verification.test,
        )


class NumberView(BaseModel):
    """A number that wants no more texts, or wants them again."""

    model_config = ConfigDict(frozen=True, title="Number")

    number: str = Field(description="The phone's number (E.164).")
    bot_number: str = Field(description="The bot's number that they texted (E.164).")


class AppEventView(BaseModel):
    """What is posted to EVENTS_URL (Standard Webhooks)."""

    model_config = ConfigDict(frozen=True, title="Event")

    type: EventType
    timestamp: datetime = Field(description="When it happened (UTC).")
    data: VerificationView | NumberView
