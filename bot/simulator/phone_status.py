"""The bot's view of each phone, added to the journal whenever it changes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.conversation.numbers import canonical
from bot.simulator.telnyx.journal import PhoneStatus, PhoneText
from bot.store import conversations, people, phone_limits, tokens
from bot.store.engine.errors import UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.policy import Policy
    from bot.simulator.sandbox import Sandbox

_SETTLE_TIMEOUT = 0.3
"""Seconds within which the bot usually stores the result of a request that was just answered."""


async def record_changes(sandbox: Sandbox) -> None:
    """Add a phone's status to the journal after each entry that changed it; run until cancelled."""
    journal, database, policy = (
        sandbox.telnyx.journal,
        sandbox.bot.database,
        sandbox.bot.rules.policy,
    )
    latest: dict[tuple[str, str], PhoneStatus] = {}
    phones: set[str] = set()
    sender = sandbox.bot.sender
    seen, settled = 0, True
    while True:
        try:
            async with asyncio.timeout(None if settled else _SETTLE_TIMEOUT):
                await journal.wait_for_more_than(seen)
            settled = False
        except TimeoutError:
            # Until the sender has stored the result of a request, the status may still change.
            settled = sender is None or sender.idle
        phones |= {entry.phone for entry in journal.entries[seen:] if isinstance(entry, PhoneText)}
        seen = len(journal.entries)
        with contextlib.suppress(UnavailableError):
            for status in await database.read(find, phones, policy, sandbox.clock.now()):
                key = (status.phone, status.bot_number)
                before = latest.get(key)
                if before is None or replace(before, at=status.at) != status:
                    latest[key] = status
                    journal.add(status)


def find(
    connection: Connection, phones: set[str], policy: Policy, now: datetime
) -> list[PhoneStatus]:
    """Read the status of each conversation of these phones, in whichever spelling."""
    return [
        replace(_phone_status(connection, stored, policy, now), phone=phone)
        for phone in sorted(phones)
        for stored in conversations.find(connection, canonical(phone))
    ]


def _phone_status(
    connection: Connection, stored: conversations.StoredConversation, policy: Policy, now: datetime
) -> PhoneStatus:
    conversation = stored.conversation
    limits = phone_limits.read(connection, conversation.phone)
    own_token = conversation.token
    waiting = own_token is not None and not own_token.spent
    app_tokens = [token for _, token in tokens.load_for_verifications(connection, [stored.id], now)]
    expiries = [token.expires_at for token in (own_token, *app_tokens) if token and not token.spent]
    return PhoneStatus(
        at=now,
        phone=conversation.phone,
        bot_number=conversation.bot_number,
        state=conversation.state,
        tries_left=policy.tries_left(limits, own_token if waiting else None),
        expires_at=max(expiries, default=None),
        locked_until=limits.text_locked_until,
        verified_at=people.read(connection, conversation.phone).verified_at,
    )
