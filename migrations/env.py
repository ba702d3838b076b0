"""How Alembic reaches the database: on a connection it is given, or on DATABASE_URL's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from alembic import context
from sqlalchemy import Enum

from bot.store.engine import migrate
from bot.store.tables import Base, Times, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy import Connection


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own types as what they are in the database: a migration must outlive the code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Times):
        return "sa.JSON()"
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    return False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite changes a table by making it anew.
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        compare_server_default=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_for_a_developer() -> None:
    """Serve the `alembic` command, which comes without a connection."""
    from bot.settings import DatabaseSettings  # noqa: PLC0415 - the bot itself never comes here

    await migrate.on_connection(DatabaseSettings().database_url, run)


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_for_a_developer())
