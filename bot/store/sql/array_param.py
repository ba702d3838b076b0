"""Lists as single parameters, so that a statement is the same for any number of rows.

Written out as `IN (?, ?, …)`, each length would be another statement to compile and, on PostgreSQL,
to plan: compiling anew for each batch was a third of the work per webhook.
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

    def __init__(self, item_type: TypeEngine[Any]) -> None:
        super().__init__()
        self.item_type = item_type

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the dialect's type."""
        on_sqlite = dialect.name == "sqlite"
        return dialect.type_descriptor(String() if on_sqlite else ARRAY(self.item_type))

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> Any:
        """Convert the values, in their order."""
        values = list(value or ())
        return json.dumps(values) if dialect.name == "sqlite" else values


class _Unnest(FunctionElement[Any]):
    """The values of a list as rows, in their order."""

    inherit_cache = True


@compiles(_Unnest, "sqlite")
def _on_sqlite(element: _Unnest, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Unnest, "postgresql")
def _on_postgresql(element: _Unnest, compiler: SQLCompiler, **options: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **options)})"


def array_param(name: str, item_type: TypeEngine[Any]) -> Select[Any]:
    """Select the values of the list parameter `name`, strings or integers."""
    # SQLite names the column `value`; PostgreSQL names it after the table.
    values = _Unnest(bindparam(name, type_=_List(item_type))).table_valued("value", name="value")
    return select(values.c.value)


def locked_elsewhere(column: Column[Any], values: Select[Any]) -> Select[Any]:
    """Lock the rows with certain values in a column; select those locked by another transaction.

    For PostgreSQL only, where rows have locks of their own.
    """
    rows = select(column).where(column.in_(values))
    free = rows.with_for_update(skip_locked=True).cte("free")
    return rows.where(column.not_in(select(free)))
