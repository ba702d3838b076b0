"""The unit of work: load, decide and save the inputs of many conversations in one transaction.

The inbox uses it for texts and requests, the sender and delivery reports for what the carrier
answers, the expirer for time that has passed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation.actions import Cancel
from bot.conversation.app_events import FINAL_STATUS, AppEvent, EventType
from bot.conversation.channels import TEXT
from bot.conversation.decision import decide
from bot.conversation.inputs import CodeRequested, ReferenceLookup, TextReceived, channel_of
from bot.conversation.intents import Intent, parse_text, reference_in
from bot.conversation.policy import look_ups_left, with_unknown_reference
from bot.conversation.state import NOTHING_GUESSED, Conversation
from bot.conversation.verification import Origin, Reason, ReplyRule, RequestOutcome, Status
from bot.services.intake.alerts import count_unknown_references
from bot.services.intake.app_event_log import record_app_events
from bot.store import conversations, people, phone_limits, tokens, verifications
from bot.store.queues import outbox
from bot.store.tables import OutboxState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.channels import Channel
    from bot.conversation.codes import Keyring
    from bot.conversation.decision import Decision
    from bot.conversation.inputs import Input
    from bot.conversation.person import Person
    from bot.conversation.policy import Policy
    from bot.conversation.state import ChannelLimits, PhoneLimits, Token
    from bot.conversation.verification import AppAnswer, Verification
    from bot.store.conversations import ConversationKey, StoredConversation


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of every decision; `has_app` is whether app events are recorded."""

    policy: Policy
    keyring: Keyring
    has_app: bool = False


def decide_and_save(  # noqa: PLR0913 - the two optional ones belong to one caller each
    connection: Connection,
    inputs: Sequence[tuple[ConversationKey, Input]],
    now: datetime,
    rules: Rules,
    *,
    requested: Mapping[str, Verification] | None = None,
    locked_limits: Mapping[str, PhoneLimits] | None = None,
) -> list[AppAnswer | None]:
    """Decide inputs in the order given, save the decisions, and return each input's app answer.

    Locks the limits of all their phones until the transaction ends, so that no other process
    decides for the same phone meanwhile; a caller that has locked them passes `locked_limits`, by
    phone. `requested` are the verifications of `CodeRequested` inputs, by id; they are stored with
    their result.
    """
    if not inputs:
        return []
    phones = {key.phone for key, _ in inputs}
    elsewhere = {key.phone for key, received in inputs if channel_of(received) != TEXT}
    if locked_limits is None:
        locked_limits = phone_limits.lock(connection, phones)
    loaded = conversations.load(connection, phones, now)
    work = _UnitOfWork(
        locked_limits,
        phone_limits.read_channels(connection, elsewhere) if elsewhere else {},
        loaded.conversations,
        loaded.people,
        _look_up_references(connection, inputs, locked_limits, now),
        requested or {},
    )
    answers = [work.decide(key, received, now, rules) for key, received in inputs]
    work.save(connection, now, rules)
    return answers


def _look_up_references(
    connection: Connection,
    inputs: Sequence[tuple[ConversationKey, Input]],
    limits_of: Mapping[str, PhoneLimits],
    now: datetime,
) -> dict[tuple[str, str], Verification | None]:
    """Return the verifications of the references that are looked up, by phone and reference.

    Of each phone only so many are looked up as may still be unknown.
    """
    texted: dict[str, dict[str, None]] = {}
    for key, received in inputs:
        if isinstance(received, TextReceived) and (reference := reference_in(received.text)):
            texted.setdefault(key.phone, {})[reference] = None
    looked_up = [
        (phone, reference)
        for phone, references in texted.items()
        for reference in islice(references, look_ups_left(limits_of[phone], now))
    ]
    found = verifications.by_reference(connection, {reference for _, reference in looked_up})
    return {(phone, reference): found.get(reference) for phone, reference in looked_up}


