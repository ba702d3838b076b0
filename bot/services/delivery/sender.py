"""The sender: claims texts in the outbox, sends them to the carrier, and settles them.

A failed text is retried, held or given up; a throttle limits the texts per second. A text may be
sent to Telnyx again, but Telnyx honours idempotency keys, so the person receives it once.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.carrier.errors import (
    Limit,
    SendAccepted,
    SendHold,
    SendLater,
    SendNever,
    SendResult,
    advice,
)
from bot.conversation.numbers import masked
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.conversation.throttle import ACCOUNT
from bot.services.delivery.queue_worker import JITTER, BatchSettler, Pauses, QueueWorker
from bot.services.delivery.throttle import SendRates, SendThrottle
from bot.services.intake.delivery_reports import apply_progress
from bot.store import phone_limits
from bot.store.queues import outbox
from bot.store.queues.outbox import ClaimedText
from bot.store.tables import OutboxState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database
    from bot.store.queues.outbox import TextProgress

HOLD_PERIOD = timedelta(seconds=50)
"""How long a number is held after a fault of the account, until the next probe. Together with the
poll interval, a text is sent within a minute after the fault is fixed."""
_RETRY_DELAYS = (1, 3, 9, 30)
"""Seconds before each retry; the last one repeats."""
_IN_DOUBT_DELAY = 5
"""Seconds before the last attempt at a text that the carrier may already have accepted, so that it
can recover."""

_log = structlog.get_logger(__name__)


class TextClient(Protocol):
    """A client that sends texts."""

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        """Send a text and return the carrier's answer."""


Sender = QueueWorker[TextClient, ClaimedText]


@dataclass(frozen=True, slots=True)
class NotSent:
    """The outcome for a claimed text that must no longer be sent."""

    fault: str


