"""A model of the codes of apps and of a person, written without the bot's own rules.

One phone, one bot number, one key, the default settings without growing codes, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CODE_LIFETIME, COOLDOWN = 10 * MINUTE, 30.0
APP_REFUSAL, LONGEST_REFUSALS = HOUR, (HOUR, DAY, 30 * DAY)
LONG_AGO = -1e12
TRIES, CODES_PER_HOUR, CODES_PER_DAY = 5, 5, 10
RESERVE = 3
FIRST_LOCK = 15 * MINUTE


@dataclass(slots=True)
class Code:
    """A code, requested by an app or by the person."""

    issued: float
    resend_after: float = 0.0
    guesses: int = 0
    status: str = "pending"
    verified_at: float = LONG_AGO

    def succeed(self, now: float) -> None:
        """End the code by a success."""
        self.end("verified")
        self.verified_at = now

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
        quiet_days = max(0, now - self.locked_until) // DAY if self.locks else 0
        locks = max(0, self.locks - int(quiet_days))
        self.locked_until = now + min(FIRST_LOCK * 2**locks, DAY)
        self.wrong, self.locks = 0, locks + 1
        return True

    def may_have_code(self, now: float, other: Limits) -> bool:
        """Return whether the limits allow another code; some are kept for the other channel."""
        hour = sum(now - time < HOUR for time in self.code_times)
        used, others = (sum(now - time < DAY for time in each.code_times) for each in (self, other))
        return hour < CODES_PER_HOUR and used + max(others, RESERVE) < CODES_PER_DAY


@dataclass(slots=True)
class Expected:
    """The expected state of one phone, with the codes of apps by the verification's id."""

    by_text: Limits = field(default_factory=Limits)
    by_app: Limits = field(default_factory=Limits)
    own: Code | None = None
    apps: dict[str, Code] = field(default_factory=dict)
    opted_out: bool = False
    refused: bool = False
    not_me_at: float = LONG_AGO
    not_mes: int = 0
    own_code_at: float = LONG_AGO
    own_verified_at: float = LONG_AGO

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
            code.succeed(now)
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
                target.succeed(now)
                if target is self.own:
                    self.refused, self.own_verified_at = False, now
                    self.own_code_at = LONG_AGO
                self.by_text.wrong = self.by_text.locks = 0
                self._end_codes_without_tries()
                return True
        self.by_text.wrong += 1
        own = self.own
        if own is not None and own.status == "pending" and own.guesses >= TRIES:
            self.by_text.wrong = TRIES
        if self.by_text.lock_if_due(now) and own is not None:
            own.end("failed")
        self._end_codes_without_tries()
        return False

    def verify(self, now: float) -> bool:
        """Text VERIFY; return whether a code is sent."""
        self.expire(now)
        waiting = self.own is not None and self.own.status == "pending"
        if not self._reads_texts(now) or (waiting and self.own and now < self.own.resend_after):
            return False
        refused = self._is_refused(now, LONGEST_REFUSALS[min(self.not_mes, 3) - 1])
        if refused and now < self.own_code_at + DAY:
            return False
        if not self.by_text.may_have_code(now, self.by_app):
            return False
        if refused:
            self.own_code_at = now
        self.by_text.code_times.append(now)
        if not waiting or self.own is None:
            self.own = Code(now)
        self.own.resend_after = now + COOLDOWN
        return True

    def not_me(self, now: float) -> None:
        """Text NOT ME."""
        self.expire(now)
        sent = [*self.by_text.code_times, *self.by_app.code_times]
        succeeded = [self.own_verified_at, *(code.verified_at for code in self.apps.values())]
        recent = any(time > max(now - DAY, self.not_me_at) for time in sent)
        if not recent and max(succeeded) <= now - DAY:
            return
        self.not_mes = self.not_mes + 1 if now - self.not_me_at <= 30 * DAY else 1
        self.not_me_at, self.refused = now, True
        self._end_all()
        if self.own_verified_at > now - DAY:
            self.own_verified_at = LONG_AGO
        for code in self.apps.values():
            if code.verified_at > now - DAY:
                code.status, code.verified_at = "revoked", LONG_AGO

    def _is_refused(self, now: float, length: float) -> bool:
        return self.refused and now < self.not_me_at + length

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
        if code is None or code.status not in ("verified", "revoked"):
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
        if self._is_refused(now, APP_REFUSAL):
            return "not_me"
        return "" if self.by_app.may_have_code(now, self.by_text) else "too_many_codes"
