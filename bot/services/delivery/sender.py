"""From the outbox to the carrier: claim, send, settle; retry or give up; keep the pace.

A text leaves at least once and, since Telnyx honours idempotency keys, at most once.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
from bot.services.delivery.queue_worker import JITTER, POLL_INTERVAL, QueueWorker
from bot.services.delivery.throttle import SendRates, SendThrottle
from bot.services.intake.delivery_reports import apply_progress
from bot.store import phone_limits
from bot.store.queues import outbox
from bot.store.queues.outbox import ClaimedText
from bot.store.tables import OutboxState
from bot.store.throttle import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database
    from bot.store.queues.outbox import TextProgress

HOLD_PERIOD = timedelta(seconds=50)
"""How long sending from a number pauses after a fault of the account, until the next probe.
With it and a look into the outbox, a text leaves within a minute of the fault being mended."""
_BACKOFF = (1, 3, 9, 30)
_AFTER_DOUBT = 5
"""Seconds before a text in doubt is tried for the last time: time for the carrier to recover."""

_log = structlog.get_logger(__name__)


class TextClient(Protocol):
    """What can send one text."""

    async def send(
        self, *, key: str, bot_number: str, phone: str, text: str, retried: bool
    ) -> SendResult:
        """Send a text and say what came of it."""


class NotSent(NamedTuple):
    """A text that was claimed and is not to leave any more."""

    fault: str


@dataclass(frozen=True, slots=True, eq=False)
class SendAttempt:
    """How the try of a text ended, and when (UTC); `due_at` is when it is tried again, if it is."""

    claimed: ClaimedText
    outcome: SendResult | NotSent
    at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimNote:
    """What a claim leads to in this process: the log tells how many texts were `dropped`.

    `probed` tells of numbers that are held, from which a probe leaves, when the next one may;
    `waits` of the account and the numbers that have to wait for their pace, until when.
    """

    dropped: int
    probed: Mapping[str, datetime]
    waits: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class SettleNote:
    """What settling texts leads to: the log tells which paces were slowed, and by which fault."""

    slowed: Sequence[tuple[str, str]]


class Sender(QueueWorker[TextClient, ClaimedText, SendAttempt, ClaimNote | SettleNote]):
    """Sends the texts that are queued."""

    queue = "texts"
    slots = 100

    def __init__(  # noqa: PLR0913 - a loop meets many; none of them belong together
        self,
        database: Database,
        open_transport: Callable[[], AbstractAsyncContextManager[TextClient]],
        rules: Rules,
        clock: Clock,
        *,
        rates: SendRates,
        jitter: float = JITTER,
    ) -> None:
        super().__init__(database, open_transport, clock)
        self._rules = rules
        self._rates = rates
        self._jitter = jitter
        self._held: dict[str, datetime] = {}
        self._waits: Mapping[str, datetime] = {}

    def paused(self, now: datetime) -> list[str]:
        """Name the bot's numbers from which nothing is sent now, not even a probe."""
        until = [*self._held.items(), *self._waits.items()]
        return [number for number, at in until if now < at]

    def _claim(
        self, connection: Connection, most: int, now: datetime
    ) -> tuple[list[ClaimedText], ClaimNote]:
        """Claim texts that the paces let go; of a number that is held a probe, when due."""
        throttle, held = SendThrottle(connection, self._rates, now), self._held.copy()
        dropped = self._drop_hopeless(connection, now)

        def share(number: str) -> int:
            if number in held:
                return 1 if now >= held[number] else 0
            return throttle.allowed(number)

        claims = outbox.claim(connection, min(most, throttle.allowed(ACCOUNT)), now, share)
        counts = Counter(claimed.bot_number for claimed in claims)
        throttle.left(counts)
        probed = dict.fromkeys(held.keys() & counts, now + HOLD_PERIOD)
        return claims, ClaimNote(dropped, probed, throttle.waits())

    def _drop_hopeless(self, connection: Connection, now: datetime) -> int:
        """Drop some of the texts that are not to leave any more; return how many."""
        hopeless = outbox.unsendable(connection, now)
        if not hopeless:
            return 0
        free = phone_limits.lock_free(connection, hopeless.values()).phones
        of_free = [row_id for row_id, phone in hopeless.items() if phone in free]
        dropped = outbox.drop(connection, of_free, now)
        apply_progress(connection, dropped, now, self._rules)
        return len(dropped)

    def _committed(self, note: ClaimNote | SettleNote) -> None:
        match note:
            case ClaimNote(dropped, probed, waits):
                if dropped:
                    _log.warning("texts dropped", count=dropped, advice="see bot status")
                # A number whose text was accepted meanwhile is held no longer.
                self._held |= {name: at for name, at in probed.items() if name in self._held}
                self._waits = waits
            case SettleNote(slowed):
                for name, fault in slowed:
                    of = name if name == ACCOUNT else masked(name)
                    _log.warning("sending slowed", of=of, fault=fault, advice=advice(fault))

    def _any_due(self, connection: Connection, now: datetime) -> bool:
        return outbox.any_due(connection, now, self.paused(now))

    def _pause(self) -> float:
        return self._seconds_until(self._waits.get(ACCOUNT))

    def _look_within(self) -> float:
        waits = [wait for at in self._waits.values() if (wait := self._seconds_until(at))]
        return min([POLL_INTERVAL, *waits])

    def _seconds_until(self, at: datetime | None) -> float:
        return max((at - self._clock.now()).total_seconds(), 0.0) if at else 0.0

    async def _deliver(self, transport: TextClient, claimed: ClaimedText) -> None:
        text = self._text(claimed)
        now = self._clock.now()
        if text is None or now >= claimed.send_by:
            fault = "code gone" if text is None else outbox.TOO_LATE
            await self._settle(SendAttempt(claimed, NotSent(fault), now, now))
            return
        outcome = await transport.send(
            key=claimed.key,
            bot_number=claimed.bot_number,
            phone=claimed.phone,
            text=text,
            retried=claimed.attempts > 1,
        )
        await self._settle(self._concluded(claimed, outcome))

    def _text(self, claimed: ClaimedText) -> str | None:
        """Put the code in its place; None where it cannot be derived any more."""
        if CODE_PLACEHOLDER not in claimed.body:
            return claimed.body
        keyring, token = self._rules.keyring, claimed.token
        if token is None or token.key_id not in keyring:
            return None
        code = keyring.code(token, claimed.bot_number, claimed.phone)
        return claimed.body.replace(CODE_PLACEHOLDER, code)

    def _concluded(self, claimed: ClaimedText, outcome: SendResult) -> SendAttempt:
        """Tell the log of an answer, and say when the text is tried again, if it is."""
        now = due_at = self._clock.now()
        about = {"phone": masked(claimed.phone), "outbox_id": claimed.id}
        match outcome:
            case SendAccepted(carrier_id):
                self._held.pop(claimed.bot_number, None)
                _log.info("text accepted", **about, carrier_id=carrier_id)
            case SendLater(fault):
                due_at += self._backoff(claimed.attempts, outcome)
                _log.warning(
                    "text will be tried again",
                    **about,
                    fault=fault,
                    advice=advice(fault),
                    due_at=due_at.isoformat(),
                )
            case SendNever(fault):
                self._held.pop(claimed.bot_number, None)
                _log.warning("text given up", **about, fault=fault, advice=advice(fault))
            case SendHold(fault):
                self._hold(claimed.bot_number, fault, now + HOLD_PERIOD)
        return SendAttempt(claimed, outcome, now, due_at)

    def _hold(self, bot_number: str, fault: str, until: datetime) -> None:
        """Pause sending from a number; one that another may still send from is left alone."""
        if bot_number not in self._held:
            number = masked(bot_number)
            _log.error("sending paused", number=number, fault=fault, advice=advice(fault))
        self._held[bot_number] = until

    def _write_down(
        self, connection: Connection, endings: Sequence[SendAttempt]
    ) -> tuple[SettleNote, Sequence[SendAttempt]]:
        """Settle texts; where the carrier says that a person has opted out, so they have.

        The paces come first and then the ledgers, as in every transaction: a turn holds a ledger
        when it cancels texts. What is to somebody whose ledger is held elsewhere is settled later.
        """
        now = max(ending.at for ending in endings)
        slowed = self._slow_down(connection, endings, now)
        free = phone_limits.lock_free(
            connection, {ending.claimed.phone for ending in endings}
        ).phones
        settled = [ending for ending in endings if ending.claimed.phone in free]
        accepted: dict[int, str | None] = {}
        moved: list[TextProgress] = []
        for ending in settled:
            claimed = ending.claimed
            match ending.outcome:
                case SendAccepted(carrier_id):
                    accepted[claimed.id] = carrier_id
                case SendLater(fault, in_doubt=in_doubt):
                    outbox.settle_later(
                        connection, claimed, ending.due_at, fault, in_doubt=in_doubt
                    )
                case SendHold(fault):
                    outbox.settle_later(connection, claimed, ending.due_at, fault, in_doubt=False)
                case SendNever(fault):
                    moved += outbox.settle_never(connection, claimed, fault)
                case NotSent(fault):
                    moved += outbox.settle_never(connection, claimed, fault, OutboxState.DROPPED)
        moved += outbox.settle_accepted(connection, accepted, now)
        apply_progress(connection, moved, now, self._rules)
        later = [ending for ending in endings if ending.claimed.phone not in free]
        return SettleNote(slowed), later

    def _slow_down(
        self, connection: Connection, endings: Sequence[SendAttempt], now: datetime
    ) -> list[tuple[str, str]]:
        """Halve the paces whose limit was met; name those at full pace before, with the fault."""
        met = [
            (ending.claimed, outcome)
            for ending in endings
            if isinstance(outcome := ending.outcome, SendLater) and outcome.limit
        ]
        slowed: list[tuple[str, str]] = []
        if not met:
            return slowed
        throttle = SendThrottle(connection, self._rates, now)
        for claimed, outcome in met:
            name = claimed.bot_number if outcome.limit is Limit.NUMBER else ACCOUNT
            if throttle.halve(name, claimed.claimed_at):
                slowed.append((name, outcome.fault))
        return slowed

    def _backoff(self, attempts: int, outcome: SendLater) -> timedelta:
        wait = _BACKOFF[min(attempts, len(_BACKOFF)) - 1]
        if outcome.in_doubt:
            wait = max(wait, _AFTER_DOUBT)
        jittered = wait * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return timedelta(seconds=max(jittered, outcome.retry_after or 0))
