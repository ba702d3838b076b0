"""What apps asked under an Idempotency-Key, and what they were answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from bot.store.models import RequestRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.verification import Outcome

_REQUESTS = RequestRow.__table__


@dataclass(frozen=True, slots=True)
class Settled:
    """A request that was carried out: what it asked, about which verification, and the answer."""

    fingerprint: str
    outcome: Outcome
    verification: str
    tries_left: int


def load(connection: Connection, keys: Collection[str]) -> dict[str, Settled]:
    """Read which requests were carried out before, by key."""
    if not keys:
        return {}
    rows = connection.execute(select(_REQUESTS).where(_REQUESTS.c.key.in_(keys)))
    return {
        row.key: Settled(row.fingerprint, row.outcome, row.verification_name, row.tries_left)
        for row in rows
    }


def remember(connection: Connection, settled: Mapping[str, Settled], now: datetime) -> None:
    """Note requests by key; where another process has just noted one, the transaction breaks."""
    if settled:
        connection.execute(
            insert(_REQUESTS),
            [
                {
                    "key": key,
                    "fingerprint": told.fingerprint,
                    "outcome": told.outcome,
                    "verification_name": told.verification,
                    "tries_left": told.tries_left,
                    "answered_at": now,
                }
                for key, told in settled.items()
            ],
        )
