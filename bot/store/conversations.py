"""Conversations, each with its latest token, and what is kept about the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import BigInteger, String, bindparam, func, select, update

from bot.conversation.state import Conversation, State
from bot.store import people, tokens
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_all
from bot.store.tables import ConversationRow, PersonRow, TokenRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from bot.conversation.person import Person


_CONVERSATIONS = ConversationRow.__table__
_PEOPLE = PersonRow.__table__
_TOKENS = TokenRow.__table__
_SAME_NAMES = (
    "state",
    "blocked_at",
    "texted_from",
    "unreachable",
)
_FIELD_OF_COLUMN = {column: column for column in _SAME_NAMES} | {
    "hints_in_a_row": "hints",
    "last_hint_at": "hinted_at",
    "answers_in_a_row": "answers",
    "last_answer_at": "answered_at",
}


class ConversationKey(NamedTuple):
    """The key of a conversation: the person's number and the bot's, both E.164."""

    phone: str
    bot_number: str


class StoredConversation(NamedTuple):
    """A conversation and its row id."""

    id: int
    conversation: Conversation


class LoadedPhones(NamedTuple):
    """All conversations of some phones, and their persons by phone (E.164)."""

    conversations: dict[ConversationKey, StoredConversation]
    people: dict[str, Person]


def load(connection: Connection, phones: Collection[str], now: datetime) -> LoadedPhones:
    """Read all conversations of phones (E.164), with their tokens, and the persons.

    The caller must hold the locks of the phones' limits.
    """
    rows = connection.execute(_OF_PHONES, {"phones": phones}).all()
    found = dict(_stored(row) for row in rows if row.id is not None)
    # In an idle conversation, no token of a verification matters any longer.
    not_idle = [row_id for row_id, each in found.items() if each.state is not State.IDLE]
    for row_id, token in tokens.load_for_verifications(connection, not_idle, now):
        conversation = found[row_id]
        found[row_id] = replace(
            conversation, verification_tokens=(*conversation.verification_tokens, token)
        )
    by_key = {
        ConversationKey(each.phone, each.bot_number): StoredConversation(row_id, each)
        for row_id, each in found.items()
    }
    return LoadedPhones(by_key, {row.of_phone: people.from_row(row) for row in rows})


def find(connection: Connection, phone: str) -> list[StoredConversation]:
    """Read all conversations of a phone (E.164), the newest last."""
    rows = connection.execute(
        _SELECT.where(_CONVERSATIONS.c.phone == phone).order_by(_CONVERSATIONS.c.id)
    )
    return [_stored(row) for row in rows]


def counts(connection: Connection) -> dict[State, int]:
    """Count the conversations by state."""
    by_state = select(_CONVERSATIONS.c.state, func.count()).group_by(_CONVERSATIONS.c.state)
    return {row[0]: row[1] for row in connection.execute(by_state)}


def key_of(connection: Connection, conversation_id: int) -> ConversationKey:
    """Return the key of the conversation with this row id."""
    row = connection.execute(
        select(_CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number).where(
            _CONVERSATIONS.c.id == conversation_id
        )
    ).one()
    return ConversationKey(row.phone, row.bot_number)


def phones_of(connection: Connection, conversation_ids: Collection[int]) -> dict[int, str]:
    """Return the phones (E.164) of conversations, by row id."""
    if not conversation_ids:
        return {}
    rows = connection.execute(_PHONES_OF, {"ids": conversation_ids})
    return {row.id: row.phone for row in rows}


def save_unreachable(connection: Connection, unreachable: Mapping[int, str]) -> None:
    """Save the spellings (E.164) to which texts have failed for good, by row id.

    The caller must hold the locks of the phones' limits.
    """
    if unreachable:
        connection.execute(
            _SAVE_UNREACHABLE,
            [{"row_id": row_id, "spelling": each} for row_id, each in unreachable.items()],
        )


def add(
    connection: Connection, conversations: Collection[Conversation]
) -> dict[ConversationKey, int]:
    """Insert conversations that have no row yet, and return their row ids."""
    if not conversations:
        return {}
    insert_all(
        connection,
        _CONVERSATIONS,
        [
            {"phone": new.phone, "bot_number": new.bot_number} | _values(new)
            for new in conversations
        ],
    )
    rows = connection.execute(_IDS_OF_PHONES, {"phones": [new.phone for new in conversations]})
    return {ConversationKey(row.phone, row.bot_number): row.id for row in rows}


def save(connection: Connection, conversations: Mapping[int, Conversation]) -> None:
    """Update conversations by row id, all in one statement."""
    if conversations:
        connection.execute(
            update(_CONVERSATIONS).where(_CONVERSATIONS.c.id == bindparam("row_id")),
            [{"row_id": row_id} | _values(changed) for row_id, changed in conversations.items()],
        )


_SELECT = select(
    _CONVERSATIONS,
    *tokens.COLUMNS,
    tokens.TEXT_STATE,
).outerjoin(_TOKENS, _TOKENS.c.id == _CONVERSATIONS.c.token_id)
_IN_PHONES = _CONVERSATIONS.c.phone.in_(array_param("phones", String()))
# From the phones, so that one statement also reads the person of a phone without a conversation.
_PHONES = array_param("phones", String()).subquery()
_OF_PHONES = (
    select(
        _PHONES.c.value.label("of_phone"),
        _CONVERSATIONS,
        *people.COLUMNS,
        *tokens.COLUMNS,
        tokens.TEXT_STATE,
    )
    .select_from(_PHONES)
    .outerjoin(_CONVERSATIONS, _CONVERSATIONS.c.phone == _PHONES.c.value)
    .outerjoin(_PEOPLE, _PEOPLE.c.phone == _PHONES.c.value)
    .outerjoin(_TOKENS, _TOKENS.c.id == _CONVERSATIONS.c.token_id)
)
_IDS_OF_PHONES = select(
    _CONVERSATIONS.c.id, _CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number
).where(_IN_PHONES)


_PHONES_OF = select(_CONVERSATIONS.c.id, _CONVERSATIONS.c.phone).where(
    _CONVERSATIONS.c.id.in_(array_param("ids", BigInteger()))
)
_SAVE_UNREACHABLE = (
    update(_CONVERSATIONS)
    .where(_CONVERSATIONS.c.id == bindparam("row_id"))
    .values(unreachable=bindparam("spelling"))
)


def _values(conversation: Conversation) -> dict[str, Any]:
    values = {column: getattr(conversation, field) for column, field in _FIELD_OF_COLUMN.items()}
    return values | {"token_id": conversation.token.id if conversation.token else None}


def _stored(row: Row[Any]) -> StoredConversation:
    token = None
    if row.key_id is not None:
        token = tokens.from_row(row, row.token_id, tokens.code_delivery(row.text_state))
    conversation = Conversation(
        bot_number=row.bot_number,
        phone=row.phone,
        token=token,
        **{field: getattr(row, column) for column, field in _FIELD_OF_COLUMN.items()},
    )
    return StoredConversation(row.id, conversation)
