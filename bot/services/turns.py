"""The events of many conversations, decided and stored in one transaction.

The inbox takes turns for what people text, and for the carrier's refusals; the sender for those
it meets. Neither knows the other.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.conversation.decision import Blocked, Cancel, Said, decide
from bot.store import conversations, ledgers, outbox, tokens
from bot.store.models import OutboxState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.codes import Keyring
    from bot.conversation.decision import Decision
    from bot.conversation.policy import Policy
    from bot.conversation.state import Conversation, Ledger, Token
    from bot.store.conversations import Key, Known


@dataclass(frozen=True, slots=True)
class Rules:
    """What every decision rests on besides the facts."""

    policy: Policy
    keyring: Keyring


def take_turns(
    connection: Connection,
    happened: Sequence[tuple[Key, Said | Blocked]],
    now: datetime,
    rules: Rules,
) -> None:
    """Decide events in the order given and write down all that follows from them.

    Holds the ledgers of all phones concerned until the transaction ends, so that no other
    process decides for the same phone meanwhile.
    """
    if not happened:
        return
    keys = {key for key, _ in happened}
    kept_ledgers = ledgers.lock(connection, {key.phone for key in keys})
    memory = _Memory(kept_ledgers, conversations.open_all(connection, keys))
    for key, event in happened:
        conversation, ledger = memory.recall(key)
        memory.keep(
            key,
            decide(
                conversation,
                ledger,
                event,
                now=now,
                policy=rules.policy,
                keyring=rules.keyring,
                fresh_id=secrets.token_hex(16),
            ),
        )
    memory.save(connection, now)


@dataclass(slots=True)
class _Memory:
    """What the database knew, and what has changed since."""

    ledgers: dict[str, Ledger]
    known: dict[Key, Known]
    new_ledgers: dict[str, Ledger] = field(default_factory=dict)
    new_conversations: dict[int, Conversation] = field(default_factory=dict)
    tokens: dict[str, tuple[int, Token]] = field(default_factory=dict)
    drafts: list[outbox.Draft] = field(default_factory=list)
    cancelled: dict[int, Cancel] = field(default_factory=dict)

    def recall(self, key: Key) -> tuple[Conversation, Ledger]:
        row_id, conversation = self.known[key]
        return (
            self.new_conversations.get(row_id, conversation),
            self.new_ledgers.get(key.phone, self.ledgers[key.phone]),
        )

    def keep(self, key: Key, decision: Decision) -> None:
        row_id = self.known[key].id
        conversation, ledger = self.recall(key)
        if decision.conversation != conversation:
            self.new_conversations[row_id] = decision.conversation
        if decision.ledger != ledger:
            self.new_ledgers[key.phone] = decision.ledger
        token = decision.conversation.token
        if token is not None and token != conversation.token:
            self.tokens[token.id] = (row_id, token)
        if decision.cancel is not Cancel.NOTHING:
            self._cancel(row_id, decision.cancel)
        if decision.message is not None:
            self.drafts.append(outbox.Draft(secrets.token_hex(16), row_id, decision.message))

    def _cancel(self, row_id: int, cancel: Cancel) -> None:
        if self.cancelled.get(row_id) is not Cancel.ALL:
            self.cancelled[row_id] = cancel
        for draft in self.drafts:
            covered = cancel is Cancel.ALL or draft.message.token is not None
            if draft.conversation_id == row_id and covered:
                draft.state = OutboxState.CANCELLED

    def save(self, connection: Connection, now: datetime) -> None:
        stored = {
            known.conversation.token.id for known in self.known.values() if known.conversation.token
        }
        tokens.add(connection, [kept for name, kept in self.tokens.items() if name not in stored])
        tokens.save(
            connection, [token for name, (_, token) in self.tokens.items() if name in stored]
        )
        ledgers.save(connection, self.new_ledgers)
        conversations.save(connection, self.new_conversations)
        for cancel in (Cancel.CODES, Cancel.ALL):
            row_ids = [row_id for row_id, what in self.cancelled.items() if what is cancel]
            outbox.cancel(connection, row_ids, codes_only=cancel is Cancel.CODES)
        outbox.add(connection, self.drafts, now)
