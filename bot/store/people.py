"""People: what belongs to each phone at all of the bot's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from bot.conversation.person import NOTHING_KNOWN, Person
from bot.store.sql.bulk_insert import insert_or_update
from bot.store.tables import PersonRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Row

_PEOPLE = PersonRow.__table__
_FIELDS = (
    *("opted_out", "opted_out_at", "opted_in_at", "opt_out_wording"),
    *("verified_at", "verified_alone_at", "not_me_at", "not_mes"),
    *("cancelled_at", "own_code_at"),
)
COLUMNS = tuple(_PEOPLE.c[name] for name in _FIELDS)
"""The columns that `from_row` reads."""
_ALL_COUNTS = select(
    func.count(_PEOPLE.c.verified_at), func.count().filter(_PEOPLE.c.opted_out)
).select_from(_PEOPLE)


def from_row(row: Row[Any]) -> Person:
    """Make a person from a row with `COLUMNS`; all are NULL if nothing is kept."""
    if row.opted_out is None:
        return NOTHING_KNOWN
    return Person(**{field: getattr(row, field) for field in _FIELDS})


def read(connection: Connection, phone: str) -> Person:
    """Read the person of a phone (E.164) without a lock."""
    row = connection.execute(select(*COLUMNS).where(_PEOPLE.c.phone == phone)).first()
    return from_row(row) if row else NOTHING_KNOWN


def save(connection: Connection, people: Mapping[str, Person]) -> None:
    """Write changed persons, by phone (E.164), all in one statement.

    The caller must hold the locks of the phones' limits.
    """
    if people:
        rows = [
            {"phone": phone} | {field: getattr(person, field) for field in _FIELDS}
            for phone, person in people.items()
        ]
        insert_or_update(connection, _PEOPLE, rows)


def counts(connection: Connection) -> tuple[int, int]:
    """Count the people who are verified, and those who have opted out."""
    verified, opted_out = connection.execute(_ALL_COUNTS).one()
    return verified, opted_out
