"""Verifications: what apps asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, update

from bot.conversation.verification import Origin, Status, Verification
from bot.store.sql.bulk_insert import insert_missing
from bot.store.tables import ConversationRow, OutboxRow, TokenRow, VerificationRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

_VERIFICATIONS = VerificationRow.__table__
_CONVERSATIONS = ConversationRow.__table__
_TOKENS = TokenRow.__table__
_OUTBOX = OutboxRow.__table__
_PENDING = _VERIFICATIONS.c.status == Status.PENDING
_CHANGING = ("phone", "bot_number", "status", "reason", "expires_at", "ended_at")
_FORM_LOCK = 0x7E87F024
"""Any number that nothing else in this database locks by."""
_FACTS = (
    *("origin", "reference", "created_at", "session", "asked_from", "test"),
    *_CHANGING,
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which verifications to list: the latest first, those before the one named `before`."""

    status: Status | None = None
    phone: str | None = None
    reference: str | None = None
    before: str | None = None
    limit: int = 50


def add(connection: Connection, verifications: Sequence[Verification]) -> set[str]:
    """Store new ones, and return the ids of those whose reference nobody else has."""
    if not verifications:
        return set()
    rows = [
        {"name": verification.id, "details": dict(verification.metadata)}
        | {fact: getattr(verification, fact) for fact in _FACTS}
        for verification in verifications
    ]
    return set(insert_missing(connection, _VERIFICATIONS, rows, _VERIFICATIONS.c.name))


def load(connection: Connection, ids: Iterable[str]) -> dict[str, Verification]:
    """Read verifications by id; no other process changes them until the transaction ends."""
    return _held(connection, "name", ids)


def by_reference(connection: Connection, references: Iterable[str]) -> dict[str, Verification]:
    """Read those that a person begins by texting their reference, by it; held like `load`'s."""
    found = _held(connection, "reference", references, by_text=True)
    return {known.reference: known for known in found.values() if known.reference}


def _held(
    connection: Connection, column: str, values: Iterable[str], *, by_text: bool = False
) -> dict[str, Verification]:
    ordered = sorted(set(values))
    if not ordered:
        return {}
    query = select(_VERIFICATIONS).where(_VERIFICATIONS.c[column].in_(ordered))
    if by_text:
        query = query.where(_VERIFICATIONS.c.origin == Origin.REFERENCE)
    # In the order of their row, so that two transactions wait for each other and do not deadlock.
    rows = connection.execute(query.order_by(_VERIFICATIONS.c.id).with_for_update())
    return {row.name: _verification(row) for row in rows}


def save(connection: Connection, verifications: Sequence[Verification]) -> None:
    """Write back what changes in a verification."""
    if verifications:
        connection.execute(
            update(_VERIFICATIONS).where(_VERIFICATIONS.c.name == bindparam("of")),
            [
                {"of": known.id} | {fact: getattr(known, fact) for fact in _CHANGING}
                for known in verifications
            ],
        )


def find(connection: Connection, ids: Collection[str]) -> dict[str, Verification]:
    """Look at verifications by id, without a lock."""
    if not ids:
        return {}
    rows = connection.execute(select(_VERIFICATIONS).where(_VERIFICATIONS.c.name.in_(ids)))
    return {row.name: _verification(row) for row in rows}


def of_session(connection: Connection, session: str) -> Verification | None:
    """Look at the latest of a web form's session."""
    row = connection.execute(
        select(_VERIFICATIONS)
        .where(_VERIFICATIONS.c.session == session)
        .order_by(_VERIFICATIONS.c.id.desc())
        .limit(1)
    ).first()
    return _verification(row) if row else None


