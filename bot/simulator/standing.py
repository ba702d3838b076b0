"""Where each phone stands as the bot sees it, told whenever that changes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.simulator.journal import Standing, Text
from bot.store import conversations, ledgers, tokens
from bot.store.outages import UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.policy import Policy
    from bot.simulator.stage import Stage

_SETTLES_WITHIN = 0.3
"""Seconds in which the bot usually writes down what came of a request that was just answered."""


async def keep_told(stage: Stage) -> None:
    """Add to the journal where a phone stands after each thing that happens, if it is news."""
    journal, database, policy = stage.telnyx.journal, stage.bot.database, stage.bot.rules.policy
    known: dict[tuple[str, str], Standing] = {}
    phones: set[str] = set()
    sender = stage.bot.sender
    seen, settled = 0, True
    while True:
        try:
            async with asyncio.timeout(None if settled else _SETTLES_WITHIN):
                await journal.longer_than(seen)
            settled = False
        except TimeoutError:
            # Until the sender has written down what came of a request, there may be news.
            settled = sender is None or sender.idle
        phones |= {entry.phone for entry in journal.entries[seen:] if isinstance(entry, Text)}
        seen = len(journal.entries)
        with contextlib.suppress(UnavailableError):
            for found in await database.read(_read, phones, policy, stage.clock.now()):
                key = (found.phone, found.bot_number)
                before = known.get(key)
                if before is None or replace(before, at=found.at) != found:
                    known[key] = found
                    journal.add(found)


def _read(
    connection: Connection, phones: set[str], policy: Policy, now: datetime
) -> list[Standing]:
    return [
        _standing(connection, known, policy, now)
        for phone in sorted(phones)
        for known in conversations.find(connection, phone)
    ]


def _standing(
    connection: Connection, known: conversations.Known, policy: Policy, now: datetime
) -> Standing:
    conversation = known.conversation
    ledger = ledgers.read(connection, conversation.phone)
    own = conversation.token
    waiting = own is not None and not own.spent
    asked = [token for _, token in tokens.asked(connection, [known.id], now)]
    expiries = [token.expires_at for token in (own, *asked) if token and not token.spent]
    return Standing(
        at=now,
        phone=conversation.phone,
        bot_number=conversation.bot_number,
        state=conversation.state,
        tries_left=policy.tries_left(ledger, own if waiting else None),
        expires_at=max(expiries, default=None),
        locked_until=ledger.locked_until,
        verified_at=conversation.verified_at,
    )
