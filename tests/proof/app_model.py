"""What an app and a person may expect of each other's codes, told without the bot's own rules.

One phone and one number of the bot, the usual settings, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LIFE, COOLDOWN, REFUSAL = 10 * MINUTE, 30.0, HOUR
TRIES, AN_HOUR, A_DAY = 5, 5, 10
FIRST_LOCK = 15 * MINUTE


@dataclass(slots=True)
class Code:
    """One code, whoever asked for it."""

    issued: float
    again_from: float = 0.0
    guesses: int = 0
    status: str = "pending"

    def ends(self, status: str) -> None:
        """Take its end, unless it has had one."""
        if self.status == "pending":
            self.status = status


@dataclass(slots=True)
class Spent:
    """What was spent in one way: by text, or elsewhere."""

    wrong: int = 0
    locks: int = 0
    locked_until: float = 0.0
    code_times: list[float] = field(default_factory=list)

    def lock_if_due(self, now: float) -> bool:
        """Lock after as many wrong guesses as are allowed."""
        if self.wrong < TRIES:
            return False
        self.locked_until = now + min(FIRST_LOCK * 2**self.locks, DAY)
        self.wrong, self.locks = 0, self.locks + 1
        return True

    def may_have_code(self, now: float) -> bool:
        """Tell whether the limits leave room for a code."""
        within = [sum(now - time < span for time in self.code_times) for span in (HOUR, DAY)]
        return within[0] < AN_HOUR and within[1] < A_DAY


@dataclass(slots=True)
class Expected:
    """Where one phone stands, with the codes of apps by name."""

    by_text: Spent = field(default_factory=Spent)
    elsewhere: Spent = field(default_factory=Spent)
    own: Code | None = None
    apps: dict[str, Code] = field(default_factory=dict)
    opted_out: bool = False
    refused_until: float = 0.0

    def notice(self, now: float) -> None:
        """End what is over by now."""
        for code in self._live():
            if now >= code.issued + LIFE:
                code.ends("expired")

    def begin(self, name: str, now: float) -> str:
        """Follow an app that asks for a code."""
        self.notice(now)
        refusal = self._refuses_app(now)
        if not refusal:
            self.apps[name] = Code(now, now + COOLDOWN)
            self.elsewhere.code_times.append(now)
        return refusal or "done"

    def resend(self, name: str, now: float) -> str:
        """Follow an app that asks for the same code again."""
        self.notice(now)
        code = self.apps[name]
        if code.status != "pending":
            return "not_pending"
        if now < code.again_from:
            return "too_soon"
        refusal = self._refuses_app(now)
        if not refusal:
            code.again_from = now + COOLDOWN
            self.elsewhere.code_times.append(now)
        return refusal or "done"

    def cancel(self, name: str, now: float) -> str:
        """Follow an app that cancels."""
        self.notice(now)
        if self.apps[name].status != "pending":
            return "not_pending"
        self.apps[name].ends("canceled")
        return "done"

    def type(self, name: str, now: float, *, right: bool) -> str:
        """Follow a code typed elsewhere."""
        self.notice(now)
        code = self.apps[name]
        if code.status != "pending":
            return "not_pending"
        if now < self.elsewhere.locked_until:
            return "too_many_guesses"
        code.guesses += 1
        if right:
            code.ends("verified")
            self.elsewhere.wrong = self.elsewhere.locks = 0
            return "right"
        self.elsewhere.wrong += 1
        self.elsewhere.lock_if_due(now)
        if code.guesses >= TRIES:
            code.ends("failed")
        return "wrong"

    def guess(self, now: float, right: Code | None) -> bool:
        """Follow a code that is texted, and tell whether it succeeds."""
        self.notice(now)
        if not self._hears(now) or not self._live() or self._knows_as_used(right, now):
            return False
        for code in self._live():
            code.guesses += 1
        if right is not None and right.status == "pending":
            right.ends("verified")
            self.by_text.wrong = self.by_text.locks = 0
            self._end_guessed_out()
            return True
        self.by_text.wrong += 1
        own = self.own
        if own is not None and own.status == "pending" and own.guesses >= TRIES:
            self.by_text.wrong = TRIES
        if self.by_text.lock_if_due(now):
            self._end_all()
        self._end_guessed_out()
        return False

    def verify(self, now: float) -> bool:
        """Follow VERIFY, and tell whether a code is texted."""
        self.notice(now)
        waiting = self.own is not None and self.own.status == "pending"
        if not self._hears(now) or (waiting and self.own and now < self.own.again_from):
            return False
        if now < self.refused_until or not self.by_text.may_have_code(now):
            return False
        self.by_text.code_times.append(now)
        if not waiting or self.own is None:
            self.own = Code(now)
        self.own.again_from = now + COOLDOWN
        return True

    def not_me(self, now: float) -> None:
        """Follow NOT ME."""
        self.notice(now)
        if not self.opted_out:
            self.refused_until = now + REFUSAL
            self._end_all()

    def stop(self, now: float) -> None:
        """Follow STOP."""
        self.notice(now)
        self.opted_out = True
        self._end_all()

    def start(self) -> None:
        """Follow START."""
        self.opted_out = False

    def _knows_as_used(self, code: Code | None, now: float) -> bool:
        """Tell whether it is a code that has done its work: texting it again costs no try."""
        if code is None or code.status != "verified":
            return False
        return code is self.own or now < code.issued + LIFE

    def _live(self) -> list[Code]:
        own = [self.own] if self.own is not None else []
        return [code for code in (*own, *self.apps.values()) if code.status == "pending"]

    def _end_all(self) -> None:
        for code in self._live():
            code.ends("failed")

    def _end_guessed_out(self) -> None:
        for code in self._live():
            if code.guesses >= TRIES:
                code.ends("failed")

    def _hears(self, now: float) -> bool:
        return not self.opted_out and now >= self.by_text.locked_until

    def _refuses_app(self, now: float) -> str:
        if self.opted_out:
            return "opted_out"
        if now < self.by_text.locked_until:
            return "locked"
        if now < self.refused_until:
            return "not_me"
        return "" if self.elsewhere.may_have_code(now) else "too_many_codes"
