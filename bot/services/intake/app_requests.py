"""Apps' requests, carried out in the inbox's transaction: each once, however often it is sent."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation import references
from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.channels import UNKNOWN_KEY
from bot.conversation.inputs import Cancelled, CodeRequested, CodeSubmitted, ResendRequested
from bot.conversation.state import NOTHING_GUESSED
from bot.conversation.verification import (
    AppAnswer,
    Origin,
    Reason,
    ReplyRule,
    RequestOutcome,
    Status,
    Verification,
)
from bot.services.intake.alerts import form_alert, raise_alert
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.form_gate import PASSED, UNKNOWN_VISIT, FormGate
from bot.services.intake.unit_of_work import (
    decide_and_save,
    refused_code_length,
    with_final_status,
)
from bot.store import idempotency_keys, phone_limits, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.channels import Channel
    from bot.conversation.inputs import AppInput
    from bot.services.intake.form_gate import FormOutcome, FormVisit
    from bot.services.intake.unit_of_work import Rules

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

    `channel` is that of a new verification; other actions have their own. `visit` says where a
    request at the web form comes from.
    """

    action: RequestedAction
    idempotency_key: IdempotencyKey
    channel: Channel = UNKNOWN_KEY
    visit: FormVisit | None = None


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The outcome of a request, and the verification after it.

    `retry_at` (UTC) is when the same request may succeed; `tries_left` are the guesses that may
    still be typed. `form` is what the web form has to add.
    """

    outcome: RequestOutcome
    verification: Verification | None = None
    retry_at: datetime | None = None
    tries_left: int = 0
    form: FormOutcome = PASSED


@dataclass(slots=True)
class _Answers:
    """The answers to new requests, and what the web form has decided about them, by their keys."""

    of: dict[str, AppAnswer] = field(default_factory=dict)
    form: dict[str, FormOutcome] = field(default_factory=dict)


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
        return RequiredLocks(verification.phone, _is_limited_by_form(action, verification))

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
    to_store = {key: _stored_answer(request, answers.of[key]) for key, request in new.items()}
    final = {key: answer for key, answer in to_store.items() if _is_final(answers.of[key])}
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
    answers: _Answers,
    found: Mapping[str, Verification],
) -> RequestResult:
    key, fingerprint = request.idempotency_key.key, request.idempotency_key.fingerprint
    answer = stored[key]
    if answer.fingerprint != fingerprint:
        return RequestResult(RequestOutcome.KEY_REUSED)
    return RequestResult(
        answer.outcome,
        found.get(answer.verification),
        answers.of[key].retry_at if key in answers.of else None,
        answer.tries_left,
        answers.form.get(key, PASSED),
    )


def _carry_out_new(
    connection: Connection, requests: Mapping[str, AppRequest], now: datetime, rules: Rules
) -> _Answers:
    """Carry out requests that were not carried out before."""
    found = _find_named(connection, [request.action for request in requests.values()])
    form = FormGate(connection, now, rules)
    answers = _Answers()
    inputs: dict[str, tuple[ConversationKey, AppInput]] = {}
    requested: dict[str, Verification] = {}
    for key, request in requests.items():
        action = request.action
        verification = (
            action if isinstance(action, Verification) else found.get(action.verification)
        )
        if verification is None:
            answers.of[key] = AppAnswer(RequestOutcome.NOT_FOUND)
            continue
        if verification.phone is None:
            answers.of[key] = _act_without_phone(connection, action, now, rules)
            continue
        outcome = answers.form[key] = _pass_form(form, request, verification)
        if outcome.refusal:
            answers.of[key] = AppAnswer(RequestOutcome.TOO_MANY_REQUESTS, outcome.retry_at)
        elif not outcome.may_text:
            answers.of[key] = _fail_unseen(connection, request, now, rules)
        else:
            conversation = ConversationKey(verification.phone, verification.bot_number)
            if isinstance(action, Verification):
                requested[action.id] = action
                asked = CodeRequested(action.id, action.origin, action.complete, request.channel)
                inputs[key] = (conversation, asked)
            else:
                inputs[key] = (conversation, action)
    decided = decide_and_save(connection, list(inputs.values()), now, rules, requested=requested)
    answers.of |= {
        key: answer for key, answer in zip(inputs, decided, strict=True) if answer is not None
    }
    form.record_wrong_guesses(
        visit
        for key in inputs
        if (visit := _visit_of_guess(requests[key]))
        and answers.of[key].outcome is not RequestOutcome.RIGHT
    )
    if reached := form.level_reached():
        raise_alert(connection, form_alert(reached), now, has_app=rules.has_app)
    return answers


def _is_limited_by_form(action: RequestedAction, verification: Verification) -> bool:
    return verification.origin is Origin.FORM and not isinstance(action, Cancelled)


def _pass_form(form: FormGate, request: AppRequest, verification: Verification) -> FormOutcome:
    """Return what the form decides about a request; it decides about its own ones only."""
    visit, phone = request.visit or UNKNOWN_VISIT, verification.phone or ""
    match request.action:
        case action if not _is_limited_by_form(action, verification):
            return PASSED
        case Verification(session=session):
            return form.request(visit, phone, session)
        case ResendRequested():
            return form.resend(visit, phone)
        case CodeSubmitted() if request.visit:  # guesses of an app are limited by its key
            return form.guess(visit)
        case _:
            return PASSED


def _visit_of_guess(request: AppRequest) -> FormVisit | None:
    return request.visit if isinstance(request.action, CodeSubmitted) else None


def _fail_unseen(
    connection: Connection, request: AppRequest, now: datetime, rules: Rules
) -> AppAnswer:
    """Refuse a text to a number; the form shows the same page as for any other number."""
    action, reason = request.action, Reason.TOO_MANY_CODES
    if isinstance(action, Verification) and action.phone:
        phone, channel = action.phone, request.channel
        rule = ReplyRule.of(action.origin, action.complete)
        by_channel = phone_limits.read_channels(connection, [phone]).get((phone, channel))
        limits = phone_limits.read(connection, phone), by_channel or NOTHING_GUESSED
        length = refused_code_length(*limits, rule, now, rules.policy)
        failed = replace(
            action, status=Status.FAILED, reason=reason, ended_at=now, code_length=length
        )
        verifications.add(connection, [failed])
    return AppAnswer(RequestOutcome.TOO_MANY_CODES)


def _add_reference(connection: Connection, new: Verification) -> AppAnswer:
    """Store a verification that begins, and is reported, when a person texts its reference."""
    while not verifications.add(connection, [new]):  # the reference is already in use
        new = replace(new, reference=references.make(secrets.choice))
    return AppAnswer(RequestOutcome.DONE)


def _act_without_phone(
    connection: Connection,
    action: RequestedAction,
    now: datetime,
    rules: Rules,
) -> AppAnswer:
    """Add or cancel a verification whose reference nobody has texted; refuse any other action.

    Raises DeadlockError if the reference has just been texted. The transaction then runs again and
    locks the limits of that phone before the verification.
    """
    if isinstance(action, Verification):
        return _add_reference(connection, action)
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
