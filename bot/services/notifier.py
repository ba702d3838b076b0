"""From the table of events to the app: claim, post, settle; try again or give up.

An event arrives at least once, under the same id and with the same bytes at every try; of each
subject in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

import structlog

from bot.events.outcomes import GONE, Delivered, Gone, Later, Outcome, advice
from bot.store import events
from bot.store.outages import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.store.database import Database
    from bot.store.events import Claimed

Ts = TypeVarTuple("Ts")

POLL = 1.0
"""Seconds between looks for events when nobody has told of a commit."""
WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""How long after a try that failed the next one is (Standard Webhooks, "Deliverability and
reliability"); after the last of them an event is given up."""
JITTER = 0.2
"""By how much of itself a wait varies, so that tries spread."""
DRAIN_WITHIN = 6.0
"""Seconds that events on their way get to arrive when the process is to end."""
_SLOTS = 10
_SETTLE_RETRIES = (0.2, 1.0, 3.0, 9.0)

_log = structlog.get_logger(__name__)


class Transport(Protocol):
    """What can post one event."""

    async def post(self, *, name: str, body: str, at: datetime) -> Outcome:
        """Post an event at a time (UTC) and say what came of it."""


class Notifier:
    """Posts the events that are queued to `url`, until `stop`; `wake` tells of new ones."""

    def __init__(
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[Transport]],
        url: str,
        clock: Clock,
        *,
        jitter: float = JITTER,
    ) -> None:
        self._database = database
        self._open_transport = open_transport
        self._url = url
        self._clock = clock
        self._jitter = jitter
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claiming = False
        self._in_flight: set[asyncio.Task[None]] = set()
        self.alive = False

    @property
    def idle(self) -> bool:
        """Tell whether no event is being claimed or on its way at this moment."""
        return not self._in_flight and not self._claiming

    def wake(self) -> None:
        """Look for events now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` ends when what is on its way has arrived."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Post until stopped, from when the transport is open."""
        async with self._open_transport() as transport:
            self.alive = True
            try:
                while not self._stopping.is_set():
                    await self._round(transport)
            finally:
                self.alive = False
                await self._drain()

    async def _round(self, transport: Transport) -> None:
        """Post what is due, then wait for more."""
        self._woken.clear()
        self._claiming = True
        try:
            more = await self._claim_and_post(transport)
        except UnavailableError as error:
            _log.warning("events out of reach", reason=str(error))
            more = False
        except Exception:  # noqa: BLE001 - events that can leave must not wait for a restart
            _log.exception("posting events failed, and goes on")
            more = False
        finally:
            self._claiming = False
        if not more and not await _set_within(self._woken, POLL):
            await self._wait_until_due()

    async def _claim_and_post(self, transport: Transport) -> bool:
        """Fill the free slots; tell whether there may be more to claim."""
        slots = _SLOTS - len(self._in_flight)
        if not slots:
            return False
        claims = await self._database.write(events.claim, self._url, slots, self._clock.now())
        for claimed in claims:
            task = asyncio.create_task(self._deliver(transport, claimed))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)
        return len(claims) == slots

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self.wake()
        if not task.cancelled() and task.exception() is not None:
            # Its lease will end, and it is tried again.
            _log.error("posting an event failed", exc_info=task.exception())

    async def _wait_until_due(self) -> None:
        """Look, without the write lock, until something is due or somebody tells of it."""
        while not self._woken.is_set():
            with contextlib.suppress(UnavailableError):
                if await self._database.read(events.any_due, self._url, self._clock.now()):
                    return
            await _set_within(self._woken, POLL)

    async def _deliver(self, transport: Transport, claimed: Claimed) -> None:
        # The app judges the time of the try by the world's clock.
        outcome = await transport.post(name=claimed.name, body=claimed.body, at=self._clock.wall())
        now = self._clock.now()
        log = _log.bind(event_id=claimed.name, type=claimed.type)
        match outcome:
            case Delivered():
                log.info("event delivered", tries=claimed.attempts)
                await self._settle(events.settle_delivered, claimed)
            case Gone():
                log.error("events paused", fault=GONE, advice=advice(GONE))
                await self._settle(_settle_gone, claimed, self._url, now)
            case Later(fault) if claimed.attempts > len(WAITS):
                told = f"{advice(fault)}; then run: bot events replay {claimed.name}"
                log.error("event given up", fault=fault, advice=told)
                await self._settle(events.settle_dead, claimed, fault)
            case Later(fault, retry_after):
                due_at = now + self._wait(claimed.attempts, retry_after or 0)
                log.warning(
                    "event will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
                await self._settle(events.settle_later, claimed, due_at, fault)

    def _wait(self, attempts: int, at_least: float) -> timedelta:
        jitter = random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return max(WAITS[attempts - 1] * jitter, timedelta(seconds=at_least))

    async def _settle(self, work: Callable[[Connection, *Ts], None], *args: *Ts) -> None:
        """Write down what came of an event; where the database cannot, its lease will end."""
        for wait in _SETTLE_RETRIES:
            try:
                await self._database.write(work, *args)
            except UnavailableError as error:
                _log.warning("events out of reach", reason=str(error))
                await asyncio.sleep(wait)
            else:
                return

    async def _drain(self) -> None:
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight, timeout=DRAIN_WITHIN)
            for task in late:
                task.cancel()


def _settle_gone(connection: Connection, claimed: Claimed, url: str, now: datetime) -> None:
    """Have nothing go to an address that is gone; its events wait until it is resumed."""
    events.disable(connection, url, now)
    events.settle_later(connection, claimed, now, GONE)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
