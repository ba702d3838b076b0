"""What apps asked under an Idempotency-Key, and what they were answered."""

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
    """A request that was carried out: what it asked, about which verification, and the answer."""

    fingerprint: str
    outcome: RequestOutcome
    verification: str
    tries_left: int


def load(connection: Connection, keys: Collection[str]) -> dict[str, StoredAnswer]:
    """Read which requests were carried out before, by key."""
    if not keys:
        return {}
    rows = connection.execute(select(_IDEMPOTENCY_KEYS).where(_IDEMPOTENCY_KEYS.c.key.in_(keys)))
    return {
        row.key: StoredAnswer(row.fingerprint, row.outcome, row.verification_name, row.tries_left)
        for row in rows
    }


def store(connection: Connection, settled: Mapping[str, StoredAnswer], now: datetime) -> None:
    """Note requests by key.

    Raises DeadlockError, so that all is undone and run again, where another process has just
    noted one: what that was answered is known then.
    """
    if not settled:
        return
    rows = [
        {
            "key": key,
            "fingerprint": told.fingerprint,
            "outcome": told.outcome,
            "verification_name": told.verification,
            "tries_left": told.tries_left,
            "answered_at": now,
        }
        for key, told in sorted(settled.items())
    ]
    if len(insert_missing(connection, _IDEMPOTENCY_KEYS, rows, _IDEMPOTENCY_KEYS.c.key)) < len(
        rows
    ):
        raise DeadlockError("a request was carried out by another process")
