"""All that has happened between the phones and the bot, in order, told as it happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.conversation.inputs import Shape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime, timedelta

    from bot.conversation.state import State
    from bot.simulator.telnyx.faults import Fault


class Author(StrEnum):
    """Who wrote a text."""

    PERSON = "person"
    BOT = "bot"
    CARRIER = "carrier"


class Arrival(StrEnum):
    """How far a text has come, by what has been reported of it."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PhoneText:
    """A text between a phone and the bot (both E.164).

    `took` is how long after the phone's own last text it came. A text that gets further is told
    again, under the same `id`.
    """

    id: int
    at: datetime
    author: Author
    phone: str
    bot_number: str
    text: str
    shape: Shape = Shape.PLAIN
    progress: Arrival = Arrival.QUEUED
    took: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A request or an answer as it went over the wire."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str


class Wire(StrEnum):
    """Which way a request went: Telnyx's webhook to the bot, the bot's to Telnyx's API or an app's.

    The last is an event.
    """

    WEBHOOK = "webhook"
    API = "api"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and, once there is one, its answer; told again, under the same `id`, with that.

    `seconds` is how long it took. One whose connection was dropped has them, and no answer.
    """

    id: int
    at: datetime
    wire: Wire
    request: HttpMessage
    answer: HttpMessage | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PhoneStatus:
    """Where a phone stands, as the bot sees it."""

    at: datetime
    phone: str
    bot_number: str
    state: State
    tries_left: int
    expires_at: datetime | None
    locked_until: datetime | None
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """Somebody moved the clock ahead."""

    at: datetime
    length: timedelta


@dataclass(frozen=True, slots=True)
class FaultArmed:
    """Somebody asked for a fault."""

    at: datetime
    fault: Fault


@dataclass(frozen=True, slots=True)
class FaultMet:
    """A fault that was asked for has come about."""

    at: datetime
    fault: Fault


Entry = PhoneText | Exchange | PhoneStatus | ClockMoved | FaultArmed | FaultMet


class Journal:
    """Entries in the order they were added; each of `watchers` is called with every one."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.watchers: list[Callable[[Entry], None]] = []
        self._news = asyncio.Event()

    def add(self, entry: Entry) -> None:
        """Write an entry down, and tell all who watch or follow."""
        self.entries.append(entry)
        for watch in self.watchers:
            watch(entry)
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self) -> AsyncIterator[Entry]:
        """Tell every entry, from the first on, and go on as more are added."""
        told = 0
        while True:
            await self.longer_than(told)
            for entry in self.entries[told:]:
                yield entry
                told += 1

    async def longer_than(self, count: int) -> None:
        """Wait until more than `count` entries have been added."""
        while len(self.entries) <= count:
            await self._news.wait()
