"""How long what is not needed any more is kept, and its removal in small pieces."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from bot.store.models import (
    EventRow,
    EventState,
    OutboxRow,
    ReceivedRow,
    ReportRow,
    RequestRow,
    TokenRow,
    VerificationRow,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

CHUNK = 500
"""Rows removed in one transaction: few enough that no webhook waits long behind it."""

_EVENTS = EventRow.__table__
# The carrier repeats a webhook for minutes and a report comes within hours; texts and events
# are kept a month so that an operator can look into a complaint. An event that waits stays, however
# long the app is away.
_KEPT = (
    (OutboxRow.__table__, OutboxRow.__table__.c.created_at, timedelta(days=30)),
    (_EVENTS, _EVENTS.c.created_at, timedelta(days=30), _EVENTS.c.state != EventState.QUEUED),
    (TokenRow.__table__, TokenRow.__table__.c.expires_at, timedelta(days=7)),
    (VerificationRow.__table__, VerificationRow.__table__.c.created_at, timedelta(days=30)),
    (RequestRow.__table__, RequestRow.__table__.c.answered_at, timedelta(days=1)),
    (ReceivedRow.__table__, ReceivedRow.__table__.c.received_at, timedelta(days=3)),
    (ReportRow.__table__, ReportRow.__table__.c.received_at, timedelta(days=1)),
)


def purge_chunk(connection: Connection, now: datetime) -> int:
    """Remove up to `CHUNK` rows of each table that are past their time; return how many went."""
    removed = 0
    for table, moment, age, *settled in _KEPT:
        (key,) = table.primary_key.columns
        old = select(key).where(moment < now - age, *settled).limit(CHUNK)
        removed += connection.execute(delete(table).where(key.in_(old))).rowcount
    return removed
