"""The notifier: claims app events, posts them to the app, and settles, retries or gives them up.

An app event arrives at least once, with the same id and the same bytes at every attempt, and those
of one subject arrive in order.
"""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.app_events.results import GONE, EndpointGone, PostAccepted, PostLater, PostResult, advice
from bot.services.delivery.queue_worker import JITTER, BatchSettler, Pauses, QueueWorker
from bot.store.queues import app_events
from bot.store.queues.app_events import ClaimedAppEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.store.engine.database import Database

    Settle = Callable[[Connection], None]

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
"""The delay after each failed attempt (Standard Webhooks, "Deliverability and reliability"); after
the last one an app event is given up."""

_log = structlog.get_logger(__name__)


class EventClient(Protocol):
    """A client that posts app events to the app."""

    async def post(self, *, name: str, body: str, at: datetime) -> PostResult:
        """Post an app event, signed for a time (UTC), and return the result."""


Notifier = QueueWorker[EventClient, ClaimedAppEvent]


class AppEventDelivery:
    """Claims, posts and settles the app events for `url`."""

    slots = 10

    def __init__(
        self,
        database: Database,
        url: str,
        clock: Clock,
        *,
        jitter: float = JITTER,
        make_settler: Callable[..., BatchSettler[Settle]] = BatchSettler,
    ) -> None:
        self._database = database
        self._url = url
        self._clock = clock
        self._jitter = jitter
        self.settler = make_settler("events", self._record)

    def pauses(self) -> Pauses:
        """Return no pause: app events have no throttle."""
        return Pauses()

    async def claim(self, limit: int) -> list[ClaimedAppEvent]:
        """Claim app events that are due."""
        return await self._database.write(app_events.claim, self._url, limit, self._clock.now())

    async def any_due(self) -> bool:
        """Return whether an app event is due; raises UnavailableError."""
        return await self._database.read(app_events.any_due, self._url, self._clock.now())

    async def deliver(self, client: EventClient, claimed: ClaimedAppEvent) -> None:
        """Post an app event and settle it."""
        await self.settler.settle(await self._post(client, claimed))

    async def _post(self, client: EventClient, claimed: ClaimedAppEvent) -> Settle:
        # The app compares the signed time with its wall clock.
        result = await client.post(name=claimed.public_id, body=claimed.body, at=self._clock.wall())
        now = self._clock.now()
        log = _log.bind(event_id=claimed.public_id, type=claimed.type)
        match result:
            case PostAccepted():
                log.info("event delivered", tries=claimed.attempts)
                return partial(app_events.settle_delivered, claimed=claimed)
            case EndpointGone():
                log.error("events paused", fault=GONE, advice=advice(GONE))
                return partial(_settle_gone, claimed=claimed, url=self._url, now=now)
            case PostLater(fault) if claimed.attempts > len(RETRY_DELAYS):
                replay = f"{advice(fault)}; then run: bot events replay {claimed.public_id}"
                log.error("event given up", fault=fault, advice=replay)
                return partial(app_events.settle_dead, claimed=claimed, fault=fault)
            case PostLater(fault, retry_after):
                due_at = now + self._retry_delay(claimed.attempts, retry_after or 0)
                log.warning(
                    "event will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
                return partial(app_events.settle_later, claimed=claimed, due_at=due_at, fault=fault)

    async def _record(self, settles: Sequence[Settle]) -> tuple[()]:
        def settle_all(connection: Connection) -> None:
            for settle in settles:
                settle(connection)

        await self._database.write(settle_all)
        return ()

    def _retry_delay(self, attempts: int, at_least: float) -> timedelta:
        jitter = random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return max(RETRY_DELAYS[attempts - 1] * jitter, timedelta(seconds=at_least))


def _settle_gone(connection: Connection, claimed: ClaimedAppEvent, url: str, now: datetime) -> None:
    """Disable an endpoint that is gone; its app events wait until it is resumed."""
    app_events.disable(connection, url, now)
    app_events.settle_later(connection, claimed, now, GONE)
