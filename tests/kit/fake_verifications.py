"""The verifications service in memory, with one code and one reference for all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation.channels import UNKNOWN_KEY
from bot.conversation.verification import (
    Origin,
    Reason,
    ReplyRule,
    RequestOutcome,
    Status,
    Verification,
)
from bot.services.intake.form_gate import PASSED, FormOutcome, FormRefusal
from bot.services.verifications import USUALLY_COMPLETE, RequestResult, Verifications
from bot.simulator.sandbox import BOT_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from bot.conversation.channels import Channel
    from bot.services.clock import Clock
    from bot.services.intake.form_gate import FormVisit
    from bot.services.verifications import Filter, IdempotencyKey, VerificationRequest

CODE, LETTERS = "123456", "KT"
REFERENCE = "7Q2K42"
FIRST_ID = f"{0:032x}"


class FakeVerifications(Verifications):
    """Verifications that are `stored` in memory, by id.

    `outcome` is that of each `begin` and `resend`, with `retry_at` if too many were made, and with
    `form_refusal`. `form` is what the form decides about requests that are not refused.
    `next_result` replaces the result of the next request only; `fault` is raised until removed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._results: dict[str, tuple[str, RequestResult]] = {}
        self.stored: dict[str, Verification] = {}
        self.requests: list[VerificationRequest] = []
        self.visits: list[FormVisit | None] = []
        self.checked: list[tuple[str, str]] = []
        self.resent: list[str] = []
        self.channels: list[Channel] = []
        self.idempotency_keys: list[IdempotencyKey | None] = []
        self.filters: list[Filter] = []
        self.outcome = RequestOutcome.DONE
        self.retry_at: datetime | None = None
        self.form_refusal = FormRefusal.TOO_MANY_REQUESTS
        self.form = PASSED
        self.next_result: RequestResult | Exception | None = None
        self.fault: Exception | None = None

    async def begin(
        self, params: VerificationRequest, once: IdempotencyKey | None = None
    ) -> RequestResult:
        """Store a new verification; a failed one if `outcome` is a refusal."""
        self._raise_fault()
        self.requests.append(params)
        self.visits.append(params.visit)
        return self._once(once, lambda: self._begin(params))

    async def check(
        self,
        name: str,
        code: str,
        once: IdempotencyKey | None = None,
        *,
        channel: Channel = UNKNOWN_KEY,
        visit: FormVisit | None = None,
    ) -> RequestResult:
        """Compare a code with `CODE`."""
        self._raise_fault()
        self.visits.append(visit)
        self.checked.append((name, code))
        self.channels.append(channel)
        return self._once(
            once,
            lambda: self._if_pending(name, lambda verification: self._check(verification, code)),
        )

    async def resend(
        self,
        name: str,
        once: IdempotencyKey | None = None,
        *,
        channel: Channel = UNKNOWN_KEY,
        visit: FormVisit | None = None,
    ) -> RequestResult:
        """Record the request."""
        self._raise_fault()
        self.visits.append(visit)
        self.channels.append(channel)
        self.resent.append(name)
        return self._once(
            once,
            lambda: self._if_pending(name, self._result),
        )

    async def cancel(self, name: str, once: IdempotencyKey | None = None) -> RequestResult:
        """End a verification as canceled."""
        self._raise_fault()

        def cancel(verification: Verification) -> RequestResult:
            return RequestResult(RequestOutcome.DONE, self._end(verification, Status.CANCELED))

        return self._once(once, lambda: self._if_pending(name, cancel))

    async def get(self, name: str) -> Verification | None:
        """Return a verification."""
        return self.stored.get(name)

    async def of_session(self, session: str) -> Verification | None:
        """Return the latest verification of a session."""
        self._raise_fault()
        return next(
            (
                verification
                for verification in reversed(self.stored.values())
                if verification.session == session
            ),
            None,
        )

    async def list(self, which: Filter) -> Sequence[Verification]:
        """Return the verifications that match, the latest first."""
        self.filters.append(which)
        found = [
            verification
            for verification in reversed(self.stored.values())
            if which.status in (None, verification.status)
            and which.phone in (None, verification.phone)
            and which.reference in (None, verification.reference)
            and (which.before is None or verification.id < which.before)
        ]
        return found[: which.limit]

    def letters(self, verification: Verification) -> str | None:
        """Return `LETTERS` if a reply with letters completes the verification."""
        rule = ReplyRule.of(verification.origin, verification.complete)
        return LETTERS if rule is ReplyRule.LETTERS else None

    def verify(self, name: str) -> None:
        """End a verification as verified, as after a reply by text."""
        self._end(self.stored[name], Status.VERIFIED)

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _once(
        self, once: IdempotencyKey | None, request: Callable[[], RequestResult]
    ) -> RequestResult:
        self.idempotency_keys.append(once)
        result, self.next_result = self.next_result, None
        if isinstance(result, Exception):
            raise result
        if result is not None:
            return result
        if once is None:
            return request()
        if once.key not in self._results:
            self._results[once.key] = once.fingerprint, request()
        fingerprint, result = self._results[once.key]
        return (
            result if fingerprint == once.fingerprint else RequestResult(RequestOutcome.KEY_REUSED)
        )

    def _begin(self, params: VerificationRequest) -> RequestResult:
        if self.outcome is RequestOutcome.TOO_MANY_REQUESTS:
            return self._result(None)
        now, refused = self._clock.now(), self.outcome is not RequestOutcome.DONE
        begun = Verification(
            id=f"{len(self.stored):032x}",
            origin=params.origin,
            bot_number=BOT_NUMBER,
            created_at=now,
            expires_at=now if refused else now + timedelta(minutes=10),
            phone=params.phone,
            reference=REFERENCE if params.origin is Origin.REFERENCE else params.reference,
            label=params.label,
            metadata=params.metadata or {},
            session=params.session,
            status=Status.FAILED if refused else Status.PENDING,
            reason=Reason.LOCKED if refused else None,
            complete=params.complete or USUALLY_COMPLETE[params.origin],
        )
        self.stored[begun.id] = begun
        return RequestResult(self.outcome, begun, form=self.form)

    def _result(self, verification: Verification | None) -> RequestResult:
        """Return the result of a request; without a verification if too many were made."""
        if self.outcome is not RequestOutcome.TOO_MANY_REQUESTS:
            return RequestResult(self.outcome, verification, form=self.form)
        form = FormOutcome(self.form_refusal, self.retry_at)
        return RequestResult(self.outcome, retry_at=self.retry_at, form=form)

    def _if_pending(
        self, name: str, request: Callable[[Verification], RequestResult]
    ) -> RequestResult:
        verification = self.stored.get(name)
        if verification is None:
            return RequestResult(RequestOutcome.NOT_FOUND)
        if verification.status_at(self._clock.now()) is not Status.PENDING:
            return RequestResult(RequestOutcome.NOT_PENDING, verification)
        return request(verification)

    def _check(self, verification: Verification, code: str) -> RequestResult:
        if self.outcome is RequestOutcome.TOO_MANY_REQUESTS:
            return self._result(verification)
        if code != CODE:
            return RequestResult(RequestOutcome.WRONG, verification, tries_left=4)
        return RequestResult(RequestOutcome.RIGHT, self._end(verification, Status.VERIFIED))

    def _end(self, verification: Verification, status: Status) -> Verification:
        self.stored[verification.id] = replace(
            verification, status=status, ended_at=self._clock.now()
        )
        return self.stored[verification.id]
