"""Tokens: issued codes, without the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String, bindparam, select, update

from bot.conversation.state import CodeDelivery, CodeFormat, Token
from bot.conversation.verification import Origin
from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_all
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import (
    OUTBOX_FAILURES,
    OutboxRow,
    OutboxState,
    TokenRow,
    VerificationRow,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row, Select

_TOKENS = TokenRow.__table__
_OUTBOX = OutboxRow.__table__
_VERIFICATIONS = VerificationRow.__table__
_CHANGING = ("resend_after", "guesses", "used_at", "ended_at", "explained")
_FIELDS = (
    *("key_id", "issued_at", "expires_at", "origin", "reply_rule", "letters_index", "channel"),
    *_CHANGING,
)
COLUMNS = tuple(_TOKENS.c[name] for name in ("length", "alphabet", "verification_id", *_FIELDS))
"""The columns that `from_row` reads, besides the id."""
TEXT_STATE = (
    select(_OUTBOX.c.state)
    .where(_OUTBOX.c.token_id == _TOKENS.c.id)
    .order_by(_OUTBOX.c.id.desc())
    .limit(1)
    .scalar_subquery()
    .label("text_state")
)
"""The state of the latest text with a token's code, for `code_delivery`."""
_BY_ID = select(_TOKENS.c.id, *COLUMNS).where(_TOKENS.c.id.in_(array_param("ids", String())))
_VERIFICATION_IDS = select(_TOKENS.c.id, _TOKENS.c.verification_id).where(
    _TOKENS.c.id.in_(array_param("ids", String())), _TOKENS.c.verification_id.is_not(None)
)
_NOT_ENDED = _TOKENS.c.used_at.is_(None) & _TOKENS.c.ended_at.is_(None)
_FOR_VERIFICATIONS: Select[Any] = (
    select(
        _TOKENS.c.id,
        _TOKENS.c.conversation_id,
        *COLUMNS,
        TEXT_STATE,
        _VERIFICATIONS.c.reference,
        _VERIFICATIONS.c.label,
    )
    .outerjoin(
        _VERIFICATIONS,
        (_VERIFICATIONS.c.public_id == _TOKENS.c.verification_id)
        & (_VERIFICATIONS.c.origin == Origin.REFERENCE),
    )
    .where(
        _TOKENS.c.conversation_id.in_(array_param("conversations", BigInteger())),
        _TOKENS.c.verification_id.is_not(None),
        (_TOKENS.c.expires_at > bindparam("now", type_=UtcDateTime)) | _NOT_ENDED,
    )
    .order_by(_TOKENS.c.issued_at, _TOKENS.c.id)
)


def load(connection: Connection, ids: Collection[str]) -> dict[str, Token]:
    """Read tokens by id; the delivery of their texts is not looked up."""
    if not ids:
        return {}
    rows = connection.execute(_BY_ID, {"ids": ids})
    return {row.id: from_row(row, row.id, CodeDelivery.QUEUED) for row in rows}


def verification_ids(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the ids of the verifications that tokens complete, by token id."""
    rows = connection.execute(_VERIFICATION_IDS, {"ids": ids}) if ids else ()
    return {row.id: row.verification_id for row in rows}


def load_for_verifications(
    connection: Connection, conversation_ids: Collection[int], now: datetime
) -> list[tuple[int, Token]]:
    """Read the tokens of verifications that still matter, each with its conversation's row id.

    A token matters until it is used or ended, and until it expires: until then the person may text
    its code again.
    """
    if not conversation_ids:
        return []
    rows = connection.execute(_FOR_VERIFICATIONS, {"conversations": conversation_ids, "now": now})
    return [(row.conversation_id, _token_for_verification(row)) for row in rows]


def _token_for_verification(row: Row[Any]) -> Token:
    text, reference, label = code_delivery(row.text_state), row.reference or "", row.label or ""
    return from_row(row, row.id, text, reference=reference, label=label)


def code_delivery(state: OutboxState | None) -> CodeDelivery:
    """Return how far a code has come, by the state of its latest text."""
    if state in (None, OutboxState.QUEUED):
        return CodeDelivery.QUEUED
    return CodeDelivery.FAILED if state in OUTBOX_FAILURES else CodeDelivery.SENT


def from_row(
    row: Row[Any], token_id: str, text: CodeDelivery, *, reference: str = "", label: str = ""
) -> Token:
    """Make a token from a row with `COLUMNS`; `text` is how far its latest text has come."""
    return Token(
        id=token_id,
        format=CodeFormat(row.length, row.alphabet),
        text=text,
        verification=row.verification_id,
        reference=reference,
        label=label,
        **{field: getattr(row, field) for field in _FIELDS},
    )


def add(connection: Connection, issued: Sequence[tuple[int, Token]]) -> None:
    """Insert new tokens, each with the row id of its conversation."""
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
                | {field: getattr(token, field) for field in _FIELDS}
                for conversation_id, token in issued
            ],
        )


def save(connection: Connection, tokens: Sequence[Token]) -> None:
    """Update the columns of tokens that change."""
    if tokens:
        connection.execute(
            update(_TOKENS).where(_TOKENS.c.id == bindparam("token_id")),
            [
                {"token_id": token.id} | {field: getattr(token, field) for field in _CHANGING}
                for token in tokens
            ],
        )
