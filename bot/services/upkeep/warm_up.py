"""What the first who texts would wait for, done before anybody does: a code's way, undone.

A statement is compiled when it first runs, and on PostgreSQL prepared on each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from bot.carrier.webhooks import DeliveryReport, DeliveryStatus, InboundText
from bot.conversation.inputs import TextReceived
from bot.services.intake import inbox
from bot.store.engine.errors import UnavailableError
from bot.store.queues import outbox

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.services.intake.unit_of_work import Rules
    from bot.store.engine.database import Database

_AT_ONCE = 3
"""Connections of each kind that are rehearsed: those of the inbox, which do not wait for locks, and
those of the sender and of what comes between."""
_NAME = "rehearsal"


class _RolledBack(Exception):  # noqa: N818 - nothing is wrong
    """Rolls the transaction back."""


async def warm_up(database: Database, bot_number: str, now: datetime, rules: Rules) -> None:
    """Run what a code's way runs, and leave nothing behind; without a database, nothing happens."""

    async def run(*, wait_for_locks: bool) -> None:
        with contextlib.suppress(_RolledBack, UnavailableError):
            await database.write(
                _run_and_roll_back, bot_number, now, rules, wait_for_locks=wait_for_locks
            )

    kinds = (True, False) * _AT_ONCE
    await asyncio.gather(*(run(wait_for_locks=waits) for waits in kinds))


def _run_and_roll_back(
    connection: Connection, bot_number: str, now: datetime, rules: Rules
) -> None:
    # The bot's own number is nobody's phone: what it texts never comes so far.
    verify = InboundText(f"{_NAME}:1", bot_number, bot_number, TextReceived("VERIFY"))
    guess = InboundText(f"{_NAME}:2", bot_number, bot_number, TextReceived("000000"))
    report = DeliveryReport(f"{_NAME}:3", _NAME, DeliveryStatus.DELIVERED)
    inbox.apply(connection, [verify], now, rules)
    outbox.unsendable(connection, now)
    for claimed in outbox.claim(connection, 1, now):
        outbox.settle_accepted(connection, {claimed.id: _NAME}, now)
    inbox.apply(connection, [report, guess], now, rules)
    raise _RolledBack
