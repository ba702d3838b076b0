"""`bot unlock`: the operator lifts all locks of a phone, and opens its closed channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bot.conversation.app_events import AppEvent, EventType
from bot.conversation.policy import unlocked
from bot.services.intake.app_event_log import record_app_events
from bot.store import phone_limits
from bot.store.conversations import ConversationKey

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.channels import Channel


def unlock(connection: Connection, phone: str, now: datetime, *, has_app: bool) -> list[Channel]:
    """Lift the locks of a phone (E.164) in all channels; return the closed ones that it opens.

    Codes that have grown stay long. With `has_app`, an app event is recorded for each channel that
    is opened. A conversation leaves the state `locked` at its next input.
    """
    limits = phone_limits.lock(connection, [phone])[phone]
    by_channel = phone_limits.read_channels(connection, [phone])
    opened = [closing.channel for closing in limits.closed if closing.until > now]
    phone_limits.save(connection, {phone: replace(unlocked(limits, now), closed=())})
    phone_limits.save_channels(
        connection, {key: unlocked(each, now) for key, each in by_channel.items()}
    )
    if has_app:
        key = ConversationKey(phone, "")
        events = [
            (key, AppEvent(EventType.UNLOCKED, channel=closing.channel))
            for closing in limits.closed
        ]
        record_app_events(connection, events, now)
    return opened
