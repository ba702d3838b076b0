"""Inserts of many rows, which fail on, skip or update rows that exist already.

SQLite's driver is given the rows directly, since SQLAlchemy's work for each row costs more than the
insert: a webhook went from 117 to 105 µs in batches of 32. Most rows go 16 to a statement, since
each execution has a cost of its own: the server's CPU time for a webhook went down by 7 %.
PostgreSQL is given all rows as one JSON text in one statement: a webhook went from 230 to 156 µs in
batches of 64.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from sqlalchemy import JSON, Text, bindparam, cast, column, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Column, Connection, Dialect, Select, Table
    from sqlalchemy.sql.dml import UpdateBase

_Row = dict[str, Any]
_OnConflict = Literal["fail", "skip", "update"]
"""How a row whose key exists already is treated."""
_ROWS_PER_STATEMENT = 16


class _Insertion(NamedTuple):
    """The parts in which insert statements differ."""

    table: Table
    names: tuple[str, ...]
    on_conflict: _OnConflict
    returning: tuple[Column[Any], ...]


def insert_all(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert rows, which must all have the same columns, in the order given."""
    _insert(connection, _Insertion(table, tuple(rows[0]), "fail", ()), rows)


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[_Row], *returning: Column[Any]
) -> list[Any]:
    """Insert the rows whose key does not exist yet; return the column `returning` of those rows.

    The unique key decides, not a query before the insert. The rows must be sorted by key, so that
    transactions that insert the same keys do not deadlock.
    """
    insertion = _Insertion(table, tuple(rows[0]), "skip", returning)
    return _insert(connection, insertion, rows)


def insert_missing_from(
    connection: Connection,
    table: Table,
    rows: Select[Any],
    parameters: Mapping[str, Any],
    *returning: Column[Any],
) -> list[Any]:
    """Insert the selected rows that do not exist yet, as `insert_missing` does."""
    insertion = _Insertion(table, tuple(table.columns.keys()), "skip", returning)
    statement = _statement(connection.dialect.name, insertion, rows)
    return _run(connection, statement, parameters, returning)


def insert_or_update(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert rows; of those whose primary key exists, update the other columns."""
    _insert(connection, _Insertion(table, tuple(rows[0]), "update", ()), rows)


def _insert(connection: Connection, insertion: _Insertion, rows: Sequence[_Row]) -> list[Any]:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return _insert_on_sqlite(connection, insertion, rows)
    statement = _statement(dialect, insertion, _rows_of_json(insertion.table, insertion.names))
    parameters = {"rows": msgspec.json.encode(rows).decode()}
    return _run(connection, statement, parameters, insertion.returning)


def _insert_on_sqlite(
    connection: Connection, insertion: _Insertion, rows: Sequence[_Row]
) -> list[Any]:
    if insertion.returning:
        return _run(connection, _statement("sqlite", insertion), rows, insertion.returning)
    whole = len(rows) - len(rows) % _ROWS_PER_STATEMENT
    _insert_rows(connection, insertion, rows[:whole], _ROWS_PER_STATEMENT)
    _insert_rows(connection, insertion, rows[whole:], 1)
    return []


def _insert_rows(
    connection: Connection, insertion: _Insertion, rows: Sequence[_Row], at_once: int
) -> None:
    sql, parameters_of = _compiled(connection.dialect, insertion, at_once)
    chunks = (rows[start : start + at_once] for start in range(0, len(rows), at_once))
    parameters = [tuple(chain.from_iterable(map(parameters_of, chunk))) for chunk in chunks]
    if parameters:
        connection.exec_driver_sql(sql, parameters)


def _run(
    connection: Connection, statement: UpdateBase, parameters: Any, returning: Sequence[Any]
) -> list[Any]:
    if returning:
        return list(connection.scalars(statement, parameters))
    connection.execute(statement, parameters)
    return []


# Statements are built once: building one costs more than running it.


@cache
def _statement(dialect: str, insertion: _Insertion, rows: Select[Any] | None = None) -> UpdateBase:
    table, names, on_conflict, returning = insertion
    statement: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if rows is not None:
        statement = statement.from_select(names, rows)
    if on_conflict == "skip":
        statement = statement.on_conflict_do_nothing()
    elif on_conflict == "update":
        keys = table.primary_key.columns
        others = {name: statement.excluded[name] for name in names if name not in keys}
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_=others)
    return statement.returning(*returning) if returning else statement  # type: ignore[no-any-return]


@cache
def _compiled(
    dialect: Dialect, insertion: _Insertion, rows: int
) -> tuple[str, Callable[[_Row], list[Any]]]:
    """Return the SQL for SQLite's driver, with so many rows, and what makes a row's parameters."""
    compiled = _statement(dialect.name, insertion).compile(
        dialect=dialect, column_keys=list(insertion.names)
    )
    processors = [
        (name, insertion.table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
        for name in compiled.positiontup or ()
    ]

    def parameters_of(row: _Row) -> list[Any]:
        return [process(row[name]) if process else row[name] for name, process in processors]

    one_row = f"({', '.join('?' * len(processors))})"
    return compiled.string.replace(one_row, ", ".join([one_row] * rows), 1), parameters_of


@cache
def _rows_of_json(table: Table, names: tuple[str, ...]) -> Select[Any]:
    """Select the rows in the JSON text of the parameter `rows`."""
    row_type = literal_column(f"NULL::{table.name}", JSON)
    json = cast(bindparam("rows", type_=Text), JSON)
    rows = func.json_populate_recordset(row_type, json).table_valued(*map(column, names))
    return select(rows)
