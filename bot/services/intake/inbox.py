"""The inbox: applies waiting webhooks and app requests in batches, one transaction each.

A webhook or an app's request is answered only after the commit that holds its changes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.transitions import ImpossibleError
from bot.services.intake.app_requests import AppRequest, RequestResult, carry_out, required_locks
from bot.services.intake.delivery_reports import apply_progress
from bot.services.intake.unit_of_work import decide_and_save
from bot.store import phone_limits, processed_webhooks, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import (
    BusyError,
    DeadlockError,
    LockedError,
    UnavailableError,
    UncertainCommitError,
)
from bot.store.queues import outbox
from bot.store.tables import OutboxState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.state import PhoneLimits
    from bot.services.clock import Clock
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

ANSWER_TIMEOUT = 1.8
"""Seconds from a webhook's arrival to the latest commit: Telnyx waits two."""
SECOND_COMMIT_TIMEOUT = 1.0
"""Seconds for applying a batch once more after a commit whose outcome is unknown."""
MAX_WAITING_WEBHOOKS = 4000
MAX_WAITING_REQUESTS = 1000
"""Fewer than webhooks, since strangers at the web form make requests too."""
_MAX_BATCH_SIZE = 200
_MAX_REQUESTS_BESIDE_WEBHOOKS = 20
"""Requests in a batch that also holds webhooks: strangers' requests can take long."""
_MIN_BATCH_TO_WAIT, _MAX_JOIN_WAITS = 8, 3
_JOIN_WAIT = 0.001
"""Seconds. Each transaction has a fixed cost: under load, a short wait for more items saves much of
it (as PostgreSQL's `commit_siblings` and `commit_delay` do)."""

_RETRY_DELAY = 0.03
"""Seconds until the retry of an item that needs a row locked by another transaction."""
_RETRY_MARGIN = 0.3
"""Such an item is refused this many seconds before its deadline: a transaction takes some time."""
_MAX_REQUEST_PAUSES = 3
"""How many retries of a webhook pause all requests. Without a pause, requests for the same phone,
which strangers can send at the web form without end, could hold its lock every time."""

_log = structlog.get_logger(__name__)

InboxItem = InboundText | DeliveryReport | AppRequest


class Deferred(Enum):
    """Why an item was not applied."""

    LOCKED = "needs a row that another transaction has locked"


_Result = RequestResult | Deferred | None


@dataclass(slots=True, eq=False)
class _WaitingItem:
    item: InboxItem
    deadline: float
    done: asyncio.Future[RequestResult | None]
    subject: str = field(init=False)
    """The item's phone, text or key; at most one running batch holds items of a subject."""
    tries: int = 0
    """How often another transaction had locked a row that the item needs."""
    blocked: bool = False
    """Whether that row could not be skipped, so that the item would make a whole batch wait."""

    def __post_init__(self) -> None:
        self.subject = _subject(self.item)

    def is_late(self, now: float) -> bool:
        """Return whether the item must be refused, since its transaction would end too late."""
        return self.deadline <= now + (_RETRY_MARGIN if self.tries else 0)

    def resolve(self, result: RequestResult | None) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def _subject(item: InboxItem) -> str:
    match item:
        case InboundText(phone=phone):
            return phone
        case DeliveryReport(carrier_id=carrier_id):
            return carrier_id
        case AppRequest(idempotency_key=idempotency_key):
            return idempotency_key.key


