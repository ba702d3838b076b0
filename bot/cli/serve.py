"""`bot serve` and `bot work`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING

import click

from bot.cli.common import database_errors, fail, read_settings, run

if TYPE_CHECKING:
    from bot.settings import Settings

_GC_THRESHOLDS = (10_000, 10, 100)
"""Higher than Python's defaults. A full collection traverses the 300,000 objects of the imported
modules, which are never freed, and blocks the event loop for 0.1 s. With the defaults, it happens
several times during the start, and again every few thousand webhooks."""
_MAX_FILES = 65_536
"""Open files, and so connections, that the process asks for. Many systems allow 1,024 unless a
process asks for more, so that a thousand idle strangers would keep Telnyx from connecting."""


@click.command()
@click.option("--web-only", is_flag=True, help="Leave sending and cleaning up to `bot work`.")
def serve(*, web_only: bool) -> None:
    """Answer webhooks and requests, send texts, clean up."""
    _run_bot(with_web=True, with_work=not web_only)


@click.command()
def work() -> None:
    """Send texts and clean up, without the web server."""
    _run_bot(with_web=False, with_work=True)


def _run_bot(*, with_web: bool, with_work: bool) -> None:
    gc.set_threshold(*_GC_THRESHOLDS)
    _allow_many_connections()
    from bot import logs
    from bot.app import CrashedError
    from bot.settings import Settings

    settings = read_settings(Settings)
    logs.configure(settings.log_level, settings.log_format)
    with database_errors(settings):
        try:
            run(_run_until_signal(settings, with_web=with_web, with_work=with_work))
        except CrashedError as error:
            fail(str(error))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            fail(f"cannot listen on {address} ({_reason(error)}); check HOST and PORT")


async def _run_until_signal(settings: Settings, *, with_web: bool, with_work: bool) -> None:
    import structlog

    from bot import app
    from bot.conversation.guessing import shown
    from bot.services.clock import SystemClock
    from bot.web.app import WEBHOOK_PATH

    log = structlog.get_logger("bot")
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    if _has_ephemeral_disk(settings):
        log.warning(
            "the SQLite file is on a disk that this host deletes at each deploy",
            advice="add a PostgreSQL database and set DATABASE_URL",
        )
    if settings.weakness:
        log.warning(
            "the codes are short enough to be guessed",
            chance_per_day=shown(settings.weakness),
            advice="set a larger TOKEN_LENGTH; bot security prints the chances",
        )
    async with app.run_bot(settings, SystemClock(), with_web=with_web, with_work=with_work) as bot:
        if bot.url:
            log.info("listening", url=bot.url, webhook=WEBHOOK_PATH)
        else:
            log.info("running without a web server")
        await signalled.wait()
        log.info("stopping when all requests and texts in progress are done")


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets this process do."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    allowed, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if highest == resource.RLIM_INFINITY else min(_MAX_FILES, highest)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))


def _reason(error: OSError) -> str:
    """Return the operating system's text for an error, without what asyncio adds to it."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror)


def _has_ephemeral_disk(settings: Settings) -> bool:
    """Return whether SQLite's file is on a Heroku or Railway disk that a deploy deletes."""
    file = settings.sqlite_file
    if file is None:
        return False
    volume = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if volume and file.resolve().is_relative_to(volume):
        return False
    return "DYNO" in os.environ or any(name.startswith("RAILWAY_") for name in os.environ)
