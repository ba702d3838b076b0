"""The schema's version, and migration to the newest one, with Alembic.

The folder `migrations/` is beside the package in a checkout and inside it in a wheel. Alembic is
configured here, since a wheel has no pyproject.toml.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bot.store.engine import postgresql
from bot.store.engine.errors import is_locked, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class SchemaError(Exception):
    """The database does not have this version's schema: run `bot migrate`."""


class NewerSchemaError(Exception):
    """The database was migrated by a newer version of the bot."""


_ADVISORY_LOCK = 0x7465787470726F66
"""The key of the advisory lock: any number, the same in every process."""
_SQLITE_TIMEOUT = 60.0  # seconds
_RETRY_INTERVAL = 0.05  # seconds
_PACKAGE = Path(__file__).parents[2]


async def migrate(url: URL) -> None:
    """Migrate the database to the newest schema.

    Processes that migrate at the same time wait for each other. Raise NewerSchemaError,
    UnavailableError if no connection can be opened, or the database's own error.
    """
    await on_connection(url, _upgrade)


def _upgrade(connection: Connection) -> None:
    try:
        command.upgrade(config(connection), "head")
    except CommandError as error:
        raise NewerSchemaError from error


def is_current(connection: Connection) -> bool:
    """Return whether the database has this version's schema."""
    return MigrationContext.configure(connection).get_current_revision() == _newest()


async def on_connection(url: URL, work: Callable[[Connection], None]) -> None:
    """Run `work` in a transaction, in only one process at a time, and commit it."""
    on_sqlite = url.get_backend_name() == "sqlite"
    # Without timeouts and without the other engines' listeners: a migration may take long.
    engine = _sqlite_engine(url) if on_sqlite else postgresql.engine(url, {}, poolclass=NullPool)
    try:
        async with open_connection(engine) as connection:
            if on_sqlite:
                # The mode is stored in the file; two new connections that set it would collide.
                await _set_wal(connection)
                # Foreign keys off, before the transaction: rebuilding a table drops it, which would
                # delete the rows that refer to it.
                await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


def _sqlite_engine(url: URL) -> AsyncEngine:
    return create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": _SQLITE_TIMEOUT},
    )


@cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(config()).get_current_head()


async def _set_wal(connection: AsyncConnection) -> None:
    """Set the journal mode; SQLite does not wait for locks here, so retry until it succeeds."""
    async with asyncio.timeout(_SQLITE_TIMEOUT):
        while True:
            try:
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            except OperationalError as error:
                if not is_locked(error):
                    raise
                await asyncio.sleep(_RETRY_INTERVAL)
            else:
                return


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, with a connection for the migrations to run on."""
    in_wheel, in_checkout = _PACKAGE / "migrations", _PACKAGE.parent / "migrations"
    alembic_config = Config()
    alembic_config.set_main_option(
        "script_location", str(in_wheel if in_wheel.is_dir() else in_checkout)
    )
    alembic_config.attributes["connection"] = connection
    return alembic_config
