"""`bot demo`: phones in the browser and in the terminal, or a played story."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from bot.simulator import phone_status
from bot.simulator.clock import StoppedClock, TravelClock
from bot.simulator.phones import terminal
from bot.simulator.phones.page import server
from bot.simulator.sandbox import BOT_NUMBER, PHONE, open_sandbox
from bot.simulator.stories.player import Player, StoryError, settings_of, start_time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    from bot.simulator.sandbox import Sandbox

_CURL_EXAMPLE = f"""\
  curl -H "Authorization: Bearer $TEXTPROOF_KEY" -H 'Content-Type: application/json' \\
    -d '{{"to": "{PHONE}"}}' $TEXTPROOF_URL/v1/verifications"""
"""Requests a verification of the first phone."""


def first_story() -> str:
    """Return the story of one complete conversation."""
    return (resources.files("bot.simulator.stories") / "first.story").read_text(encoding="utf-8")


async def play(script: str) -> int:
    """Play a story and print it; return the exit code, 1 if it does not go as written."""
    try:
        clock, settings = StoppedClock(start_time_of(script)), settings_of(script)
        async with _new_sandbox(clock, **settings) as sandbox:
            sandbox.telnyx.journal.watchers.append(terminal.Printer())
            await Player(sandbox).play(script)
    except ValidationError as error:
        names = ", ".join(str(mistake["loc"][0]).upper() for mistake in error.errors())
        click.secho(f"\nThe story has a wrong value for {names}.", fg="red", err=True)
        return 1
    except (StoryError, ConnectionError) as error:
        click.secho(f"\n{terminal.sanitize(str(error))}", fg="red", err=True)
        return 1
    return 0


async def run(port: int | None) -> None:
    """Serve phones in the browser and in the terminal until SIGTERM, SIGINT or /quit.

    Raise PortError if the port is not available.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with (
        _new_sandbox(TravelClock(), with_app=True, web_form=True) as sandbox,
        server.serve_page(sandbox, port) as url,
    ):
        await _run_until_first(sandbox.ready(), stopped.wait())
        click.echo(f"Open  {url}  and text VERIFY to the bot, {BOT_NUMBER}.")
        click.echo(f"Open  {sandbox.form_url}  for the web form.")
        click.echo("Call the API as your app would, as docs/api.md shows, with")
        click.echo(f"  export TEXTPROOF_URL={sandbox.bot.url} TEXTPROOF_KEY={sandbox.key}")
        click.echo(_CURL_EXAMPLE)
        click.echo("Or text the bot from here; /help lists the commands.")
        click.echo("Nothing leaves this machine.")
        click.echo()
        await _run_until_first(
            phone_status.record_changes(sandbox), _run_terminal(sandbox), stopped.wait()
        )


async def _run_terminal(sandbox: Sandbox) -> None:
    """Run the terminal's phone until /quit; without a terminal, wait for the signal instead."""
    if not await terminal.Terminal(sandbox).run():
        await asyncio.Event().wait()


async def _run_until_first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run coroutines until the first one ends, and cancel the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


@asynccontextmanager
async def _new_sandbox(clock: TravelClock, **settings: Any) -> AsyncIterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="textproof-") as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'demo.db'}"
        async with open_sandbox(url, clock, warm=True, **settings) as sandbox:
            yield sandbox
