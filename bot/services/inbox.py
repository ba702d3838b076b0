"""Many waiting webhooks and requests, one transaction: load, decide, save, queue the replies.

A webhook, or an app's request, is answered only after the commit that holds its event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bot.carrier.webhooks import Delivery, DeliveryReport, InboundText
from bot.services.deliveries import follow
from bot.services.requests import Request, Result, answer, phones_in
from bot.services.turns import take_turns
from bot.store import ledgers, outbox, received
from bot.store.conversations import Key
from bot.store.models import OutboxState
from bot.store.outages import DeadlockError, UnavailableError, UncertainCommitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.turns import Rules
    from bot.store.database import Database

ANSWER_WITHIN = 1.8
"""Seconds from a webhook's arrival to the latest commit: Telnyx waits two."""
_SECOND_COMMIT_WITHIN = 1.0
_TEXTS_MOST = 4000
_REQUESTS_MOST = 1000
"""Requests of apps that may wait: they come from strangers too."""
_BATCH_LARGEST = 200
_REQUESTS_BESIDE_TEXTS = 20
"""Requests in a transaction that holds texts too: those of strangers can take long."""
_SIBLINGS, _JOINS = 8, 3
_JOIN_WITHIN = 0.001
"""Seconds. A transaction has a cost of its own: under load, to wait for a few more spares much of
it (as PostgreSQL's `commit_siblings` and `commit_delay` do)."""

_log = structlog.get_logger(__name__)

Event = InboundText | DeliveryReport | Request


@dataclass(slots=True, eq=False)
class _Waiting:
    event: Event
    deadline: float
    done: asyncio.Future[Result | None]

    def accept(self, result: Result | None) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Inbox:
    """The writer of what people text; `after_commit` is told of each commit."""

    def __init__(
        self, database: Database, rules: Rules, clock: Clock, after_commit: Callable[[], None]
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._after_commit = after_commit
        self._texts: deque[_Waiting] = deque()
        self._requests: deque[_Waiting] = deque()
        self._woken = asyncio.Event()
        self.alive = False

    async def accept(self, event: InboundText | DeliveryReport) -> None:
        """Return once the event is committed, or was before.

        Raises UnavailableError where it is not, and then it never will be.
        """
        if len(self._texts) >= _TEXTS_MOST:
            raise UnavailableError("too many webhooks wait")
        await self._committed(event, self._texts)

    async def ask(self, request: Request) -> Result:
        """Return what an app's request has led to, once that is committed; raises as `accept`."""
        if len(self._requests) >= _REQUESTS_MOST:
            raise UnavailableError("too many requests wait")
        result = await self._committed(request, self._requests)
        if result is None:
            raise ValueError("an app's request was not answered")
        return result

    async def _committed(self, event: Event, queue: deque[_Waiting]) -> Result | None:
        if not self.alive:
            raise UnavailableError("the writer is not running")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.time() + ANSWER_WITHIN, loop.create_future())
        queue.append(waiting)
        self._woken.set()
        return await waiting.done

    async def run(self) -> None:
        """Serve batches until cancelled, as many at a time as the database can."""
        self.alive = True
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._database.writers):
                    group.create_task(self._serve_batches())
        finally:
            self.alive = False
            self._refuse(self._take_all(), UnavailableError("the writer has stopped"))

    async def _serve_batches(self) -> None:
        siblings = 0
        while True:
            await self._woken.wait()
            self._woken.clear()
            while batch := await self._gather(siblings):
                siblings = len(batch)
                await self._serve_in_time(batch)

    async def _gather(self, siblings: int) -> list[_Waiting]:
        """Take what waits; where many came together, let more join, but not for long."""
        for _ in range(_JOINS if siblings >= _SIBLINGS else 0):
            before = self._count()
            await asyncio.sleep(_JOIN_WITHIN)
            if not before < self._count() < _BATCH_LARGEST:
                break
        return self._take()

    def _count(self) -> int:
        return len(self._texts) + len(self._requests)

    def _take(self) -> list[_Waiting]:
        """Take those that wait, first what the carrier has sent: it waits for two seconds only."""
        texts = _first(self._texts, _BATCH_LARGEST)
        return texts + _first(self._requests, _REQUESTS_BESIDE_TEXTS if texts else _BATCH_LARGEST)

    def _take_all(self) -> list[_Waiting]:
        return _first(self._texts, _TEXTS_MOST) + _first(self._requests, _REQUESTS_MOST)

    async def _serve_in_time(self, batch: Sequence[_Waiting]) -> None:
        """Refuse what has waited too long, by no fault of the database, and serve the others."""
        now = asyncio.get_running_loop().time()
        late = [waiting for waiting in batch if waiting.deadline <= now]
        self._refuse(late, UnavailableError("too much waits"))
        in_time = [waiting for waiting in batch if waiting.deadline > now]
        if in_time:
            await self._serve(in_time)

    async def _serve(self, batch: Sequence[_Waiting]) -> None:
        try:
            # Apps can wait longer: where only they ask, the deadline is that of any transaction.
            deadline = None if isinstance(batch[0].event, Request) else batch[0].deadline
            results = await self._commit([waiting.event for waiting in batch], deadline)
        except DeadlockError as error:
            self._refuse(batch, error)  # the others were not in anybody's way
        except UnavailableError as error:
            # Those that wait would meet the same outage, each after a wait of its own.
            refused = [*batch, *self._take_all()]
            _log.warning("webhooks refused", count=len(refused), reason=str(error))
            self._refuse(refused, error)
        except asyncio.CancelledError:
            self._refuse(batch, UnavailableError("the writer has stopped"))
            raise
        except Exception as error:  # noqa: BLE001 - one bad event must not end the writer
            if len(batch) > 1:
                try:
                    for waiting in batch:
                        await self._serve([waiting])
                finally:
                    self._refuse(batch, UnavailableError("the writer has stopped"))
                return
            _log.exception("event failed", event_type=type(batch[0].event).__name__)
            batch[0].refuse(UnavailableError(type(error).__name__))
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.accept(result)
            self._after_commit()

    async def _commit(self, events: Sequence[Event], deadline: float | None) -> list[Result | None]:
        write = self._database.write
        try:
            return await write(apply, events, self._clock.now(), self._rules, deadline=deadline)
        except UncertainCommitError:
            # Applied a second time an event changes nothing, so the answer is known afterwards.
            again = asyncio.get_running_loop().time() + _SECOND_COMMIT_WITHIN
            return await write(apply, events, self._clock.now(), self._rules, deadline=again)

    def _refuse(self, batch: Sequence[_Waiting], error: Exception) -> None:
        for waiting in batch:
            waiting.refuse(error)