class Inbox:
    """Applies webhooks and app requests in batches; calls `after_commit` after each commit.

    `answer_within` and `second_commit_within` are seconds.
    """

    def __init__(  # noqa: PLR0913 - dependencies, and three options with defaults
        self,
        database: Database,
        rules: Rules,
        clock: Clock,
        after_commit: Callable[[], None],
        *,
        answer_within: float = ANSWER_TIMEOUT,
        second_commit_within: float = SECOND_COMMIT_TIMEOUT,
        max_waiting_requests: int = MAX_WAITING_REQUESTS,
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._after_commit = after_commit
        self._answer_within = answer_within
        self._second_commit_within = second_commit_within
        self._max_waiting_requests = max_waiting_requests
        self._webhooks: deque[_WaitingItem] = deque()
        self._requests: deque[_WaitingItem] = deque()
        self._busy: set[str] = set()
        """The subjects in a running batch, and those that wait for a lock until their retry."""
        self._request_pauses = 0
        """How many webhooks wait for a lock and must be retried before any more requests."""
        self._woken = asyncio.Event()
        self._blocked: asyncio.Queue[list[_WaitingItem]] = asyncio.Queue()
        """Items to be retried outside of batches, by subject."""
        self.alive = False

    async def handle_webhook(self, webhook: InboundText | DeliveryReport) -> None:
        """Return once the webhook's changes are committed, now or after an earlier delivery.

        Raises UnavailableError if they are not committed, and then they never will be.
        """
        if len(self._webhooks) >= MAX_WAITING_WEBHOOKS:
            raise UnavailableError("too many webhooks are waiting")
        await self._enqueue(webhook, self._webhooks)

    async def handle_request(self, request: AppRequest) -> RequestResult:
        """Return the committed result of an app's request; raises as `handle_webhook` does."""
        if len(self._requests) >= self._max_waiting_requests:
            raise UnavailableError("too many requests are waiting")
        result = await self._enqueue(request, self._requests)
        if result is None:
            raise ValueError("an app's request was not answered")
        return result

    async def _enqueue(self, item: InboxItem, queue: deque[_WaitingItem]) -> RequestResult | None:
        if not self.alive:
            raise UnavailableError("the inbox is not running")
        loop = asyncio.get_running_loop()
        waiting = _WaitingItem(item, loop.time() + self._answer_within, loop.create_future())
        queue.append(waiting)
        self._woken.set()
        return await waiting.done

    async def run(self) -> None:
        """Process batches until cancelled, as many at a time as the database has writers."""
        self.alive = True
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._database.writers):
                    group.create_task(self._process_batches())
                group.create_task(self._retry_blocked())
        finally:
            self.alive = False
            self._refuse(self._take_all(), UnavailableError("the inbox has stopped"))

    async def _process_batches(self) -> None:
        last_size = 0
        while True:
            await self._woken.wait()
            self._woken.clear()
            while batch := await self._next_batch(last_size):
                last_size = len(batch)
                await self._process_in_time(batch)

    async def _next_batch(self, last_size: int) -> list[_WaitingItem]:
        """Take the waiting items; after a large batch, first wait a little for more."""
        for _ in range(_MAX_JOIN_WAITS if last_size >= _MIN_BATCH_TO_WAIT else 0):
            before = self._count()
            await asyncio.sleep(_JOIN_WAIT)
            if not before < self._count() < _MAX_BATCH_SIZE:
                break
        return self._take_batch()

    def _count(self) -> int:
        return len(self._webhooks) + len(self._requests)

    def _take_batch(self) -> list[_WaitingItem]:
        """Take waiting items, webhooks first: Telnyx waits for two seconds only.

        Items of a subject in a running batch stay: two batches at once would decide one person's
        texts in the order of their locks, not in the order in which they came.
        """
        webhooks = self._take_free(self._webhooks, _MAX_BATCH_SIZE)
        limit = _MAX_REQUESTS_BESIDE_WEBHOOKS if webhooks else _MAX_BATCH_SIZE
        batch = webhooks + self._take_free(self._requests, 0 if self._request_pauses else limit)
        self._busy.update(waiting.subject for waiting in batch)
        return batch

    def _take_free(self, queue: deque[_WaitingItem], limit: int) -> list[_WaitingItem]:
        """Take up to `limit` items whose subject is in no running batch."""
        taken: list[_WaitingItem] = []
        busy: list[_WaitingItem] = []
        while queue and len(taken) < limit:
            waiting = queue.popleft()
            (busy if waiting.subject in self._busy else taken).append(waiting)
        queue.extendleft(reversed(busy))
        return taken

    def _take_all(self) -> list[_WaitingItem]:
        taken = [*self._webhooks, *self._requests]
        self._webhooks.clear()
        self._requests.clear()
        while not self._blocked.empty():
            taken += self._blocked.get_nowait()
        return taken

    async def _process_in_time(self, batch: Sequence[_WaitingItem]) -> None:
        """Refuse the items that have waited too long, and process the others."""
        now = asyncio.get_running_loop().time()
        late = [waiting for waiting in batch if waiting.is_late(now)]
        self._refuse(late, UnavailableError("too many items are waiting"))
        in_time = [waiting for waiting in batch if not waiting.is_late(now)]
        try:
            deferred = await self._process(in_time) if in_time else []
        finally:
            self._busy.difference_update(waiting.subject for waiting in batch)
        self._retry_later(deferred)

    def _retry_later(self, deferred: Sequence[_WaitingItem]) -> None:
        """Schedule a retry of items that need a locked row, all of one subject in the same way."""
        if not deferred:
            return
        for waiting in deferred:
            waiting.tries += 1
        self._busy.update(waiting.subject for waiting in deferred)
        blocked = {waiting.subject: list[_WaitingItem]() for waiting in deferred if waiting.blocked}
        for waiting in deferred:
            if waiting.subject in blocked:
                blocked[waiting.subject].append(waiting)
        for group in blocked.values():
            self._blocked.put_nowait(group)
        self._requeue([waiting for waiting in deferred if waiting.subject not in blocked])

    async def _retry_blocked(self) -> None:
        """Retry blocked items one subject at a time: a whole batch would wait for their lock."""
        while True:
            group = await self._blocked.get()
            try:
                await asyncio.sleep(_RETRY_DELAY)
                await self._process_in_time(group)
            except asyncio.CancelledError:
                self._refuse(group, UnavailableError("the inbox has stopped"))
                raise
            self._woken.set()

    def _requeue(self, deferred: Sequence[_WaitingItem]) -> None:
        """Put items back in front, and release their subjects after the retry delay."""
        pauses = 0
        for waiting in reversed(deferred):
            is_request = isinstance(waiting.item, AppRequest)
            pauses += waiting.tries <= _MAX_REQUEST_PAUSES and not is_request
            (self._requests if is_request else self._webhooks).appendleft(waiting)
        subjects = {waiting.subject for waiting in deferred}
        self._request_pauses += pauses

        def release() -> None:
            self._busy -= subjects
            self._request_pauses -= pauses
            self._woken.set()

        asyncio.get_running_loop().call_later(_RETRY_DELAY, release)

    async def _process(self, batch: Sequence[_WaitingItem]) -> list[_WaitingItem]:
        """Apply and answer a batch; return the items that need a locked row."""
        # Apps can wait longer: a batch of requests has only the default deadline. A retried item
        # has little time left, and must not shorten the time of the others.
        first = next((waiting for waiting in batch if not waiting.tries), batch[0])
        deadline = None if isinstance(batch[0].item, AppRequest) else first.deadline
        try:
            results = await self._commit([waiting.item for waiting in batch], deadline)
        except asyncio.CancelledError:
            self._refuse(batch, UnavailableError("the inbox has stopped"))
            raise
        except Exception as error:  # noqa: BLE001 - one bad item must not end the inbox
            return await self._after_failure(batch, error)
        deferred: list[_WaitingItem] = []
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, Deferred):
                deferred.append(waiting)
            else:
                waiting.resolve(result)
        if len(deferred) < len(batch):
            self._after_commit()
        return deferred

    async def _after_failure(
        self, batch: Sequence[_WaitingItem], error: Exception
    ) -> list[_WaitingItem]:
        """Refuse a batch that was not committed; return the items that are worth a retry."""
        match error:
            case LockedError() if len(batch) == 1:
                batch[0].blocked = True
                return list(batch)
            case LockedError():
                return await self._process_one_by_one(batch)
            case DeadlockError() | BusyError():
                self._refuse(batch, error)  # the waiting items have a later deadline
            case UnavailableError():
                # The waiting items would fail in the same outage, each after its own timeout.
                refused = [*batch, *self._take_all()]
                _log.warning("webhooks refused", count=len(refused), reason=str(error))
                self._refuse(refused, error)
            case _ if len(batch) > 1:
                return await self._process_one_by_one(batch)
            case ImpossibleError():
                _log.error(
                    "inbox item refused",
                    reason=f"the stored facts of a conversation contradict each other: {error}",
                    advice="report this; it ends when the conversation's code has expired",
                )
                batch[0].refuse(UnavailableError(type(error).__name__))
            case _:
                _log.error("inbox item failed", type=type(batch[0].item).__name__, exc_info=error)
                batch[0].refuse(UnavailableError(type(error).__name__))
        return []

    async def _process_one_by_one(self, batch: Sequence[_WaitingItem]) -> list[_WaitingItem]:
        deferred: list[_WaitingItem] = []
        try:
            for waiting in batch:
                if waiting.is_late(asyncio.get_running_loop().time()):
                    waiting.refuse(UnavailableError("too many items are waiting"))
                elif any(earlier.subject == waiting.subject for earlier in deferred):
                    deferred.append(waiting)
                else:
                    deferred += await self._process([waiting])
        except BaseException:
            self._refuse(batch, UnavailableError("the inbox has stopped"))
            raise
        return deferred

    async def _commit(self, items: Sequence[InboxItem], deadline: float | None) -> list[_Result]:
        try:
            return await self._write(items, deadline)
        except UncertainCommitError:
            # Applied again, a committed item changes nothing and gives the same result.
            again = asyncio.get_running_loop().time() + self._second_commit_within
            return await self._write(items, again)

    async def _write(self, items: Sequence[InboxItem], deadline: float | None) -> list[_Result]:
        now = self._clock.now()
        return await self._database.write(
            apply, items, now, self._rules, deadline=deadline, wait_for_locks=False
        )

    def _refuse(self, batch: Sequence[_WaitingItem], error: Exception) -> None:
        for waiting in batch:
            waiting.refuse(error)


