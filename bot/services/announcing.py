"""What apps are told, written in the transaction of what it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.verification import Occurrence
from bot.services.representation import EventView, NumberView, VerificationView
from bot.store import events, verifications

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.verification import News, Verification
    from bot.store.conversations import Key

_ON_THE_WAY = frozenset({Occurrence.SENT, Occurrence.DELIVERED})
"""Not told any more of a verification that has ended: what became of it has been."""


def announce(
    connection: Connection, happened: Sequence[tuple[Key | None, News]], now: datetime
) -> None:
    """Queue events, in the order given, about verifications as they stand in the database now.

    News without a verification is about the number of its conversation.
    """
    concerned = {news.verification for _, news in happened if news.verification}
    known = verifications.load(connection, concerned)
    drafts = [_draft(key, news, known, now) for key, news in happened]
    events.add(connection, [draft for draft in drafts if draft is not None], now)


def _draft(
    key: Key | None, news: News, known: dict[str, Verification], now: datetime
) -> events.Draft | None:
    if news.verification is None:
        return _about_number(key, news, now) if key else None
    verification = known.get(news.verification)
    if verification is None or (verification.ended_at and news.occurrence in _ON_THE_WAY):
        return None
    view = VerificationView.of(verification, now)
    return _event(verification.id, news.occurrence, view, now)


def _about_number(key: Key, news: News, now: datetime) -> events.Draft:
    view = NumberView(number=key.phone, bot_number=key.bot_number)
    return _event(key.phone, news.occurrence, view, now)


def _event(
    subject: str, occurrence: Occurrence, data: VerificationView | NumberView, now: datetime
) -> events.Draft:
    body = EventView(type=occurrence, timestamp=now, data=data).model_dump_json()
    return events.Draft(subject, occurrence, body)
