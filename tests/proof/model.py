"""A model of the bot's conversation with a person, written without the bot's own rules.

One phone, one bot number, the default settings without growing codes, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CODE_LIFETIME, COOLDOWN = 10 * MINUTE, 30.0
REFUSALS = (HOUR, DAY, 30 * DAY)
LONG_AGO = -1e12
TRIES, CODES_PER_HOUR, CODES_PER_DAY = 5, 5, 7  # three of ten a day are kept for apps
FIRST_LOCK, MAX_LOCK = 15 * MINUTE, DAY


class Outcome(StrEnum):
    """The reply to a text, as far as the model knows it."""

    NEW_CODE = "a new code"
    SAME_CODE = "the same code"
    SUCCESS = "success"
    OTHER = "another text, or nothing"
    NOTHING = "nothing"


@dataclass(slots=True)
class Expectation:
    """The expected state of one phone."""

    state: str = "idle"
    issued: float = 0.0
    resend_after: float = 0.0
    wrong: int = 0
    locks: int = 0
    locked_until: float = 0.0
    verified_at: float = LONG_AGO
    refused: bool = False
    not_me_at: float = LONG_AGO
    not_mes: int = 0
    own_code_at: float = LONG_AGO
    code_times: list[float] = field(default_factory=list)
    has_expired: bool = False

    def receive(self, text: str, now: float) -> Outcome:
        """Receive a text; return the expected outcome."""
        self._expire(now)
        if self.state == "opted_out" and text != "START":
            if text == "NOT ME":
                self._not_me(now)
            return Outcome.NOTHING
        outcome = getattr(self, f"_{text.lower().replace(' ', '_')}")(now)
        return Outcome(outcome)

    def _expire(self, now: float) -> None:
        self.has_expired = self.state == "awaiting_code" and now >= self.issued + CODE_LIFETIME
        lock_over = self.state == "locked" and now >= self.locked_until
        if self.has_expired or lock_over:
            self.state = "idle"
        if self.state == "idle" and now < self.locked_until:
            self.state = "locked"  # STOP and START do not end a lock

    def _verify(self, now: float) -> Outcome:
        if self.state == "locked":
            return Outcome.NOTHING
        waiting = self.state == "awaiting_code"
        if waiting and now < self.resend_after:
            return Outcome.NOTHING
        if not self._may_have_code(now):
            return Outcome.OTHER
        self.state = "awaiting_code"
        self.code_times.append(now)
        if self._is_refused(now):
            self.own_code_at = now
        self.resend_after = now + COOLDOWN
        if waiting:
            return Outcome.SAME_CODE
        self.issued = now
        return Outcome.NEW_CODE

    def _may_have_code(self, now: float) -> bool:
        counts = [sum(now - time < span for time in self.code_times) for span in (HOUR, DAY)]
        one_a_day = not self._is_refused(now) or now >= self.own_code_at + DAY
        return counts[0] < CODES_PER_HOUR and counts[1] < CODES_PER_DAY and one_a_day

    def _is_refused(self, now: float) -> bool:
        """Return whether NOT ME refuses codes, of the form at least."""
        return self.refused and now < self.not_me_at + REFUSALS[min(self.not_mes, 3) - 1]

    def _resend(self, now: float) -> Outcome:
        nothing_to_send = self.state in ("idle", "verified") and not self.has_expired
        return Outcome.OTHER if nothing_to_send else self._verify(now)

    def _code(self, now: float) -> Outcome:
        if self.state != "awaiting_code":
            return Outcome.OTHER
        self.verified_at, self.refused, self.own_code_at = now, False, LONG_AGO
        self.state, self.wrong, self.locks = "verified", 0, 0
        return Outcome.SUCCESS

    def _wrong_code(self, now: float) -> Outcome:
        if self.state == "awaiting_code":
            self.wrong += 1
            if self.wrong == TRIES:
                quiet_days = max(0, now - self.locked_until) // DAY if self.locks else 0
                locks = max(0, self.locks - int(quiet_days))
                length = min(FIRST_LOCK * 2**locks, MAX_LOCK)
                self.state, self.locked_until = "locked", now + length
                self.wrong, self.locks = 0, locks + 1
        return Outcome.OTHER

    def _not_me(self, now: float) -> Outcome:
        since = max(now - DAY, self.not_me_at)
        if not any(time > since for time in self.code_times) and self.verified_at <= now - DAY:
            return Outcome.OTHER
        self.not_mes = self.not_mes + 1 if now - self.not_me_at <= 30 * DAY else 1
        self.not_me_at, self.refused = now, True
        if self.verified_at > now - DAY:
            self.verified_at = LONG_AGO
        if self.state in ("awaiting_code", "verified"):
            self.state = "idle"
        return Outcome.OTHER

    def _stop(self, _now: float) -> Outcome:
        self.state = "opted_out"
        return Outcome.OTHER

    def _start(self, now: float) -> Outcome:
        if self.state == "opted_out":
            self.state = "idle"
        elif self.state == "awaiting_code":
            self.resend_after = now
        return Outcome.OTHER

    def _chatter(self, _now: float) -> Outcome:
        return Outcome.OTHER
