"""A worker that claims and delivers the items of a queue, and a settler that records the results.

The sender uses both for texts in the outbox, the notifier for app events.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import structlog

from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

Client = TypeVar("Client")
Client_contra = TypeVar("Client_contra", contravariant=True)
Item = TypeVar("Item")
Attempt = TypeVar("Attempt")

POLL_INTERVAL = 1.0
"""Seconds between two polls of a queue when nothing wakes its worker."""
DRAIN_TIMEOUT = 6.0
"""Seconds that deliveries in flight may take when the process ends."""
SETTLE_RETRY_DELAYS = (0.2, 1.0, 3.0, 9.0)
"""Seconds between the tries to record an attempt; after the last one, its lease expires."""
JITTER = 0.2
"""The share by which the delay before a retry varies, so that retries spread."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds until the throttle lets any item be sent, and until it lets more be sent than now."""

    all: float = 0.0
    next: float = math.inf


class BatchSettler(Generic[Attempt]):
    """Records finished attempts in groups, one transaction each: a commit costs a disk flush.

    `queue` is the name of the items in the log. `record` writes a group, and returns the attempts
    whose rows another transaction has locked. The lock `transaction` is held meanwhile: a claim
    that waits for it finds the slots that the group frees.
    """

    def __init__(
        self,
        queue: str,
        record: Callable[[Sequence[Attempt]], Awaitable[Sequence[Attempt]]],
        retry_delays: Sequence[float] = SETTLE_RETRY_DELAYS,
    ) -> None:
        self.queue = queue
        self._record = record
        self._retry_delays = retry_delays
        self._pending: list[Attempt] = []
        self._turn = asyncio.Lock()  # also held during the delay after an outage
        self.transaction = asyncio.Lock()

    async def settle(self, attempt: Attempt) -> None:
        """Record how an attempt ended; if that fails, its lease expires and it is repeated."""
        self._pending.append(attempt)
        for delay in self._retry_delays:
            async with self._turn:
                if attempt not in self._pending:  # recorded with an earlier group
                    return
                try:
                    async with self.transaction:
                        await self._settle_group(self._pending[:])
                except UnavailableError as error:
                    _log.warning("database unavailable", queue=self.queue, reason=str(error))
                    await asyncio.sleep(delay)
                    continue
            if attempt in self._pending:
                await asyncio.sleep(delay)  # its row is locked: the others need not wait
        if attempt in self._pending:
            self._pending.remove(attempt)

    async def _settle_group(self, attempts: Sequence[Attempt]) -> None:
        """Record attempts in one transaction, or each in its own if that one fails."""
        try:
            locked = await self._record(attempts)
        except UnavailableError:
            raise
        except Exception:  # noqa: BLE001 - one bad attempt must not keep the others from settling
            if len(attempts) > 1:
                for attempt in attempts:
                    await self._settle_group([attempt])
                return
            _log.exception(f"settling {self.queue} failed")
            locked = ()
        recorded = [attempt for attempt in attempts if attempt not in locked]
        self._pending = [attempt for attempt in self._pending if attempt not in recorded]


class Delivery(Protocol[Client_contra, Item]):
    """One queue: how its items are claimed, delivered and settled."""

    settler: BatchSettler[Any]
    slots: int
    """How many may be in flight at once."""

    async def claim(self, limit: int) -> Sequence[Item]:
        """Claim up to `limit` items that are due, for the `LEASE` of their queue in the store."""

    async def any_due(self) -> bool:
        """Return whether an item is due, without the write lock."""

    async def deliver(self, client: Client_contra, claimed: Item) -> None:
        """Deliver an item and settle it."""

    def pauses(self) -> Pauses:
        """Return for how long the throttle stops all items, and some items."""


class QueueWorker(Generic[Client, Item]):
    """Claims due items while slots are free, and delivers them, until `stop` is called."""

    def __init__(
        self,
        delivery: Delivery[Client, Item],
        open_client: Callable[[], AbstractAsyncContextManager[Client]],
        *,
        poll_interval: float = POLL_INTERVAL,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        self.delivery = delivery
        self._queue = delivery.settler.queue
        self._open_client = open_client
        self._poll_interval = poll_interval
        self._drain_timeout = drain_timeout
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claiming = False
        self._in_flight: set[asyncio.Task[None]] = set()
        self.alive = False

    @property
    def idle(self) -> bool:
        """Return whether nothing is being claimed or in flight at this moment."""
        return not self._in_flight and not self._claiming

    def wake(self) -> None:
        """Poll the queue now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when the deliveries in flight have finished."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Deliver until stopped; `alive` is true while the client is open."""
        async with self._open_client() as client:
            self.alive = True
            try:
                while not self._stopping.is_set():
                    await self._run_once(client)
            finally:
                self.alive = False
                if self._in_flight:
                    _, late = await asyncio.wait(self._in_flight, timeout=self._drain_timeout)
                    for task in late:
                        task.cancel()

    async def _run_once(self, client: Client) -> None:
        """Deliver what may be sent now, then wait for more."""
        self._woken.clear()
        if self.delivery.pauses().all:
            await self._wait_for_wake()
            return
        self._claiming = True
        more = False
        try:
            more = await self._fill_slots(client)
        except UnavailableError as error:
            _log.warning("database unavailable", queue=self._queue, reason=str(error))
        except Exception:  # noqa: BLE001 - the next claim may succeed without a restart
            _log.exception(f"claiming {self._queue} failed")
        finally:
            self._claiming = False
        if more or self.delivery.pauses().all:
            return
        if not await self._wait_for_wake():
            await self._wait_until_due()

    async def _fill_slots(self, client: Client) -> bool:
        """Claim for the free slots; return whether more may be due."""
        async with self.delivery.settler.transaction:
            free = self.delivery.slots - len(self._in_flight)
            if not free or self._stopping.is_set():
                return False
            items = await self.delivery.claim(free)
        for item in items:
            task = asyncio.create_task(self.delivery.deliver(client, item))
            self._in_flight.add(task)
            task.add_done_callback(self._delivered)
        return len(items) == free

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self.wake()
        if not task.cancelled() and task.exception() is not None:
            # The item is claimed again when its lease has expired.
            _log.error(f"delivering {self._queue} failed", exc_info=task.exception())

    async def _wait_until_due(self) -> None:
        """Poll until something is due or the worker is woken."""
        while not self._woken.is_set():
            with contextlib.suppress(UnavailableError):
                if await self.delivery.any_due():
                    return
            await self._wait_for_wake()

    async def _wait_for_wake(self) -> bool:
        """Wait until woken, or until the next poll; return whether woken."""
        with contextlib.suppress(TimeoutError):
            timeout = min(self._poll_interval, self.delivery.pauses().next)
            await asyncio.wait_for(self._woken.wait(), timeout)
        return self._woken.is_set()
