"""The limits of the web form, where nobody has a key: its budget, its networks and its sessions.

A stranger at the form can spend the operator's money and guess codes, and nothing says who they
are. So each limit belongs to where they come from, or to all together, and none to the number they
type: a limit of the number would lock out its owner. Networks are counted by requests, whether or
not a text was sent for them, so that no answer depends on the number.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from bot.store import form_attempts, people
from bot.store.queues import outbox
from bot.store.tables import FormAttempt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.intake.unit_of_work import Rules
    from bot.store.form_attempts import Count

MAX_REQUESTS_PER_HOUR = 10
"""From one network (Telnyx, "Verify: rate limits")."""
MAX_WRONG_GUESSES_OF_SESSION = 5
MAX_WRONG_GUESSES_OF_NETWORK = 30
"""In an hour. More than one person may be behind an address, so it has more than a session."""
NETWORK_PART = 10
"""A network has at most this part of the codes of a day: a tenth."""
MIN_CODES_OF_NETWORK = 3
"""The least that a network may have of a small budget: a code, the same again, and a new one."""
FORM_WAIT = timedelta(seconds=30)
"""How long a person waits whose browser cannot do the proof of work."""
_WAIT_LIFETIME = timedelta(minutes=2)
"""How long such a person may then take; meanwhile no other one of the network can wait."""
WAIT_PART = 5
"""Of the codes that are left when the form begins to ask for a proof, at most this part, a fifth,
goes to those who wait instead."""
_EVERYBODY = ""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class FormLevel(IntEnum):
    """How much of the form's budget of a day is used, and so what the form asks for."""

    OPEN = 0
    """Less than 80 %: anybody may request a code."""
    PROOF = 1
    """80 % or more: after a proof of work, or a wait."""
    CLOSED = 2
    """All of it: so too, and only numbers that were verified before are texted."""

    @classmethod
    def of(cls, codes: int, budget: int) -> FormLevel:
        """Return the level after so many codes in the last day."""
        if codes >= budget:
            return cls.CLOSED
        return cls.PROOF if codes * 5 >= budget * 4 else cls.OPEN


class FormRefusal(StrEnum):
    """Why the form carried out nothing; it never depends on the number."""

    TOO_MANY_REQUESTS = "too many requests of this network"
    NEEDS_PROOF = "a proof of work is needed"
    MUST_WAIT = "the wait has not ended"
    NETWORK_IS_WAITING = "another session of this network is waiting"
    NO_WAITS_LEFT = "waits have used their part of the budget"
    SESSION_LOCKED = "too many wrong guesses in this session"
    NETWORK_LOCKED = "too many wrong guesses from this network"


@dataclass(frozen=True, slots=True)
class FormVisit:
    """Where a request at the form comes from, as keyed hashes.

    `session` is the browser's session, `network` an IPv4 address or the /64 of an IPv6 address,
    `wide_network` the /24 or /48 around it. `proof` is the id of a proof of work that was found
    right; `waits` means that the person waits instead.
    """

    session: str
    network: str
    wide_network: str
    proof: str | None = None
    waits: bool = False


UNKNOWN_VISIT = FormVisit("", "", "")
"""A visit from an unknown place; all of these share the limits of one network."""


@dataclass(frozen=True, slots=True)
class FormOutcome:
    """What the form decides about a request, before the conversation decides.

    `retry_at` (UTC) is when a refused request may succeed. `level` is that of the budget before the
    request. Without `may_text` nothing is sent, but the form must not show that.
    """

    refusal: FormRefusal | None = None
    retry_at: datetime | None = None
    level: FormLevel = FormLevel.OPEN
    may_text: bool = True


PASSED = FormOutcome()


