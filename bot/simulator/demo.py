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
from bot.simulator.stories.player import Player, StoryError, beginning_of, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    from bot.simulator.sandbox import Sandbox

_ASKING = f"""\
  curl -H "Authorization: Bearer $TEXTPROOF_KEY" -H 'Content-Type: application/json' \\
    -d '{{"to": "{PHONE}"}}' $TEXTPROOF_URL/v1/verifications"""
"""Asks, in a shell, for a verification of the first phone."""


def first_story() -> str:
    """Read the story of one whole conversation."""
    return (resources.files("bot.simulator.stories") / "first.story").read_text(encoding="utf-8")


async def play(script: str) -> int:
    """Play a story, printing it; return the exit code: 1 where it turns out otherwise."""
    try:
        clock, settings = StoppedClock(beginning_of(script)), settings_of(script)
        async with _new_sandbox(clock, **settings) as sandbox:
            sandbox.telnyx.journal.watchers.append(terminal.Printer())
            await Player(sandbox).play(script)
    except ValidationError as error:
        names = ", ".join(str(mistake["loc"][0]).upper() for mistake in error.errors())
        click.secho(f"\nThe story's setting of {names} is wrong.", fg="red", err=True)
        return 1
    except (StoryError, ConnectionError) as error:
        click.secho(f"\n{terminal.harmless(str(error))}", fg="red", err=True)
        return 1
    return 0


async def offer(port: int | None) -> None:
    """Offer phones in the browser and in the terminal until told to stop.

    Raises PortError where the port cannot be had.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with (
        _new_sandbox(TravelClock(), with_app=True, web_form=True) as sandbox,
        server.served(sandbox, port) as url,
    ):
        await _first_of(sandbox.ready(), stopped.wait())
        click.echo(f"Open  {url}  and text VERIFY to the bot, {BOT_NUMBER}.")
        click.echo(f"Open  {sandbox.form_url}  for the form on the web.")
        click.echo("Ask as your app would, as docs/api.md shows, with")
        click.echo(f"  export TEXTPROOF_URL={sandbox.bot.url} TEXTPROOF_KEY={sandbox.key}")
        click.echo(_ASKING)
        click.echo("Or text it from here; /help says more. All of it stays on this machine.")
        click.echo()
        await _first_of(
            phone_status.keep_updated(sandbox), _at_the_terminal(sandbox), stopped.wait()
        )


async def _at_the_terminal(sandbox: Sandbox) -> None:
    """Obey the terminal until its end; where it is none, whoever started this will stop it."""
    if not await terminal.Terminal(sandbox).run():
        await asyncio.Event().wait()


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Work until the first is done, and leave the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()


@asynccontextmanager
async def _new_sandbox(clock: TravelClock, **settings: Any) -> AsyncIterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="textproof-") as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'demo.db'}"
        async with open_sandbox(url, clock, warm=True, **settings) as sandbox:
            yield sandbox
