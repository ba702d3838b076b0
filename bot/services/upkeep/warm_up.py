"""Warm-up: runs the statements of a whole verification once and rolls them back.

A statement is compiled when it first runs, and on PostgreSQL prepared on each connection: the first
texts would wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.inputs import TextReceived
from bot.services.intake import inbox
from bot.store.engine.errors import UnavailableError
from bot.store.engine.write_check import RolledBack
from bot.store.queues import outbox

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

_CONNECTIONS = 3
"""How many connections of each kind are warmed up: those of the inbox, which do not wait for locks,
and all others."""
_KEY = "warm-up"


async def warm_up(database: Database, bot_number: str, now: datetime, rules: Rules) -> None:
    """Run the statements of a verification and roll back; ignore an unavailable database."""

    async def run(*, wait_for_locks: bool) -> None:
        with contextlib.suppress(RolledBack, UnavailableError):
            await database.write(
                _run_and_roll_back, bot_number, now, rules, wait_for_locks=wait_for_locks
            )

    kinds = (True, False) * _CONNECTIONS
    await asyncio.gather(*(run(wait_for_locks=waits) for waits in kinds))


def _run_and_roll_back(
    connection: Connection, bot_number: str, now: datetime, rules: Rules
) -> None:
    # No person has the bot's own number: real texts from it are ignored.
    verify = InboundText(f"{_KEY}:1", bot_number, bot_number, TextReceived("VERIFY"))
    guess = InboundText(f"{_KEY}:2", bot_number, bot_number, TextReceived("000000"))
    report = DeliveryReport(f"{_KEY}:3", _KEY, DeliveryStatus.DELIVERED)
    inbox.apply(connection, [verify], now, rules)
    outbox.unsendable(connection, now)
    for claimed in outbox.claim(connection, 1, now):
        outbox.settle_accepted(connection, {claimed.id: _KEY}, now)
    inbox.apply(connection, [report, guess], now, rules)
    raise RolledBack