def codes_of_network(budget: int) -> int:
    """Return how many codes in a day one network may request, of all that the form may."""
    return min(budget, max(budget // NETWORK_PART, MIN_CODES_OF_NETWORK))


def codes_after_waits(budget: int) -> int:
    """Return how many codes in a day may be requested after a wait instead of a proof."""
    return max(1, budget // 5 // WAIT_PART)


@dataclass(slots=True)
class FormGate:
    """The form's limits in one transaction, which holds the form's lock.

    `codes` are the texts that this transaction has allowed, `guesses` the submitted codes by
    session and by network.
    """

    connection: Connection
    now: datetime
    rules: Rules
    codes: int = 0
    guesses: Counter[str] = field(default_factory=Counter)
    _codes_before: int | None = None

    def request(self, visit: FormVisit, phone: str, new_session: str | None) -> FormOutcome:
        """Decide whether a code may be requested for a phone (E.164); if it may, count it.

        The wrong guesses of the session then count for `new_session`, which follows it.
        """
        of_network = self._count(FormAttempt.REQUEST, visit.network, _HOUR)
        if of_network.number >= MAX_REQUESTS_PER_HOUR:
            return self._refused(FormRefusal.TOO_MANY_REQUESTS, of_network, _HOUR)
        outcome = self._text(visit, phone, {visit.network, visit.wide_network})
        if outcome.refusal is None and new_session and visit.session:
            form_attempts.move_guesses(self.connection, visit.session, new_session)
        return outcome

    def resend(self, visit: FormVisit, phone: str) -> FormOutcome:
        """Decide whether a code may be sent again to a phone (E.164); if it may, count it."""
        return self._text(visit, phone, {visit.wide_network})

    def guess(self, visit: FormVisit) -> FormOutcome:
        """Decide whether a code may be typed; if it may, count it as a wrong guess."""
        for subject, limit, why in (
            (visit.session, MAX_WRONG_GUESSES_OF_SESSION, FormRefusal.SESSION_LOCKED),
            (visit.network, MAX_WRONG_GUESSES_OF_NETWORK, FormRefusal.NETWORK_LOCKED),
        ):
            found = self._count(FormAttempt.GUESS, subject, _HOUR)
            if found.number + self.guesses[subject] >= limit:
                return self._refused(why, found, _HOUR)
        self.guesses.update({visit.session, visit.network})
        return PASSED

    def record_wrong_guesses(self, visits: Iterable[FormVisit]) -> None:
        """Record the guesses that were not right."""
        for visit in visits:
            self._record(FormAttempt.GUESS, {visit.session, visit.network})

    def level(self) -> FormLevel:
        """Return the level of the budget, with the codes that this transaction has allowed."""
        return FormLevel.of(self._stored_codes() + self.codes, self._budget)

    def level_reached(self) -> FormLevel | None:
        """Return the level to which this transaction has brought the budget; None if it has not."""
        if not self.codes:
            return None
        before, after = FormLevel.of(self._stored_codes(), self._budget), self.level()
        return after if after > before else None

    @property
    def _budget(self) -> int:
        return self.rules.policy.form_codes_per_day

    def _stored_codes(self) -> int:
        """Return the form's codes of the last day, without those of this transaction."""
        if self._codes_before is None:
            self._codes_before = outbox.count_form_codes(self.connection, self.now - _DAY)
        return self._codes_before

    def _text(self, visit: FormVisit, phone: str, counted: set[str]) -> FormOutcome:
        """Decide whether a text may be requested; if it may, count it for networks."""
        of_network = self._count(FormAttempt.REQUEST, visit.wide_network, _DAY)
        if of_network.number >= codes_of_network(self._budget):
            return self._refused(FormRefusal.TOO_MANY_REQUESTS, of_network, _DAY)
        level = self.level()
        if level is not FormLevel.OPEN and (refused := self._refuse_unproven(visit)):
            return refused
        self._record(FormAttempt.REQUEST, counted)
        is_test = self.rules.keyring.is_test(phone)
        may_text = (
            is_test
            or level is not FormLevel.CLOSED
            or people.read(self.connection, phone).verified_at is not None
        )
        self.codes += may_text and not is_test
        return FormOutcome(level=level, may_text=may_text)

    def _refuse_unproven(self, visit: FormVisit) -> FormOutcome | None:
        """Refuse a visit without a proof of work or a wait; use up the one that it has."""
        if visit.waits:
            return self._refuse_waiting(visit)
        if visit.proof and form_attempts.use_proof(self.connection, visit.proof, self.now):
            return None
        return FormOutcome(FormRefusal.NEEDS_PROOF)

    def _refuse_waiting(self, visit: FormVisit) -> FormOutcome | None:
        """Refuse a visit that must still wait; begin its wait, or end it."""
        waits = self._count(FormAttempt.WAIT, _EVERYBODY, _DAY)
        if waits.number >= codes_after_waits(self._budget):
            return self._refused(FormRefusal.NO_WAITS_LEFT, waits, _DAY)
        wait = form_attempts.find_wait(self.connection, visit.network)
        if wait is None or self.now >= wait.ready_at + _WAIT_LIFETIME:
            wait = form_attempts.Wait(visit.session, self.now + FORM_WAIT)
            form_attempts.begin_wait(self.connection, visit.network, wait)
        elif wait.session != visit.session:
            free_at = wait.ready_at + _WAIT_LIFETIME
            return FormOutcome(FormRefusal.NETWORK_IS_WAITING, free_at)
        if self.now < wait.ready_at:
            return FormOutcome(FormRefusal.MUST_WAIT, wait.ready_at)
        form_attempts.end_wait(self.connection, visit.network)
        self._record(FormAttempt.WAIT, {_EVERYBODY})
        return None

    def _refused(self, why: FormRefusal, counted: Count, period: timedelta) -> FormOutcome:
        """Refuse until the first one that was counted is older than the period."""
        return FormOutcome(why, (counted.first or self.now) + period)

    def _count(self, kind: FormAttempt, subject: str, period: timedelta) -> Count:
        return form_attempts.count(self.connection, kind, subject, self.now - period)

    def _record(self, kind: FormAttempt, subjects: Iterable[str]) -> None:
        form_attempts.add(self.connection, kind, subjects, self.now)