@dataclass(frozen=True, slots=True, eq=False)
class SendAttempt:
    """How an attempt to send ended, and when (UTC); `due_at` is the time of the retry, if any."""

    claimed: ClaimedText
    outcome: SendResult | NotSent
    at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The claimed texts, and what changes in memory once the claim is committed.

    `dropped` counts the texts that must no longer be sent. `holds` are the held numbers that now
    send a probe, `waits` the numbers (and the account) that the throttle stops, each with the time
    (UTC) until which it stays held or stopped.
    """

    texts: list[ClaimedText]
    dropped: int
    holds: Mapping[str, datetime]
    waits: Mapping[str, datetime]


class TextDelivery:
    """Claims, sends and settles texts; a number is held after a fault of the account."""

    slots = 100

    def __init__(  # noqa: PLR0913 - dependencies, and two options with defaults
        self,
        database: Database,
        rules: Rules,
        clock: Clock,
        *,
        rates: SendRates,
        jitter: float = JITTER,
        make_settler: Callable[..., BatchSettler[SendAttempt]] = BatchSettler,
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._rates = rates
        self._jitter = jitter
        self._held: dict[str, datetime] = {}
        self._waits: Mapping[str, datetime] = {}
        self.settler = make_settler("texts", self._record)

    def paused(self, now: datetime) -> list[str]:
        """Return the bot's numbers from which nothing is sent now, not even a probe."""
        until = [*self._held.items(), *self._waits.items()]
        return [number for number, at in until if now < at]

    def pauses(self) -> Pauses:
        """Return for how long the throttle stops all texts, and some texts."""
        now = self._clock.now()
        waits = {name: (at - now).total_seconds() for name, at in self._waits.items() if now < at}
        return Pauses(waits.get(ACCOUNT, 0.0), min(waits.values(), default=math.inf))

    async def any_due(self) -> bool:
        """Return whether a text is due that may be sent now; raises UnavailableError."""
        now = self._clock.now()
        return await self._database.read(outbox.any_due, now, self.paused(now))

    async def claim(self, limit: int) -> list[ClaimedText]:
        """Claim texts that the throttle allows, and a probe of each held number when due."""
        claim = await self._database.write(self._claim, limit, self._clock.now())
        if claim.dropped:
            _log.warning("texts dropped", count=claim.dropped, advice="see bot status")
        # A number whose text was accepted meanwhile is no longer held.
        self._held |= {number: at for number, at in claim.holds.items() if number in self._held}
        self._waits = claim.waits
        return claim.texts

    def _claim(self, connection: Connection, limit: int, now: datetime) -> Claim:
        throttle, held = SendThrottle(connection, self._rates, now), self._held.copy()
        dropped = self._drop_unsendable(connection, now)

        def limit_of(number: str) -> int:
            if number in held:
                return 1 if now >= held[number] else 0
            return throttle.allowed(number)

        texts = outbox.claim(connection, min(limit, throttle.allowed(ACCOUNT)), now, limit_of)
        counts = Counter(text.bot_number for text in texts)
        throttle.record_sends(counts)
        holds = dict.fromkeys(held.keys() & counts, now + HOLD_PERIOD)
        return Claim(texts, dropped, holds, throttle.waits())

    def _drop_unsendable(self, connection: Connection, now: datetime) -> int:
        """Drop some of the texts that must no longer be sent; return how many."""
        unsendable = outbox.unsendable(connection, now)
        if not unsendable:
            return 0
        unlocked = phone_limits.lock_free(connection, unsendable.values()).phones
        row_ids = [row_id for row_id, phone in unsendable.items() if phone in unlocked]
        dropped = outbox.drop(connection, row_ids, now)
        apply_progress(connection, dropped, now, self._rules)
        return len(dropped)

    async def deliver(self, client: TextClient, claimed: ClaimedText) -> None:
        """Send a text and settle it."""
        await self.settler.settle(await self._send(client, claimed))

    async def _send(self, client: TextClient, claimed: ClaimedText) -> SendAttempt:
        text = self._text(claimed)
        now = self._clock.now()
        if text is None or now >= claimed.send_by:
            fault = "code gone" if text is None else outbox.TOO_LATE
            return SendAttempt(claimed, NotSent(fault), now, now)
        result = await client.send(
            key=claimed.key,
            bot_number=claimed.bot_number,
            phone=claimed.recipient,
            text=text,
            retried=claimed.attempts > 1,
        )
        return self._attempt(claimed, result)

    def _text(self, claimed: ClaimedText) -> str | None:
        """Return the text with its code, or None if the code can no longer be derived."""
        if CODE_PLACEHOLDER not in claimed.body:
            return claimed.body
        keyring, token = self._rules.keyring, claimed.token
        if token is None or token.key_id not in keyring:
            return None
        code = keyring.code(token, claimed.bot_number, claimed.phone)
        return claimed.body.replace(CODE_PLACEHOLDER, code)

    def _attempt(self, claimed: ClaimedText, result: SendResult) -> SendAttempt:
        """Log the carrier's answer, hold or release the number, and set the time of a retry."""
        now = due_at = self._clock.now()
        log = _log.bind(phone=masked(claimed.phone), outbox_id=claimed.id)
        match result:
            case SendAccepted(carrier_id):
                self._held.pop(claimed.bot_number, None)
                log.info("text accepted", carrier_id=carrier_id)
            case SendLater(fault):
                due_at += self._retry_delay(claimed.attempts, result)
                log.warning(
                    "text will be tried again",
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
            case SendNever(fault):
                self._held.pop(claimed.bot_number, None)
                log.warning("text given up", fault=fault, advice=advice(fault))
            case SendHold(fault):
                self._hold(claimed.bot_number, fault, now + HOLD_PERIOD)
        return SendAttempt(claimed, result, now, due_at)

    def _hold(self, bot_number: str, fault: str, until: datetime) -> None:
        """Stop sending from a number; the bot's other numbers continue."""
        if bot_number not in self._held:
            number = masked(bot_number)
            _log.error("sending paused", number=number, fault=fault, advice=advice(fault))
        self._held[bot_number] = until

    def _retry_delay(self, attempts: int, result: SendLater) -> timedelta:
        delay = _RETRY_DELAYS[min(attempts, len(_RETRY_DELAYS)) - 1]
        if result.in_doubt:
            delay = max(delay, _IN_DOUBT_DELAY)
        jittered = delay * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return timedelta(seconds=max(jittered, result.retry_after or 0))

    async def _record(self, attempts: Sequence[SendAttempt]) -> Sequence[SendAttempt]:
        """Settle attempts; return those to phones that another transaction has locked."""
        locked, slowed = await self._database.write(self._settle, attempts)
        for name, fault in slowed:
            of = name if name == ACCOUNT else masked(name)
            _log.warning("sending slowed", of=of, fault=fault, advice=advice(fault))
        return locked

    def _settle(
        self, connection: Connection, attempts: Sequence[SendAttempt]
    ) -> tuple[list[SendAttempt], list[tuple[str, str]]]:
        """Settle attempts, and opt a person out if the carrier reports an opt-out.

        Every transaction locks the throttles first and then the phones' limits, so that none
        deadlock; a decision holds the limits while it cancels texts. Returns the attempts to locked
        phones, and the throttles that were slowed, each with the fault.
        """
        now = max(attempt.at for attempt in attempts)
        slowed = self._slow_down(connection, attempts, now)
        unlocked = phone_limits.lock_free(
            connection, {attempt.claimed.phone for attempt in attempts}
        ).phones
        accepted: dict[int, str | None] = {}
        progress: list[TextProgress] = []
        locked: list[SendAttempt] = []
        for attempt in attempts:
            claimed = attempt.claimed
            if claimed.phone not in unlocked:
                locked.append(attempt)
                continue
            match attempt.outcome:
                case SendAccepted(carrier_id):
                    accepted[claimed.id] = carrier_id
                case SendLater(fault, in_doubt=in_doubt):
                    outbox.settle_later(
                        connection, claimed, attempt.due_at, fault, in_doubt=in_doubt
                    )
                case SendHold(fault):
                    outbox.settle_later(connection, claimed, attempt.due_at, fault, in_doubt=False)
                case SendNever(fault):
                    progress += outbox.settle_never(connection, claimed, fault)
                case NotSent(fault):
                    progress += outbox.settle_never(connection, claimed, fault, OutboxState.DROPPED)
        progress += outbox.settle_accepted(connection, accepted, now)
        apply_progress(connection, progress, now, self._rules)
        return locked, slowed

    def _slow_down(
        self, connection: Connection, attempts: Sequence[SendAttempt], now: datetime
    ) -> list[tuple[str, str]]:
        """Halve the throttles whose limit was exceeded; return those that were at full rate."""
        throttle = None
        slowed: list[tuple[str, str]] = []
        for attempt in attempts:
            claimed, result = attempt.claimed, attempt.outcome
            if isinstance(result, SendLater) and result.limit:
                throttle = throttle or SendThrottle(connection, self._rates, now)
                name = claimed.bot_number if result.limit is Limit.NUMBER else ACCOUNT
                if throttle.halve(name, claimed.claimed_at):
                    slowed.append((name, result.fault))
        return slowed
