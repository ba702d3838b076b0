"""The ledgers of each phone: what it has spent by text, and what others have spent for it.

The row of the first is the lock: who holds it decides for the phone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, exists, func, literal, literal_column, select

from bot.conversation.state import UNSPENT, Ledger
from bot.store.inserts import insert_missing_from, insert_or_update
from bot.store.lists import held_elsewhere, listed
from bot.store.models import LedgerRow, WebLedgerRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

BY_TEXT, BY_OTHERS = LedgerRow.__table__, WebLedgerRow.__table__
_FACTS = (
    "wrong_guesses",
    "locks",
    "locked_until",
    "refused_until",
    "told_until",
    "code_times",
)
_NEW_OF = listed("phones", String()).add_columns(
    *(
        literal(getattr(UNSPENT, column.name), column.type)
        for column in BY_TEXT.columns
        if column is not BY_TEXT.c.phone
    )
)


def _held(kind: Table, *, skip_locked: bool = False) -> Select[Any]:
    """Take rows in the order of their key: who wants the same ones waits, without a deadlock."""
    wanted = kind.c.phone.in_(listed("phones", String()))
    rows = select(kind).where(wanted).order_by(kind.c.phone)
    return rows.with_for_update(skip_locked=skip_locked)


_HELD = {kind: _held(kind) for kind in (BY_TEXT, BY_OTHERS)}
_FREE = _held(BY_TEXT, skip_locked=True)
_OTHERS_HELD = held_elsewhere(BY_OTHERS.c.phone, listed("phones", String()))
# A row that another transaction is making cannot be seen, and to make it too would be to wait.
_BEGINNING: ColumnElement[int] = literal_column("2119630849")


def _unless_begun(phones: Select[Any]) -> Select[Any]:
    """Select of phones those that have no row, and that nobody else begins now."""
    (phone, *_) = phones.selected_columns
    mine = func.pg_try_advisory_xact_lock(_BEGINNING, func.hashtext(phone))
    return phones.where(~exists().where(BY_TEXT.c.phone == phone), mine)


_NEW = _unless_begun(listed("phones", String()))
_NEW_ROWS_OF = _unless_begun(_NEW_OF)


class Taken(NamedTuple):
    """The ledgers that were free to be taken, and the phones (E.164) that have none yet."""

    ledgers: dict[str, Ledger]
    without: set[str]

    @property
    def phones(self) -> set[str]:
        """Return the phones for which nobody else decides until the transaction ends."""
        return self.ledgers.keys() | self.without


def take_free(connection: Connection, phones: Iterable[str], making: Iterable[str] = ()) -> Taken:
    """Take and read the ledgers of `phones` (E.164) that nobody else holds, without waiting.

    A phone of `making` that has no ledger gets one; the others that are free have none after
    either, so that who is refused leaves nothing.
    """
    wanted = sorted({*phones, *making})
    if not wanted:
        return Taken({}, set())
    rows = connection.execute(_FREE, {"phones": wanted})
    found = {row.phone: _ledger(row) for row in rows}
    missing = [phone for phone in wanted if phone not in found]
    made = set(making).intersection(missing)
    without = set(missing) - made
    if connection.dialect.name != "sqlite":  # there, the transaction itself is the lock
        made = _begin(connection, made)
        without = set(connection.scalars(_NEW, {"phones": sorted(without)})) if without else set()
    return Taken(found | dict.fromkeys(made, UNSPENT), without)


def _begin(connection: Connection, phones: set[str]) -> set[str]:
    """Make the rows of phones that nobody else makes, and name these."""
    if not phones:
        return set()
    new = {"phones": sorted(phones)}
    return set(insert_missing_from(connection, BY_TEXT, _NEW_ROWS_OF, new, BY_TEXT.c.phone))


def others_held(connection: Connection, phones: Collection[str]) -> set[str]:
    """Take the ledgers of what others have spent for `phones`, and name those held elsewhere."""
    if not phones or connection.dialect.name == "sqlite":
        return set()
    return set(connection.scalars(_OTHERS_HELD, {"phones": sorted(phones)}))


def lock(connection: Connection, phones: Iterable[str], kind: Table = BY_TEXT) -> dict[str, Ledger]:
    """Take and read the ledgers of `phones` (E.164); an unknown phone has spent nothing."""
    ordered = sorted(set(phones))
    if not ordered:
        return {}
    _make(connection, ordered, kind)
    rows = connection.execute(_HELD[kind], {"phones": ordered})
    return dict.fromkeys(ordered, UNSPENT) | {row.phone: _ledger(row) for row in rows}


def _make(connection: Connection, ordered: Sequence[str], kind: Table) -> None:
    """Make the rows that are to be taken; on SQLite the transaction itself is the lock."""
    if connection.dialect.name != "sqlite":
        insert_missing_from(connection, kind, _NEW_OF, {"phones": ordered})


def read(connection: Connection, phone: str, kind: Table = BY_TEXT) -> Ledger:
    """Read a phone's ledger, without the lock; an unknown phone has spent nothing."""
    row = connection.execute(select(kind).where(kind.c.phone == phone)).first()
    return _ledger(row) if row else UNSPENT


def save(connection: Connection, ledgers: Mapping[str, Ledger], kind: Table = BY_TEXT) -> None:
    """Write changed ledgers back, all in one statement."""
    if ledgers:
        insert_or_update(connection, kind, [_row(*spent) for spent in ledgers.items()])


def _row(phone: str, ledger: Ledger) -> dict[str, Any]:
    return {"phone": phone} | {fact: getattr(ledger, fact) for fact in _FACTS}


def _ledger(row: Row[Any]) -> Ledger:
    return Ledger(**{fact: getattr(row, fact) for fact in _FACTS})
