"""The front door: `bot serve`, `work`, `migrate`, `status`, `demo`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from bot import __version__

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from bot.settings import DatabaseSettings, Settings

T = TypeVar("T")
S = TypeVar("S", bound="DatabaseSettings")

_BAD_SETTINGS = 2


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
    from sqlalchemy.exc import DBAPIError

    from bot.settings import DatabaseSettings
    from bot.store import schema

    settings = _read(DatabaseSettings)
    try:
        _run(schema.migrate(settings.database_url))
    except (DBAPIError, OSError) as error:
        _fail(f"the database cannot be reached or changed ({type(error).__name__}); {_CHECK_URL}")
    click.echo("The database has the newest schema.")


@main.command()
@click.argument("phone", required=False)
def status(phone: str | None) -> None:
    """Count people and texts by state, or tell where one PHONE stands."""
    from bot.conversation.numbers import to_e164
    from bot.services import status as report
    from bot.services.clock import SystemClock
    from bot.settings import DatabaseSettings
    from bot.store import schema
    from bot.store.database import Database, UnavailableError

    settings = _read(DatabaseSettings)

    async def read() -> str:
        database = Database(settings.database_url)
        try:
            if not await database.read(schema.is_current):
                _fail("the database has not this version's schema; run: bot migrate")
            if phone is None:
                return await database.read(report.overview)
            number = to_e164(phone, settings.country_code)
            return await database.read(report.of_phone, number, SystemClock().now())
        finally:
            await database.close()

    try:
        click.echo(_run(read()))
    except ValueError as error:
        _fail(f"PHONE: {error}; write it like +13125550001")
    except UnavailableError as error:
        _fail(f"the database cannot be reached ({error}); {_CHECK_URL}")


@main.command()
@click.option("--once", is_flag=True, help="End after the played conversation.")
def demo(*, once: bool) -> None:
    """See it work: no account, no configuration, nothing but this machine."""
    from bot import logs
    from bot.simulator import terminal

    logs.configure("warning", "console")
    try:
        sys.exit(_run(terminal.demo(once=once)))
    except KeyboardInterrupt:
        click.echo()


_CHECK_URL = "check DATABASE_URL"


def _run_bot(*, with_web: bool, with_work: bool) -> None:
    from bot import logs
    from bot.app import SchemaError
    from bot.settings import Settings
    from bot.store.database import UnavailableError

    settings = _read(Settings)
    logs.configure(settings.log_level, settings.log_format)
    try:
        _run(_until_told_to_stop(settings, with_web=with_web, with_work=with_work))
    except SchemaError as error:
        _fail(str(error))
    except UnavailableError as error:
        _fail(f"the database cannot be reached ({error}); {_CHECK_URL}")
    except OSError as error:
        _fail(f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); check PORT")


async def _until_told_to_stop(settings: Settings, *, with_web: bool, with_work: bool) -> None:
    import structlog

    from bot import app
    from bot.services.clock import SystemClock
    from bot.web.routes import WEBHOOK_PATH

    log = structlog.get_logger("bot")
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    if _disk_is_thrown_away(settings):
        log.warning(
            "SQLite on a disk that this host throws away at each deploy",
            advice="add a PostgreSQL database and set DATABASE_URL",
        )
    async with app.running(
        settings, SystemClock(), with_web=with_web, with_work=with_work
    ) as running:
        log.info("running", url=running.url, webhook=running.url and WEBHOOK_PATH)
        await told.wait()
        log.info("stopping", note="what is on its way is let arrive")


def _disk_is_thrown_away(settings: Settings) -> bool:
    """Tell whether the host is one of those whose disk lasts until the next deploy."""
    if settings.database_url.get_backend_name() != "sqlite":
        return False
    volume = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if volume and os.path.realpath(settings.database_url.database or "").startswith(volume):
        return False
    return "DYNO" in os.environ or any(name.startswith("RAILWAY_") for name in os.environ)


def _read(kind: type[S]) -> S:
    from bot.settings import SettingsError

    try:
        return kind.read()
    except SettingsError as error:
        click.echo(f"{error}\nThe README says more of each.", err=True)
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
