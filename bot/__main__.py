"""The front door: `bot serve`, `work`, `migrate`, `status`, `keys`, `events`, `demo`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from bot import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from datetime import datetime
    from typing import Any

    from bot.settings import DatabaseSettings, Settings
    from bot.store.engine.database import Database

T = TypeVar("T")
S = TypeVar("S", bound="DatabaseSettings")

_BAD_SETTINGS = 2
_CHECK_URL = "check DATABASE_URL"
_RARELY = (10_000, 10, 100)
"""When garbage is collected. What is imported stays, 300 000 objects: looking through them all
takes a tenth of a second, in which nobody is answered, and by Python's own measure it is done
several times while the bot starts and again every few thousand webhooks."""
_TIMEOUT = 60.0
"""Seconds that an operator waits: counting millions of people takes some."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="Textproof")
def main() -> None:
    """Textproof: a phone proves itself by text.

    New here? `bot demo` shows it all, without an account.
    """


@main.command()
@click.option("--web-only", is_flag=True, help="Leave sending and housekeeping to `bot work`.")
def serve(*, web_only: bool) -> None:
    """Answer Telnyx's webhooks, send texts, keep house."""
    _run_bot(with_web=True, with_work=not web_only)


@main.command()
def work() -> None:
    """Send texts and keep house, without the web server."""
    _run_bot(with_web=False, with_work=True)


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from bot.settings import DatabaseSettings
    from bot.store.engine import migrate

    settings = _read(DatabaseSettings)
    with _database_faults_told(settings):
        _run(migrate.migrate(settings.database_url))
    click.echo(f"The database has the newest schema: {settings.database_url!r}")


@main.command()
@click.argument("phone", required=False)
def status(phone: str | None) -> None:
    """Count people and texts by state, or tell where one PHONE stands."""
    from bot.conversation.numbers import to_e164
    from bot.settings import DatabaseSettings

    settings = _read(DatabaseSettings)
    try:
        number = phone and to_e164(phone, settings.country_code)
    except ValueError as error:
        _fail(f"PHONE: {error}; write it like +13125550001")

    async def tell(database: Database, now: datetime) -> str:
        from bot.services import status as told

        if number is None:
            return await database.read(told.overview, now)
        return await database.read(told.of_phone, number, now)

    click.echo(_on_database(settings, tell))


