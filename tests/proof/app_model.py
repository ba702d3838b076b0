"""A model of the codes of apps and of a person, written without the bot's own rules.

One phone, one bot number, the default settings, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CODE_LIFETIME, COOLDOWN, REFUSAL = 10 * MINUTE, 30.0, HOUR
TRIES, CODES_PER_HOUR, CODES_PER_DAY = 5, 5, 10
FIRST_LOCK = 15 * MINUTE


@dataclass(slots=True)
class Code:
    """A code, requested by an app or by the person."""

    issued: float
    resend_after: float = 0.0
    guesses: int = 0
    status: str = "pending"

    def end(self, status: str) -> None:
        """End the code, unless it has ended."""
        if self.status == "pending":
            self.status = status


@dataclass(slots=True)
class Limits:
    """The counts and locks of one channel: texts, or apps and the form."""

    wrong: int = 0
    locks: int = 0
    locked_until: float = 0.0
    code_times: list[float] = field(default_factory=list)

    def lock_if_due(self, now: float) -> bool:
        """Lock after the last allowed wrong guess; return whether it is locked."""
        if self.wrong < TRIES:
            return False
        self.locked_until = now + min(FIRST_LOCK * 2**self.locks, DAY)
        self.wrong, self.locks = 0, self.locks + 1
        return True

    def may_have_code(self, now: float) -> bool:
        """Return whether the limits allow another code."""
        counts = [sum(now - time < span for time in self.code_times) for span in (HOUR, DAY)]
        return counts[0] < CODES_PER_HOUR and counts[1] < CODES_PER_DAY


@dataclass(slots=True)
class Expected:
    """The expected state of one phone, with the codes of apps by the verification's id."""

    by_text: Limits = field(default_factory=Limits)
    by_app: Limits = field(default_factory=Limits)
    own: Code | None = None
    apps: dict[str, Code] = field(default_factory=dict)
    opted_out: bool = False
    refused_until: float = 0.0

    def expire(self, now: float) -> None:
        """End the codes that have expired."""
        for code in self._pending():
            if now >= code.issued + CODE_LIFETIME:
                code.end("expired")

    def begin(self, name: str, now: float) -> str:
        """Request a code for an app; return the outcome."""
        self.expire(now)
        refusal = self._refusal_of_app(now)
        if not refusal:
            self.apps[name] = Code(now, now + COOLDOWN)
            self.by_app.code_times.append(now)
        return refusal or "done"

    def resend(self, name: str, now: float) -> str:
        """Request the same code again for an app; return the outcome."""
        self.expire(now)
        code = self.apps[name]
        if code.status != "pending":
            return "not_pending"
        if now < code.resend_after:
            return "too_soon"
        refusal = self._refusal_of_app(now)
        if not refusal:
            code.resend_after = now + COOLDOWN
            self.by_app.code_times.append(now)
        return refusal or "done"

    def cancel(self, name: str, now: float) -> str:
        """Cancel an app's request; return the outcome."""
        self.expire(now)
        if self.apps[name].status != "pending":
            return "not_pending"
        self.apps[name].end("canceled")
        return "done"

    def type(self, name: str, now: float, *, right: bool) -> str:
        """Type a code into the app; return the outcome."""
        self.expire(now)
        code = self.apps[name]
        if code.status != "pending":
            return "not_pending"
        if now < self.by_app.locked_until:
            return "too_many_guesses"
        code.guesses += 1
        if right:
            code.end("verified")
            self.by_app.wrong = self.by_app.locks = 0
            return "right"
        self.by_app.wrong += 1
        self.by_app.lock_if_due(now)
        if code.guesses >= TRIES:
            code.end("failed")
        return "wrong"

    def guess(self, now: float, right: Code | None, request: Code | None = None) -> bool:
        """Text a code, alone or with the letters of an app's request; return whether it succeeds.

        A code alone is compared with the person's own, one with letters with that of the request.
        """
        self.expire(now)
        target = request or self.own
        if not self._reads_texts(now) or (right is target and self._is_used(right, now)):
            return False
        compared = target is not None and target.status == "pending"
        if not compared and not (request and self._pending()):
            return False
        if target is not None and compared:
            target.guesses += 1
            if right is target:
                target.end("verified")
                self.by_text.wrong = self.by_text.locks = 0
                self._end_codes_without_tries()
                return True
        self.by_text.wrong += 1
        own = self.own
        if own is not None and own.status == "pending" and own.guesses >= TRIES:
            self.by_text.wrong = TRIES
        if self.by_text.lock_if_due(now):
            self._end_all()
        self._end_codes_without_tries()
        return False

    def verify(self, now: float) -> bool:
        """Text VERIFY; return whether a code is sent."""
        self.expire(now)
        waiting = self.own is not None and self.own.status == "pending"
        if not self._reads_texts(now) or (waiting and self.own and now < self.own.resend_after):
            return False
        if now < self.refused_until or not self.by_text.may_have_code(now):
            return False
        self.by_text.code_times.append(now)
        if not waiting or self.own is None:
            self.own = Code(now)
        self.own.resend_after = now + COOLDOWN
        return True

    def not_me(self, now: float) -> None:
        """Text NOT ME."""
        self.expire(now)
        if not self.opted_out:
            self.refused_until = now + REFUSAL
            self._end_all()

    def stop(self, now: float) -> None:
        """Text STOP."""
        self.expire(now)
        self.opted_out = True
        self._end_all()

    def start(self) -> None:
        """Text START."""
        self.opted_out = False

    def _is_used(self, code: Code | None, now: float) -> bool:
        """Return whether the code was used and is remembered: texting it again costs no try."""
        if code is None or code.status != "verified":
            return False
        return code is self.own or now < code.issued + CODE_LIFETIME

    def _pending(self) -> list[Code]:
        own = [self.own] if self.own is not None else []
        return [code for code in (*own, *self.apps.values()) if code.status == "pending"]

    def _end_all(self) -> None:
        for code in self._pending():
            code.end("failed")

    def _end_codes_without_tries(self) -> None:
        for code in self._pending():
            if code.guesses >= TRIES:
                code.end("failed")

    def _reads_texts(self, now: float) -> bool:
        return not self.opted_out and now >= self.by_text.locked_until

    def _refusal_of_app(self, now: float) -> str:
        if self.opted_out:
            return "opted_out"
        if now < self.by_text.locked_until:
            return "locked"
        if now < self.refused_until:
            return "not_me"
        return "" if self.by_app.may_have_code(now) else "too_many_codes"
