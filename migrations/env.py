"""Alembic's environment: runs migrations on a given connection, or on one to DATABASE_URL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from alembic import context
from sqlalchemy import Enum

from bot.store.engine import migrate
from bot.store.sql.column_types import DateTimeList, UtcDateTime
from bot.store.tables import Base

if TYPE_CHECKING:
    from sqlalchemy import Connection


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Render our own types as database types, so that a migration does not depend on our code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, DateTimeList):
        return "sa.JSON()"
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    return False


def run(connection: Connection) -> None:
    """Run the migrations on a connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite changes a table by rebuilding it.
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        compare_server_default=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_from_command_line() -> None:
    """Run the migrations for the `alembic` command, which gives no connection."""
    from bot.settings import DatabaseSettings  # noqa: PLC0415 - the bot itself always gives a connection

    await migrate.on_connection(DatabaseSettings().database_url, run)


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_from_command_line())
