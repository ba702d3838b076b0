"""Tokens: issued codes, without the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String, bindparam, select, update

from bot.conversation.state import CodeDelivery, CodeFormat, Token
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_all
from bot.store.tables import OUTBOX_FAILURES, OutboxRow, OutboxState, TokenRow, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row, Select

_TOKENS = TokenRow.__table__
_OUTBOX = OutboxRow.__table__
_CHANGING = ("resend_after", "guesses", "used_at", "ended_at")
_FACTS = ("key_id", "issued_at", "expires_at", "origin", *_CHANGING)
COLUMNS = tuple(_TOKENS.c[name] for name in ("length", "alphabet", "verification_id", *_FACTS))
"""What `from_row` wants of a token, its id aside."""
TEXT_STATE = (
    select(_OUTBOX.c.state)
    .where(_OUTBOX.c.token_id == _TOKENS.c.id)
    .order_by(_OUTBOX.c.id.desc())
    .limit(1)
    .scalar_subquery()
    .label("text_state")
)
"""The state of the latest text with a token's code, which `code_text` reads."""
_BY_ID = select(_TOKENS.c.id, *COLUMNS).where(_TOKENS.c.id.in_(array_param("ids", String())))
_VERIFICATIONS = select(_TOKENS.c.id, _TOKENS.c.verification_id).where(
    _TOKENS.c.id.in_(array_param("ids", String())), _TOKENS.c.verification_id.is_not(None)
)
_OPEN_STILL = _TOKENS.c.used_at.is_(None) & _TOKENS.c.ended_at.is_(None)
_ASKED: Select[Any] = (
    select(_TOKENS.c.id, _TOKENS.c.conversation_id, *COLUMNS, TEXT_STATE)
    .where(
        _TOKENS.c.conversation_id.in_(array_param("conversations", BigInteger())),
        _TOKENS.c.verification_id.is_not(None),
        (_TOKENS.c.expires_at > bindparam("now", type_=UtcDateTime)) | _OPEN_STILL,
    )
    .order_by(_TOKENS.c.issued_at, _TOKENS.c.id)
)


def load(connection: Connection, ids: Collection[str]) -> dict[str, Token]:
    """Read tokens by id; how far their texts have come is not looked up."""
    if not ids:
        return {}
    rows = connection.execute(_BY_ID, {"ids": ids})
    return {row.id: from_row(row, row.id, CodeDelivery.QUEUED) for row in rows}


def verifications(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Name by token the verifications that tokens complete; the other tokens are left out."""
    rows = connection.execute(_VERIFICATIONS, {"ids": ids}) if ids else ()
    return {row.id: row.verification_id for row in rows}


def asked(
    connection: Connection, conversation_ids: Collection[int], now: datetime
) -> list[tuple[int, Token]]:
    """Read the tokens of verifications that matter still, each with its conversation's row id.

    Those matter that have not been ended, and those whose code somebody may text again.
    """
    if not conversation_ids:
        return []
    rows = connection.execute(_ASKED, {"conversations": conversation_ids, "now": now})
    return [(row.conversation_id, from_row(row, row.id, code_text(row.text_state))) for row in rows]


def code_text(state: OutboxState | None) -> CodeDelivery:
    """Tell how far a code has come by the state of its latest text."""
    if state in (None, OutboxState.QUEUED):
        return CodeDelivery.QUEUED
    return CodeDelivery.FAILED if state in OUTBOX_FAILURES else CodeDelivery.SENT


def from_row(row: Row[Any], token_id: str, text: CodeDelivery) -> Token:
    """Make a token of a row that has `COLUMNS`; `text` is how far its latest text has come."""
    return Token(
        id=token_id,
        format=CodeFormat(row.length, row.alphabet),
        text=text,
        verification=row.verification_id,
        **{fact: getattr(row, fact) for fact in _FACTS},
    )


def add(connection: Connection, issued: Sequence[tuple[int, Token]]) -> None:
    """Store new tokens, each with the row id of its conversation."""
    if issued:
        insert_all(
            connection,
            _TOKENS,
            [
                {
                    "id": token.id,
                    "conversation_id": conversation_id,
                    "length": token.format.length,
                    "alphabet": token.format.alphabet,
                    "verification_id": token.verification,
                }
                | {fact: getattr(token, fact) for fact in _FACTS}
                for conversation_id, token in issued
            ],
        )


def save(connection: Connection, tokens: Sequence[Token]) -> None:
    """Write back what changes in a token: its guesses, and how it ended."""
    if tokens:
        connection.execute(
            update(_TOKENS).where(_TOKENS.c.id == bindparam("of")),
            [
                {"of": token.id} | {fact: getattr(token, fact) for fact in _CHANGING}
                for token in tokens
            ],
        )
