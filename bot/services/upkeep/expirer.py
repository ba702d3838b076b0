"""Ends the verifications whose time is over, so that the app learns of it by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bot.conversation.inputs import TimePassed
from bot.conversation.verification import AppEvent, EventType
from bot.services.intake.app_event_log import record_app_events
from bot.services.intake.unit_of_work import decide_and_save, with_final_status
from bot.store import phone_limits, verifications
from bot.store.conversations import ConversationKey
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.clock import Clock
    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

_LOOK_EVERY = 1.0
_AT_ONCE = 100

_log = structlog.get_logger(__name__)


class Expirer:
    """Looks every second, without the write lock; `after_commit` is told of each commit."""

    def __init__(
        self, database: Database, rules: Rules, clock: Clock, after_commit: Callable[[], None]
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._after_commit = after_commit

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.expire_all()
            except UnavailableError as error:
                _log.warning("nothing expired", reason=str(error))
            except Exception:  # noqa: BLE001 - the next look may do better
                _log.exception("nothing expired")
            await asyncio.sleep(_LOOK_EVERY)

    async def expire_all(self) -> None:
        """End all whose time is over by now; raises UnavailableError."""
        now = self._clock.now()
        while await self._database.read(verifications.overdue, now, 1):
            ended = await self._database.write(expire, now, self._rules)
            self._after_commit()
            if not ended:  # all are held elsewhere, until the next look
                return


def expire(connection: Connection, now: datetime, rules: Rules) -> bool:
    """End some of the verifications whose time is over; tell whether any was free to be ended."""
    overdue = verifications.overdue(connection, now, _AT_ONCE)
    phones = {known.phone for known in overdue if known.phone}
    free = phone_limits.lock_free(connection, phones).phones
    over = [known for known in overdue if known.phone is None or known.phone in free]
    keys = {ConversationKey(known.phone, known.bot_number) for known in over if known.phone}
    decide_and_save(connection, [(key, TimePassed()) for key in sorted(keys)], now, rules)
    # Nobody has begun the others, so there is no turn to take.
    held = verifications.load(connection, [known.id for known in over])
    news = {
        known.id: AppEvent(EventType.EXPIRED, known.id)
        for known in held.values()
        if known.ended_at is None and now >= known.expires_at
    }
    verifications.save(
        connection, [with_final_status(held[name], told, now) for name, told in news.items()]
    )
    if rules.announces:
        record_app_events(connection, [(None, told) for told in news.values()], now)
    return bool(over)
