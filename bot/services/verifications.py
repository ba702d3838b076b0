"""The requests of apps: begin a verification, check or resend its code, cancel it, read it.

The API and the web form both use this. Every change goes through the inbox, so that apps' requests
and texts that arrive together share one transaction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot.conversation import references
from bot.conversation.channels import UNKNOWN_KEY
from bot.conversation.inputs import Cancelled, CodeSubmitted, ResendRequested
from bot.conversation.verification import Complete, Origin, ReplyRule, Verification
from bot.services.intake.app_requests import AppRequest, IdempotencyKey, RequestResult
from bot.store import verifications
from bot.store.verifications import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.channels import Channel
    from bot.services.clock import Clock
    from bot.services.intake.app_requests import RequestedAction
    from bot.services.intake.form_gate import FormVisit
    from bot.services.intake.inbox import Inbox
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

USUALLY_COMPLETE: Mapping[Origin, Complete] = {
    Origin.APP: Complete.TYPED,
    Origin.REFERENCE: Complete.REPLY,
    Origin.FORM: Complete.REPLY,
}
"""How a verification may be completed unless its request says otherwise."""

__all__ = ["Filter", "IdempotencyKey", "RequestResult", "VerificationRequest", "Verifications"]


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """A request for a verification: `phone` in E.164, or None if a reference must be texted.

    `complete` is how it may be completed; None means as is usual for its origin. `channel` is where
    it is asked for. `label` says in the code text of a reference what the verification is about.
    `session` is the hash of the web form's session that begins with it, `visit` where the request
    comes from.
    """

    origin: Origin
    phone: str | None = None
    complete: Complete | None = None
    reference: str | None = None
    label: str | None = None
    metadata: Mapping[str, Any] | None = None
    session: str | None = None
    channel: Channel = UNKNOWN_KEY
    visit: FormVisit | None = None


class Verifications:
    """The requests of apps to this bot; codes are sent from `bot_number` (E.164)."""

    def __init__(
        self, inbox: Inbox, database: Database, rules: Rules, clock: Clock, bot_number: str
    ) -> None:
        self._inbox = inbox
        self._database = database
        self._rules = rules
        self._clock = clock
        self._bot_number = bot_number

    async def begin(
        self, request: VerificationRequest, key: IdempotencyKey | None = None
    ) -> RequestResult:
        """Begin a verification; raises UnavailableError.

        Outcomes: DONE, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, TOO_MANY_REQUESTS, KEY_REUSED.
        """
        return await self._request(self._new(request), key, request.channel, request.visit)

    async def check(
        self,
        id_: str,
        code: str,
        key: IdempotencyKey | None = None,
        *,
        channel: Channel = UNKNOWN_KEY,
        visit: FormVisit | None = None,
    ) -> RequestResult:
        """Check a code that was typed in the app or the form; raises UnavailableError.

        Outcomes: RIGHT, WRONG, TOO_MANY_GUESSES, LOCKED, NOT_PENDING, NOT_FOUND, KEY_REUSED; and
        TOO_MANY_REQUESTS at the web form.
        """
        return await self._request(CodeSubmitted(id_, code, channel), key, visit=visit)

    async def resend(
        self,
        id_: str,
        key: IdempotencyKey | None = None,
        *,
        channel: Channel = UNKNOWN_KEY,
        visit: FormVisit | None = None,
    ) -> RequestResult:
        """Send the same code again; raises UnavailableError.

        Outcomes: DONE, TOO_SOON, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, NOT_PENDING, NOT_FOUND,
        KEY_REUSED; and TOO_MANY_REQUESTS if it began at the web form.
        """
        return await self._request(ResendRequested(id_, channel), key, visit=visit)

    async def cancel(self, id_: str, key: IdempotencyKey | None = None) -> RequestResult:
        """End a verification; raises UnavailableError.

        Outcomes: DONE, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        return await self._request(Cancelled(id_), key)

    async def get(self, id_: str) -> Verification | None:
        """Return a verification; raises UnavailableError."""
        return (await self._database.read(verifications.find, [id_])).get(id_)

    async def of_session(self, session: str) -> Verification | None:
        """Return the latest verification of a web form's session; raises UnavailableError."""
        return await self._database.read(verifications.latest_of_session, session)

    async def list(self, page: Filter) -> Sequence[Verification]:
        """List verifications, the latest first; raises UnavailableError."""
        return await self._database.read(verifications.page, page, self._clock.now())

    def letters(self, verification: Verification) -> str | None:
        """Return the two letters that a reply must have beside the code; None if none is taken.

        Show them only where the code was asked for.
        """
        rule = ReplyRule.of(verification.origin, verification.complete)
        if rule is not ReplyRule.LETTERS:
            return None
        return self._rules.keyring.letters(verification.id, verification.letters_index)

    async def _request(
        self,
        action: RequestedAction,
        key: IdempotencyKey | None,
        channel: Channel = UNKNOWN_KEY,
        visit: FormVisit | None = None,
    ) -> RequestResult:
        # Without a key, a commit whose outcome is unknown could be applied twice.
        key = key or IdempotencyKey(secrets.token_hex(32), "")
        return await self._inbox.handle_request(AppRequest(action, key, channel, visit))

    def _new(self, request: VerificationRequest) -> Verification:
        now, policy = self._clock.now(), self._rules.policy
        by_text = request.phone is None
        lifetime = policy.reference_lifetime if by_text else policy.code_lifetime
        return Verification(
            id=secrets.token_hex(16),
            origin=request.origin,
            bot_number=self._bot_number,
            created_at=now,
            expires_at=now + lifetime,
            phone=request.phone,
            reference=references.make(secrets.choice) if by_text else request.reference,
            label=request.label,
            metadata=request.metadata or {},
            session=request.session,
            test=request.phone is not None and self._rules.keyring.is_test(request.phone),
            complete=request.complete or USUALLY_COMPLETE[request.origin],
        )
