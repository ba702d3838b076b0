"""What apps are told, written in the transaction of what it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.verification import EventType
from bot.services.schemas import AppEventView, NumberView, VerificationView
from bot.store import verifications
from bot.store.queues import app_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.verification import AppEvent, Verification
    from bot.store.conversations import ConversationKey

_ON_THE_WAY = frozenset({EventType.SENT, EventType.DELIVERED})
"""Not told any more of a verification that has ended: what became of it has been."""


def record_app_events(
    connection: Connection,
    happened: Sequence[tuple[ConversationKey | None, AppEvent]],
    now: datetime,
) -> None:
    """Queue events, in the order given, about verifications as they stand in the database now.

    News without a verification is about the number of its conversation.
    """
    concerned = {news.verification for _, news in happened if news.verification}
    known = verifications.load(connection, concerned)
    drafts = [_new_event(key, news, known, now) for key, news in happened]
    app_events.add(connection, [draft for draft in drafts if draft is not None], now)


def _new_event(
    key: ConversationKey | None, news: AppEvent, known: dict[str, Verification], now: datetime
) -> app_events.NewAppEvent | None:
    if news.verification is None:
        return _about_number(key, news, now) if key else None
    verification = known.get(news.verification)
    if verification is None or (verification.ended_at and news.type in _ON_THE_WAY):
        return None
    view = VerificationView.of(verification, now)
    return _serialized(verification.id, news.type, view, now)


def _about_number(key: ConversationKey, news: AppEvent, now: datetime) -> app_events.NewAppEvent:
    view = NumberView(number=key.phone, bot_number=key.bot_number)
    return _serialized(key.phone, news.type, view, now)


def _serialized(
    subject: str, occurrence: EventType, data: VerificationView | NumberView, now: datetime
) -> app_events.NewAppEvent:
    body = AppEventView(type=occurrence, timestamp=now, data=data).model_dump_json()
    return app_events.NewAppEvent(subject, occurrence, body)
