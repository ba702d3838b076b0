"""What an app may ask: begin a verification, check a code, send it again, cancel, look.

The API and the web form both come through here; all that changes anything goes through the inbox,
so that an app's requests and the texts of the same moment share one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from bot.conversation.verification import Origin, Outcome, Status, Verification


@dataclass(frozen=True, slots=True)
class Wish:
    """What an app asks for: `phone` in E.164, or None where the person is to text a reference."""

    origin: Origin
    phone: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] | None = None
    session: str | None = None
    asked_from: str | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An app's Idempotency-Key: `key` is unique to the app, `fingerprint` to what is asked."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request, and the verification as it stands after it.

    `retry_at` (UTC) tells when the same request may succeed; `tries_left` are the guesses that may
    still be typed.
    """

    outcome: Outcome
    verification: Verification | None = None
    retry_at: datetime | None = None
    tries_left: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which verifications to list: the latest first, those before the one named `before`."""

    status: Status | None = None
    phone: str | None = None
    reference: str | None = None
    before: str | None = None
    limit: int = 50


class Verifications:
    """What apps ask of this bot."""

    async def begin(self, wish: Wish, once: Idempotency | None = None) -> Result:
        """Begin a verification; raises UnavailableError.

        Outcomes: DONE, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, TOO_MANY_REQUESTS, KEY_REUSED.
        """
        raise NotImplementedError

    async def check(self, name: str, code: str, once: Idempotency | None = None) -> Result:
        """Compare a code that was typed outside of the conversation; raises UnavailableError.

        Outcomes: RIGHT, WRONG, TOO_MANY_GUESSES, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        raise NotImplementedError

    async def resend(self, name: str, once: Idempotency | None = None) -> Result:
        """Send the same code again; raises UnavailableError.

        Outcomes: DONE, TOO_SOON, TOO_MANY_CODES, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        raise NotImplementedError

    async def cancel(self, name: str, once: Idempotency | None = None) -> Result:
        """End a verification; raises UnavailableError.

        Outcomes: DONE, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        raise NotImplementedError

    async def get(self, name: str) -> Verification | None:
        """Look at a verification; raises UnavailableError."""
        raise NotImplementedError

    async def of_session(self, session: str) -> Verification | None:
        """Look at the latest verification of a web form's session; raises UnavailableError."""
        raise NotImplementedError

    async def list(self, which: Filter) -> Sequence[Verification]:
        """List verifications, the latest first; raises UnavailableError."""
        raise NotImplementedError