def _first(queue: deque[_Waiting], most: int) -> list[_Waiting]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]


def apply(
    connection: Connection, events: Sequence[Event], now: datetime, rules: Rules
) -> list[Result | None]:
    """Apply events, those of a kind in the order given, each once however often it comes.

    Returns what each request of an app has led to, and None for the others.
    """
    requests = [event for event in events if isinstance(event, Request)]
    heard = [event for event in events if not isinstance(event, Request)]
    fresh = received.first_seen(connection, {event.key for event in heard}, now)
    _hold(connection, events)
    _hear(connection, heard, fresh, now, rules)
    results = iter(answer(connection, requests, now, rules))
    return [next(results) if isinstance(event, Request) else None for event in events]


def _hold(connection: Connection, events: Sequence[Event]) -> None:
    """Take the ledgers of all phones at once, after the webhooks' keys and before any other row.

    Each part of the transaction takes those it needs in the order of their key; two parts together
    would not keep that order, and two processes would wait for each other. Texts alone are one
    part.
    """
    reports = [event for event in events if isinstance(event, DeliveryReport)]
    failed = [report.carrier_id for report in reports if report.delivery is Delivery.FAILED]
    asked = [event for event in events if isinstance(event, Request)]
    phones = outbox.phones_of(connection, failed) | phones_in(connection, asked)
    if phones:
        texting = {event.phone for event in events if isinstance(event, InboundText)}
        ledgers.hold(connection, phones, making=texting)


def _hear(
    connection: Connection,
    events: Sequence[InboundText | DeliveryReport],
    fresh: set[str],
    now: datetime,
    rules: Rules,
) -> None:
    """Apply what the carrier has sent and what is `fresh` of it, by key."""
    texts: list[InboundText] = []
    reports: list[DeliveryReport] = []
    for event in events:
        if event.key in fresh:
            fresh.remove(event.key)
            texts.append(event) if isinstance(event, InboundText) else reports.append(event)
    take_turns(
        connection,
        [(Key(text.phone, text.bot_number), text.said) for text in texts],
        now,
        rules,
    )
    follow(connection, _moved(connection, reports, now), now, rules)


def _moved(
    connection: Connection, reports: Sequence[DeliveryReport], now: datetime
) -> list[outbox.Progress]:
    """Note the reports in the order of their key, so that two transactions do not deadlock."""
    moved = []
    for report in sorted(reports, key=lambda report: report.carrier_id):
        news = outbox.Report(report.carrier_id, OutboxState(report.delivery), report.fault)
        moved += outbox.report(connection, news, now)
    return moved
