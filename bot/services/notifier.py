"""From the table of events to the app: claim, post, settle; try again or give up.

An event arrives at least once, under the same id and with the same bytes at every try; of each
subject in order.
"""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.events.outcomes import GONE, Delivered, Gone, Later, Outcome, advice
from bot.services.courier import JITTER, Courier
from bot.store import events
from bot.store.events import Claimed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.store.database import Database

WAITS: tuple[timedelta, ...] = (
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

_log = structlog.get_logger(__name__)


class Transport(Protocol):
    """What can post one event."""

    async def post(self, *, name: str, body: str, at: datetime) -> Outcome:
        """Post an event at a time (UTC) and say what came of it."""


class Notifier(Courier[Transport, Claimed, partial[None], None]):
    """Posts the events that are queued to `url`."""

    queue = "events"
    slots = 10

    def __init__(
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[Transport]],
        url: str,
        clock: Clock,
        *,
        jitter: float = JITTER,
    ) -> None:
        super().__init__(database, open_transport, clock)
        self._url = url
        self._jitter = jitter

    def _claim(
        self, connection: Connection, most: int, now: datetime
    ) -> tuple[list[Claimed], None]:
        return events.claim(connection, self._url, most, now), None

    def _any_due(self, connection: Connection, now: datetime) -> bool:
        return events.any_due(connection, self._url, now)

    async def _deliver(self, transport: Transport, claimed: Claimed) -> None:
        # The app judges the time of the try by the world's clock.
        outcome = await transport.post(name=claimed.name, body=claimed.body, at=self._clock.wall())
        now = self._clock.now()
        log = _log.bind(event_id=claimed.name, type=claimed.type)
        match outcome:
            case Delivered():
                log.info("event delivered", tries=claimed.attempts)
                await self._settle(partial(events.settle_delivered, claimed=claimed))
            case Gone():
                log.error("events paused", fault=GONE, advice=advice(GONE))
                await self._settle(partial(_settle_gone, claimed=claimed, url=self._url, now=now))
            case Later(fault) if claimed.attempts > len(WAITS):
                told = f"{advice(fault)}; then run: bot events replay {claimed.name}"
                log.error("event given up", fault=fault, advice=told)
                await self._settle(partial(events.settle_dead, claimed=claimed, fault=fault))
            case Later(fault, retry_after):
                due_at = now + self._wait(claimed.attempts, retry_after or 0)
                log.warning(
                    "event will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
                await self._settle(
                    partial(events.settle_later, claimed=claimed, due_at=due_at, fault=fault)
                )

    def _write_down(
        self, connection: Connection, endings: Sequence[partial[None]]
    ) -> tuple[None, Sequence[partial[None]]]:
        for ending in endings:
            ending(connection)
        return None, ()

    def _wait(self, attempts: int, at_least: float) -> timedelta:
        jitter = random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return max(WAITS[attempts - 1] * jitter, timedelta(seconds=at_least))


def _settle_gone(connection: Connection, claimed: Claimed, url: str, now: datetime) -> None:
    """Have nothing go to an address that is gone; its events wait until it is resumed."""
    events.disable(connection, url, now)
    events.settle_later(connection, claimed, now, GONE)
