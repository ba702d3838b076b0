"""Inserts that a row of the same key does not make fail, alike on SQLite and PostgreSQL.

The unique key decides, never a look before the insert.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Column, Connection, Select, Table
    from sqlalchemy.sql.dml import ReturningInsert

Insert = sqlite.Insert | postgresql.Insert


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *returning: Column[Any]
) -> list[Any]:
    """Insert the rows whose key is not there yet, and return columns of those.

    Give the rows sorted by key: then transactions that insert the same keys wait for each other
    and do not deadlock.
    """
    statement = _missing(connection.dialect.name, table)
    # Rows are handed over as parameters: written into the statement, each number of rows would
    # be another statement to compile, which costs more than to run it.
    if not returning:
        connection.execute(statement, rows)
        return []
    return list(connection.scalars(statement.returning(*returning), rows))


def insert_missing_from(
    connection: Connection,
    table: Table,
    rows: Select[Any],
    parameters: Mapping[str, Any],
    *returning: Column[Any],
) -> list[Any]:
    """Insert what is selected and not there yet, as `insert_missing` does, all in one statement."""
    statement = _missing_from(connection.dialect.name, table, rows, returning)
    if not returning:
        connection.execute(statement, parameters)
        return []
    return list(connection.scalars(statement, parameters))


def insert_or_update(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows, or where their primary key is there already, set their other columns."""
    connection.execute(_replacing(connection.dialect.name, table), rows)


@cache
def _missing(dialect: str, table: Table) -> Insert:
    return _into(dialect, table).on_conflict_do_nothing()


@cache
def _missing_from(
    dialect: str, table: Table, rows: Select[Any], returning: tuple[Column[Any], ...]
) -> Insert | ReturningInsert[Any]:
    selected = _missing(dialect, table).from_select(list(table.columns), rows)
    return selected.returning(*returning) if returning else selected


@cache
def _replacing(dialect: str, table: Table) -> Insert:
    insertion = _into(dialect, table)
    keys = table.primary_key.columns
    others = {name: new for name, new in insertion.excluded.items() if name not in keys}
    return insertion.on_conflict_do_update(index_elements=list(keys), set_=others)


def _into(dialect: str, table: Table) -> Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
