"""Records app events in the transaction of the change that they report.

Their types are in `bot/conversation/app_events.py`, their payloads in `bot/services/schemas.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.app_events import EventType
from bot.services.schemas import AppEventView, NumberView, VerificationView
from bot.store import verifications
from bot.store.queues import app_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.app_events import AppEvent
    from bot.conversation.verification import Verification
    from bot.store.conversations import ConversationKey

_PROGRESS = frozenset({EventType.SENT, EventType.DELIVERED})
"""Not recorded once a verification has ended: its result is already recorded."""


def record_app_events(
    connection: Connection,
    occurred: Sequence[tuple[ConversationKey | None, AppEvent]],
    now: datetime,
) -> None:
    """Queue app events in the order given, with the verifications as they are in the database now.

    An app event without a verification is about the phone of its conversation.
    """
    ids = {app_event.verification for _, app_event in occurred if app_event.verification}
    stored = verifications.load(connection, ids)
    new = [_new_event(key, app_event, stored, now) for key, app_event in occurred]
    app_events.add(connection, [event for event in new if event is not None], now)


def _new_event(
    key: ConversationKey | None, app_event: AppEvent, stored: dict[str, Verification], now: datetime
) -> app_events.NewAppEvent | None:
    if app_event.verification is None:
        return _number_event(key, app_event, now) if key else None
    verification = stored.get(app_event.verification)
    if verification is None or (verification.ended_at and app_event.type in _PROGRESS):
        return None
    view = VerificationView.of(verification, now)
    return _serialize(verification.id, app_event.type, view, now)


def _number_event(
    key: ConversationKey, app_event: AppEvent, now: datetime
) -> app_events.NewAppEvent:
    view = NumberView(number=key.phone, bot_number=key.bot_number)
    return _serialize(key.phone, app_event.type, view, now)


def _serialize(
    subject: str, event_type: EventType, data: VerificationView | NumberView, now: datetime
) -> app_events.NewAppEvent:
    body = AppEventView(type=event_type, timestamp=now, data=data).model_dump_json()
    return app_events.NewAppEvent(subject, event_type, body)
