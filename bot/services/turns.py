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
from bot.conversation.happened import Asked, AskedAgain, Referenced, Said, Typed
from bot.conversation.intents import reference_in
from bot.conversation.state import Conversation
from bot.conversation.turn import Cancel
from bot.conversation.verification import ENDS, News, Occurrence, Origin, Outcome, Reason, Status
from bot.services.announcing import announce
from bot.store import conversations, ledgers, outbox, tokens, verifications
from bot.store.models import OutboxState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.codes import Keyring
    from bot.conversation.decision import Decision
    from bot.conversation.happened import Happened
    from bot.conversation.policy import Policy
    from bot.conversation.state import Ledger, Token
    from bot.conversation.verification import Answer, Verification
    from bot.store.conversations import Key, Known

_FOR_APPS = (Asked, AskedAgain, Typed)


@dataclass(frozen=True, slots=True)
class Rules:
    """What every decision rests on besides the facts; `announces` tells whether an app listens."""

    policy: Policy
    keyring: Keyring
    announces: bool = False


def take_turns(  # noqa: PLR0913 - the two that are optional belong to one caller each
    connection: Connection,
    happened: Sequence[tuple[Key, Happened]],
    now: datetime,
    rules: Rules,
    *,
    wanted: Mapping[str, Verification] | None = None,
    held: Mapping[str, Ledger] | None = None,
) -> list[Answer | None]:
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
    memory = _Memory(
        ledgers.lock(connection, {key.phone for key in keys}) if held is None else held,
        ledgers.lock(connection, others, ledgers.BY_OTHERS),
        conversations.load(connection, keys, now),
        _referenced(connection, [event for _, event in happened]),
        wanted or {},
    )
    answers = [memory.decide(key, event, now, rules) for key, event in happened]
    memory.save(connection, now, rules)
    return answers


def _referenced(connection: Connection, events: Sequence[Happened]) -> dict[str, Verification]:
    said = [reference_in(event.text) for event in events if isinstance(event, Said)]
    return verifications.by_reference(connection, {reference for reference in said if reference})


