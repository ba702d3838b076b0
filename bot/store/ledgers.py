"""The ledgers of each phone: what it has spent by text, and what others have spent for it.

The row of the first is the lock: who holds it decides for the phone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from bot.conversation.state import Ledger
from bot.store.database import insert_missing
from bot.store.models import LedgerRow, WebLedgerRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from sqlalchemy import Connection, Row, Table

BY_TEXT, BY_OTHERS = LedgerRow.__table__, WebLedgerRow.__table__
_FACTS = (
    "wrong_guesses",
    "locks",
    "locked_until",
    "refused_until",
    "told_until",
    "code_times",
)


def lock(connection: Connection, phones: Iterable[str], kind: Table = BY_TEXT) -> dict[str, Ledger]:
    """Take and read the ledgers of `phones` (E.164), making those that are missing.

    Rows are made and locked in the order of their key, so that two transactions that want the
    same phones wait for each other and do not deadlock.
    """
    ordered = sorted(set(phones))
    missing = [
        {"phone": phone, "wrong_guesses": 0, "locks": 0, "code_times": ()} for phone in ordered
    ]
    if not missing:
        return {}
    insert_missing(connection, kind, missing)
    rows = connection.execute(
        select(kind).where(kind.c.phone.in_(ordered)).order_by(kind.c.phone).with_for_update()
    )
    return {row.phone: _ledger(row) for row in rows}


def hold(connection: Connection, phones: Iterable[str]) -> None:
    """Take the ledgers of `phones` (E.164) that there are; who is refused then leaves none."""
    ordered = sorted(set(phones))
    known = BY_TEXT.c.phone.in_(ordered)
    connection.execute(
        select(BY_TEXT.c.phone).where(known).order_by(BY_TEXT.c.phone).with_for_update()
    )


def read(connection: Connection, phone: str, kind: Table = BY_TEXT) -> Ledger:
    """Read a phone's ledger, without the lock; an unknown phone has spent nothing."""
    row = connection.execute(select(kind).where(kind.c.phone == phone)).first()
    return _ledger(row) if row else Ledger()


def save(connection: Connection, ledgers: Mapping[str, Ledger], kind: Table = BY_TEXT) -> None:
    """Write changed ledgers back, all in one statement."""
    if ledgers:
        connection.execute(
            update(kind).where(kind.c.phone == bindparam("of")),
            [
                {"of": phone} | {fact: getattr(ledger, fact) for fact in _FACTS}
                for phone, ledger in ledgers.items()
            ],
        )


def _ledger(row: Row[Any]) -> Ledger:
    return Ledger(**{fact: getattr(row, fact) for fact in _FACTS})
