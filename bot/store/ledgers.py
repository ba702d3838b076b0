"""The ledgers of each phone: what it has spent by text, and what others have spent for it.

The row of the first is the lock: who holds it decides for the phone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String, literal, select

from bot.conversation.state import UNSPENT, Ledger
from bot.store.inserts import insert_missing_from, insert_or_update
from bot.store.lists import listed
from bot.store.models import LedgerRow, WebLedgerRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Row, Select, Table

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


def _held(kind: Table) -> Select[Any]:
    """Take rows in the order of their key: who wants the same ones waits, without a deadlock."""
    wanted = kind.c.phone.in_(listed("phones", String()))
    return select(kind).where(wanted).order_by(kind.c.phone).with_for_update()


_HELD = {kind: _held(kind) for kind in (BY_TEXT, BY_OTHERS)}


def lock(connection: Connection, phones: Iterable[str], kind: Table = BY_TEXT) -> dict[str, Ledger]:
    """Take and read the ledgers of `phones` (E.164); an unknown phone has spent nothing."""
    ordered = sorted(set(phones))
    if not ordered:
        return {}
    _make(connection, ordered, kind)
    rows = connection.execute(_HELD[kind], {"phones": ordered})
    return dict.fromkeys(ordered, UNSPENT) | {row.phone: _ledger(row) for row in rows}


def hold(connection: Connection, phones: Iterable[str], making: Iterable[str] = ()) -> None:
    """Take the ledgers of `phones` (E.164) that there are; who is refused then leaves none.

    With them those of phones that get one anyway, `making` what is missing: it is made before any
    is taken, as `lock` does it.
    """
    made = sorted(set(making))
    if made:
        _make(connection, made, BY_TEXT)
    connection.execute(_HELD[BY_TEXT], {"phones": sorted({*phones, *made})})


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
