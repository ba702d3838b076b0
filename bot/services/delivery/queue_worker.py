"""From a queue in the database to somebody else's door: claim, deliver, settle, keep looking.

The sender brings texts to the carrier by it, the notifier events to the app.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import structlog

from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.store.engine.database import Database

Client = TypeVar("Client")
Item = TypeVar("Item")
Attempt = TypeVar("Attempt")
Note = TypeVar("Note")

POLL_INTERVAL = 1.0
"""Seconds between looks into the queue when nobody has told of a commit."""
DRAIN_TIMEOUT = 6.0
"""Seconds that what is on its way gets to arrive when the process is to end."""
JITTER = 0.2
"""By how much of itself the wait before another try varies, so that tries spread."""
_SETTLE_RETRY_DELAYS = (0.2, 1.0, 3.0, 9.0)

_log = structlog.get_logger(__name__)


class QueueWorker(ABC, Generic[Client, Item, Attempt, Note]):
    """Delivers what is queued, until `stop`; `wake` tells it that something was.

    How each delivery ended is written down together with those that end meanwhile: a transaction
    for each would have the disk turn for each.

    A transaction may be run twice or rolled back, so what runs inside of one (`_claim`, `_any_due`,
    `_write_down`) changes nothing but the database and logs nothing: it returns a note, and
    `_committed` acts on that after the commit.
    """

    queue: ClassVar[str]
    """What it brings, for the log: "texts"."""
    slots: ClassVar[int]
    """How many may be on their way at once."""

    def __init__(
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[Client]],
        clock: Clock,
    ) -> None:
        self._database = database
        self._open_transport = open_transport
        self._clock = clock
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claiming = False
        self._in_flight: set[asyncio.Task[None]] = set()
        self._unwritten: list[Attempt] = []
        self._settling = asyncio.Lock()
        self._writing = asyncio.Lock()  # not held while one waits to settle again: others claim
        self.alive = False

    @abstractmethod
    def _claim(self, connection: Connection, most: int, now: datetime) -> tuple[list[Item], Note]:
        """Claim up to `most` that are due."""

    @abstractmethod
    def _any_due(self, connection: Connection, now: datetime) -> bool:
        """Tell whether there is anything to claim."""

    @abstractmethod
    async def _deliver(self, transport: Client, claimed: Item) -> None:
        """Deliver one, and settle it."""

    @abstractmethod
    def _write_down(
        self, connection: Connection, endings: Sequence[Attempt]
    ) -> tuple[Note, Sequence[Attempt]]:
        """Record how deliveries ended; return also those that cannot be recorded yet."""

    def _committed(self, note: Note) -> None:
        """Log, and change in this process, what follows from a transaction that is committed."""

    def _pause(self) -> float:
        """Return the seconds until anything may leave; 0 where that is now."""
        return 0.0

    def _look_within(self) -> float:
        """Return the seconds until the queue is looked into, whether somebody tells or not."""
        return POLL_INTERVAL

    @property
    def idle(self) -> bool:
        """Tell whether nothing is being claimed or on its way at this moment."""
        return not self._in_flight and not self._claiming

    def wake(self) -> None:
        """Look into the queue now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` ends when what is on its way has arrived."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Deliver until stopped, from when the transport is open."""
        async with self._open_transport() as transport:
            self.alive = True
            try:
                while not self._stopping.is_set():
                    await self._round(transport)
            finally:
                self.alive = False
                await self._drain()

    async def _round(self, transport: Client) -> None:
        """Deliver what may leave now, then wait for more."""
        self._woken.clear()
        if pause := self._pause():
            await _set_within(self._woken, min(pause, POLL_INTERVAL))
            return
        self._claiming = True
        try:
            more = await self._claim_and_deliver(transport)
        except UnavailableError as error:
            _log.warning(f"{self.queue} out of reach", reason=str(error))
            more = False
        except Exception:  # noqa: BLE001 - what can leave must not wait for a restart
            _log.exception(f"claiming {self.queue} failed, and goes on")
            more = False
        finally:
            self._claiming = False
        if more or self._pause():
            return
        if not await _set_within(self._woken, self._look_within()):
            await self._wait_until_due()

    async def _claim_and_deliver(self, transport: Client) -> bool:
        """Fill the free slots; tell whether there may be more to claim."""
        # After what is being written down: what has landed by then leaves its slot to more.
        async with self._writing:
            free = self.slots - len(self._in_flight)
            if not free or self._stopping.is_set():
                return False
            claims, note = await self._database.write(self._claim, free, self._clock.now())
        self._committed(note)
        for claimed in claims:
            task = asyncio.create_task(self._deliver(transport, claimed))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)
        return len(claims) == free

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self.wake()
        if not task.cancelled() and task.exception() is not None:
            # Its lease will end, and it is tried again.
            _log.error(f"delivering {self.queue} failed", exc_info=task.exception())

    async def _wait_until_due(self) -> None:
        """Look, without the write lock, until something is due or somebody tells of it."""
        while not self._woken.is_set():
            with contextlib.suppress(UnavailableError):
                if await self._database.read(self._any_due, self._clock.now()):
                    return
            await _set_within(self._woken, self._look_within())

    async def _settle(self, ending: Attempt) -> None:
        """Write down how one ended; where the database cannot, its lease will end."""
        self._unwritten.append(ending)
        for wait in _SETTLE_RETRY_DELAYS:
            async with self._settling:
                # Whoever wrote before may have written this too.
                if ending not in self._unwritten:
                    return
                try:
                    async with self._writing:
                        await self._write(self._unwritten[:])
                except UnavailableError as error:
                    _log.warning(f"{self.queue} out of reach", reason=str(error))
                    await asyncio.sleep(wait)
                    continue
            if ending in self._unwritten:
                await asyncio.sleep(wait)  # the others need not wait for what somebody else holds
        if ending in self._unwritten:
            self._unwritten.remove(ending)

    async def _write(self, endings: Sequence[Attempt]) -> None:
        """Write down how some ended, all in one transaction unless one of them cannot be."""
        try:
            note, later = await self._database.write(self._write_down, endings)
        except UnavailableError:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be settled must not keep the others
            if len(endings) > 1:
                for ending in endings:
                    await self._write([ending])
                return
            _log.exception(f"settling {self.queue} failed")
            later = ()
        else:
            self._committed(note)
        for ending in endings:
            if ending not in later:
                self._unwritten.remove(ending)

    async def _drain(self) -> None:
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight, timeout=DRAIN_TIMEOUT)
            for task in late:
                task.cancel()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
