"""Conversations and, with each, the latest token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import String, bindparam, func, select, update

from bot.conversation.state import Conversation, State
from bot.store import tokens
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_all
from bot.store.tables import ConversationRow, TokenRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row


_CONVERSATIONS = ConversationRow.__table__
_TOKENS = TokenRow.__table__
_FACTS = (
    "state",
    "verified_at",
    "opted_out_at",
    "opted_in_at",
    "opt_out_wording",
    "hints",
    "hinted_at",
    "answers",
    "answered_at",
)


class ConversationKey(NamedTuple):
    """What names a conversation: the person's number and the bot's, both E.164."""

    phone: str
    bot_number: str


class StoredConversation(NamedTuple):
    """A conversation and the id of its row."""

    id: int
    conversation: Conversation


def load(
    connection: Connection, keys: Collection[ConversationKey], now: datetime
) -> dict[ConversationKey, StoredConversation]:
    """Read the conversations that there are, whole; hold their phones' ledgers before."""
    rows = connection.execute(_OF_PHONES, {"phones": [key.phone for key in keys]})
    found = dict(map(_stored, rows))
    # Where nothing is awaited and nothing was just used, no code of an app matters.
    begun = [row_id for row_id, known in found.items() if known.state is not State.IDLE]
    for row_id, token in tokens.asked(connection, begun, now):
        known = found[row_id]
        found[row_id] = replace(known, verification_tokens=(*known.verification_tokens, token))
    of_key = {
        ConversationKey(known.phone, known.bot_number): StoredConversation(row_id, known)
        for row_id, known in found.items()
    }
    return {key: of_key[key] for key in keys if key in of_key}


def find(connection: Connection, phone: str) -> list[StoredConversation]:
    """Read every conversation of a phone (E.164), the most lately opened last."""
    rows = connection.execute(
        _SELECT.where(_CONVERSATIONS.c.phone == phone).order_by(_CONVERSATIONS.c.id)
    )
    return [_stored(row) for row in rows]


def counts(connection: Connection) -> tuple[int, dict[State, int]]:
    """Count the conversations that were verified at some time, and all by state."""
    verified = select(func.count()).where(_CONVERSATIONS.c.verified_at.is_not(None))
    by_state = select(_CONVERSATIONS.c.state, func.count()).group_by(_CONVERSATIONS.c.state)
    states = {row[0]: row[1] for row in connection.execute(by_state)}
    return connection.scalar(verified) or 0, states


def key_of(connection: Connection, conversation_id: int) -> ConversationKey:
    """Name the conversation of a row."""
    row = connection.execute(
        select(_CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number).where(
            _CONVERSATIONS.c.id == conversation_id
        )
    ).one()
    return ConversationKey(row.phone, row.bot_number)


def add(
    connection: Connection, conversations: Collection[Conversation]
) -> dict[ConversationKey, int]:
    """Store conversations that have no row yet, and return the ids of their rows."""
    if not conversations:
        return {}
    insert_all(
        connection,
        _CONVERSATIONS,
        [
            {"phone": begun.phone, "bot_number": begun.bot_number} | _facts(begun)
            for begun in conversations
        ],
    )
    rows = connection.execute(_IDS_OF_PHONES, {"phones": [begun.phone for begun in conversations]})
    return {ConversationKey(row.phone, row.bot_number): row.id for row in rows}


def save(connection: Connection, conversations: Mapping[int, Conversation]) -> None:
    """Write changed conversations back, by the ids of their rows, all in one statement."""
    if conversations:
        connection.execute(
            update(_CONVERSATIONS).where(_CONVERSATIONS.c.id == bindparam("of")),
            [{"of": row_id} | _facts(changed) for row_id, changed in conversations.items()],
        )


_SELECT = select(
    _CONVERSATIONS,
    *tokens.COLUMNS,
    tokens.TEXT_STATE,
).outerjoin(_TOKENS, _TOKENS.c.id == _CONVERSATIONS.c.token_id)
_IN_PHONES = _CONVERSATIONS.c.phone.in_(array_param("phones", String()))
_OF_PHONES = _SELECT.where(_IN_PHONES)
_IDS_OF_PHONES = select(
    _CONVERSATIONS.c.id, _CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number
).where(_IN_PHONES)


def _facts(conversation: Conversation) -> dict[str, Any]:
    facts = {fact: getattr(conversation, fact) for fact in _FACTS}
    return facts | {"token_id": conversation.token.id if conversation.token else None}


def _stored(row: Row[Any]) -> StoredConversation:
    known = row.key_id is not None
    token = tokens.from_row(row, row.token_id, tokens.code_text(row.text_state)) if known else None
    conversation = Conversation(
        bot_number=row.bot_number,
        phone=row.phone,
        token=token,
        **{fact: getattr(row, fact) for fact in _FACTS},
    )
    return StoredConversation(row.id, conversation)
