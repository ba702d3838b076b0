"""How long old rows are kept, and their deletion in small chunks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from bot.store.tables import (
    AppEventRow,
    AppEventState,
    EarlyReportRow,
    FormAttemptRow,
    FormProofRow,
    FormWaitRow,
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
"""Rows deleted in one transaction, in all tables together, so that no webhook waits for long."""

_EVENTS = AppEventRow.__table__
# The carrier repeats a webhook for minutes, and a delivery report comes within hours. Texts and app
# events are kept for a month, so that the operator can look them up. A queued app event stays
# however long the app is unreachable. Tokens are deleted after the texts with their code: otherwise
# each of those texts would first be updated to have no token.
_RETENTION = (
    (OutboxRow.__table__, OutboxRow.__table__.c.created_at, timedelta(days=30)),
    (TokenRow.__table__, TokenRow.__table__.c.expires_at, timedelta(days=30)),
    (
        _EVENTS,
        _EVENTS.c.created_at,
        timedelta(days=30),
        _EVENTS.c.state != AppEventState.QUEUED,
    ),
    (VerificationRow.__table__, VerificationRow.__table__.c.created_at, timedelta(days=30)),
    (IdempotencyKeyRow.__table__, IdempotencyKeyRow.__table__.c.answered_at, timedelta(days=1)),
    (
        ProcessedWebhookRow.__table__,
        ProcessedWebhookRow.__table__.c.processed_at,
        timedelta(days=3),
    ),
    (EarlyReportRow.__table__, EarlyReportRow.__table__.c.received_at, timedelta(days=1)),
    (FormAttemptRow.__table__, FormAttemptRow.__table__.c.made_at, timedelta(days=1)),
    (FormProofRow.__table__, FormProofRow.__table__.c.used_at, timedelta(days=1)),
    (FormWaitRow.__table__, FormWaitRow.__table__.c.ready_at, timedelta(days=1)),
)


def purge_chunk(connection: Connection, now: datetime) -> int:
    """Delete up to `CHUNK` rows that are too old, the oldest first; return how many.

    Several processes may do so at once; none waits for rows that another is deleting.
    """
    remaining = CHUNK
    for table, time, age, *conditions in _RETENTION:
        (key,) = table.primary_key.columns
        old = select(key).where(time < now - age, *conditions).order_by(time).limit(remaining)
        deletable = key.in_(old.with_for_update(skip_locked=True))
        remaining -= connection.execute(delete(table).where(deletable)).rowcount
        if remaining <= 0:
            break
    return CHUNK - remaining
