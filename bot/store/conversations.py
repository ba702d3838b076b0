"""Conversations and, with each, the latest token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace
from sqlalchemy import bindparam, func, select, tuple_, update

from bot.conversation.state import CodeText, Conversation, State
from bot.store import tokens
from bot.store.database import insert_missing
from bot.store.models import (
    OUTBOX_FAILURES,
    ConversationRow,
    OutboxRow,
    OutboxState,
    TokenRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Row

    from bot.conversation.state import Token

_CONVERSATIONS = ConversationRow.__table__
_TOKENS = TokenRow.__table__
_OUTBOX = OutboxRow.__table__
_FACTS = (
    "state",
    "verified_at",
    "opted_out_at",
    "opt_out_wording",
    "hints",
    "hinted_at",
    "answers",
    "answered_at",
)


class Key(NamedTuple):
    """What names a conversation: the person's number and the bot's, both E.164."""

    phone: str
    bot_number: str


class Known(NamedTuple):
    """A conversation and the id of its row."""

    id: int
    conversation: Conversation


def open_all(connection: Connection, keys: Iterable[Key], now: datetime) -> dict[Key, Known]:
    """Read conversations, making those that are missing; hold their phones' ledgers before."""
    ordered = sorted(set(keys))
    insert_missing(
        connection,
        _CONVERSATIONS,
        [key._asdict() | {"state": State.IDLE, "hints": 0, "answers": 0} for key in ordered],
    )
    wanted = tuple_(_CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number).in_(ordered)
    known = [_known(row) for row in connection.execute(_SELECT.where(wanted))]
    asked: dict[int, list[Token]] = {row_id: [] for row_id, _ in known}
    # Where nothing is awaited and nothing was just used, no code of an app matters.
    begun = [row_id for row_id, found in known if found.state is not State.IDLE]
    for row_id, token in tokens.asked(connection, begun, now):
        asked[row_id].append(token)
    return {
        Key(found.phone, found.bot_number): Known(
            row_id, replace(found, asked=tuple(asked[row_id]))
        )
        for row_id, found in known
    }


def find(connection: Connection, phone: str) -> list[Known]:
    """Read every conversation of a phone (E.164), the most lately opened last."""
    rows = connection.execute(
        _SELECT.where(_CONVERSATIONS.c.phone == phone).order_by(_CONVERSATIONS.c.id)
    )
    return [_known(row) for row in rows]


def counts(connection: Connection) -> tuple[int, dict[State, int]]:
    """Count the conversations that were verified at some time, and all by state."""
    verified = select(func.count()).where(_CONVERSATIONS.c.verified_at.is_not(None))
    by_state = select(_CONVERSATIONS.c.state, func.count()).group_by(_CONVERSATIONS.c.state)
    states = {row[0]: row[1] for row in connection.execute(by_state)}
    return connection.scalar(verified) or 0, states


def key_of(connection: Connection, conversation_id: int) -> Key:
    """Name the conversation of a row."""
    row = connection.execute(
        select(_CONVERSATIONS.c.phone, _CONVERSATIONS.c.bot_number).where(
            _CONVERSATIONS.c.id == conversation_id
        )
    ).one()
    return Key(row.phone, row.bot_number)


def save(connection: Connection, conversations: Mapping[int, Conversation]) -> None:
    """Write changed conversations back, all in one statement."""
    if conversations:
        connection.execute(
            update(_CONVERSATIONS).where(_CONVERSATIONS.c.id == bindparam("of")),
            [
                {"of": row_id, "token_id": conversation.token.id if conversation.token else None}
                | {fact: getattr(conversation, fact) for fact in _FACTS}
                for row_id, conversation in conversations.items()
            ],
        )


_CODE_TEXT = (
    select(_OUTBOX.c.state)
    .where(_OUTBOX.c.token_id == _TOKENS.c.id)
    .order_by(_OUTBOX.c.id.desc())
    .limit(1)
    .scalar_subquery()
    .label("code_text")
)
_SELECT = select(
    _CONVERSATIONS,
    *tokens.COLUMNS,
    _CODE_TEXT,
).outerjoin(_TOKENS, _TOKENS.c.id == _CONVERSATIONS.c.token_id)


def _known(row: Row[Any]) -> Known:
    known = row.key_id is not None
    token = tokens.from_row(row, row.token_id, _text(row.code_text)) if known else None
    conversation = Conversation(
        bot_number=row.bot_number,
        phone=row.phone,
        token=token,
        **{fact: getattr(row, fact) for fact in _FACTS},
    )
    return Known(row.id, conversation)


def _text(state: OutboxState | None) -> CodeText:
    if state in (None, OutboxState.QUEUED):
        return CodeText.QUEUED
    return CodeText.FAILED if state in OUTBOX_FAILURES else CodeText.SENT