@dataclass(slots=True)
class _Memory:
    """What the database knew, and what has changed since."""

    ledgers: Mapping[str, Ledger]
    web_ledgers: dict[str, Ledger]
    known: dict[Key, Known]
    referenced: dict[str, Verification]
    wanted: Mapping[str, Verification]
    new_ledgers: dict[str, Ledger] = field(default_factory=dict)
    new_web_ledgers: dict[str, Ledger] = field(default_factory=dict)
    new_conversations: dict[Key, Conversation] = field(default_factory=dict)
    tokens: dict[str, tuple[Key, Token]] = field(default_factory=dict)
    drafts: list[tuple[Key, outbox.Draft]] = field(default_factory=list)
    cancelled: dict[Key, Cancel] = field(default_factory=dict)
    verifications: list[Verification] = field(default_factory=list)
    news: list[tuple[Key, News]] = field(default_factory=list)

    def decide(self, key: Key, event: Happened, now: datetime, rules: Rules) -> Answer | None:
        """Decide one event, and remember what came of it."""
        decision = decide(
            self._conversation(key),
            self.new_ledgers.get(key.phone, self.ledgers[key.phone]),
            self._with_reference(key, event, now) if isinstance(event, Said) else event,
            now=now,
            policy=rules.policy,
            keyring=rules.keyring,
            fresh_id=_fresh_id(now),
            **self._web_ledger(key.phone),
        )
        self._keep(key, decision)
        if isinstance(event, Asked):
            self._want(event, decision.answer, now)
        if rules.keyring.is_test(key.phone):
            self._arrive(key)
        return decision.answer

    def _conversation(self, key: Key) -> Conversation:
        if key in self.new_conversations:
            return self.new_conversations[key]
        known = self.known.get(key)
        return known.conversation if known else Conversation(key.bot_number, key.phone)

    def _web_ledger(self, phone: str) -> dict[str, Ledger]:
        known = self.new_web_ledgers.get(phone, self.web_ledgers.get(phone))
        return {} if known is None else {"web_ledger": known}

    def _with_reference(self, key: Key, said: Said, now: datetime) -> Said:
        verification = self.referenced.get(reference_in(said.text))
        if verification is None:
            return said
        begun_by = verification.phone or self._begun_by(verification)
        waits = verification.status_at(now) is Status.PENDING and begun_by is None
        here = begun_by == key.phone
        return replace(said, referenced=Referenced(verification.id, waits, here))

    def _begun_by(self, verification: Verification) -> str | None:
        """Name the phone that has begun it in this very transaction."""
        begun = (
            key for key, token in self.tokens.values() if token.verification == verification.id
        )
        return next((key.phone for key in begun), None)

    def _keep(self, key: Key, decision: Decision) -> None:
        before = self._conversation(key)
        if decision.conversation != before or key not in self.known:
            self.new_conversations[key] = decision.conversation
        if decision.ledger != self.new_ledgers.get(key.phone, self.ledgers[key.phone]):
            self.new_ledgers[key.phone] = decision.ledger
        if key.phone in self.web_ledgers:
            self.new_web_ledgers[key.phone] = decision.web_ledger
        old = {token.id: token for token in _tokens_of(before)}
        for token in _tokens_of(decision.conversation):
            if token != old.get(token.id):
                self.tokens[token.id] = (key, token)
        if decision.cancel is not Cancel.NOTHING:
            self._cancel(key, decision.cancel)
        if decision.message is not None:
            draft = outbox.Draft(secrets.token_hex(16), key.bot_number, decision.message)
            self.drafts.append((key, draft))
        self.news += [(key, news) for news in decision.news]

    def _want(self, asked: Asked, answer: Answer | None, now: datetime) -> None:
        """Store a verification that was begun; of the web form also one that was not.

        Who asks at the form is not told the difference.
        """
        verification = self.wanted[asked.verification]
        outcome = answer.outcome if answer else Outcome.DONE
        if outcome is not Outcome.DONE:
            if verification.origin is not Origin.FORM:
                return
            failed, why = Status.FAILED, Reason(outcome)
            verification = replace(verification, status=failed, reason=why, ended_at=now)
        for _, token in self.tokens.values():
            if token.verification == verification.id:
                # Else it would be over a moment before its code, which waited to be issued.
                verification = replace(verification, expires_at=token.expires_at)
        self.verifications.append(verification)

    def _arrive(self, key: Key) -> None:
        """Keep texts to a test number from leaving; they count as delivered."""
        for to, draft in self.drafts:
            token = draft.message.token
            if to == key and draft.state is OutboxState.QUEUED:
                draft.state = OutboxState.DELIVERED
                if token is not None and token.verification is not None:
                    for occurrence in (Occurrence.SENT, Occurrence.DELIVERED):
                        self.news.append((key, News(occurrence, token.verification)))

    def _cancel(self, key: Key, cancel: Cancel) -> None:
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
        ledgers.save(connection, self.new_ledgers)
        ledgers.save(connection, self.new_web_ledgers, ledgers.BY_OTHERS)
        for cancel in (Cancel.CODES, Cancel.ALL):
            concerned = [row_ids[key] for key, what in self.cancelled.items() if what is cancel]
            outbox.cancel(connection, concerned, codes_only=cancel is Cancel.CODES)
        outbox.add(connection, [(row_ids[key], draft) for key, draft in self.drafts], now)
        self._save_verifications(connection, now)
        if rules.announces:
            announce(connection, self.news, now)

    def _save_conversations(self, connection: Connection) -> dict[Key, int]:
        """Write down what has changed, and return the row ids of all."""
        row_ids = {key: known.id for key, known in self.known.items()}
        changed = self.new_conversations
        conversations.save(
            connection, {row_ids[key]: it for key, it in changed.items() if key in row_ids}
        )
        begun = [it for key, it in changed.items() if key not in row_ids]
        return row_ids | conversations.add(connection, begun)

    def _save_tokens(self, connection: Connection, row_ids: Mapping[Key, int]) -> None:
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
            if news.verification and news.occurrence in ENDS
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
                verification = ended_as(verification, ended[name], now)
            changed.append(verification)
        verifications.save(connection, changed)


def _fresh_id(now: datetime) -> str:
    """Name a token: after the time, so that indexes grow at their end, and by 80 random bits."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def ended_as(verification: Verification, news: News, now: datetime) -> Verification:
    """Give a verification its final status."""
    status = ENDS[news.occurrence]
    return replace(verification, status=status, reason=news.reason, ended_at=now)


def _tokens_of(conversation: Conversation) -> tuple[Token, ...]:
    own = conversation.token
    return conversation.asked if own is None else (own, *conversation.asked)
