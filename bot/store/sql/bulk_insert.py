"""Inserts of many rows, alike on SQLite and PostgreSQL, whatever of them is there already.

SQLite's driver takes row after row at little cost, most of which would be SQLAlchemy's: so the rows
are handed to the driver. To PostgreSQL all go as one JSON text, of which it makes the table's rows
in one statement instead of one for each.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from sqlalchemy import JSON, Text, bindparam, cast, column, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Column, Connection, Dialect, Select, Table
    from sqlalchemy.sql.dml import UpdateBase

_Row = dict[str, Any]
_Conflict = Literal["fails", "is passed over", "is updated"]
"""What becomes of a row whose key is there already."""


class _Insertion(NamedTuple):
    """What makes one statement different from another."""

    table: Table
    names: tuple[str, ...]
    conflict: _Conflict
    returning: tuple[Column[Any], ...]


def insert_all(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert rows, which all have the same columns, in the order given."""
    _insert(connection, _Insertion(table, tuple(rows[0]), "fails", ()), rows)


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[_Row], *returning: Column[Any]
) -> list[Any]:
    """Insert the rows whose key is not there yet, and return a column of those, if it is named.

    The unique key decides, never a look before the insert. Give the rows sorted by key: then
    transactions that insert the same keys wait for each other and do not deadlock.
    """
    insertion = _Insertion(table, tuple(rows[0]), "is passed over", returning)
    return _insert(connection, insertion, rows)


def insert_missing_from(
    connection: Connection,
    table: Table,
    rows: Select[Any],
    parameters: Mapping[str, Any],
    *returning: Column[Any],
) -> list[Any]:
    """Insert what is selected and not there yet, as `insert_missing` does."""
    insertion = _Insertion(table, tuple(table.columns.keys()), "is passed over", returning)
    statement = _made(connection.dialect.name, insertion, rows)
    return _run(connection, statement, parameters, returning)


def insert_or_update(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert the rows, or where their primary key is there already, set their other columns."""
    _insert(connection, _Insertion(table, tuple(rows[0]), "is updated", ()), rows)


def _insert(connection: Connection, insertion: _Insertion, rows: Sequence[_Row]) -> list[Any]:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return _insert_each(connection, insertion, rows)
    statement = _made(dialect, insertion, _told(insertion.table, insertion.names))
    told = {"rows": msgspec.json.encode(rows).decode()}
    return _run(connection, statement, told, insertion.returning)


def _insert_each(connection: Connection, insertion: _Insertion, rows: Sequence[_Row]) -> list[Any]:
    if insertion.returning:
        return _run(connection, _made("sqlite", insertion), rows, insertion.returning)
    text, written = _compiled(connection.dialect, insertion)
    connection.exec_driver_sql(text, [tuple(written(row)) for row in rows])
    return []


def _run(
    connection: Connection, statement: UpdateBase, parameters: Any, returning: Sequence[Any]
) -> list[Any]:
    if returning:
        return list(connection.scalars(statement, parameters))
    connection.execute(statement, parameters)
    return []


# Statements are made once each: to make one costs more than to run it.


@cache
def _made(dialect: str, insertion: _Insertion, rows: Select[Any] | None = None) -> UpdateBase:
    table, names, conflict, returning = insertion
    made: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if rows is not None:
        made = made.from_select(names, rows)
    if conflict == "is passed over":
        made = made.on_conflict_do_nothing()
    elif conflict == "is updated":
        keys = table.primary_key.columns
        others = {name: made.excluded[name] for name in names if name not in keys}
        made = made.on_conflict_do_update(index_elements=list(keys), set_=others)
    return made.returning(*returning) if returning else made  # type: ignore[no-any-return]


@cache
def _compiled(dialect: Dialect, insertion: _Insertion) -> tuple[str, Callable[[_Row], list[Any]]]:
    """Make the text for SQLite's driver, and what makes the parameters of a row."""
    compiled = _made(dialect.name, insertion).compile(
        dialect=dialect, column_keys=list(insertion.names)
    )
    processors = [
        (name, insertion.table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
        for name in compiled.positiontup or ()
    ]

    def written(row: _Row) -> list[Any]:
        return [process(row[name]) if process else row[name] for name, process in processors]

    return compiled.string, written


@cache
def _told(table: Table, names: tuple[str, ...]) -> Select[Any]:
    """Select the rows of the JSON text that is the parameter `rows`."""
    like_the_table = literal_column(f"NULL::{table.name}", JSON)
    text = cast(bindparam("rows", type_=Text), JSON)
    rows = func.json_populate_recordset(like_the_table, text).table_valued(*map(column, names))
    return select(rows)
