"""Verifications: requests of apps and of the web form, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, update

from bot.conversation.verification import Origin, Reason, Status, Verification
from bot.store.sql.bulk_insert import insert_missing
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import VerificationRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

_VERIFICATIONS = VerificationRow.__table__
_PENDING = _VERIFICATIONS.c.status == Status.PENDING
_REVOKE = (
    update(_VERIFICATIONS)
    .where(
        _VERIFICATIONS.c.phone == bindparam("of_phone"),
        _VERIFICATIONS.c.status == Status.VERIFIED,
        _VERIFICATIONS.c.ended_at > bindparam("since", type_=UtcDateTime),
    )
    .values(
        status=Status.REVOKED,
        reason=Reason.NOT_ME,
        revoked_at=bindparam("now", type_=UtcDateTime),
    )
    .returning(_VERIFICATIONS.c.id, _VERIFICATIONS.c.public_id)
)
_CHANGING = ("phone", "bot_number", "status", "reason", "expires_at", "ended_at", "code_length")
_FORM_LOCK = 0x7E87F024
"""The key of the form's advisory lock; no other lock of this database may have it."""
_FIELDS = (
    *("origin", "reference", "created_at", "session", "test", "metadata"),
    *("complete", "letters_index", "revoked_at", "label"),
    *_CHANGING,
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which verifications to list, the newest first: those before the one with the id `before`."""

    status: Status | None = None
    phone: str | None = None
    reference: str | None = None
    before: str | None = None
    limit: int = 50


def add(connection: Connection, verifications: Sequence[Verification]) -> set[str]:
    """Insert verifications, except those whose reference is taken; return the ids of the others."""
    if not verifications:
        return set()
    rows = [
        {field: getattr(verification, field) for field in _FIELDS}
        | {"public_id": verification.id, "metadata": dict(verification.metadata)}
        for verification in verifications
    ]
    return set(insert_missing(connection, _VERIFICATIONS, rows, _VERIFICATIONS.c.public_id))


def load(connection: Connection, ids: Iterable[str]) -> dict[str, Verification]:
    """Lock and read verifications by id."""
    return _lock(connection, "public_id", ids)


def by_reference(connection: Connection, references: Iterable[str]) -> dict[str, Verification]:
    """Lock and read the verifications that begin when a person texts their reference, by it."""
    found = _lock(connection, "reference", references, by_text=True)
    return {each.reference: each for each in found.values() if each.reference}


def _lock(
    connection: Connection, column: str, values: Iterable[str], *, by_text: bool = False
) -> dict[str, Verification]:
    ordered = sorted(set(values))
    if not ordered:
        return {}
    query = select(_VERIFICATIONS).where(_VERIFICATIONS.c[column].in_(ordered))
    if by_text:
        query = query.where(_VERIFICATIONS.c.origin == Origin.REFERENCE)
    # In the order of their rows, so that two transactions do not deadlock.
    rows = connection.execute(query.order_by(_VERIFICATIONS.c.id).with_for_update())
    return {row.public_id: _verification(row) for row in rows}


def save(connection: Connection, verifications: Sequence[Verification]) -> None:
    """Update the columns of verifications that change."""
    if verifications:
        connection.execute(
            update(_VERIFICATIONS).where(_VERIFICATIONS.c.public_id == bindparam("key")),
            [
                {"key": changed.id} | {field: getattr(changed, field) for field in _CHANGING}
                for changed in verifications
            ],
        )


def revoke(connection: Connection, phone: str, since: datetime, now: datetime) -> list[str]:
    """Revoke the successes of a phone (E.164) after `since` (UTC); return their ids in order.

    The caller must hold the lock of the phone's limits.
    """
    values = {"of_phone": phone, "since": since, "now": now}
    return [row.public_id for row in sorted(connection.execute(_REVOKE, values))]


def find(connection: Connection, ids: Collection[str]) -> dict[str, Verification]:
    """Read verifications by id, without a lock."""
    if not ids:
        return {}
    rows = connection.execute(select(_VERIFICATIONS).where(_VERIFICATIONS.c.public_id.in_(ids)))
    return {row.public_id: _verification(row) for row in rows}


def latest_of_session(connection: Connection, session: str) -> Verification | None:
    """Read the latest verification of a web form's session, without a lock."""
    row = connection.execute(
        select(_VERIFICATIONS)
        .where(_VERIFICATIONS.c.session == session)
        .order_by(_VERIFICATIONS.c.id.desc())
        .limit(1)
    ).first()
    return _verification(row) if row else None


def page(connection: Connection, only: Filter, now: datetime) -> list[Verification]:
    """Read a page of verifications, the newest first, by their status at `now` (UTC)."""
    query = select(_VERIFICATIONS).order_by(_VERIFICATIONS.c.id.desc()).limit(only.limit)
    if only.phone is not None:
        query = query.where(_VERIFICATIONS.c.phone == only.phone)
    if only.reference is not None:
        # A reference that may still be texted is shown to nobody, so a filter must not find it.
        shown = (_VERIFICATIONS.c.origin != Origin.REFERENCE) | ~_pending_at(now)
        query = query.where(_VERIFICATIONS.c.reference == only.reference, shown)
    if only.before is not None:
        before = select(_VERIFICATIONS.c.id).where(_VERIFICATIONS.c.public_id == only.before)
        query = query.where(_VERIFICATIONS.c.id < before.scalar_subquery())
    if only.status is None:
        return [_verification(row) for row in connection.execute(query)]
    # One query for each condition: with both in one, a database may read the whole table.
    conditions = _conditions_for(only.status, now)
    # By row id: a verification that is ended between the two queries matches both.
    found = {
        row.id: row
        for condition in conditions
        for row in connection.execute(query.where(condition))
    }
    latest = sorted(found, reverse=True)[: only.limit]
    return [_verification(found[row_id]) for row_id in latest]


def counts(connection: Connection, now: datetime) -> dict[Status, int]:
    """Count verifications by their status at `now` (UTC)."""
    by_status = select(_VERIFICATIONS.c.status, func.count()).group_by(_VERIFICATIONS.c.status)
    found = {row[0]: row[1] for row in connection.execute(by_status)}
    expired = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
    overdue_count = connection.scalar(select(func.count()).where(expired)) or 0
    found[Status.EXPIRED] = found.get(Status.EXPIRED, 0) + overdue_count
    found[Status.PENDING] = found.get(Status.PENDING, 0) - overdue_count
    return found


def overdue(connection: Connection, now: datetime, limit: int) -> list[Verification]:
    """Read up to `limit` pending verifications that have expired, without a lock."""
    expired = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
    rows = connection.execute(
        select(_VERIFICATIONS).where(expired).order_by(_VERIFICATIONS.c.expires_at).limit(limit)
    )
    return [_verification(row) for row in rows]


def try_lock_form(connection: Connection) -> bool:
    """Try to lock the form's budget until the transaction ends; return whether that succeeded.

    It never waits. SQLite has only one writer, and needs no lock.
    """
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_FORM_LOCK))))


def _pending_at(now: datetime) -> ColumnElement[bool]:
    return _PENDING & (_VERIFICATIONS.c.expires_at > now)


def _conditions_for(status: Status, now: datetime) -> list[ColumnElement[bool]]:
    """Return conditions; a verification with this status meets one of them."""
    match status:
        case Status.PENDING:
            return [_pending_at(now)]
        case Status.EXPIRED:
            expired = _PENDING & (_VERIFICATIONS.c.expires_at <= now)
            return [expired, _VERIFICATIONS.c.status == status]
        case _:
            return [_VERIFICATIONS.c.status == status]


def _verification(row: Row[Any]) -> Verification:
    return Verification(id=row.public_id, **{field: getattr(row, field) for field in _FIELDS})
