"""Lists handed over as one parameter each, so that a statement is the same for any number of rows.

Written out as `IN (?, ?, …)`, every length would be another statement to compile and, on
PostgreSQL, to plan.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, TypeDecorator, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Dialect, Select
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine


class _List(TypeDecorator[Any]):
    """An array on PostgreSQL, a JSON text on SQLite."""

    impl = String
    cache_ok = True

    def __init__(self, kind: TypeEngine[Any]) -> None:
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Name the type of the dialect."""
        on_sqlite = dialect.name == "sqlite"
        return dialect.type_descriptor(String() if on_sqlite else ARRAY(self.kind))

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> Any:
        """Hand the values over in their order."""
        return json.dumps(list(value or ())) if dialect.name == "sqlite" else list(value or ())


class _Each(FunctionElement[Any]):
    """The values of a list, a row each, in their order."""

    inherit_cache = True


@compiles(_Each, "sqlite")
def _on_sqlite(element: _Each, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Each, "postgresql")
def _on_postgresql(element: _Each, compiler: SQLCompiler, **options: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **options)})"


def array_param(name: str, kind: TypeEngine[Any]) -> Select[Any]:
    """Select the values, strings or whole numbers, of the list that is the parameter `name`."""
    # SQLite calls the column `value`; PostgreSQL calls it after its table.
    each = _Each(bindparam(name, type_=_List(kind))).table_valued("value", name="value")
    return select(each.c.value)


def locked_elsewhere(column: Column[Any], values: Select[Any]) -> Select[Any]:
    """Take the rows that have one of the values in a column; select those held elsewhere.

    For PostgreSQL, where rows are locked one by one.
    """
    rows = select(column).where(column.in_(values))
    free = rows.with_for_update(skip_locked=True).cte("free")
    return rows.where(column.not_in(select(free)))
