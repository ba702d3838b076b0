"""A phone in the terminal, with the powers of the phone page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.conversation.inputs import Shape
from bot.conversation.numbers import to_e164
from bot.simulator.clock import to_length
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import transcript
from bot.simulator.telnyx.faults import MENU
from bot.simulator.telnyx.journal import Arrival, Author, Exchange, PhoneStatus, PhoneText, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.journal import Entry, HttpMessage

_STYLES = {Author.PERSON: "cyan", Author.BOT: "green", Author.CARRIER: "yellow"}
_APP_STYLE = "magenta"
_NAMES = {Author.PERSON: "you", Author.BOT: "bot", Author.CARRIER: "Telnyx"}
_COUNTRY_CODE = "+1"
_HELP = """\
Type what the phone texts to the bot: VERIFY, the code, RESEND, STATUS, HELP, NOT ME, STOP, START.
  /phone +13125550002   text from another phone (this one is {phone})
  /mms TEXT             text with a picture; /group TEXT texts to a group
  /later 11m            move the clock ahead: 30s, 11m, 2h, 1d
  /fault                what can be made to go wrong, and how
  /state                where this phone stands, as the bot sees it
  /wire                 the last requests as they went over the wire
  /save FILE            write the session down as a story: bot demo --play FILE
  /help                 this page
  /quit                 the end (Ctrl-D too)"""
_WIRE_LAST = 4
_PROMPT = "> "


class Printer:
    """Prints each text as it comes.

    `phone` is the one whose number goes without saying, `quiet_about` one whose own texts are
    seen already, and `prompt` what stands in the line that is being typed.
    """

    def __init__(self) -> None:
        self.phone = PHONE
        self.quiet_about: str | None = None
        self.prompt = ""
        self._seen: set[int] = set()

    def __call__(self, entry: Entry) -> None:
        """Print an entry, if it is a text that is new or has failed, or an event to an app."""
        if isinstance(entry, Exchange) and _is_believed_event(entry):
            self._print_event(entry)
        if not isinstance(entry, PhoneText):
            return
        if entry.progress is Arrival.FAILED:
            self._echo(click.style("        (it did not reach the phone)", dim=True))
        elif entry.id not in self._seen:
            self._seen.add(entry.id)
            if entry.author is not Author.PERSON or entry.phone != self.quiet_about:
                self._print(entry)

    def _print(self, text: PhoneText) -> None:
        name = click.style(f"{_NAMES[text.author]:>6}  ", fg=_STYLES[text.author], bold=True)
        where = "" if text.phone == self.phone else f"[{text.phone}] "
        self._echo(f"{name}{where}{harmless(text.text)}")

    def _print_event(self, exchange: Exchange) -> None:
        name = click.style(f"{'app':>6}  ", fg=_APP_STYLE, bold=True)
        event = json.loads(exchange.request.body)
        number = event["data"].get("to") or event["data"].get("number") or "nobody yet"
        self._echo(f"{name}is told: {harmless(event['type'])}, {harmless(number)}")

    def _echo(self, line: str) -> None:
        """Print in place of the prompt, and put that below."""
        start = "\r" if self.prompt else ""
        click.echo(f"{start}{line}")
        click.echo(self.prompt, nl=False)


class Terminal:
    """Reads lines: texts from a phone, and commands."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._journal = sandbox.telnyx.journal
        self._phone = PHONE
        self._printer = Printer()
        self._commands = {
            "/phone": self._turn_to,
            "/mms": self._text_with_picture,
            "/group": self._text_to_group,
            "/later": self._later,
            "/fault": self._fault,
            "/state": self._state,
            "/wire": self._wire,
            "/save": self._save,
            "/help": self._help,
        }

    async def run(self) -> bool:
        """Obey line after line until /quit or the end; tell whether a person has ended it."""
        self._journal.watchers.append(self._printer)
        prompt = _PROMPT if sys.stdin.isatty() else ""
        async with contextlib.aclosing(_lines()) as lines:
            click.echo(prompt, nl=False)
            self._printer.prompt = prompt
            async for line in lines:
                self._printer.prompt = ""
                if line.strip() == "/quit":
                    return True
                try:
                    await self._obey(line.strip())
                except (ValueError, OSError) as error:
                    click.echo(f"{error}.")
                click.echo(prompt, nl=False)
                self._printer.prompt = prompt
        return bool(prompt)

    async def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if not word.startswith("/"):
            if word:
                await self._text(line)
        elif word in self._commands:
            await self._commands[word](rest.strip())
        else:
            click.echo(f"There is no {word}; /help says what there is.")

    async def _text(self, text: str, shape: Shape = Shape.PLAIN) -> None:
        if sys.stdin.isatty():
            self._printer.quiet_about = self._phone  # what was typed stands there already
        try:
            came = await self._sandbox.text(self._phone, text, shape)
        finally:
            self._printer.quiet_about = None
        if not came:
            waiting = await self._sandbox.waiting()
            what = "an answer waits for its next try" if waiting else "the bot stays silent"
            click.secho(f"        ({what})", dim=True)

    async def _text_with_picture(self, text: str) -> None:
        await self._text(text, Shape.MEDIA)

    async def _text_to_group(self, text: str) -> None:
        await self._text(text, Shape.GROUP)

    async def _turn_to(self, number: str) -> None:
        self._phone = self._printer.phone = to_e164(number, _COUNTRY_CODE)
        click.echo(f"This is {self._phone} now.")

    async def _later(self, length: str) -> None:
        await self._sandbox.travel(self._phone, to_length(length))
        click.echo(f"It is {length} later now.")

    async def _fault(self, name: str) -> None:
        if name:
            self._sandbox.arm(name)
            click.echo(f"Next time, {MENU[name].title}.")
            return
        for known, choice in MENU.items():
            click.echo(f"  /fault {known:<10} next time, {choice.title}")

    async def _state(self, _rest: str) -> None:
        known = [
            entry
            for entry in self._journal.entries
            if isinstance(entry, PhoneStatus) and entry.phone == self._phone
        ]
        if not known:
            click.echo(f"{self._phone} has never texted the bot.")
            return
        stands, now = known[-1], self._sandbox.clock.now()
        click.echo(f"{self._phone}: {stands.state}, {stands.tries_left} tries left")
        for what, until in (("code", stands.expires_at), ("lock", stands.locked_until)):
            if until and until > now:
                click.echo(f"  the {what} ends in {(until - now).total_seconds():.0f} s")

    async def _wire(self, _rest: str) -> None:
        latest = {entry.id: entry for entry in self._journal.entries if isinstance(entry, Exchange)}
        for exchange in list(latest.values())[-_WIRE_LAST:]:
            _print_message(exchange.request, "cyan")
            if exchange.answer is not None:
                _print_message(exchange.answer, "green")

    async def _save(self, file: str) -> None:
        if not file:
            raise ValueError("say where to: /save FILE")
        script = transcript(self._journal.entries, self._sandbox.clock.now())
        await asyncio.to_thread(Path(file).write_text, script, encoding="utf-8")
        click.echo(f"Saved. Play it again with: bot demo --play {file}")

    async def _help(self, _rest: str) -> None:
        click.echo(_HELP.format(phone=self._phone))


def _is_believed_event(exchange: Exchange) -> bool:
    answer = exchange.answer
    return exchange.wire is Wire.EVENT and answer is not None and " 204 " in answer.start


def _print_message(message: HttpMessage, colour: str) -> None:
    click.secho(message.start, fg=colour, bold=True)
    for name, value in message.headers:
        click.echo(harmless(f"{name}: {value}"))
    click.echo(f"\n{harmless(message.body)}\n")


def harmless(text: str) -> str:
    """Keep what somebody texts from commanding the terminal it is shown in."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


async def _lines() -> AsyncGenerator[str, None]:
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
