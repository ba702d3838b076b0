"""Ends verifications that have expired, so that the app receives an app event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.inputs import TimePassed
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.unit_of_work import decide_and_save, with_final_status
from bot.services.upkeep.repeated_check import repeat
from bot.store import phone_limits, verifications
from bot.store.conversations import ConversationKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

_BATCH_SIZE = 100


class Expirer:
    """Ends expired verifications once a second; calls `after_commit` after each commit."""

    def __init__(
        self, database: Database, rules: Rules, clock: Clock, after_commit: Callable[[], None]
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._after_commit = after_commit

    async def run(self) -> None:
        """Check until cancelled."""
        await repeat(self.expire_all, "expiring verifications failed")

    async def expire_all(self) -> None:
        """End all verifications that have expired by now; raises UnavailableError."""
        # A read, so that the write lock is taken only if a verification has expired.
        while await self._database.read(verifications.overdue, self._clock.now(), 1):
            any_unlocked = await self._database.write(expire, self._clock.now(), self._rules)
            self._after_commit()
            if not any_unlocked:  # all are locked by other transactions, until the next check
                return


def expire(connection: Connection, now: datetime, rules: Rules) -> bool:
    """End some of the verifications that have expired; return whether any was not locked."""
    overdue = verifications.overdue(connection, now, _BATCH_SIZE)
    phones = {verification.phone for verification in overdue if verification.phone}
    unlocked = phone_limits.lock_free(connection, phones).phones
    free = [each for each in overdue if each.phone is None or each.phone in unlocked]
    keys = {ConversationKey(each.phone, each.bot_number) for each in free if each.phone}
    decide_and_save(connection, [(key, TimePassed()) for key in sorted(keys)], now, rules)
    # Without a phone, a verification has no conversation, so no input is decided for it.
    expired = [
        (verification, AppEvent(EventType.EXPIRED, verification.id))
        for verification in verifications.load(connection, [each.id for each in free]).values()
        if verification.ended_at is None and now >= verification.expires_at
    ]
    verifications.save(
        connection, [with_final_status(each, app_event, now) for each, app_event in expired]
    )
    if rules.has_app:
        record_app_events(connection, [(None, app_event) for _, app_event in expired], now)
    return bool(free)
