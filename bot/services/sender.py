"""From the outbox to the carrier: claim, send, settle; retry or give up; keep the pace.

A text leaves at least once and, since Telnyx honours idempotency keys, at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

import structlog

from bot.carrier.errors import Accepted, Hold, Later, Never, Outcome, advice
from bot.conversation.numbers import masked
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.services.deliveries import follow
from bot.store import ledgers, outbox
from bot.store.models import OutboxState
from bot.store.outages import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.turns import Rules
    from bot.store.database import Database
    from bot.store.outbox import Claimed

Ts = TypeVarTuple("Ts")

POLL = 1.0
"""Seconds between looks into the outbox when nobody has told of a commit."""
HOLD = timedelta(seconds=50)
"""How long sending from a number pauses after a fault of the account, until the next probe.
With it and a look into the outbox, a text leaves within a minute of the fault being mended."""
DRAIN_WITHIN = 6.0
"""Seconds that texts on their way get to arrive when the process is to end."""
_SLOTS = 20
_CATCH_UP = 0.05
"""Seconds of a delay of the event loop that the pace makes up for."""
_BACKOFF = (1, 3, 9, 30)
_AFTER_DOUBT = 5
"""Seconds before a text in doubt is tried for the last time: time for the carrier to recover."""
JITTER = 0.2
"""By how much of itself the wait before another try varies, so that retries spread."""
_SETTLE_RETRIES = (0.2, 1.0, 3.0, 9.0)

_log = structlog.get_logger(__name__)


class Transport(Protocol):
    """What can send one text."""

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> Outcome:
        """Send a text and say what came of it."""


class Pacer:
    """Lets `rate` texts a second leave, evenly; 0 lets all leave at once.

    A text is let go before it is claimed: one that waits for its turn after that could be
    overtaken by a STOP, or outlive its lease.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def wait(self) -> float:
        """Return the seconds until the next text may leave."""
        return max(0.0, self._next - asyncio.get_running_loop().time())

    def allowed(self, most: int) -> int:
        """Return how many texts may leave now, of `most`; a little is caught up after a delay."""
        if not self._interval:
            return most
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - _CATCH_UP)
        return min(most, max(0, int((now - self._next) / self._interval) + (now >= self._next)))

    def left(self, count: int) -> None:
        """Note that `count` texts leave."""
        self._next += count * self._interval


