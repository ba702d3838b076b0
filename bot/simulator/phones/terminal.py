"""A phone in the terminal, with the functions of the phone page."""

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
from bot.simulator.clock import parse_duration
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import transcript
from bot.simulator.telnyx.faults import NAMED_FAULTS
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
  /fault                list the faults; /fault NAME arms one
  /state                the bot's view of this phone
  /wire                 the last requests and their responses
  /save FILE            save the session as a story: bot demo --play FILE
  /help                 this list
  /quit                 end the demo (or press Ctrl-D)"""
_MAX_SHOWN_EXCHANGES = 4
_PROMPT = "> "


class Printer:
    """Prints each text when it is added to the journal.

    Texts of `phone` are printed without its number, and texts from `muted_phone` not at all.
    `prompt` is printed again below each text.
    """

    def __init__(self) -> None:
        self.phone = PHONE
        self.muted_phone: str | None = None
        self.prompt = ""
        self._printed_ids: set[int] = set()

    def __call__(self, entry: Entry) -> None:
        """Print an entry if it is a new or failed text or an app event that was received."""
        if isinstance(entry, Exchange) and _is_received_event(entry):
            self._print_event(entry)
        if not isinstance(entry, PhoneText):
            return
        if entry.arrival is Arrival.FAILED:
            self._echo(click.style("        (the text did not reach the phone)", dim=True))
        elif entry.id not in self._printed_ids:
            self._printed_ids.add(entry.id)
            if entry.author is not Author.PERSON or entry.phone != self.muted_phone:
                self._print_text(entry)

    def _print_text(self, text: PhoneText) -> None:
        name = click.style(f"{_NAMES[text.author]:>6}  ", fg=_STYLES[text.author], bold=True)
        where = "" if text.phone == self.phone else f"[{text.phone}] "
        self._echo(f"{name}{where}{sanitize(text.text)}")

    def _print_event(self, exchange: Exchange) -> None:
        name = click.style(f"{'app':>6}  ", fg=_APP_STYLE, bold=True)
        event = json.loads(exchange.request.body)
        number = event["data"].get("to") or event["data"].get("number") or "no number yet"
        self._echo(f"{name}receives {sanitize(event['type'])}, {sanitize(number)}")

    def _echo(self, line: str) -> None:
        """Print a line over the prompt, and the prompt below it."""
        start = "\r" if self.prompt else ""
        click.echo(f"{start}{line}")
        click.echo(self.prompt, nl=False)


class Terminal:
    """Reads lines from standard input: texts from a phone, and commands."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._journal = sandbox.telnyx.journal
        self._phone = PHONE
        self._printer = Printer()
        self._commands = {
            "/phone": self._switch_phone,
            "/mms": self._text_with_picture,
            "/group": self._text_to_group,
            "/later": self._move_clock,
            "/fault": self._arm_fault,
            "/state": self._show_state,
            "/wire": self._show_exchanges,
            "/save": self._save,
            "/help": self._show_help,
        }

    async def run(self) -> bool:
        """Execute lines until /quit or the end of input; return whether a person ended it."""
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
                    await self._execute(line.strip())
                except (ValueError, OSError) as error:
                    click.echo(f"{error}.")
                click.echo(prompt, nl=False)
                self._printer.prompt = prompt
        return bool(prompt)

    async def _execute(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if not command.startswith("/"):
            if command:
                await self._text(line)
        elif command in self._commands:
            await self._commands[command](rest.strip())
        else:
            click.echo(f"Unknown command {command}; /help lists the commands.")

    async def _text(self, text: str, shape: Shape = Shape.PLAIN) -> None:
        if sys.stdin.isatty():
            self._printer.muted_phone = self._phone  # the typed line is on the screen already
        try:
            replies = await self._sandbox.text(self._phone, text, shape)
        finally:
            self._printer.muted_phone = None
        if not replies:
            queued = await self._sandbox.has_queued_texts()
            remark = "a reply waits for its next attempt" if queued else "no reply"
            click.secho(f"        ({remark})", dim=True)

    async def _text_with_picture(self, text: str) -> None:
        await self._text(text, Shape.MEDIA)

    async def _text_to_group(self, text: str) -> None:
        await self._text(text, Shape.GROUP)

    async def _switch_phone(self, number: str) -> None:
        self._phone = self._printer.phone = to_e164(number, _COUNTRY_CODE)
        click.echo(f"You now text from {self._phone}.")

    async def _move_clock(self, duration: str) -> None:
        await self._sandbox.travel(self._phone, parse_duration(duration))
        click.echo(f"The clock moved ahead by {duration}.")

    async def _arm_fault(self, name: str) -> None:
        if name:
            self._sandbox.arm(name)
            click.echo(f"Next time, {NAMED_FAULTS[name].title}.")
            return
        for known, fault in NAMED_FAULTS.items():
            click.echo(f"  /fault {known:<10} next time, {fault.title}")

    async def _show_state(self, _rest: str) -> None:
        statuses = [
            entry
            for entry in self._journal.entries
            if isinstance(entry, PhoneStatus) and entry.phone == self._phone
        ]
        if not statuses:
            click.echo(f"{self._phone} has never texted the bot.")
            return
        status, now = statuses[-1], self._sandbox.clock.now()
        click.echo(f"{self._phone}: {status.state}, {status.tries_left} tries left")
        for name, until in (("code", status.expires_at), ("lock", status.locked_until)):
            if until and until > now:
                click.echo(f"  the {name} ends in {(until - now).total_seconds():.0f} s")

    async def _show_exchanges(self, _rest: str) -> None:
        latest = {entry.id: entry for entry in self._journal.entries if isinstance(entry, Exchange)}
        for exchange in list(latest.values())[-_MAX_SHOWN_EXCHANGES:]:
            _print_message(exchange.request, "cyan")
            if exchange.response is not None:
                _print_message(exchange.response, "green")

    async def _save(self, file: str) -> None:
        if not file:
            raise ValueError("name the file: /save FILE")
        script = transcript(self._journal.entries, self._sandbox.clock.now())
        await asyncio.to_thread(Path(file).write_text, script, encoding="utf-8")
        click.echo(f"Saved. Play it again with: bot demo --play {file}")

    async def _show_help(self, _rest: str) -> None:
        click.echo(_HELP.format(phone=self._phone))


def _is_received_event(exchange: Exchange) -> bool:
    response = exchange.response
    return exchange.wire is Wire.EVENT and response is not None and " 204 " in response.start


def _print_message(message: HttpMessage, colour: str) -> None:
    click.secho(message.start, fg=colour, bold=True)
    for name, value in message.headers:
        click.echo(sanitize(f"{name}: {value}"))
    click.echo(f"\n{sanitize(message.body)}\n")


def sanitize(text: str) -> str:
    """Replace control characters, so that a text cannot control the terminal that shows it."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


async def _lines() -> AsyncGenerator[str, None]:
    """Yield the lines of standard input without a thread, which could not be interrupted."""
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()
    try:
        loop.add_reader(stdin, lambda: chunks.put_nowait(os.read(stdin, 65536)))
    except PermissionError:  # a regular file is always ready and cannot be watched
        chunks.put_nowait(sys.stdin.buffer.read())
        chunks.put_nowait(b"")
    rest = b""
    try:
        while True:
            while b"\n" not in rest:
                chunk = await chunks.get()
                if not chunk:
                    click.echo()
                    return
                rest += chunk
            line, _, rest = rest.partition(b"\n")
            yield line.decode(errors="replace")
    finally:
        loop.remove_reader(stdin)
