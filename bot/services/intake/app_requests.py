"""Apps' requests, carried out in the inbox's transaction: each once, however often it is sent."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation import references
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.channels import UNKNOWN_KEY
from bot.conversation.inputs import Cancelled, CodeRequested, CodeSubmitted, ResendRequested
from bot.conversation.policy import MAX_FORM_REQUESTS_PER_HOUR
from bot.conversation.verification import AppAnswer, Origin, RequestOutcome, Status, Verification
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.unit_of_work import decide_and_save, with_final_status
from bot.store import idempotency_keys, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.channels import Channel
    from bot.conversation.inputs import AppInput
    from bot.services.intake.unit_of_work import Rules

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

_FINAL = frozenset({RequestOutcome.DONE, RequestOutcome.RIGHT, RequestOutcome.WRONG})
"""The outcomes of requests that changed something; after any other one, the same request may be
sent again."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An app's Idempotency-Key: `key` is unique to the app, `fingerprint` to the request's content.

    (IETF draft-ietf-httpapi-idempotency-key-header, "Idempotency Fingerprint".)
    """

    key: str
    fingerprint: str


RequestedAction = Verification | ResendRequested | CodeSubmitted | Cancelled
"""A new verification, or an action on an existing one."""


@dataclass(frozen=True, slots=True)
class AppRequest:
    """An app's request, and the key under which it is carried out once.

    `channel` is that of a new verification; other actions have their own.
    """

    action: RequestedAction
    idempotency_key: IdempotencyKey
    channel: Channel = UNKNOWN_KEY


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The outcome of a request, and the verification after it.

    `retry_at` (UTC) is when the same request may succeed; `tries_left` are the guesses that may
    still be typed.
    """

    outcome: RequestOutcome
    verification: Verification | None = None
    retry_at: datetime | None = None
    tries_left: int = 0


@dataclass(frozen=True, slots=True)
class RequiredLocks:
    """The locks that a request requires: the limits of a phone (E.164), and the form's count."""

    phone: str | None
    form: bool


def required_locks(connection: Connection, requests: Sequence[AppRequest]) -> list[RequiredLocks]:
    """Return the locks that each request requires; none for a phone that is not known yet."""
    actions = [request.action for request in requests]
    found = _find_named(connection, actions)

    def locks(action: RequestedAction) -> RequiredLocks:
        if isinstance(action, Verification):
            return RequiredLocks(action.phone, action.origin is Origin.FORM)
        verification = found.get(action.verification)
        if verification is None:
            return RequiredLocks(None, form=False)
        return RequiredLocks(verification.phone, _is_form_resend(action, verification))

    return [locks(action) for action in actions]


def carry_out(
    connection: Connection, requests: Sequence[AppRequest], now: datetime, rules: Rules
) -> list[RequestResult]:
    """Carry out requests in the order given; a repeated one gets its stored answer.

    The transaction must hold their required locks.
    """
    first: dict[str, AppRequest] = {}
    for request in requests:
        first.setdefault(request.idempotency_key.key, request)
    stored = idempotency_keys.load(connection, first)
    new = {key: request for key, request in first.items() if key not in stored}
    answers = _carry_out_new(connection, new, now, rules)
    to_store = {key: _stored_answer(request, answers[key]) for key, request in new.items()}
    final = {key: answer for key, answer in to_store.items() if _is_final(answers[key])}
    idempotency_keys.store(connection, final, now)
    stored |= to_store
    found = verifications.find(connection, [answer.verification for answer in stored.values()])
    return [_result(request, stored, answers, found) for request in requests]


def _find_named(
    connection: Connection, actions: Iterable[RequestedAction]
) -> dict[str, Verification]:
    """Find the verifications that actions name."""
    ids = [action.verification for action in actions if not isinstance(action, Verification)]
    return verifications.find(connection, ids)


def _is_final(answer: AppAnswer) -> bool:
    """Return whether a request changed anything; refused ones are not stored.

    Otherwise repeated refused requests could fill the table.
    """
    return answer.counted and answer.outcome in _FINAL


def _stored_answer(request: AppRequest, answer: AppAnswer) -> idempotency_keys.StoredAnswer:
    action = request.action
    id_ = action.id if isinstance(action, Verification) else action.verification
    return idempotency_keys.StoredAnswer(
        request.idempotency_key.fingerprint, answer.outcome, id_, answer.tries_left
    )


def _result(
    request: AppRequest,
    stored: Mapping[str, idempotency_keys.StoredAnswer],
    answers: Mapping[str, AppAnswer],
    found: Mapping[str, Verification],
) -> RequestResult:
    key, fingerprint = request.idempotency_key.key, request.idempotency_key.fingerprint
    answer = stored[key]
    if answer.fingerprint != fingerprint:
        return RequestResult(RequestOutcome.KEY_REUSED)
    retry_at = answers[key].retry_at if key in answers else None
    return RequestResult(
        answer.outcome, found.get(answer.verification), retry_at, answer.tries_left
    )