class Sender:
    """Sends what is queued, until `stop`; `wake` tells it that something was."""

    def __init__(  # noqa: PLR0913 - a loop meets many; none of them belong together
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[Transport]],
        rules: Rules,
        clock: Clock,
        *,
        rate: float,
        jitter: float = JITTER,
    ) -> None:
        self._database = database
        self._open_transport = open_transport
        self._rules = rules
        self._clock = clock
        self._pacer = Pacer(rate)
        self._jitter = jitter
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claiming = False
        self._in_flight: set[asyncio.Task[None]] = set()
        self._held: dict[str, datetime] = {}
        self.alive = False

    @property
    def idle(self) -> bool:
        """Tell whether no text is being claimed or on its way at this moment."""
        return not self._in_flight and not self._claiming

    def paused(self, now: datetime) -> list[str]:
        """Name the bot's numbers from which nothing is sent now, not even a probe."""
        return [number for number, until in self._held.items() if now < until]

    def wake(self) -> None:
        """Look into the outbox now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` ends when what is on its way has arrived."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Send until stopped, from when the transport is open."""
        async with self._open_transport() as transport:
            self.alive = True
            try:
                while not self._stopping.is_set():
                    await self._round(transport)
            finally:
                self.alive = False
                await self._drain()

    async def _round(self, transport: Transport) -> None:
        """Send what may leave now, then wait for more."""
        self._woken.clear()
        self._claiming = True
        try:
            more = await self._claim_and_send(transport)
        except UnavailableError as error:
            _log.warning("outbox out of reach", reason=str(error))
            more = False
        except Exception:  # noqa: BLE001 - texts that can leave must not wait for a restart
            _log.exception("sending failed, and goes on")
            more = False
        finally:
            self._claiming = False
        if pause := self._pacer.wait():
            await _set_within(self._stopping, pause)
        elif not more and not await _set_within(self._woken, POLL):
            await self._wait_until_due()

    async def _claim_and_send(self, transport: Transport) -> bool:
        """Fill the free slots; tell whether there may be more to claim."""
        slots = self._pacer.allowed(_SLOTS - len(self._in_flight))
        if not slots:
            return False
        claims = await self._database.write(self._claim, slots, self._clock.now())
        self._pacer.left(len(claims))
        for claimed in claims:
            task = asyncio.create_task(self._deliver(transport, claimed))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)
        return len(claims) == slots

    def _claim(self, connection: Connection, slots: int, now: datetime) -> list[Claimed]:
        """Claim texts of the numbers that are not held, and of a held one a probe, when due."""
        phones = outbox.hopeless_phones(connection, now)
        ledgers.lock(connection, phones)
        dropped = outbox.drop_hopeless(connection, now) if phones else []
        if dropped:
            _log.warning("texts dropped", count=len(dropped), advice="see bot status")
            follow(connection, dropped, now, self._rules)
        probes: list[Claimed] = []
        for number, until in self._held.items():
            if now >= until and len(probes) < slots:
                probes += outbox.claim(connection, 1, now, only=number)
                self._held[number] = now + HOLD
        rest = slots - len(probes)
        return probes + outbox.claim(connection, rest, now, but=list(self._held))

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self.wake()
        if not task.cancelled() and task.exception() is not None:
            # Its lease will end, and it is tried again.
            _log.error("sending failed", exc_info=task.exception())

    async def _wait_until_due(self) -> None:
        """Look, without the write lock, until something is due or somebody tells of it."""
        while not self._woken.is_set():
            with contextlib.suppress(UnavailableError):
                now = self._clock.now()
                if await self._database.read(outbox.any_due, now, self.paused(now)):
                    return
            await _set_within(self._woken, POLL)

    async def _deliver(self, transport: Transport, claimed: Claimed) -> None:
        text = self._text(claimed)
        if text is None or self._clock.now() >= claimed.send_by:
            fault = "code gone" if text is None else outbox.TOO_LATE
            await self._give_up(claimed, fault, OutboxState.DROPPED)
            return
        outcome = await transport.send(
            key=claimed.key,
            bot_number=claimed.bot_number,
            phone=claimed.phone,
            text=text,
            retried=claimed.attempts > 1,
        )
        await self._conclude(claimed, outcome)

    def _text(self, claimed: Claimed) -> str | None:
        """Put the code in its place; None where it cannot be derived any more."""
        if CODE_PLACEHOLDER not in claimed.body:
            return claimed.body
        keyring, token = self._rules.keyring, claimed.token
        if token is None or token.key_id not in keyring:
            return None
        code = keyring.code(token, claimed.bot_number, claimed.phone)
        return claimed.body.replace(CODE_PLACEHOLDER, code)

    async def _conclude(self, claimed: Claimed, outcome: Outcome) -> None:
        now = self._clock.now()
        log = _log.bind(phone=masked(claimed.phone), outbox_id=claimed.id)
        match outcome:
            case Accepted(carrier_id):
                self._held.pop(claimed.bot_number, None)
                log.info("text accepted", carrier_id=carrier_id)
                await self._settle(_settle_accepted, claimed, carrier_id, now, self._rules)
            case Later(fault):
                due_at = now + self._backoff(claimed.attempts, outcome)
                log.warning(
                    "text will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
                await self._settle(_settle_later, claimed, due_at, outcome)
            case Never(fault):
                self._held.pop(claimed.bot_number, None)
                log.warning("text given up", fault=fault, advice=advice(fault))
                await self._give_up(claimed, fault, OutboxState.FAILED)
            case Hold(fault):
                self._hold(claimed.bot_number, fault, now + HOLD)
                await self._settle(_settle_later, claimed, now, outcome)

    def _hold(self, bot_number: str, fault: str, until: datetime) -> None:
        """Pause sending from a number; one that another may still send from is left alone."""
        if bot_number not in self._held:
            number = masked(bot_number)
            _log.error("sending paused", number=number, fault=fault, advice=advice(fault))
        self._held[bot_number] = until

    async def _give_up(self, claimed: Claimed, fault: str, state: OutboxState) -> None:
        now = self._clock.now()

        def settle(connection: Connection) -> None:
            """Where the carrier says the person has opted out, so they have."""
            ledgers.lock(connection, {claimed.phone})
            moved = outbox.settle_never(connection, claimed, fault, state)
            follow(connection, moved, now, self._rules)

        await self._settle(settle)

    async def _settle(self, work: Callable[[Connection, *Ts], None], *args: *Ts) -> None:
        """Write down what came of a text; where the database cannot, its lease will end."""
        for wait in _SETTLE_RETRIES:
            try:
                await self._database.write(work, *args)
            except UnavailableError as error:
                _log.warning("outbox out of reach", reason=str(error))
                await asyncio.sleep(wait)
            else:
                return

    def _backoff(self, attempts: int, outcome: Later) -> timedelta:
        wait = _BACKOFF[min(attempts, len(_BACKOFF)) - 1]
        if outcome.in_doubt:
            wait = max(wait, _AFTER_DOUBT)
        jittered = wait * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return timedelta(seconds=max(jittered, outcome.retry_after or 0))

    async def _drain(self) -> None:
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight, timeout=DRAIN_WITHIN)
            for task in late:
                task.cancel()


def _settle_later(
    connection: Connection, claimed: Claimed, due_at: datetime, outcome: Later | Hold
) -> None:
    in_doubt = isinstance(outcome, Later) and outcome.in_doubt
    outbox.settle_later(connection, claimed, due_at, outcome.fault, in_doubt=in_doubt)


def _settle_accepted(
    connection: Connection, claimed: Claimed, carrier_id: str | None, now: datetime, rules: Rules
) -> None:
    """Record that the carrier has the text; it may have reported more before it said so.

    The ledger comes first, as in every transaction: a turn holds it when it cancels texts.
    """
    ledgers.lock(connection, {claimed.phone})
    moved = outbox.settle_accepted(connection, claimed.id, carrier_id, now)
    follow(connection, moved, now, rules)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
