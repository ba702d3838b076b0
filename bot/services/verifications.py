"""What an app may ask: begin a verification, check a code, send it again, cancel, look.

The API and the web form both come through here; all that changes anything goes through the inbox,
so that an app's requests and the texts of the same moment share one transaction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot.conversation import references
from bot.conversation.happened import AskedAgain, Canceled, Typed
from bot.conversation.verification import Verification
from bot.services.requests import Idempotency, Request, Result
from bot.store import verifications
from bot.store.verifications import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.verification import Origin
    from bot.services.clock import Clock
    from bot.services.inbox import Inbox
    from bot.services.requests import What
    from bot.services.turns import Rules
    from bot.store.database import Database

__all__ = ["Filter", "Idempotency", "Result", "Verifications", "Wish"]


@dataclass(frozen=True, slots=True)
class Wish:
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

    async def begin(self, wish: Wish, once: Idempotency | None = None) -> Result:
        """Begin a verification; raises UnavailableError.

        Outcomes: DONE, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, TOO_MANY_REQUESTS, KEY_REUSED.
        """
        return await self._ask(self._new(wish), once)

    async def check(self, name: str, code: str, once: Idempotency | None = None) -> Result:
        """Compare a code that was typed outside of the conversation; raises UnavailableError.

        Outcomes: RIGHT, WRONG, TOO_MANY_GUESSES, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        return await self._ask(Typed(name, code), once)

    async def resend(self, name: str, once: Idempotency | None = None) -> Result:
        """Send the same code again; raises UnavailableError.

        Outcomes: DONE, TOO_SOON, TOO_MANY_CODES, LOCKED, NOT_ME, OPTED_OUT, NOT_PENDING, NOT_FOUND,
        KEY_REUSED; and TOO_MANY_REQUESTS for what began at the web form.
        """
        return await self._ask(AskedAgain(name), once)

    async def cancel(self, name: str, once: Idempotency | None = None) -> Result:
        """End a verification; raises UnavailableError.

        Outcomes: DONE, NOT_PENDING, NOT_FOUND, KEY_REUSED.
        """
        return await self._ask(Canceled(name), once)

    async def get(self, name: str) -> Verification | None:
        """Look at a verification; raises UnavailableError."""
        return (await self._database.read(verifications.find, [name])).get(name)

    async def of_session(self, session: str) -> Verification | None:
        """Look at the latest verification of a web form's session; raises UnavailableError."""
        return await self._database.read(verifications.of_session, session)

    async def list(self, which: Filter) -> Sequence[Verification]:
        """List verifications, the latest first; raises UnavailableError."""
        return await self._database.read(verifications.page, which, self._clock.now())

    async def _ask(self, what: What, once: Idempotency | None) -> Result:
        # Without a key of the app's, one of our own keeps a commit in doubt from counting twice.
        return await self._inbox.ask(Request(what, once or Idempotency(secrets.token_hex(32), "")))

    def _new(self, wish: Wish) -> Verification:
        now, policy = self._clock.now(), self._rules.policy
        by_text = wish.phone is None
        lifetime = policy.reference_lifetime if by_text else policy.code_lifetime
        return Verification(
            id=secrets.token_hex(16),
            origin=wish.origin,
            bot_number=self._bot_number,
            created_at=now,
            expires_at=now + lifetime,
            phone=wish.phone,
            reference=references.make(secrets.choice) if by_text else wish.reference,
            metadata=wish.metadata or {},
            session=wish.session,
            asked_from=wish.asked_from,
            test=wish.phone is not None and self._rules.keyring.is_test(wish.phone),
        )