@main.group(invoke_without_command=True)
@click.pass_context
def events(context: click.Context) -> None:
    """Look after what your app is told: list, replay, resume.

    Without a command, it is `bot events list`.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_events)


@events.command("list")
def list_events() -> None:
    """Count events by state, and name those that were given up."""
    from bot.settings import DatabaseSettings

    async def tell(database: Database, _now: datetime) -> str:
        from bot.services import status as told

        return await database.read(told.of_events)

    click.echo(_on_database(_read(DatabaseSettings), tell))


@events.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that were given up.")
def replay(*, names: tuple[str, ...], every: bool) -> None:
    """Deliver events that were given up after all: those of each ID, or --all."""
    from bot.settings import DatabaseSettings

    if every == bool(names):
        _fail("say which events: bot events replay ID, or --all; bot events lists them")

    async def put_back(database: Database, now: datetime) -> int:
        from bot.store.queues import app_events

        return await database.write(app_events.replay, None if every else names, now)

    count = _on_database(_read(DatabaseSettings), put_back)
    if count < len(set(names)):
        _fail(f"put back {count} of {len(set(names))}; bot events lists those that can be")
    click.echo(f"Put back: {count}. They are delivered while bot serve or bot work runs.")


@events.command()
def resume() -> None:
    """Deliver events again after your app has answered 410 (gone)."""
    from bot.settings import DatabaseSettings

    async def enable(database: Database, _now: datetime) -> int:
        from bot.store.queues import app_events

        return await database.write(app_events.enable, None)

    if _on_database(_read(DatabaseSettings), enable):
        click.echo("Resumed. What waits is delivered while bot serve or bot work runs.")
    else:
        click.echo("Nothing was paused.")


@main.group()
def keys() -> None:
    """Make, list and revoke the keys that your apps call the API with."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["verifications:read", "verifications:write"]),
    help="What the key allows; give it again for more. Without it: all.",
)
@click.option(
    "--per-minute",
    type=click.IntRange(1, 1_000_000),
    default=600,
    show_default=True,
    help="How many requests a minute the key may make.",
)
def create(name: str, scopes: tuple[str, ...], per_minute: int) -> None:
    """Make a key for the app called NAME, and show it this once."""
    from bot.settings import DatabaseSettings
    from bot.store.api_keys import MAX_TITLE_LENGTH, Scope
    from bot.store.api_keys import create as make

    settings, title = _read(DatabaseSettings), name.strip()
    if not title or len(title) > MAX_TITLE_LENGTH or not title.isprintable():
        _fail(f"NAME: write 1 to {MAX_TITLE_LENGTH} printable characters, like 'web shop'")
    wanted = frozenset(map(Scope, scopes or Scope))

    async def create(database: Database, now: datetime) -> str:
        return await database.write(make, title, wanted, per_minute, now)

    click.echo(_on_database(settings, create))
    click.echo("Keep this key in your app's secrets: it is never shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, without their secrets."""
    from bot.services import status as told
    from bot.settings import DatabaseSettings
    from bot.store.api_keys import listed

    known = _on_database(_read(DatabaseSettings), lambda database, _: database.read(listed))
    click.echo(told.of_keys(known) or "There are no keys yet; make one: bot keys create NAME")


@keys.command()
@click.argument("id_", metavar="ID")
def revoke(id_: str) -> None:
    """Revoke the key with this ID: it is refused from the next request on."""
    from bot.settings import DatabaseSettings
    from bot.store.api_keys import revoke as end

    settings = _read(DatabaseSettings)
    if not _on_database(settings, lambda database, now: database.write(end, id_, now)):
        _fail("no key that holds has this ID; to see the IDs, run: bot keys list")
    click.echo("The key is revoked: it is refused from now on.")


def _on_database(
    settings: DatabaseSettings, act: Callable[[Database, datetime], Awaitable[T]]
) -> T:
    """Do something with a database that is there already, at a time (UTC), and close it."""
    if settings.sqlite_file and not settings.sqlite_file.exists():
        _fail(f"there is no database {settings.sqlite_file} yet; run: bot migrate, or {_CHECK_URL}")
    with _database_faults_told(settings):
        return _run(_opened(settings, act))


async def _opened(
    settings: DatabaseSettings, act: Callable[[Database, datetime], Awaitable[T]]
) -> T:
    from bot.app import SchemaError
    from bot.services.clock import SystemClock
    from bot.store.engine import migrate
    from bot.store.engine.database import Database

    database = Database(settings.database_url, _TIMEOUT)
    try:
        if not await database.read(migrate.is_current):
            raise SchemaError
        return await act(database, SystemClock().now())
    finally:
        await database.close()


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Where the page is; usually 8025.")
@click.option("--once", is_flag=True, help="Play one conversation, and end.")
@click.option(
    "--play",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play a saved transcript, and end: 1 where it turns out otherwise.",
)
def demo(*, port: int | None, once: bool, file: Path | None) -> None:
    """Try it on this machine: phones in the browser, and no account."""
    from bot import logs
    from bot.simulator import demo as offered
    from bot.simulator.phones.page.server import PortError

    logs.configure("warning", "console")
    if file:
        try:
            script = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            _fail(f"{file} is no story: it is not a text in UTF-8")
        sys.exit(_run(offered.play(script)))
    if once:
        sys.exit(_run(offered.play(offered.first_story())))
    try:
        _run(offered.run(port))
    except PortError as error:
        _fail(f"{error}; try another --port")


def _run_bot(*, with_web: bool, with_work: bool) -> None:
    gc.set_threshold(*_RARELY)
    from bot import logs
    from bot.settings import Settings

    settings = _read(Settings)
    logs.configure(settings.log_level, settings.log_format)
    with _database_faults_told(settings):
        try:
            well = _run(_until_told_to_stop(settings, with_web=with_web, with_work=with_work))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            _fail(f"cannot listen on {address} ({_why(error)}); check HOST and PORT")
    if not well:
        _fail("a part of the bot has died, see the log; it is to be started again")


def _why(error: OSError) -> str:
    """Say what the system says of an error, without what asyncio adds."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror)


@contextmanager
def _database_faults_told(settings: DatabaseSettings) -> Iterator[None]:
    """End with one line that says what to do where the database cannot serve."""
    from sqlalchemy.exc import DBAPIError

    from bot.app import SchemaError
    from bot.store.engine.error_messages import explain
    from bot.store.engine.errors import UnavailableError
    from bot.store.engine.migrate import NewerSchemaError

    file = settings.sqlite_file
    if file and not file.parent.is_dir():
        _fail(f"there is no folder {file.parent} for the database; {_CHECK_URL}")
    try:
        if file:
            # Before aiosqlite does: its thread outlives a failure and complains on its own.
            sqlite3.connect(file).close()
        yield
    except SchemaError:
        _fail("the database does not have this version's schema; run: bot migrate")
    except NewerSchemaError:
        _fail("a newer version of the bot has changed the database; deploy that version")
    except (UnavailableError, OSError, DBAPIError, sqlite3.Error) as error:
        _fail(explain(error))


async def _until_told_to_stop(settings: Settings, *, with_web: bool, with_work: bool) -> bool:
    """Run until a signal comes, or a loop ends by itself; tell whether all went well."""
    import structlog

    from bot import app
    from bot.services.clock import SystemClock
    from bot.web.app import WEBHOOK_PATH

    log = structlog.get_logger("bot")
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    if _disk_is_thrown_away(settings):
        log.warning(
            "SQLite on a disk that this host throws away at each deploy",
            advice="add a PostgreSQL database and set DATABASE_URL",
        )
    async with app.running(
        settings, SystemClock(), ended, with_web=with_web, with_work=with_work
    ) as running:
        if running.url:
            log.info("listening", url=running.url, webhook=WEBHOOK_PATH)
        else:
            log.info("working", note="without the web")
        await ended.wait()
        log.info("stopping, once what is on its way has arrived")
        return not running.died.is_set()


def _disk_is_thrown_away(settings: Settings) -> bool:
    """Tell whether the host is one of those whose disk lasts until the next deploy."""
    file = settings.sqlite_file
    if file is None:
        return False
    volume = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if volume and file.resolve().is_relative_to(volume):
        return False
    return "DYNO" in os.environ or any(name.startswith("RAILWAY_") for name in os.environ)


def _read(kind: type[S]) -> S:
    from bot.settings import SettingsError

    try:
        return kind.read()
    except SettingsError as error:
        click.echo(f"{error}\ndocs/configuration.md explains all settings.", err=True)
        sys.exit(_BAD_SETTINGS)


def _run(main_task: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main_task)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main_task)


def _fail(what: str) -> NoReturn:
    click.echo(f"bot: {what}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main(prog_name="bot")
