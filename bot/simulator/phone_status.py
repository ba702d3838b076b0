"""Where each phone stands as the bot sees it, told whenever that changes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.simulator.telnyx.journal import PhoneStatus, PhoneText
from bot.store import conversations, phone_limits, tokens
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.policy import Policy
    from bot.simulator.sandbox import Sandbox

_SETTLE_TIMEOUT = 0.3
"""Seconds in which the bot usually writes down what came of a request that was just answered."""


async def keep_updated(sandbox: Sandbox) -> None:
    """Add to the journal where a phone stands after each thing that happens, if it is news."""
    journal, database, policy = (
        sandbox.telnyx.journal,
        sandbox.bot.database,
        sandbox.bot.rules.policy,
    )
    known: dict[tuple[str, str], PhoneStatus] = {}
    phones: set[str] = set()
    sender = sandbox.bot.sender
    seen, settled = 0, True
    while True:
        try:
            async with asyncio.timeout(None if settled else _SETTLE_TIMEOUT):
                await journal.longer_than(seen)
            settled = False
        except TimeoutError:
            # Until the sender has written down what came of a request, there may be news.
            settled = sender is None or sender.idle
        phones |= {entry.phone for entry in journal.entries[seen:] if isinstance(entry, PhoneText)}
        seen = len(journal.entries)
        with contextlib.suppress(UnavailableError):
            for found in await database.read(_read, phones, policy, sandbox.clock.now()):
                key = (found.phone, found.bot_number)
                before = known.get(key)
                if before is None or replace(before, at=found.at) != found:
                    known[key] = found
                    journal.add(found)


def _read(
    connection: Connection, phones: set[str], policy: Policy, now: datetime
) -> list[PhoneStatus]:
    return [
        _phone_status(connection, known, policy, now)
        for phone in sorted(phones)
        for known in conversations.find(connection, phone)
    ]


def _phone_status(
    connection: Connection, known: conversations.StoredConversation, policy: Policy, now: datetime
) -> PhoneStatus:
    conversation = known.conversation
    limits = phone_limits.read(connection, conversation.phone)
    own = conversation.token
    waiting = own is not None and not own.spent
    asked = [token for _, token in tokens.load_for_verifications(connection, [known.id], now)]
    expiries = [token.expires_at for token in (own, *asked) if token and not token.spent]
    return PhoneStatus(
        at=now,
        phone=conversation.phone,
        bot_number=conversation.bot_number,
        state=conversation.state,
        tries_left=policy.tries_left(limits, own if waiting else None),
        expires_at=max(expiries, default=None),
        locked_until=limits.locked_until,
        verified_at=conversation.verified_at,
    )
