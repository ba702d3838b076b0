"""What apps ask, carried out in the inbox's transaction: each once, however often it comes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from bot.conversation import references
from bot.conversation.inputs import Cancelled, CodeRequested, CodeSubmitted, ResendRequested
from bot.conversation.verification import (
    AppAnswer,
    AppEvent,
    EventType,
    Origin,
    RequestOutcome,
    Status,
    Verification,
)
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.unit_of_work import decide_and_save, with_final_status
from bot.store import idempotency_keys, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.inputs import AppInput
    from bot.services.intake.unit_of_work import Rules

FORM_REQUESTS_PER_HOUR = 10
"""Requests at the web form from one network (Telnyx, "Verify: rate limits")."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

_REPEATABLE = frozenset(
    {
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.TOO_MANY_REQUESTS,
        RequestOutcome.NOT_ME,
    }
    | {RequestOutcome.TOO_MANY_GUESSES, RequestOutcome.LOCKED, RequestOutcome.OPTED_OUT}
    | {RequestOutcome.NOT_PENDING, RequestOutcome.NOT_FOUND}
)
"""Nothing was done, so the same request may be made again."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An app's Idempotency-Key: `key` is unique to the app, `fingerprint` to what is asked."""

    key: str
    fingerprint: str


RequestedAction = Verification | ResendRequested | CodeSubmitted | Cancelled
"""What an app asks: a new verification, or something of one that it names."""


@dataclass(frozen=True, slots=True)
class AppRequest:
    """What an app asks, and under which key."""

    what: RequestedAction
    once: IdempotencyKey


@dataclass(frozen=True, slots=True)
class RequestResult:
    """What became of a request, and the verification as it stands after it.

    `retry_at` (UTC) tells when the same request may succeed; `tries_left` are the guesses that may
    still be typed.
    """

    outcome: RequestOutcome
    verification: Verification | None = None
    retry_at: datetime | None = None
    tries_left: int = 0


class Needs(NamedTuple):
    """What a request needs for itself: the ledgers of a phone (E.164), and the form's count."""

    phone: str | None
    form: bool


def needs(connection: Connection, asked: Sequence[AppRequest]) -> list[Needs]:
    """Tell of each request what it needs, as far as its phone is known."""
    whats = [request.what for request in asked]
    named = [what.verification for what in whats if not isinstance(what, Verification)]
    known = verifications.find(connection, named)
    about = [
        what if isinstance(what, Verification) else known.get(what.verification) for what in whats
    ]
    return [
        Needs(verification.phone if verification else None, _is_of_form(what, known))
        for what, verification in zip(whats, about, strict=True)
    ]


def answer(
    connection: Connection, asked: Sequence[AppRequest], now: datetime, rules: Rules
) -> list[RequestResult]:
    """Carry out requests in the order given; one that was carried out before is answered again.

    Hold what they need before.
    """
    first: dict[str, AppRequest] = {}
    for request in asked:
        first.setdefault(request.once.key, request)
    settled = idempotency_keys.load(connection, first)
    fresh = {key: request for key, request in first.items() if key not in settled}
    answers = _carry_out(connection, {key: r.what for key, r in fresh.items()}, now, rules)
    new = {key: _settled(request, answers[key]) for key, request in fresh.items()}
    kept = {key: told for key, told in new.items() if _is_settled(answers[key])}
    idempotency_keys.store(connection, kept, now)
    settled |= new
    known = verifications.find(connection, [told.verification for told in settled.values()])
    return [
        _result(request, settled[request.once.key], answers.get(request.once.key), known)
        for request in asked
    ]


def _is_settled(given: AppAnswer) -> bool:
    """Tell whether anything was done: who is refused could ask, and fill the table, for ever."""
    return given.counted and given.outcome not in _REPEATABLE


def _settled(request: AppRequest, given: AppAnswer) -> idempotency_keys.StoredAnswer:
    what = request.what
    name = what.id if isinstance(what, Verification) else what.verification
    return idempotency_keys.StoredAnswer(
        request.once.fingerprint, given.outcome, name, given.tries_left
    )


def _result(
    request: AppRequest,
    told: idempotency_keys.StoredAnswer,
    given: AppAnswer | None,
    known: Mapping[str, Verification],
) -> RequestResult:
    if told.fingerprint != request.once.fingerprint:
        return RequestResult(RequestOutcome.KEY_REUSED)
    retry_at = given.retry_at if given else None
    return RequestResult(told.outcome, known.get(told.verification), retry_at, told.tries_left)


