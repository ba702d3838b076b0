"""The limits of each phone, one row for texts and one for requests from the web.

The row of the text limits is the phone's lock: only the transaction that holds it decides for the
phone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, exists, func, literal, literal_column, select

from bot.conversation.state import NOTHING_USED, PhoneLimits
from bot.store.sql.array_param import array_param, locked_elsewhere
from bot.store.sql.bulk_insert import insert_missing_from, insert_or_update
from bot.store.tables import PhoneLimitsRow, WebPhoneLimitsRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

TEXT_LIMITS, WEB_LIMITS = PhoneLimitsRow.__table__, WebPhoneLimitsRow.__table__
_FIELD_OF_COLUMN = {
    "wrong_guesses": "wrong_guesses",
    "locks": "locks",
    "locked_until": "locked_until",
    "refused_until": "refused_until",
    "notified_until": "told_until",
    "code_times": "code_times",
    "unknown_reference_times": "unknown_reference_times",
}
_EMPTY_ROWS = array_param("phones", String()).add_columns(
    *(
        literal(getattr(NOTHING_USED, _FIELD_OF_COLUMN[column.name]), column.type)
        for column in TEXT_LIMITS.columns
        if column is not TEXT_LIMITS.c.phone
    )
)


def _lock_rows(table: Table, *, skip_locked: bool = False) -> Select[Any]:
    """Select rows for update in the order of their key, so that transactions do not deadlock."""
    of_phones = table.c.phone.in_(array_param("phones", String()))
    rows = select(table).where(of_phones).order_by(table.c.phone)
    return rows.with_for_update(skip_locked=skip_locked)


_LOCK = {table: _lock_rows(table) for table in (TEXT_LIMITS, WEB_LIMITS)}
_LOCK_FREE = _lock_rows(TEXT_LIMITS, skip_locked=True)
_WEB_LIMITS_LOCKED_ELSEWHERE = locked_elsewhere(WEB_LIMITS.c.phone, array_param("phones", String()))
# The advisory locks of phones without a row. A row that another transaction is inserting is
# invisible, and inserting it too would wait for that transaction.
_NEW_PHONE_LOCK: ColumnElement[int] = literal_column("2119630849")


def _lock_new(phones: Select[Any]) -> Select[Any]:
    """Select the phones that have no row and whose advisory lock this transaction gets."""
    (phone, *_) = phones.selected_columns
    locked = func.pg_try_advisory_xact_lock(_NEW_PHONE_LOCK, func.hashtext(phone))
    return phones.where(~exists().where(TEXT_LIMITS.c.phone == phone), locked)


_LOCK_NEW = _lock_new(array_param("phones", String()))
_NEW_EMPTY_ROWS = _lock_new(_EMPTY_ROWS)


class LockedLimits(NamedTuple):
    """The limits that were locked, and the locked phones (E.164) that have no row yet."""

    limits_of: dict[str, PhoneLimits]
    without_row: set[str]

    @property
    def phones(self) -> set[str]:
        """Return the phones for which no other transaction decides until this one ends."""
        return self.limits_of.keys() | self.without_row


def lock_free(
    connection: Connection, phones: Iterable[str], create_for: Iterable[str] = ()
) -> LockedLimits:
    """Lock and read the limits of those `phones` (E.164) that no other transaction has locked.

    A phone in `create_for` that has no row gets one; other phones get none, so that a refused
    request leaves no row.
    """
    all_phones = sorted({*phones, *create_for})
    if not all_phones:
        return LockedLimits({}, set())
    rows = connection.execute(_LOCK_FREE, {"phones": all_phones})
    found = {row.phone: _limits(row) for row in rows}
    missing = [phone for phone in all_phones if phone not in found]
    created = set(create_for).intersection(missing)
    without_row = set(missing) - created
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        created = _insert_new(connection, created)
        if without_row:
            free = connection.scalars(_LOCK_NEW, {"phones": sorted(without_row)})
            without_row = set(free)
    return LockedLimits(found | dict.fromkeys(created, NOTHING_USED), without_row)


def _insert_new(connection: Connection, phones: set[str]) -> set[str]:
    """Insert rows for phones that no other transaction has locked, and return these phones."""
    if not phones:
        return set()
    new, phone = {"phones": sorted(phones)}, TEXT_LIMITS.c.phone
    return set(insert_missing_from(connection, TEXT_LIMITS, _NEW_EMPTY_ROWS, new, phone))


def web_limits_locked_elsewhere(connection: Connection, phones: Collection[str]) -> set[str]:
    """Lock the web limits of `phones`; return the phones locked by another transaction."""
    if not phones or connection.dialect.name == "sqlite":
        return set()
    return set(connection.scalars(_WEB_LIMITS_LOCKED_ELSEWHERE, {"phones": sorted(phones)}))


def lock(
    connection: Connection, phones: Iterable[str], table: Table = TEXT_LIMITS
) -> dict[str, PhoneLimits]:
    """Lock and read the limits of `phones` (E.164), waiting for other transactions."""
    ordered = sorted(set(phones))
    if not ordered:
        return {}
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        insert_missing_from(connection, table, _EMPTY_ROWS, {"phones": ordered})
    rows = connection.execute(_LOCK[table], {"phones": ordered})
    return dict.fromkeys(ordered, NOTHING_USED) | {row.phone: _limits(row) for row in rows}


def read(connection: Connection, phone: str, table: Table = TEXT_LIMITS) -> PhoneLimits:
    """Read a phone's limits without a lock; those of an unknown phone are empty."""
    row = connection.execute(select(table).where(table.c.phone == phone)).first()
    return _limits(row) if row else NOTHING_USED


def save(
    connection: Connection, limits_of: Mapping[str, PhoneLimits], table: Table = TEXT_LIMITS
) -> None:
    """Write changed limits, all in one statement."""
    if limits_of:
        rows = [_row(phone, limits) for phone, limits in limits_of.items()]
        insert_or_update(connection, table, rows)


def _row(phone: str, limits: PhoneLimits) -> dict[str, Any]:
    values = {column: getattr(limits, field) for column, field in _FIELD_OF_COLUMN.items()}
    return {"phone": phone} | values


def _limits(row: Row[Any]) -> PhoneLimits:
    return PhoneLimits(
        **{field: getattr(row, column) for column, field in _FIELD_OF_COLUMN.items()}
    )
