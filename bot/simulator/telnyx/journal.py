"""Everything that happened between the phones and the bot, in order."""

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
    """The author of a text."""

    PERSON = "person"
    BOT = "bot"
    CARRIER = "carrier"


class Arrival(StrEnum):
    """How far a text has come, in order."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PhoneText:
    """A text between a phone and the bot (both E.164).

    `took` is the time since the phone's own last text. A text is added again, with the same `id`,
    when its `arrival` changes.
    """

    id: int
    at: datetime
    author: Author
    phone: str
    bot_number: str
    text: str
    shape: Shape = Shape.PLAIN
    arrival: Arrival = Arrival.QUEUED
    took: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A request or a response as it was sent."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str


class Wire(StrEnum):
    """The two ends of a request: Telnyx to the bot, the bot to Telnyx, or the bot to an app."""

    WEBHOOK = "webhook"
    API = "api"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response.

    `seconds` is how long it took. An exchange is added again, with the same `id`, when it ends; if
    its connection was dropped, it then has `seconds` and no response.
    """

    id: int
    at: datetime
    wire: Wire
    request: HttpMessage
    response: HttpMessage | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PhoneStatus:
    """The bot's view of a phone."""

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
    """The clock was moved ahead."""

    at: datetime
    duration: timedelta


@dataclass(frozen=True, slots=True)
class FaultArmed:
    """A fault was armed."""

    at: datetime
    fault: Fault


@dataclass(frozen=True, slots=True)
class FaultTriggered:
    """An armed fault has happened."""

    at: datetime
    fault: Fault


Entry = PhoneText | Exchange | PhoneStatus | ClockMoved | FaultArmed | FaultTriggered


class Journal:
    """Entries in the order they were added; each of `watchers` is called with every entry."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.watchers: list[Callable[[Entry], None]] = []
        self._added = asyncio.Event()

    def add(self, entry: Entry) -> None:
        """Add an entry and notify watchers and followers."""
        self.entries.append(entry)
        for watch in self.watchers:
            watch(entry)
        self._added.set()
        self._added = asyncio.Event()

    async def follow(self) -> AsyncIterator[Entry]:
        """Yield every entry from the first on, including those that are added later."""
        seen = 0
        while True:
            await self.wait_for_more_than(seen)
            for entry in self.entries[seen:]:
                yield entry
                seen += 1

    async def wait_for_more_than(self, count: int) -> None:
        """Wait until more than `count` entries have been added."""
        while len(self.entries) <= count:
            await self._added.wait()
