"""The ledgers of each phone: what it has spent by text, and what others have spent for it.

The row of the first is the lock: who holds it decides for the phone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, exists, func, literal, literal_column, select

from bot.conversation.state import NOTHING_USED, PhoneLimits
from bot.store.sql.array_param import array_param, locked_elsewhere
from bot.store.sql.bulk_insert import insert_missing_from, insert_or_update
from bot.store.tables import PhoneLimitsRow, WebPhoneLimitsRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

TEXT_LIMITS, WEB_LIMITS = PhoneLimitsRow.__table__, WebPhoneLimitsRow.__table__
_FACTS = (
    "wrong_guesses",
    "locks",
    "locked_until",
    "refused_until",
    "told_until",
    "code_times",
)
_NEW_OF = array_param("phones", String()).add_columns(
    *(
        literal(getattr(NOTHING_USED, column.name), column.type)
        for column in TEXT_LIMITS.columns
        if column is not TEXT_LIMITS.c.phone
    )
)


def _held(kind: Table, *, skip_locked: bool = False) -> Select[Any]:
    """Take rows in the order of their key: who wants the same ones waits, without a deadlock."""
    wanted = kind.c.phone.in_(array_param("phones", String()))
    rows = select(kind).where(wanted).order_by(kind.c.phone)
    return rows.with_for_update(skip_locked=skip_locked)


_HELD = {kind: _held(kind) for kind in (TEXT_LIMITS, WEB_LIMITS)}
_FREE = _held(TEXT_LIMITS, skip_locked=True)
_WEB_LIMITS_LOCKED_ELSEWHERE = locked_elsewhere(WEB_LIMITS.c.phone, array_param("phones", String()))
# A row that another transaction is making cannot be seen, and to make it too would be to wait.
_BEGINNING: ColumnElement[int] = literal_column("2119630849")


def _unless_begun(phones: Select[Any]) -> Select[Any]:
    """Select of phones those that have no row, and that nobody else begins now."""
    (phone, *_) = phones.selected_columns
    mine = func.pg_try_advisory_xact_lock(_BEGINNING, func.hashtext(phone))
    return phones.where(~exists().where(TEXT_LIMITS.c.phone == phone), mine)


_NEW = _unless_begun(array_param("phones", String()))
_NEW_ROWS_OF = _unless_begun(_NEW_OF)


class LockedLimits(NamedTuple):
    """The ledgers that were free to be taken, and the phones (E.164) that have none yet."""

    limits_of: dict[str, PhoneLimits]
    without: set[str]

    @property
    def phones(self) -> set[str]:
        """Return the phones for which nobody else decides until the transaction ends."""
        return self.limits_of.keys() | self.without


def lock_free(
    connection: Connection, phones: Iterable[str], making: Iterable[str] = ()
) -> LockedLimits:
    """Take and read the ledgers of `phones` (E.164) that nobody else holds, without waiting.

    A phone of `making` that has no ledger gets one; the others that are free have none after
    either, so that who is refused leaves nothing.
    """
    wanted = sorted({*phones, *making})
    if not wanted:
        return LockedLimits({}, set())
    rows = connection.execute(_FREE, {"phones": wanted})
    found = {row.phone: _limits(row) for row in rows}
    missing = [phone for phone in wanted if phone not in found]
    made = set(making).intersection(missing)
    without = set(missing) - made
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        made = _begin(connection, made)
        without = set(connection.scalars(_NEW, {"phones": sorted(without)})) if without else set()
    return LockedLimits(found | dict.fromkeys(made, NOTHING_USED), without)


def _begin(connection: Connection, phones: set[str]) -> set[str]:
    """Make the rows of phones that nobody else makes, and name these."""
    if not phones:
        return set()
    new = {"phones": sorted(phones)}
    return set(insert_missing_from(connection, TEXT_LIMITS, _NEW_ROWS_OF, new, TEXT_LIMITS.c.phone))


def web_limits_locked_elsewhere(connection: Connection, phones: Collection[str]) -> set[str]:
    """Take the ledgers of what others have spent for `phones`, and name those held elsewhere."""
    if not phones or connection.dialect.name == "sqlite":
        return set()
    return set(connection.scalars(_WEB_LIMITS_LOCKED_ELSEWHERE, {"phones": sorted(phones)}))


def lock(
    connection: Connection, phones: Iterable[str], kind: Table = TEXT_LIMITS
) -> dict[str, PhoneLimits]:
    """Take and read the ledgers of `phones` (E.164); an unknown phone has spent nothing."""
    ordered = sorted(set(phones))
    if not ordered:
        return {}
    _make(connection, ordered, kind)
    rows = connection.execute(_HELD[kind], {"phones": ordered})
    return dict.fromkeys(ordered, NOTHING_USED) | {row.phone: _limits(row) for row in rows}


def _make(connection: Connection, ordered: Sequence[str], kind: Table) -> None:
    """Make the rows that are to be taken; on SQLite the transaction itself is the lock."""
    if connection.dialect.name != "sqlite":
        insert_missing_from(connection, kind, _NEW_OF, {"phones": ordered})


def read(connection: Connection, phone: str, kind: Table = TEXT_LIMITS) -> PhoneLimits:
    """Read a phone's ledger, without the lock; an unknown phone has spent nothing."""
    row = connection.execute(select(kind).where(kind.c.phone == phone)).first()
    return _limits(row) if row else NOTHING_USED


def save(
    connection: Connection, limits_of: Mapping[str, PhoneLimits], kind: Table = TEXT_LIMITS
) -> None:
    """Write changed ledgers back, all in one statement."""
    if limits_of:
        insert_or_update(connection, kind, [_row(*spent) for spent in limits_of.items()])


def _row(phone: str, limits: PhoneLimits) -> dict[str, Any]:
    return {"phone": phone} | {fact: getattr(limits, fact) for fact in _FACTS}


def _limits(row: Row[Any]) -> PhoneLimits:
    return PhoneLimits(**{fact: getattr(row, fact) for fact in _FACTS})
