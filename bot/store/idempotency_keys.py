"""Idempotency keys: requests of apps that were carried out, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from bot.store.engine.errors import DeadlockError
from bot.store.sql.bulk_insert import insert_missing
from bot.store.tables import IdempotencyKeyRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.verification import RequestOutcome

_IDEMPOTENCY_KEYS = IdempotencyKeyRow.__table__


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to a request that was carried out, with a hash of that request."""

    fingerprint: str
    outcome: RequestOutcome
    verification: str
    tries_left: int


def load(connection: Connection, keys: Collection[str]) -> dict[str, StoredAnswer]:
    """Read the answers to requests that were carried out before, by key."""
    if not keys:
        return {}
    rows = connection.execute(select(_IDEMPOTENCY_KEYS).where(_IDEMPOTENCY_KEYS.c.key.in_(keys)))
    return {
        row.key: StoredAnswer(row.fingerprint, row.outcome, row.verification_id, row.tries_left)
        for row in rows
    }


def store(connection: Connection, answers: Mapping[str, StoredAnswer], now: datetime) -> None:
    """Store answers by key.

    Raise DeadlockError if another process has just stored one of them. The transaction then runs
    again and finds that answer.
    """
    if not answers:
        return
    rows = [
        {
            "key": key,
            "fingerprint": answer.fingerprint,
            "outcome": answer.outcome,
            "verification_id": answer.verification,
            "tries_left": answer.tries_left,
            "answered_at": now,
        }
        for key, answer in sorted(answers.items())
    ]
    inserted = insert_missing(connection, _IDEMPOTENCY_KEYS, rows, _IDEMPOTENCY_KEYS.c.key)
    if len(inserted) < len(rows):
        raise DeadlockError("a request was carried out by another process")
