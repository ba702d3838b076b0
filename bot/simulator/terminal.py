"""`bot demo`: one conversation played, then a phone in the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.conversation.numbers import to_e164
from bot.simulator.clock import TravelClock
from bot.simulator.stage import BOT_NUMBER, PHONE, staged
from bot.simulator.story import Player, StoryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_STYLES = {"person": "cyan", "bot": "green", "carrier": "yellow"}
_NAMES = {"person": "you", "bot": "bot", "carrier": "Telnyx"}
_COUNTRY_CODE = "+1"
_HELP = """\
Type what the phone texts to the bot: VERIFY, the code, RESEND, STATUS, HELP, NOT ME, STOP, START.
  /phone +13125550002   text from another phone (this one is {phone})
  /later 11m            move the clock ahead: 30s, 11m, 2h, 1d
  /help                 this page
  /quit                 the end (Ctrl-D too)"""


async def demo(*, once: bool) -> int:
    """Play the first conversation, then offer the phone unless `once`; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="textproof-") as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'demo.db'}"
        click.echo(
            f"A phone, {PHONE}, texts the bot at {BOT_NUMBER}. All of it stays on this machine."
        )
        click.echo()
        async with staged(url, TravelClock()) as stage:
            player = Player(stage, _print)
            try:
                await player.play((resources.files("bot.simulator") / "first.story").read_text())
            except (StoryError, ConnectionError) as error:
                click.secho(f"\nfirst.story, {error}", fg="red", err=True)
                return 1
            click.echo()
            if not once:
                await _offer_phone(player)
    return 0


async def _offer_phone(player: Player) -> None:
    click.echo("Now you: text the bot. /help says more, Ctrl-D ends it.")
    if sys.stdin.isatty():
        player.watch = _print_answers  # what was typed stands there already
    async for line in _lines():
        if line.strip() == "/quit":
            return
        try:
            await _obey(player, line.strip())
        except ValueError as error:
            click.echo(f"{error}.")


async def _obey(player: Player, line: str) -> None:
    command, _, rest = line.partition(" ")
    match command:
        case "":
            return
        case "/help":
            click.echo(_HELP.format(phone=player.phone))
        case "/phone":
            player.phone = to_e164(rest, _COUNTRY_CODE)
            click.echo(f"This is {player.phone} now.")
        case "/later":
            await player.later(rest)
            click.echo(f"It is {rest} later now.")
        case _ if command.startswith("/"):
            click.echo(f"There is no {command}; /help says what there is.")
        case _:
            if not await player.text(line):
                click.secho("        (the bot stays silent)", dim=True)


async def _lines() -> AsyncIterator[str]:
    """Read the terminal line by line without a thread, which could not be interrupted."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()
    try:
        loop.add_reader(stdin, lambda: arrived.put_nowait(os.read(stdin, 65536)))
    except PermissionError:  # a regular file is always ready, and cannot be watched
        arrived.put_nowait(sys.stdin.buffer.read())
        arrived.put_nowait(b"")
    rest = b""
    try:
        while True:
            if sys.stdin.isatty():
                click.echo("> ", nl=False)
            while b"\n" not in rest:
                chunk = await arrived.get()
                if not chunk:
                    click.echo()
                    return
                rest += chunk
            line, _, rest = rest.partition(b"\n")
            yield line.decode(errors="replace")
    finally:
        loop.remove_reader(stdin)


def _print_answers(who: str, text: str) -> None:
    if who != "person":
        _print(who, text)


def _print(who: str, text: str) -> None:
    click.echo(click.style(f"{_NAMES[who]:>6}  ", fg=_STYLES[who], bold=True) + text)
