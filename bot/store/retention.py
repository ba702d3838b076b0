"""How long what is not needed any more is kept, and its removal in small pieces."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from bot.store.tables import (
    AppEventRow,
    AppEventState,
    EarlyReportRow,
    IdempotencyKeyRow,
    OutboxRow,
    ProcessedWebhookRow,
    TokenRow,
    VerificationRow,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

CHUNK = 200
"""Rows removed in one transaction, of all tables together: no webhook waits long behind them."""

_EVENTS = AppEventRow.__table__
# The carrier repeats a webhook for minutes and a report comes within hours; texts and events
# are kept a month so that an operator can look into a complaint. An event that waits stays, however
# long the app is away. Tokens stay as long as the texts with their code, which go first: else each
# of those had to be written anew, without its token.
_KEPT = (
    (OutboxRow.__table__, OutboxRow.__table__.c.created_at, timedelta(days=30)),
    (TokenRow.__table__, TokenRow.__table__.c.expires_at, timedelta(days=30)),
    (_EVENTS, _EVENTS.c.created_at, timedelta(days=30), _EVENTS.c.state != AppEventState.QUEUED),
    (VerificationRow.__table__, VerificationRow.__table__.c.created_at, timedelta(days=30)),
    (IdempotencyKeyRow.__table__, IdempotencyKeyRow.__table__.c.answered_at, timedelta(days=1)),
    (ProcessedWebhookRow.__table__, ProcessedWebhookRow.__table__.c.received_at, timedelta(days=3)),
    (EarlyReportRow.__table__, EarlyReportRow.__table__.c.received_at, timedelta(days=1)),
)


def purge_chunk(connection: Connection, now: datetime) -> int:
    """Remove up to `CHUNK` rows that are past their time, the oldest first; return how many went.

    Several processes share the work: none waits for rows that another is removing.
    """
    left = CHUNK
    for table, moment, age, *settled in _KEPT:
        (key,) = table.primary_key.columns
        old = select(key).where(moment < now - age, *settled).order_by(moment).limit(left)
        doomed = key.in_(old.with_for_update(skip_locked=True))
        left -= connection.execute(delete(table).where(doomed)).rowcount
        if left <= 0:
            break
    return CHUNK - left