def _carry_out_new(
    connection: Connection, requests: Mapping[str, AppRequest], now: datetime, rules: Rules
) -> dict[str, AppAnswer]:
    """Carry out requests that were not carried out before; return the answers by their keys."""
    found = _find_named(connection, [request.action for request in requests.values()])
    form = _FormBudget(connection, now, rules)
    answers: dict[str, AppAnswer] = {}
    inputs: dict[str, tuple[ConversationKey, AppInput]] = {}
    requested: dict[str, Verification] = {}
    for key, request in requests.items():
        action = request.action
        if not isinstance(action, Verification):
            verification = found.get(action.verification)
            if verification is None:
                answers[key] = AppAnswer(RequestOutcome.NOT_FOUND)
            elif verification.phone is None:
                answers[key] = _act_without_phone(connection, action, now, rules)
            elif _is_form_resend(action, verification) and (free_at := form.resend_free_at()):
                answers[key] = AppAnswer(RequestOutcome.TOO_MANY_REQUESTS, free_at)
            else:
                conversation = ConversationKey(verification.phone, verification.bot_number)
                inputs[key] = (conversation, action)
        elif action.phone is None:
            answers[key] = _add_reference(connection, action)
        elif action.origin is Origin.FORM and (free_at := form.code_free_at(action)):
            answers[key] = AppAnswer(RequestOutcome.TOO_MANY_REQUESTS, free_at)
        else:
            requested[action.id] = action
            inputs[key] = (
                ConversationKey(action.phone, action.bot_number),
                CodeRequested(action.id, action.origin, action.complete, request.channel),
            )
    decided = decide_and_save(connection, list(inputs.values()), now, rules, requested=requested)
    return answers | {
        key: answer for key, answer in zip(inputs, decided, strict=True) if answer is not None
    }


def _is_form_resend(action: RequestedAction, verification: Verification) -> bool:
    return isinstance(action, ResendRequested) and verification.origin is Origin.FORM


def _add_reference(connection: Connection, new: Verification) -> AppAnswer:
    """Store a verification that begins, and is reported, when a person texts its reference."""
    while not verifications.add(connection, [new]):  # the reference is already in use
        new = replace(new, reference=references.make(secrets.choice))
    return AppAnswer(RequestOutcome.DONE)


def _act_without_phone(
    connection: Connection,
    action: ResendRequested | CodeSubmitted | Cancelled,
    now: datetime,
    rules: Rules,
) -> AppAnswer:
    """Cancel a verification whose reference nobody has texted; any other action is refused.

    Raises DeadlockError if the reference has just been texted. The transaction then runs again and
    locks the limits of that phone before the verification.
    """
    verification = verifications.load(connection, [action.verification])[action.verification]
    if verification.phone is not None:
        raise DeadlockError("a verification was begun by another process")
    if verification.status_at(now) is not Status.PENDING or not isinstance(action, Cancelled):
        return AppAnswer(RequestOutcome.NOT_PENDING)
    app_event = AppEvent(EventType.CANCELED, verification.id)
    verifications.save(connection, [with_final_status(verification, app_event, now)])
    if rules.has_app:
        record_app_events(connection, [(None, app_event)], now)
    return AppAnswer(RequestOutcome.DONE)


@dataclass(slots=True)
class _FormBudget:
    """The limits of the web form, which spends the operator's money.

    `requested` and `resends` are those that this transaction has allowed.
    """

    connection: Connection
    now: datetime
    rules: Rules
    requested: list[Verification] = field(default_factory=list)
    resends: int = 0

    def code_free_at(self, new: Verification) -> datetime | None:
        """Return when a code may be requested; if that is now, count it and return None."""
        from_network = sum(other.asked_from == new.asked_from for other in self.requested)
        since = self.now - _HOUR
        count, first = verifications.count_at_form(self.connection, since, new.asked_from)
        if count + from_network >= MAX_FORM_REQUESTS_PER_HOUR:
            return (first or self.now) + _HOUR
        free_at = self._day_free_at()
        if free_at is None:
            self.requested.append(new)
        return free_at

    def resend_free_at(self) -> datetime | None:
        """Return when a code may be sent again; if that is now, count it and return None."""
        free_at = self._day_free_at()
        self.resends += free_at is None
        return free_at

    def _day_free_at(self) -> datetime | None:
        policy, since = self.rules.policy, self.now - _DAY
        count, first = verifications.count_at_form(self.connection, since)
        count += len(self.requested)
        # Counting resends is slow in a large table: it is done only if they can reach the limit.
        if count * 2 * policy.codes_per_hour >= policy.form_codes_per_day:
            count += verifications.count_resends_at_form(self.connection, since) + self.resends
        return (first or self.now) + _DAY if count >= policy.form_codes_per_day else None