def page(connection: Connection, which: Filter, now: datetime) -> list[Verification]:
    """List verifications, the latest first."""
    query = select(_VERIFICATIONS).order_by(_VERIFICATIONS.c.id.desc()).limit(which.limit)
    if which.phone is not None:
        query = query.where(_VERIFICATIONS.c.phone == which.phone)
    if which.reference is not None:
        query = query.where(_VERIFICATIONS.c.reference == which.reference)
    if which.before is not None:
        before = select(_VERIFICATIONS.c.id).where(_VERIFICATIONS.c.name == which.before)
        query = query.where(_VERIFICATIONS.c.id < before.scalar_subquery())
    if which.status is None:
        return [_verification(row) for row in connection.execute(query)]
    # One query for each way to have a status: for both in one, a database may look through all.
    ways = _ways_to_be(which.status, now)
    # By id, since one may go from the first way to the second between the two.
    found = {row.id: row for way in ways for row in connection.execute(query.where(way))}
    latest = sorted(found, reverse=True)[: which.limit]
    return [_verification(found[row_id]) for row_id in latest]


def counts(connection: Connection, now: datetime) -> dict[Status, int]:
    """Count verifications by their status at `now` (UTC)."""
    by_status = select(_VERIFICATIONS.c.status, func.count()).group_by(_VERIFICATIONS.c.status)
    found = {row[0]: row[1] for row in connection.execute(by_status)}
    over = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
    late = connection.scalar(select(func.count()).where(over)) or 0
    found[Status.EXPIRED] = found.get(Status.EXPIRED, 0) + late
    found[Status.PENDING] = found.get(Status.PENDING, 0) - late
    return found


def overdue(connection: Connection, now: datetime, limit: int) -> list[Verification]:
    """Read those that wait although their time is over; without a lock."""
    over = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
    rows = connection.execute(
        select(_VERIFICATIONS).where(over).order_by(_VERIFICATIONS.c.expires_at).limit(limit)
    )
    return [_verification(row) for row in rows]


def take_form(connection: Connection) -> bool:
    """Let no other process count what the web form has asked for until the transaction ends.

    Tells whether that was free; nobody waits. SQLite has one writer anyway.
    """
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_FORM_LOCK))))


def asked_at_form(
    connection: Connection, since: datetime, asked_from: str | None = None
) -> tuple[int, datetime | None]:
    """Count what was asked for at the web form since a moment, and tell when the first was.

    Of one network only, where `asked_from` names it.
    """
    asked = (_VERIFICATIONS.c.origin == Origin.FORM) & (_VERIFICATIONS.c.created_at > since)
    if asked_from is not None:
        asked &= _VERIFICATIONS.c.asked_from == asked_from
    count, first = connection.execute(
        select(func.count(), func.min(_VERIFICATIONS.c.created_at)).where(asked)
    ).one()
    return count, first


def sent_again_at_form(connection: Connection, since: datetime) -> int:
    """Count the texts beyond the first for what was asked for at the web form since a moment."""
    texts = (
        select(func.count() - func.count(_OUTBOX.c.token_id.distinct()))
        .select_from(_VERIFICATIONS)
        .join(
            _CONVERSATIONS,
            (_CONVERSATIONS.c.phone == _VERIFICATIONS.c.phone)
            & (_CONVERSATIONS.c.bot_number == _VERIFICATIONS.c.bot_number),
        )
        .join(
            _TOKENS,
            (_TOKENS.c.conversation_id == _CONVERSATIONS.c.id)
            & (_TOKENS.c.verification_id == _VERIFICATIONS.c.name),
        )
        .join(_OUTBOX, _OUTBOX.c.token_id == _TOKENS.c.id)
        .where(_VERIFICATIONS.c.origin == Origin.FORM, _VERIFICATIONS.c.created_at > since)
    )
    return connection.scalar(texts) or 0


def _ways_to_be(status: Status, now: datetime) -> list[ColumnElement[bool]]:
    match status:
        case Status.PENDING:
            return [_PENDING & (_VERIFICATIONS.c.expires_at > now)]
        case Status.EXPIRED:
            over = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
            return [over, _VERIFICATIONS.c.status == status]
        case _:
            return [_VERIFICATIONS.c.status == status]


def _verification(row: Row[Any]) -> Verification:
    return Verification(
        id=row.name, metadata=row.details, **{fact: getattr(row, fact) for fact in _FACTS}
    )