def apply(
    connection: Connection, items: Sequence[InboxItem], now: datetime, rules: Rules
) -> list[_Result]:
    """Apply webhooks, then app requests, each in the order given; a repeated one changes nothing.

    Returns the result of each app request, None for each webhook, and Deferred for each item that
    was not applied.
    """
    locked = _lock_rows(connection, items)
    applicable = [item for item, free in zip(items, locked.free, strict=True) if free]
    requests = [item for item in applicable if isinstance(item, AppRequest)]
    webhooks = [item for item in applicable if not isinstance(item, AppRequest)]
    _apply_webhooks(connection, webhooks, locked.limits, now, rules)
    answers = carry_out(connection, requests, now, rules)
    results = dict(zip(map(id, requests), answers, strict=True))
    return [
        results.get(id(item)) if free else Deferred.LOCKED
        for item, free in zip(items, locked.free, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _LockedRows:
    """Which items can be applied, in their order, and the limits of the phones that text."""

    free: list[bool]
    limits: Mapping[str, PhoneLimits]


def _lock_rows(connection: Connection, items: Sequence[InboxItem]) -> _LockedRows:
    """Lock the rows that items need before anything is written, without waiting for any.

    A phone whose limits are locked, perhaps by a process that hangs, must not make the others
    wait. A transaction that never waits cannot be part of a deadlock either.
    """
    texting = {item.phone for item in items if isinstance(item, InboundText)}
    reports = [item for item in items if isinstance(item, DeliveryReport)]
    requests = [item for item in items if isinstance(item, AppRequest)]
    locked_texts = outbox.texts_locked_elsewhere(
        connection, {report.carrier_id for report in reports}
    )
    failed = [report.carrier_id for report in reports if report.status is DeliveryStatus.FAILED]
    failed_phones = outbox.phones_of(connection, failed)
    required = dict(zip(map(id, requests), required_locks(connection, requests), strict=True))
    requested = {locks.phone for locks in required.values() if locks.phone}
    others = requested.union(failed_phones.values())
    limits = phone_limits.lock_free(connection, others, create_for=texting)
    free = limits.phones
    needs_form = any(locks.form for locks in required.values())
    form_free = not needs_form or verifications.try_lock_form(connection)

    def is_free(item: InboxItem) -> bool:
        match item:
            case InboundText(phone=phone):
                return phone in free
            case DeliveryReport(carrier_id=carrier_id):
                phone_free = carrier_id not in failed_phones or failed_phones[carrier_id] in free
                return phone_free and carrier_id not in locked_texts
            case AppRequest():
                locks = required[id(item)]
                phone_free = not locks.phone or locks.phone in free
                return phone_free and (form_free or not locks.form)

    return _LockedRows([is_free(item) for item in items], limits.limits_of)


def _apply_webhooks(
    connection: Connection,
    webhooks: Sequence[InboundText | DeliveryReport],
    limits: Mapping[str, PhoneLimits],
    now: datetime,
    rules: Rules,
) -> None:
    """Apply the webhooks that were not applied before, by their key."""
    new_keys = processed_webhooks.first_seen(connection, {each.key for each in webhooks}, now)
    texts: list[InboundText] = []
    reports: list[DeliveryReport] = []
    for webhook in webhooks:
        if webhook.key in new_keys:
            new_keys.remove(webhook.key)
            texts.append(webhook) if isinstance(webhook, InboundText) else reports.append(webhook)
    inputs = [(ConversationKey(text.phone, text.bot_number), text.input) for text in texts]
    decide_and_save(connection, inputs, now, rules, locked_limits=limits)
    apply_progress(connection, _apply_reports(connection, reports, now), now, rules)


def _apply_reports(
    connection: Connection, reports: Sequence[DeliveryReport], now: datetime
) -> list[outbox.TextProgress]:
    """Apply reports in the order of their key, so that two transactions do not deadlock."""
    progress = []
    for report in sorted(reports, key=lambda report: report.carrier_id):
        state = OutboxState(report.status)
        text_report = outbox.TextReport(report.carrier_id, state, report.fault)
        progress += outbox.report(connection, text_report, now)
    return progress