def _carry_out(
    connection: Connection, asked: Mapping[str, RequestedAction], now: datetime, rules: Rules
) -> dict[str, AppAnswer]:
    """Do what is asked; return the answers by the keys given."""
    named = [what.verification for what in asked.values() if not isinstance(what, Verification)]
    known = verifications.find(connection, named)
    form = _FormBudget(connection, now, rules)
    answers: dict[str, AppAnswer] = {}
    turns: dict[str, tuple[ConversationKey, AppInput]] = {}
    wanted: dict[str, Verification] = {}
    for key, what in asked.items():
        if not isinstance(what, Verification):
            found = known.get(what.verification)
            if found is None:
                answers[key] = AppAnswer(RequestOutcome.NOT_FOUND)
            elif found.phone is None:
                answers[key] = _act_on_unbegun(connection, what, now, rules)
            elif _sends_again_at_form(what, found) and (free_at := form.again_free_at()):
                answers[key] = AppAnswer(RequestOutcome.TOO_MANY_REQUESTS, free_at)
            else:
                turns[key] = (ConversationKey(found.phone, found.bot_number), what)
        elif what.phone is None:
            answers[key] = _wait_for_reference(connection, what, now, rules)
        elif what.origin is Origin.FORM and (free_at := form.free_at(what)):
            answers[key] = AppAnswer(RequestOutcome.TOO_MANY_REQUESTS, free_at)
        else:
            wanted[what.id] = what
            turns[key] = (
                ConversationKey(what.phone, what.bot_number),
                CodeRequested(what.id, what.origin),
            )
    given = decide_and_save(connection, list(turns.values()), now, rules, wanted=wanted)
    decided = zip(turns, given, strict=True)
    return answers | {key: told for key, told in decided if told is not None}


def _is_of_form(what: RequestedAction, known: Mapping[str, Verification]) -> bool:
    if isinstance(what, Verification):
        return what.origin is Origin.FORM
    found = known.get(what.verification)
    return found is not None and _sends_again_at_form(what, found)


def _sends_again_at_form(what: RequestedAction, found: Verification) -> bool:
    return isinstance(what, ResendRequested) and found.origin is Origin.FORM


def _wait_for_reference(
    connection: Connection, new: Verification, now: datetime, rules: Rules
) -> AppAnswer:
    """Store a verification that begins once somebody texts its reference."""
    while not verifications.add(connection, [new]):
        new = replace(new, reference=references.make(secrets.choice))  # it was somebody's already
    if rules.announces:
        record_app_events(connection, [(None, AppEvent(EventType.PENDING, new.id))], now)
    return AppAnswer(RequestOutcome.DONE)


def _act_on_unbegun(
    connection: Connection,
    what: ResendRequested | CodeSubmitted | Cancelled,
    now: datetime,
    rules: Rules,
) -> AppAnswer:
    """Cancel a verification that nobody has begun; nothing else can be done with one.

    Raises DeadlockError, so that all is undone and run again, where somebody has just texted its
    reference: it is a conversation's then, whose ledger must be taken before the verification.
    """
    known = verifications.load(connection, [what.verification])[what.verification]
    if known.phone is not None:
        raise DeadlockError("a verification was begun by another process")
    pending = known.status_at(now) is Status.PENDING
    if not pending or not isinstance(what, Cancelled):
        return AppAnswer(RequestOutcome.NOT_PENDING)
    news = AppEvent(EventType.CANCELED, known.id)
    verifications.save(connection, [with_final_status(known, news, now)])
    if rules.announces:
        record_app_events(connection, [(None, news)], now)
    return AppAnswer(RequestOutcome.DONE)


@dataclass(slots=True)
class _FormBudget:
    """What the web form may still ask for: it spends the operator's money.

    `asked` and `again` are what this transaction has let it ask for.
    """

    connection: Connection
    now: datetime
    rules: Rules
    asked: list[Verification] = field(default_factory=list)
    again: int = 0

    def free_at(self, new: Verification) -> datetime | None:
        """Tell from when a code may be asked for; None is now, and then it is counted."""
        nearby = sum(other.asked_from == new.asked_from for other in self.asked)
        since = self.now - _HOUR
        count, first = verifications.count_at_form(self.connection, since, new.asked_from)
        if count + nearby >= FORM_REQUESTS_PER_HOUR:
            return (first or self.now) + _HOUR
        free_at = self._day_free_at()
        if free_at is None:
            self.asked.append(new)
        return free_at

    def again_free_at(self) -> datetime | None:
        """Tell from when a code may be sent again; None is now, and then it is counted."""
        free_at = self._day_free_at()
        self.again += free_at is None
        return free_at

    def _day_free_at(self) -> datetime | None:
        policy, since = self.rules.policy, self.now - _DAY
        count, first = verifications.count_at_form(self.connection, since)
        count += len(self.asked)
        # Counting what was sent again takes long where there is much: only where it can matter.
        if count * 2 * policy.codes_per_hour >= policy.form_codes_per_day:
            count += verifications.count_resends_at_form(self.connection, since) + self.again
        return (first or self.now) + _DAY if count >= policy.form_codes_per_day else None
