"""Many waiting webhooks and requests, one transaction: load, decide, save, queue the replies.

A webhook, or an app's request, is answered only after the commit that holds its event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import structlog

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.services.intake.app_requests import AppRequest, RequestResult, answer, needs
from bot.services.intake.delivery_reports import apply_progress
from bot.services.intake.unit_of_work import decide_and_save
from bot.store import phone_limits, processed_webhooks, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import (
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
"""Seconds in which events are applied once more whose first commit may stand or not."""
_MAX_WAITING_TEXTS = 4000
_MAX_WAITING_REQUESTS = 1000
"""Requests of apps that may wait: they come from strangers too."""
_MAX_BATCH_SIZE = 200
_MAX_REQUESTS_BESIDE_TEXTS = 20
"""Requests in a transaction that holds texts too: those of strangers can take long."""
_MIN_BATCH_TO_WAIT, _MAX_WAITS = 8, 3
_JOIN_WAIT = 0.001
"""Seconds. A transaction has a cost of its own: under load, to wait for a few more spares much of
it (as PostgreSQL's `commit_siblings` and `commit_delay` do)."""

_RETRY_DELAY = 0.03
"""Seconds until what somebody else held is tried again."""
_LAST_TRY_BEFORE = 0.3
"""Seconds before its deadline at which such an event is refused: a transaction takes some."""
_MAX_PAUSES = 3
"""How often what apps ask waits for such a text: else those who ask for a phone without end, be
they strangers at the web form, could keep its texts out."""

_log = structlog.get_logger(__name__)

InboxItem = InboundText | DeliveryReport | AppRequest


class Postponed(Enum):
    """Why an event was not decided: somebody else holds what it needs."""

    ELSEWHERE = "held elsewhere"


_Result = RequestResult | Postponed | None


@dataclass(slots=True, eq=False)
class _WaitingItem:
    event: InboxItem
    deadline: float
    done: asyncio.Future[RequestResult | None]
    subject: str = field(init=False)
    """What the event is about; one subject is in one running batch at most."""
    tries: int = 0
    """How often it was to be decided and something it needs was held elsewhere."""
    met_lock: bool = False
    """Whether it had to wait for a row that cannot be passed over, and would make others wait."""

    def __post_init__(self) -> None:
        self.subject = _subject(self.event)

    def late_at(self, now: float) -> bool:
        """Tell whether it is to be refused; one that meets a lock must not be late with others."""
        return self.deadline <= now + (_LAST_TRY_BEFORE if self.tries else 0)

    def accept(self, result: RequestResult | None) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def _subject(event: InboxItem) -> str:
    match event:
        case InboundText(phone=phone):
            return phone
        case DeliveryReport(carrier_id=carrier_id):
            return carrier_id
        case AppRequest(once=once):
            return once.key


class Inbox:
    """The writer of what people text; `after_commit` is told of each commit.

    `answer_within` and `second_commit_within` are the seconds that each of the two may take.
    """

    def __init__(  # noqa: PLR0913 - its parts, and two figures with their usual values
        self,
        database: Database,
        rules: Rules,
        clock: Clock,
        after_commit: Callable[[], None],
        *,
        answer_within: float = ANSWER_TIMEOUT,
        second_commit_within: float = SECOND_COMMIT_TIMEOUT,
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._after_commit = after_commit
        self._answer_within = answer_within
        self._second_commit_within = second_commit_within
        self._texts: deque[_WaitingItem] = deque()
        self._requests: deque[_WaitingItem] = deque()
        self._busy: set[str] = set()
        """The subjects in a running batch, and those held elsewhere until they are tried again."""
        self._pausing = 0
        """How many texts held elsewhere must not meet what apps ask when they are tried again."""
        self._woken = asyncio.Event()
        self._aside: asyncio.Queue[list[_WaitingItem]] = asyncio.Queue()
        """What met a lock that cannot be passed over, by subject."""
        self.alive = False

    async def accept(self, event: InboundText | DeliveryReport) -> None:
        """Return once the event is committed, or was before.

        Raises UnavailableError where it is not, and then it never will be.
        """
        if len(self._texts) >= _MAX_WAITING_TEXTS:
            raise UnavailableError("too many webhooks wait")
        await self._committed(event, self._texts)

    async def ask(self, request: AppRequest) -> RequestResult:
        """Return what an app's request has led to, once that is committed; raises as `accept`."""
        if len(self._requests) >= _MAX_WAITING_REQUESTS:
            raise UnavailableError("too many requests wait")
        result = await self._committed(request, self._requests)
        if result is None:
            raise ValueError("an app's request was not answered")
        return result

    async def _committed(
        self, event: InboxItem, queue: deque[_WaitingItem]
    ) -> RequestResult | None:
        if not self.alive:
            raise UnavailableError("the writer is not running")
        loop = asyncio.get_running_loop()
        waiting = _WaitingItem(event, loop.time() + self._answer_within, loop.create_future())
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
                group.create_task(self._serve_aside())
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

    async def _gather(self, siblings: int) -> list[_WaitingItem]:
        """Take what waits; where many came together, let more join, but not for long."""
        for _ in range(_MAX_WAITS if siblings >= _MIN_BATCH_TO_WAIT else 0):
            before = self._count()
            await asyncio.sleep(_JOIN_WAIT)
            if not before < self._count() < _MAX_BATCH_SIZE:
                break
        return self._take()

    def _count(self) -> int:
        return len(self._texts) + len(self._requests)

    def _take(self) -> list[_WaitingItem]:
        """Take those that wait, first what the carrier has sent: it waits for two seconds only.

        What is about a subject of a running batch stays: two batches at once would decide one
        person's texts in the order of their locks, not in that in which they came.
        """
        texts = self._first(self._texts, _MAX_BATCH_SIZE)
        most = _MAX_REQUESTS_BESIDE_TEXTS if texts else _MAX_BATCH_SIZE
        batch = texts + self._first(self._requests, 0 if self._pausing else most)
        self._busy.update(waiting.subject for waiting in batch)
        return batch

    def _first(self, queue: deque[_WaitingItem], most: int) -> list[_WaitingItem]:
        taken: list[_WaitingItem] = []
        passed_over: list[_WaitingItem] = []
        while queue and len(taken) < most:
            waiting = queue.popleft()
            (passed_over if waiting.subject in self._busy else taken).append(waiting)
        queue.extendleft(reversed(passed_over))
        return taken

    def _take_all(self) -> list[_WaitingItem]:
        everything = [*self._texts, *self._requests]
        self._texts.clear()
        self._requests.clear()
        while not self._aside.empty():
            everything += self._aside.get_nowait()
        return everything

    async def _serve_in_time(self, batch: Sequence[_WaitingItem]) -> None:
        """Refuse what has waited too long, by no fault of the database, and serve the others."""
        now = asyncio.get_running_loop().time()
        late = [waiting for waiting in batch if waiting.late_at(now)]
        self._refuse(late, UnavailableError("too much waits"))
        in_time = [waiting for waiting in batch if not waiting.late_at(now)]
        try:
            held = await self._serve(in_time) if in_time else []
        finally:
            self._busy.difference_update(waiting.subject for waiting in batch)
        self._try_later(held)

    def _try_later(self, held: Sequence[_WaitingItem]) -> None:
        """Try again soon what somebody else held, all of one subject in the same way."""
        if not held:
            return
        for waiting in held:
            waiting.tries += 1
        self._busy.update(waiting.subject for waiting in held)
        aside = {waiting.subject: list[_WaitingItem]() for waiting in held if waiting.met_lock}
        for waiting in held:
            if waiting.subject in aside:
                aside[waiting.subject].append(waiting)
        for waits in aside.values():
            self._aside.put_nowait(waits)
        self._put_back([waiting for waiting in held if waiting.subject not in aside])

    async def _serve_aside(self) -> None:
        """Try what met a lock again, a subject at a time: in a batch all would wait for it."""
        while True:
            waits = await self._aside.get()
            try:
                await asyncio.sleep(_RETRY_DELAY)
                await self._serve_in_time(waits)
            except asyncio.CancelledError:
                self._refuse(waits, UnavailableError("the writer has stopped"))
                raise
            self._woken.set()

    def _put_back(self, held: Sequence[_WaitingItem]) -> None:
        """Let what can be passed over come first when it is tried again."""
        pauses = 0
        for waiting in reversed(held):
            pauses += waiting.tries <= _MAX_PAUSES and not isinstance(waiting.event, AppRequest)
            queue = self._requests if isinstance(waiting.event, AppRequest) else self._texts
            queue.appendleft(waiting)
        subjects = {waiting.subject for waiting in held}
        self._pausing += pauses

        def try_again() -> None:
            self._busy -= subjects
            self._pausing -= pauses
            self._woken.set()

        asyncio.get_running_loop().call_later(_RETRY_DELAY, try_again)

    async def _serve(self, batch: Sequence[_WaitingItem]) -> list[_WaitingItem]:
        """Answer a batch, all but what somebody else holds: return that."""
        # Apps can wait longer: where only they ask, the deadline is that of any transaction.
        # What was held elsewhere has little time left, and hurries nobody.
        first = next((waiting for waiting in batch if not waiting.tries), batch[0])
        deadline = None if isinstance(batch[0].event, AppRequest) else first.deadline
        try:
            results = await self._commit([waiting.event for waiting in batch], deadline)
        except asyncio.CancelledError:
            self._refuse(batch, UnavailableError("the writer has stopped"))
            raise
        except Exception as error:  # noqa: BLE001 - one bad event must not end the writer
            return await self._after_failure(batch, error)
        held: list[_WaitingItem] = []
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, Postponed):
                held.append(waiting)
            else:
                waiting.accept(result)
        if len(held) < len(batch):
            self._after_commit()
        return held

    async def _after_failure(
        self, batch: Sequence[_WaitingItem], error: Exception
    ) -> list[_WaitingItem]:
        """Refuse a batch that was not committed; return what is worth another try."""
        match error:
            case DeadlockError():
                self._refuse(batch, error)  # the others were not in anybody's way
            case LockedError() if len(batch) == 1:
                batch[0].met_lock = True
                return list(batch)
            case UnavailableError() if not isinstance(error, LockedError):
                # Those that wait would meet the same outage, each after a wait of its own.
                refused = [*batch, *self._take_all()]
                _log.warning("webhooks refused", count=len(refused), reason=str(error))
                self._refuse(refused, error)
            case _ if len(batch) > 1:
                return await self._serve_one_by_one(batch)
            case _:
                _log.error("event failed", event_type=type(batch[0].event).__name__, exc_info=error)
                batch[0].refuse(UnavailableError(type(error).__name__))
        return []

    async def _serve_one_by_one(self, batch: Sequence[_WaitingItem]) -> list[_WaitingItem]:
        held: list[_WaitingItem] = []
        try:
            for waiting in batch:
                if waiting.late_at(asyncio.get_running_loop().time()):
                    waiting.refuse(UnavailableError("too much waits"))
                elif any(earlier.subject == waiting.subject for earlier in held):
                    held.append(waiting)
                else:
                    held += await self._serve([waiting])
        except BaseException:
            self._refuse(batch, UnavailableError("the writer has stopped"))
            raise
        return held

    async def _commit(self, events: Sequence[InboxItem], deadline: float | None) -> list[_Result]:
        try:
            return await self._write(events, deadline)
        except UncertainCommitError:
            # Applied a second time an event changes nothing, so the answer is known afterwards.
            again = asyncio.get_running_loop().time() + self._second_commit_within
            return await self._write(events, again)

    async def _write(self, events: Sequence[InboxItem], deadline: float | None) -> list[_Result]:
        now = self._clock.now()
        return await self._database.write(
            apply, events, now, self._rules, deadline=deadline, wait_for_locks=False
        )

    def _refuse(self, batch: Sequence[_WaitingItem], error: Exception) -> None:
        for waiting in batch:
            waiting.refuse(error)


def apply(
    connection: Connection, events: Sequence[InboxItem], now: datetime, rules: Rules
) -> list[_Result]:
    """Apply events, those of a kind in the order given, each once however often it comes.

    Returns what each request of an app has led to, None for the others, and for an event of which
    somebody else holds what it needs that nothing was done.
    """
    taken = _lock_rows(connection, events)
    free = [event for event, is_free in zip(events, taken.free, strict=True) if is_free]
    requests = [event for event in free if isinstance(event, AppRequest)]
    heard = [event for event in free if not isinstance(event, AppRequest)]
    _apply_webhooks(connection, heard, taken.limits_of, now, rules)
    answers = dict(zip(map(id, requests), answer(connection, requests, now, rules), strict=True))
    return [
        answers.get(id(event)) if is_free else Postponed.ELSEWHERE
        for event, is_free in zip(events, taken.free, strict=True)
    ]


class _LockedRows(NamedTuple):
    """Which of some events, in their order, can be applied, and the ledgers of those who text."""

    free: list[bool]
    limits_of: Mapping[str, PhoneLimits]


def _lock_rows(connection: Connection, events: Sequence[InboxItem]) -> _LockedRows:
    """Take what events need before anything is written, and wait for none of it.

    One phone whose ledger is held, be it by a process that stands still, must not keep the others
    waiting. Who waits for nothing is in no deadlock either.
    """
    texting = {event.phone for event in events if isinstance(event, InboundText)}
    reports = [event for event in events if isinstance(event, DeliveryReport)]
    asked = [event for event in events if isinstance(event, AppRequest)]
    reported_held = outbox.reported_held(connection, {report.carrier_id for report in reports})
    failed = [report.carrier_id for report in reports if report.status is DeliveryStatus.FAILED]
    phone_of = outbox.phones_of(connection, failed)
    needed = dict(zip(map(id, asked), needs(connection, asked), strict=True))
    asked_of = {need.phone for need in needed.values() if need.phone}
    taken = phone_limits.lock_free(connection, asked_of.union(phone_of.values()), making=texting)
    free_phones = taken.phones
    free_to_apps = free_phones - phone_limits.web_limits_locked_elsewhere(connection, asked_of)
    form = not any(need.form for need in needed.values()) or verifications.take_form(connection)

    def is_free(event: InboxItem) -> bool:
        match event:
            case InboundText(phone=phone):
                return phone in free_phones
            case DeliveryReport(carrier_id=carrier_id):
                failed_to = phone_of.get(carrier_id)
                held = carrier_id in reported_held
                return not held and (failed_to is None or failed_to in free_phones)
            case AppRequest():
                need = needed[id(event)]
                return (form or not need.form) and (not need.phone or need.phone in free_to_apps)

    return _LockedRows([is_free(event) for event in events], taken.limits_of)


def _apply_webhooks(
    connection: Connection,
    events: Sequence[InboundText | DeliveryReport],
    held: Mapping[str, PhoneLimits],
    now: datetime,
    rules: Rules,
) -> None:
    """Apply what the carrier has sent and was not applied before, by key."""
    fresh = processed_webhooks.first_seen(connection, {event.key for event in events}, now)
    texts: list[InboundText] = []
    reports: list[DeliveryReport] = []
    for event in events:
        if event.key in fresh:
            fresh.remove(event.key)
            texts.append(event) if isinstance(event, InboundText) else reports.append(event)
    said = [(ConversationKey(text.phone, text.bot_number), text.input) for text in texts]
    decide_and_save(connection, said, now, rules, held=held)
    apply_progress(connection, _apply_reports(connection, reports, now), now, rules)


def _apply_reports(
    connection: Connection, reports: Sequence[DeliveryReport], now: datetime
) -> list[outbox.TextProgress]:
    """Note the reports in the order of their key, so that two transactions do not deadlock."""
    moved = []
    for report in sorted(reports, key=lambda report: report.carrier_id):
        news = outbox.TextReport(report.carrier_id, OutboxState(report.status), report.fault)
        moved += outbox.report(connection, news, now)
    return moved
