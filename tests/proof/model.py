"""What a person may expect of the bot, told without looking at how the bot decides.

One phone and one number of the bot, the usual settings, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CODE_LIVES, COOLDOWN, REFUSAL = 10 * MINUTE, 30.0, HOUR
TRIES, AN_HOUR, A_DAY = 5, 5, 10
FIRST_LOCK, MAX_LOCK = 15 * MINUTE, DAY


class Came(StrEnum):
    """What came back, as far as it matters here."""

    NEW_CODE = "a new code"
    SAME_CODE = "the same code"
    SUCCESS = "success"
    OTHER = "another text, or nothing"
    NOTHING = "nothing"


@dataclass(slots=True)
class Expectation:
    """Where one phone stands."""

    state: str = "idle"
    issued: float = 0.0
    again_from: float = 0.0
    wrong: int = 0
    locks: int = 0
    locked_until: float = 0.0
    refused_until: float = 0.0
    code_times: list[float] = field(default_factory=list)
    has_expired: bool = False

    def hear(self, what: str, now: float) -> Came:
        """Follow one text, and tell what is to come back."""
        self._notice(now)
        if self.state == "opted_out" and what != "START":
            return Came.NOTHING
        came = getattr(self, f"_{what.lower().replace(' ', '_')}")(now)
        return Came(came)

    def _notice(self, now: float) -> None:
        self.has_expired = self.state == "awaiting_code" and now >= self.issued + CODE_LIVES
        lock_over = self.state == "locked" and now >= self.locked_until
        if self.has_expired or lock_over:
            self.state = "idle"
        if self.state == "idle" and now < self.locked_until:
            self.state = "locked"  # STOP and START do not shed a lock

    def _verify(self, now: float) -> Came:
        if self.state == "locked":
            return Came.NOTHING
        waiting = self.state == "awaiting_code"
        if waiting and now < self.again_from:
            return Came.NOTHING
        if not self._may_have_code(now):
            return Came.OTHER
        self.state = "awaiting_code"
        self.code_times.append(now)
        self.again_from = now + COOLDOWN
        if waiting:
            return Came.SAME_CODE
        self.issued = now
        return Came.NEW_CODE

    def _may_have_code(self, now: float) -> bool:
        within = [sum(now - time < span for time in self.code_times) for span in (HOUR, DAY)]
        return within[0] < AN_HOUR and within[1] < A_DAY and now >= self.refused_until

    def _resend(self, now: float) -> Came:
        nothing_to_send = self.state in ("idle", "verified") and not self.has_expired
        return Came.OTHER if nothing_to_send else self._verify(now)

    def _code(self, _now: float) -> Came:
        if self.state != "awaiting_code":
            return Came.OTHER
        self.state, self.wrong, self.locks = "verified", 0, 0
        return Came.SUCCESS

    def _wrong_code(self, now: float) -> Came:
        if self.state == "awaiting_code":
            self.wrong += 1
            if self.wrong == TRIES:
                length = min(FIRST_LOCK * 2**self.locks, MAX_LOCK)
                self.state, self.locked_until = "locked", now + length
                self.wrong, self.locks = 0, self.locks + 1
        return Came.OTHER

    def _not_me(self, now: float) -> Came:
        self.refused_until = now + REFUSAL
        if self.state == "awaiting_code":
            self.state = "idle"
        return Came.OTHER

    def _stop(self, _now: float) -> Came:
        self.state = "opted_out"
        return Came.OTHER

    def _start(self, now: float) -> Came:
        if self.state == "opted_out":
            self.state = "idle"
        elif self.state == "awaiting_code":
            self.again_from = now
        return Came.OTHER

    def _chatter(self, _now: float) -> Came:
        return Came.OTHER