@dataclass(slots=True)
class _UnitOfWork:
    """The records as loaded from the database, and the changes since."""

    limits: Mapping[str, PhoneLimits]
    channel_limits: Mapping[tuple[str, Channel], ChannelLimits]
    stored: dict[ConversationKey, StoredConversation]
    people: dict[str, Person]
    referenced: dict[tuple[str, str], Verification | None]
    requested: Mapping[str, Verification]
    changed_people: dict[str, Person] = field(default_factory=dict)
    changed_limits: dict[str, PhoneLimits] = field(default_factory=dict)
    changed_channels: dict[tuple[str, Channel], ChannelLimits] = field(default_factory=dict)
    changed_conversations: dict[ConversationKey, Conversation] = field(default_factory=dict)
    changed_tokens: dict[str, tuple[ConversationKey, Token]] = field(default_factory=dict)
    new_texts: list[tuple[ConversationKey, outbox.NewText]] = field(default_factory=list)
    cancelled: dict[ConversationKey, Cancel] = field(default_factory=dict)
    new_verifications: list[Verification] = field(default_factory=list)
    app_events: list[tuple[ConversationKey, AppEvent]] = field(default_factory=list)
    unknown_references: int = 0
    revocations: list[tuple[ConversationKey, datetime]] = field(default_factory=list)
    """The phones whose verifications are revoked, each with the time since when."""

    def decide(
        self, key: ConversationKey, received: Input, now: datetime, rules: Rules
    ) -> AppAnswer | None:
        """Decide one input, and what follows at the phone's other conversations."""
        decision = self._decide_alone(key, received, now, rules)
        if decision.elsewhere is not None:
            known = self.stored.keys() | self.changed_conversations.keys()
            for other in sorted(known):
                if other.phone == key.phone and other != key:
                    self._decide_alone(other, decision.elsewhere, now, rules)
        return decision.answer

    def _decide_alone(
        self, key: ConversationKey, received: Input, now: datetime, rules: Rules
    ) -> Decision:
        """Decide one input and collect its changes."""
        if isinstance(received, TextReceived):
            received = self._with_reference(key, received, now, rules)
        channel = key.phone, channel_of(received)
        decision = decide(
            self._conversation(key),
            self._limits(key.phone),
            received,
            now=now,
            policy=rules.policy,
            keyring=rules.keyring,
            new_token_id=_fresh_id(now),
            channel_limits=self._channel_limits(channel),
            person=self._person(key.phone),
        )
        self._collect(key, decision)
        if decision.channel_limits != self._channel_limits(channel):
            self.changed_channels[channel] = decision.channel_limits
        if isinstance(received, CodeRequested):
            self._add_requested(key.phone, received, decision.answer, now, rules)
        if rules.keyring.is_test(key.phone):
            self._deliver_test_texts(key)
        return decision

    def _conversation(self, key: ConversationKey) -> Conversation:
        if key in self.changed_conversations:
            return self.changed_conversations[key]
        stored = self.stored.get(key)
        return stored.conversation if stored else Conversation(key.bot_number, key.phone)

    def _person(self, phone: str) -> Person:
        return self.changed_people.get(phone, self.people[phone])

    def _limits(self, phone: str) -> PhoneLimits:
        return self.changed_limits.get(phone, self.limits[phone])

    def _channel_limits(self, channel: tuple[str, Channel]) -> ChannelLimits:
        known = self.channel_limits.get(channel, NOTHING_GUESSED)
        return self.changed_channels.get(channel, known)

    def _with_reference(
        self, key: ConversationKey, text: TextReceived, now: datetime, rules: Rules
    ) -> TextReceived:
        """Add the verification of a text's reference; count a reference that is unknown."""
        looked_up = key.phone, reference_in(text.text)
        if looked_up not in self.referenced:
            return text
        verification = self.referenced[looked_up]
        if verification is None:
            del self.referenced[looked_up]  # each look-up is counted once
            # A code of the hex alphabet can look like a reference.
            if parse_text(text.text, rules.policy.code_format).intent is not Intent.GUESS:
                limits = self._limits(key.phone)
                self.changed_limits[key.phone] = with_unknown_reference(limits, now)
                self.unknown_references += 1
            return text
        phone = verification.phone or self._phone_in_this_transaction(verification)
        free = phone is None and verification.status_at(now) is Status.PENDING
        begun_here = phone == key.phone
        found = ReferenceLookup(
            verification.id,
            free,
            begun_here,
            verification.complete,
            verification.reference or "",
            verification.label or "",
        )
        return replace(text, reference=found)

    def _phone_in_this_transaction(self, verification: Verification) -> str | None:
        """Return the phone that has begun a verification in this transaction, if any."""
        for key, token in self.changed_tokens.values():
            if token.verification == verification.id:
                return key.phone
        return None

    def _collect(self, key: ConversationKey, decision: Decision) -> None:
        before = self._conversation(key)
        if decision.conversation != before or key not in self.stored:
            self.changed_conversations[key] = decision.conversation
        if decision.limits != self._limits(key.phone):
            self.changed_limits[key.phone] = decision.limits
        if decision.person != self._person(key.phone):
            self.changed_people[key.phone] = decision.person
        if decision.revoke_since is not None:
            self.revocations.append((key, decision.revoke_since))
        old = {token.id: token for token in _tokens_of(before)}
        for token in _tokens_of(decision.conversation):
            if token != old.get(token.id):
                self.changed_tokens[token.id] = (key, token)
        if decision.cancel is not Cancel.NOTHING:
            self._cancel(key, decision.cancel)
        if decision.message is not None:
            recipient = decision.conversation.recipient
            text = outbox.NewText(
                secrets.token_hex(16),
                key.bot_number,
                decision.message,
                None if recipient == key.phone else recipient,
            )
            self.new_texts.append((key, text))
        self.app_events += [(key, app_event) for app_event in decision.app_events]

    def _add_requested(
        self,
        phone: str,
        request: CodeRequested,
        answer: AppAnswer | None,
        now: datetime,
        rules: Rules,
    ) -> None:
        """Store a requested verification; one that was refused only if it is the web form's.

        The form shows the same page in both cases, so that it does not reveal a phone's limits.
        """
        verification = self.requested[request.verification]
        outcome = answer.outcome if answer else RequestOutcome.DONE
        if outcome is not RequestOutcome.DONE:
            if verification.origin is not Origin.FORM:
                return
            reason = Reason(outcome)
            verification = replace(
                verification,
                status=Status.FAILED,
                reason=reason,
                ended_at=now,
                code_length=refused_code_length(
                    self._limits(phone),
                    self._channel_limits((phone, request.channel)),
                    ReplyRule.of(request.origin, request.complete),
                    now,
                    rules.policy,
                ),
            )
        for _, token in self.changed_tokens.values():
            if token.verification == verification.id:
                # The code was issued a moment later; both must expire at the same time.
                verification = replace(
                    verification,
                    expires_at=token.expires_at,
                    letters_index=token.letters_index,
                    code_length=token.format.length,
                )
        self.new_verifications.append(verification)

    def _deliver_test_texts(self, key: ConversationKey) -> None:
        """Mark the texts to a test number as delivered, so that they are never sent."""
        for recipient, text in self.new_texts:
            token = text.message.token
            if recipient == key and text.state is OutboxState.QUEUED:
                text.state = OutboxState.DELIVERED
                if token is not None and token.verification is not None:
                    for event_type in (EventType.SENT, EventType.DELIVERED):
                        self.app_events.append((key, AppEvent(event_type, token.verification)))

    def _cancel(self, key: ConversationKey, cancel: Cancel) -> None:
        if self.cancelled.get(key) is not Cancel.ALL:
            self.cancelled[key] = cancel
        for recipient, text in self.new_texts:
            token = text.message.token
            included = cancel is Cancel.ALL or (token and self.changed_tokens[token.id][1].spent)
            if recipient == key and included:
                text.state = OutboxState.CANCELLED

    def save(self, connection: Connection, now: datetime, rules: Rules) -> None:
        """Write all changes."""
        verifications.add(connection, self.new_verifications)
        row_ids = self._save_conversations(connection)
        self._save_tokens(connection, row_ids)
        people.save(connection, self.changed_people)
        phone_limits.save(connection, self.changed_limits)
        phone_limits.save_channels(connection, self.changed_channels)
        for cancel in (Cancel.CODES, Cancel.ALL):
            cancelled = [row_ids[key] for key, each in self.cancelled.items() if each is cancel]
            outbox.cancel(connection, cancelled, codes_only=cancel is Cancel.CODES)
        outbox.add(connection, [(row_ids[key], text) for key, text in self.new_texts], now)
        self._save_verifications(connection, now)
        self._revoke_verifications(connection, now)
        if rules.has_app:
            record_app_events(connection, self.app_events, now)
        if self.unknown_references:
            count_unknown_references(
                connection, self.unknown_references, now, has_app=rules.has_app
            )

    def _save_conversations(self, connection: Connection) -> dict[ConversationKey, int]:
        """Save changed conversations, add new ones, and return the row ids of all."""
        row_ids = {key: stored.id for key, stored in self.stored.items()}
        changed = self.changed_conversations
        conversations.save(
            connection, {row_ids[key]: each for key, each in changed.items() if key in row_ids}
        )
        new = [each for key, each in changed.items() if key not in row_ids]
        return row_ids | conversations.add(connection, new)

    def _save_tokens(self, connection: Connection, row_ids: Mapping[ConversationKey, int]) -> None:
        loaded = {
            token.id for stored in self.stored.values() for token in _tokens_of(stored.conversation)
        }
        changed, new = [], []
        for key, token in self.changed_tokens.values():
            if token.id in loaded:
                changed.append(token)
            else:
                new.append((row_ids[key], token))
        tokens.save(connection, changed)
        tokens.add(connection, new)

    def _save_verifications(self, connection: Connection, now: datetime) -> None:
        """Save the phones that have texted a reference, and the results of verifications."""
        begun = {
            token.verification: (key, token)
            for key, token in self.changed_tokens.values()
            if token.origin is Origin.REFERENCE and token.verification
        }
        ended = {
            app_event.verification: app_event
            for _, app_event in self.app_events
            if app_event.verification and app_event.type in FINAL_STATUS
        }
        changed = []
        for id_, stored in verifications.load(connection, {*begun, *ended}).items():
            verification = stored
            if id_ in begun and stored.phone is None:
                key, token = begun[id_]
                verification = replace(
                    verification,
                    phone=key.phone,
                    bot_number=key.bot_number,
                    expires_at=token.expires_at,
                    code_length=token.format.length,
                )
            if id_ in ended and stored.status is Status.PENDING:
                verification = with_final_status(verification, ended[id_], now)
            changed.append(verification)
        verifications.save(connection, changed)

    def _revoke_verifications(self, connection: Connection, now: datetime) -> None:
        """Revoke successes after their results are saved: one may be of this transaction."""
        for key, since in self.revocations:
            revoked = verifications.revoke(connection, key.phone, since, now)
            self.app_events += [
                (key, AppEvent(EventType.REVOKED, id_, Reason.NOT_ME)) for id_ in revoked
            ]


def _fresh_id(now: datetime) -> str:
    """Make a token id: the time, so that indexes grow at their end, and 80 random bits."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def refused_code_length(
    limits: PhoneLimits,
    by_channel: ChannelLimits,
    rule: ReplyRule,
    now: datetime,
    policy: Policy,
) -> int:
    """Return how long the code of a refused request would be: the form's page shows it."""
    length = policy.code_length(by_channel, now)
    return max(length, policy.code_length(limits, now)) if rule is ReplyRule.LETTERS else length


def with_final_status(verification: Verification, final: AppEvent, now: datetime) -> Verification:
    """Return a verification with the status that its final app event reports."""
    status = FINAL_STATUS[final.type]
    return replace(verification, status=status, reason=final.reason, ended_at=now)


def _tokens_of(conversation: Conversation) -> tuple[Token, ...]:
    own, others = conversation.token, conversation.verification_tokens
    return others if own is None else (own, *others)
