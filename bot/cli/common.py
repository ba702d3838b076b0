"""Helpers of all commands: settings, the event loop, the database, and one-line errors."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from datetime import datetime
    from typing import Any

    from bot.settings import DatabaseSettings
    from bot.store.engine.database import Database

T = TypeVar("T")
S = TypeVar("S", bound="DatabaseSettings")

_SETTINGS_EXIT_CODE = 2
_DATABASE_TIMEOUT = 60.0
"""Seconds that a query may take: counting millions of conversations is slow."""
_CHECK_URL = "check DATABASE_URL"


def fail(message: str) -> NoReturn:
    """Print one line to standard error and exit with 1."""
    click.echo(f"bot: {message}", err=True)
    sys.exit(1)


def read_settings(kind: type[S]) -> S:
    """Read settings; if some are missing or wrong, print all mistakes and exit with 2."""
    from bot.settings import SettingsError

    try:
        return kind.read()
    except SettingsError as error:
        click.echo(f"{error}\ndocs/configuration.md explains all settings.", err=True)
        sys.exit(_SETTINGS_EXIT_CODE)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop if it is installed, else on asyncio's own loop."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def on_database(
    settings: DatabaseSettings, work: Callable[[Database, datetime], Awaitable[T]]
) -> T:
    """Run `work` with an existing database and the time (UTC), and return its result."""
    if settings.sqlite_file and not settings.sqlite_file.exists():
        fail(f"there is no database {settings.sqlite_file} yet; run: bot migrate, or {_CHECK_URL}")
    with database_errors(settings):
        return run(_on_database(settings, work))


async def _on_database(
    settings: DatabaseSettings, work: Callable[[Database, datetime], Awaitable[T]]
) -> T:
    from bot.services.clock import SystemClock
    from bot.store.engine import migrate
    from bot.store.engine.database import Database

    database = Database(settings.database_url, _DATABASE_TIMEOUT)
    try:
        if not await database.read(migrate.is_current):
            raise migrate.SchemaError
        return await work(database, SystemClock().now())
    finally:
        await database.close()


@contextmanager
def database_errors(settings: DatabaseSettings) -> Iterator[None]:
    """If the database cannot be used, print one line that says what to do, and exit with 1."""
    from sqlalchemy.exc import DBAPIError

    from bot.store.engine.error_messages import explain
    from bot.store.engine.errors import UnavailableError
    from bot.store.engine.migrate import NewerSchemaError, SchemaError

    file = settings.sqlite_file
    if file and not file.parent.is_dir():
        fail(f"there is no folder {file.parent} for the database; {_CHECK_URL}")
    try:
        if file:
            # Before aiosqlite does: if connecting fails, its thread prints a traceback of its own.
            sqlite3.connect(file).close()
        yield
    except SchemaError:
        fail("the database does not have this version's schema; run: bot migrate")
    except NewerSchemaError:
        fail("a newer version of the bot has changed the database; deploy that version")
    except (UnavailableError, OSError, DBAPIError, sqlite3.Error) as error:
        fail(explain(error))
