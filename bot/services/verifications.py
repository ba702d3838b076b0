"""What an app may ask: begin a verification, check a code, send it again, cancel, look.

The API and the web form both come through here; all that changes anything goes through the inbox,
so that an app's requests and the texts of the same moment share one transaction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot.conversation import references
from bot.conversation.inputs import Cancelled, CodeSubmitted, ResendRequested
from bot.conversation.verification import Verification
from bot.services.intake.app_requests import AppRequest, IdempotencyKey, RequestResult
from bot.store import verifications
from bot.store.verifications import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.verification import Origin
    from bot.services.clock import Clock
    from bot.services.intake.app_requests import RequestedAction
    from bot.services.intake.inbox import Inbox
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

__all__ = ["Filter", "IdempotencyKey", "RequestResult", "VerificationRequest", "Verifications"]


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """What an app asks for: `phone` in E.164, or None where the person is to text a reference."""

    origin: Origin
    phone: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] | None = None
    session: str | None = None
    asked_from: str | None = None


class Verifications:
    """What apps ask of this bot; codes come from `bot_number` (E.164)."""

    def __init__(
        self, inbox: Inbox, database: Database, rules: Rules, clock: Clock, bot_number: str
    ) -> None:
        self._inbox = inbox
        self._database = database
        self._rules = rules
        self._clock = clock
        self._bot_number = bot_number

    async def begin(
        self, params: VerificationRequest, once: IdempotencyKey | None = None
    ) -> RequestResult:
        """Begin a verification; raises UnavailableError.

        Outcomes: DONE, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, TOO_MANY_REQUESTS, KEY_REUSED.
        """
        return await self._ask(self._new(params), once)

    async def check(
        self, name: str, code: str, once: IdempotencyKey | None = None
    ) -> RequestResult:
        """Compare a code that was typed outside of the conversation; raises UnavailableError.

        Outcomes: RIGHT, WRONG, TOO_MANY_GUESSES, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        return await self._ask(CodeSubmitted(name, code), once)

    async def resend(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        """Send the same code again; raises UnavailableError.

        Outcomes: DONE, TOO_SOON, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, NOT_PENDING, NOT_FOUND,
        KEY_REUSED; and TOO_MANY_REQUESTS for what began at the web form.
        """
        return await self._ask(ResendRequested(name), once)

    async def cancel(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        """End a verification; raises UnavailableError.

        Outcomes: DONE, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        return await self._ask(Cancelled(name), once)

    async def get(self, name: str) -> Verification | None:
        """Look at a verification; raises UnavailableError."""
        return (await self._database.read(verifications.find, [name])).get(name)

    async def of_session(self, session: str) -> Verification | None:
        """Look at the latest verification of a web form's session; raises UnavailableError."""
        return await self._database.read(verifications.latest_of_session, session)

    async def list(self, which: Filter) -> Sequence[Verification]:
        """List verifications, the latest first; raises UnavailableError."""
        return await self._database.read(verifications.page, which, self._clock.now())

    async def _ask(self, what: RequestedAction, once: IdempotencyKey | None) -> RequestResult:
        # Without a key of the app's, one of our own keeps a commit in doubt from counting twice.
        return await self._inbox.ask(
            AppRequest(what, once or IdempotencyKey(secrets.token_hex(32), ""))
        )

    def _new(self, params: VerificationRequest) -> Verification:
        now, policy = self._clock.now(), self._rules.policy
        by_text = params.phone is None
        lifetime = policy.reference_lifetime if by_text else policy.code_lifetime
        return Verification(
            id=secrets.token_hex(16),
            origin=params.origin,
            bot_number=self._bot_number,
            created_at=now,
            expires_at=now + lifetime,
            phone=params.phone,
            reference=references.make(secrets.choice) if by_text else params.reference,
            metadata=params.metadata or {},
            session=params.session,
            asked_from=params.asked_from,
            test=params.phone is not None and self._rules.keyring.is_test(params.phone),
        )
