"""From the outbox to the carrier: claim, send, settle; retry or give up; keep the pace.

A text leaves at least once and, since Telnyx honours idempotency keys, at most once.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.carrier.errors import Accepted, Hold, Later, Never, Outcome, advice
from bot.conversation.numbers import masked
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.services.courier import JITTER, Courier
from bot.services.deliveries import follow
from bot.store import ledgers, outbox
from bot.store.models import OutboxState
from bot.store.outbox import Claimed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.turns import Rules
    from bot.store.database import Database

HOLD = timedelta(seconds=50)
"""How long sending from a number pauses after a fault of the account, until the next probe.
With it and a look into the outbox, a text leaves within a minute of the fault being mended."""
_CATCH_UP = 0.05
"""Seconds of a delay of the event loop that the pace makes up for."""
_NEGLIGIBLE = 0.0005
"""Seconds: half a tick of the event loop's clock. Waiting for less would be spinning."""
_BACKOFF = (1, 3, 9, 30)
_AFTER_DOUBT = 5
"""Seconds before a text in doubt is tried for the last time: time for the carrier to recover."""

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
        left = self._next - asyncio.get_running_loop().time()
        return left if left > _NEGLIGIBLE else 0.0

    def allowed(self, most: int) -> int:
        """Return how many texts may leave now, of `most`; a little is caught up after a delay."""
        if not self._interval:
            return most
        now = asyncio.get_running_loop().time() + _NEGLIGIBLE
        self._next = max(self._next, now - _CATCH_UP)
        return min(most, max(0, int((now - self._next) / self._interval) + (now >= self._next)))

    def left(self, count: int) -> None:
        """Note that `count` texts leave."""
        self._next += count * self._interval


class Sender(Courier[Transport, Claimed]):
    """Sends the texts that are queued."""

    queue = "texts"
    slots = 20

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
        super().__init__(database, open_transport, clock)
        self._rules = rules
        self._pacer = Pacer(rate)
        self._jitter = jitter
        self._held: dict[str, datetime] = {}

    def paused(self, now: datetime) -> list[str]:
        """Name the bot's numbers from which nothing is sent now, not even a probe."""
        return [number for number, until in self._held.items() if now < until]

    def _claim(self, connection: Connection, most: int, now: datetime) -> list[Claimed]:
        """Claim texts of the numbers that are not held, and of a held one a probe, when due."""
        phones = outbox.hopeless_phones(connection, now)
        ledgers.lock(connection, phones)
        dropped = outbox.drop_hopeless(connection, now) if phones else []
        if dropped:
            _log.warning("texts dropped", count=len(dropped), advice="see bot status")
            follow(connection, dropped, now, self._rules)
        probes: list[Claimed] = []
        for number, until in self._held.items():
            if now >= until and len(probes) < most:
                probes += outbox.claim(connection, 1, now, only=number)
                self._held[number] = now + HOLD
        rest = most - len(probes)
        return probes + outbox.claim(connection, rest, now, but=list(self._held))

    def _any_due(self, connection: Connection, now: datetime) -> bool:
        return outbox.any_due(connection, now, self.paused(now))

    def _allowed(self, most: int) -> int:
        return self._pacer.allowed(most)

    def _left(self, count: int) -> None:
        self._pacer.left(count)

    def _pause(self) -> float:
        return self._pacer.wait()

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

    def _backoff(self, attempts: int, outcome: Later) -> timedelta:
        wait = _BACKOFF[min(attempts, len(_BACKOFF)) - 1]
        if outcome.in_doubt:
            wait = max(wait, _AFTER_DOUBT)
        jittered = wait * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return timedelta(seconds=max(jittered, outcome.retry_after or 0))


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
