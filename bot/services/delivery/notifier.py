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

from bot.app_events.results import GONE, EndpointGone, PostAccepted, PostLater, PostResult, advice
from bot.services.delivery.queue_worker import JITTER, QueueWorker
from bot.store.queues import app_events
from bot.store.queues.app_events import ClaimedAppEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.store.engine.database import Database

RETRY_DELAYS: tuple[timedelta, ...] = (
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


class EventClient(Protocol):
    """What can post one event."""

    async def post(self, *, name: str, body: str, at: datetime) -> PostResult:
        """Post an event at a time (UTC) and say what came of it."""


class Notifier(QueueWorker[EventClient, ClaimedAppEvent, partial[None], None]):
    """Posts the events that are queued to `url`."""

    queue = "events"
    slots = 10

    def __init__(
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[EventClient]],
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
    ) -> tuple[list[ClaimedAppEvent], None]:
        return app_events.claim(connection, self._url, most, now), None

    def _any_due(self, connection: Connection, now: datetime) -> bool:
        return app_events.any_due(connection, self._url, now)

    async def _deliver(self, transport: EventClient, claimed: ClaimedAppEvent) -> None:
        # The app judges the time of the try by the world's clock.
        outcome = await transport.post(
            name=claimed.public_id, body=claimed.body, at=self._clock.wall()
        )
        now = self._clock.now()
        log = _log.bind(event_id=claimed.public_id, type=claimed.type)
        match outcome:
            case PostAccepted():
                log.info("event delivered", tries=claimed.attempts)
                await self._settle(partial(app_events.settle_delivered, claimed=claimed))
            case EndpointGone():
                log.error("events paused", fault=GONE, advice=advice(GONE))
                await self._settle(partial(_settle_gone, claimed=claimed, url=self._url, now=now))
            case PostLater(fault) if claimed.attempts > len(RETRY_DELAYS):
                told = f"{advice(fault)}; then run: bot events replay {claimed.public_id}"
                log.error("event given up", fault=fault, advice=told)
                await self._settle(partial(app_events.settle_dead, claimed=claimed, fault=fault))
            case PostLater(fault, retry_after):
                due_at = now + self._wait(claimed.attempts, retry_after or 0)
                log.warning(
                    "event will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
                await self._settle(
                    partial(app_events.settle_later, claimed=claimed, due_at=due_at, fault=fault)
                )

    def _write_down(
        self, connection: Connection, endings: Sequence[partial[None]]
    ) -> tuple[None, Sequence[partial[None]]]:
        for ending in endings:
            ending(connection)
        return None, ()

    def _wait(self, attempts: int, at_least: float) -> timedelta:
        jitter = random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return max(RETRY_DELAYS[attempts - 1] * jitter, timedelta(seconds=at_least))


def _settle_gone(connection: Connection, claimed: ClaimedAppEvent, url: str, now: datetime) -> None:
    """Have nothing go to an address that is gone; its events wait until it is resumed."""
    app_events.disable(connection, url, now)
    app_events.settle_later(connection, claimed, now, GONE)
