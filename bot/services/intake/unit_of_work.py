"""The events of many conversations, decided and stored in one transaction.

The inbox takes turns for what people text and apps ask, the sender and the janitor for what they
meet. None of them knows the others.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation.decision import decide
from bot.conversation.inputs import (
    CodeRequested,
    CodeSubmitted,
    ReferenceLookup,
    ResendRequested,
    TextReceived,
)
from bot.conversation.intents import reference_in
from bot.conversation.state import Conversation
from bot.conversation.turn import Cancel
from bot.conversation.verification import (
    FINAL_STATUS,
    AppEvent,
    EventType,
    Origin,
    Reason,
    RequestOutcome,
    Status,
)
from bot.services.intake.app_event_log import record_app_events
from bot.store import conversations, phone_limits, tokens, verifications
from bot.store.queues import outbox
from bot.store.tables import OutboxState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.codes import Keyring
    from bot.conversation.decision import Decision
    from bot.conversation.inputs import Input
    from bot.conversation.policy import Policy
    from bot.conversation.state import PhoneLimits, Token
    from bot.conversation.verification import AppAnswer, Verification
    from bot.store.conversations import ConversationKey, StoredConversation

_FOR_APPS = (CodeRequested, ResendRequested, CodeSubmitted)


@dataclass(frozen=True, slots=True)
class Rules:
    """What every decision rests on besides the facts; `announces` tells whether an app listens."""

    policy: Policy
    keyring: Keyring
    announces: bool = False


def decide_and_save(  # noqa: PLR0913 - the two that are optional belong to one caller each
    connection: Connection,
    happened: Sequence[tuple[ConversationKey, Input]],
    now: datetime,
    rules: Rules,
    *,
    wanted: Mapping[str, Verification] | None = None,
    held: Mapping[str, PhoneLimits] | None = None,
) -> list[AppAnswer | None]:
    """Decide events in the order given and write down all that follows from them.

    Holds the ledgers of all phones concerned until the transaction ends, so that no other
    process decides for the same phone meanwhile; `held` are those of all of them, by phone, where
    they were taken and read in this transaction already. `wanted` are the verifications, by id,
    that `Asked` events are about; they are stored with what comes of them. Returns what each
    event's app is answered.
    """
    if not happened:
        return []
    keys = {key for key, _ in happened}
    others = {key.phone for key, event in happened if isinstance(event, _FOR_APPS)}
    memory = _UnitOfWork(
        phone_limits.lock(connection, {key.phone for key in keys}) if held is None else held,
        phone_limits.lock(connection, others, phone_limits.WEB_LIMITS),
        conversations.load(connection, keys, now),
        _referenced(connection, [event for _, event in happened]),
        wanted or {},
    )
    answers = [memory.decide(key, event, now, rules) for key, event in happened]
    memory.save(connection, now, rules)
    return answers


def _referenced(connection: Connection, events: Sequence[Input]) -> dict[str, Verification]:
    said = [reference_in(event.text) for event in events if isinstance(event, TextReceived)]
    return verifications.by_reference(connection, {reference for reference in said if reference})


@dataclass(slots=True)
class _UnitOfWork:
    """What the database knew, and what has changed since."""

    limits_of: Mapping[str, PhoneLimits]
    web_limits_of: dict[str, PhoneLimits]
    known: dict[ConversationKey, StoredConversation]
    referenced: dict[str, Verification]
    wanted: Mapping[str, Verification]
    changed_limits: dict[str, PhoneLimits] = field(default_factory=dict)
    changed_web_limits: dict[str, PhoneLimits] = field(default_factory=dict)
    new_conversations: dict[ConversationKey, Conversation] = field(default_factory=dict)
    tokens: dict[str, tuple[ConversationKey, Token]] = field(default_factory=dict)
    drafts: list[tuple[ConversationKey, outbox.NewText]] = field(default_factory=list)
    cancelled: dict[ConversationKey, Cancel] = field(default_factory=dict)
    verifications: list[Verification] = field(default_factory=list)
    news: list[tuple[ConversationKey, AppEvent]] = field(default_factory=list)

    def decide(
        self, key: ConversationKey, event: Input, now: datetime, rules: Rules
    ) -> AppAnswer | None:
        """Decide one event, and remember what came of it."""
        decision = decide(
            self._conversation(key),
            self.changed_limits.get(key.phone, self.limits_of[key.phone]),
            self._with_reference(key, event, now) if isinstance(event, TextReceived) else event,
            now=now,
            policy=rules.policy,
            keyring=rules.keyring,
            new_token_id=_fresh_id(now),
            **self._web_limits(key.phone),
        )
        self._keep(key, decision)
        if isinstance(event, CodeRequested):
            self._want(event, decision.answer, now)
        if rules.keyring.is_test(key.phone):
            self._arrive(key)
        return decision.answer

    def _conversation(self, key: ConversationKey) -> Conversation:
        if key in self.new_conversations:
            return self.new_conversations[key]
        known = self.known.get(key)
        return known.conversation if known else Conversation(key.bot_number, key.phone)

    def _web_limits(self, phone: str) -> dict[str, PhoneLimits]:
        known = self.changed_web_limits.get(phone, self.web_limits_of.get(phone))
        return {} if known is None else {"web_limits": known}

    def _with_reference(
        self, key: ConversationKey, said: TextReceived, now: datetime
    ) -> TextReceived:
        verification = self.referenced.get(reference_in(said.text))
        if verification is None:
            return said
        begun_by = verification.phone or self._begun_by(verification)
        waits = verification.status_at(now) is Status.PENDING and begun_by is None
        here = begun_by == key.phone
        return replace(said, reference=ReferenceLookup(verification.id, waits, here))

    def _begun_by(self, verification: Verification) -> str | None:
        """Name the phone that has begun it in this very transaction."""
        begun = (
            key for key, token in self.tokens.values() if token.verification == verification.id
        )
        return next((key.phone for key in begun), None)

    def _keep(self, key: ConversationKey, decision: Decision) -> None:
        before = self._conversation(key)
        if decision.conversation != before or key not in self.known:
            self.new_conversations[key] = decision.conversation
        if decision.limits != self.changed_limits.get(key.phone, self.limits_of[key.phone]):
            self.changed_limits[key.phone] = decision.limits
        if key.phone in self.web_limits_of:
            self.changed_web_limits[key.phone] = decision.web_limits
        old = {token.id: token for token in _tokens_of(before)}
        for token in _tokens_of(decision.conversation):
            if token != old.get(token.id):
                self.tokens[token.id] = (key, token)
        if decision.cancel is not Cancel.NOTHING:
            self._cancel(key, decision.cancel)
        if decision.message is not None:
            draft = outbox.NewText(secrets.token_hex(16), key.bot_number, decision.message)
            self.drafts.append((key, draft))
        self.news += [(key, news) for news in decision.app_events]

    def _want(self, asked: CodeRequested, answer: AppAnswer | None, now: datetime) -> None:
        """Store a verification that was begun; of the web form also one that was not.

        Who asks at the form is not told the difference.
        """
        verification = self.wanted[asked.verification]
        outcome = answer.outcome if answer else RequestOutcome.DONE
        if outcome is not RequestOutcome.DONE:
            if verification.origin is not Origin.FORM:
                return
            failed, why = Status.FAILED, Reason(outcome)
            verification = replace(verification, status=failed, reason=why, ended_at=now)
        for _, token in self.tokens.values():
            if token.verification == verification.id:
                # Else it would be over a moment before its code, which waited to be issued.
                verification = replace(verification, expires_at=token.expires_at)
        self.verifications.append(verification)

    def _arrive(self, key: ConversationKey) -> None:
        """Keep texts to a test number from leaving; they count as delivered."""
        for to, draft in self.drafts:
            token = draft.message.token
            if to == key and draft.state is OutboxState.QUEUED:
                draft.state = OutboxState.DELIVERED
                if token is not None and token.verification is not None:
                    for occurrence in (EventType.SENT, EventType.DELIVERED):
                        self.news.append((key, AppEvent(occurrence, token.verification)))

    def _cancel(self, key: ConversationKey, cancel: Cancel) -> None:
        if self.cancelled.get(key) is not Cancel.ALL:
            self.cancelled[key] = cancel
        for to, draft in self.drafts:
            token = draft.message.token
            covered = cancel is Cancel.ALL or (token and self.tokens[token.id][1].spent)
            if to == key and covered:
                draft.state = OutboxState.CANCELLED

    def save(self, connection: Connection, now: datetime, rules: Rules) -> None:
        """Write all that has changed."""
        verifications.add(connection, self.verifications)
        row_ids = self._save_conversations(connection)
        self._save_tokens(connection, row_ids)
        phone_limits.save(connection, self.changed_limits)
        phone_limits.save(connection, self.changed_web_limits, phone_limits.WEB_LIMITS)
        for cancel in (Cancel.CODES, Cancel.ALL):
            concerned = [row_ids[key] for key, what in self.cancelled.items() if what is cancel]
            outbox.cancel(connection, concerned, codes_only=cancel is Cancel.CODES)
        outbox.add(connection, [(row_ids[key], draft) for key, draft in self.drafts], now)
        self._save_verifications(connection, now)
        if rules.announces:
            record_app_events(connection, self.news, now)

    def _save_conversations(self, connection: Connection) -> dict[ConversationKey, int]:
        """Write down what has changed, and return the row ids of all."""
        row_ids = {key: known.id for key, known in self.known.items()}
        changed = self.new_conversations
        conversations.save(
            connection, {row_ids[key]: it for key, it in changed.items() if key in row_ids}
        )
        begun = [it for key, it in changed.items() if key not in row_ids]
        return row_ids | conversations.add(connection, begun)

    def _save_tokens(self, connection: Connection, row_ids: Mapping[ConversationKey, int]) -> None:
        stored = {
            token.id for known in self.known.values() for token in _tokens_of(known.conversation)
        }
        changed, fresh = [], []
        for key, token in self.tokens.values():
            if token.id in stored:
                changed.append(token)
            else:
                fresh.append((row_ids[key], token))
        tokens.save(connection, changed)
        tokens.add(connection, fresh)

    def _save_verifications(self, connection: Connection, now: datetime) -> None:
        """Write down who has begun those of a reference, and how any have ended."""
        begun = {
            token.verification: (key, token)
            for key, token in self.tokens.values()
            if token.origin is Origin.REFERENCE and token.verification
        }
        ended = {
            news.verification: news
            for _, news in self.news
            if news.verification and news.type in FINAL_STATUS
        }
        changed = []
        for name, known in verifications.load(connection, {*begun, *ended}).items():
            verification = known
            if name in begun and known.phone is None:
                key, token = begun[name]
                verification = replace(
                    verification,
                    phone=key.phone,
                    bot_number=key.bot_number,
                    expires_at=token.expires_at,
                )
            if name in ended and known.status is Status.PENDING:
                verification = with_final_status(verification, ended[name], now)
            changed.append(verification)
        verifications.save(connection, changed)


def _fresh_id(now: datetime) -> str:
    """Name a token: after the time, so that indexes grow at their end, and by 80 random bits."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def with_final_status(verification: Verification, news: AppEvent, now: datetime) -> Verification:
    """Give a verification its final status."""
    status = FINAL_STATUS[news.type]
    return replace(verification, status=status, reason=news.reason, ended_at=now)


def _tokens_of(conversation: Conversation) -> tuple[Token, ...]:
    own, others = conversation.token, conversation.verification_tokens
    return others if own is None else (own, *others)
