"""The keys of the webhooks that have been applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.store.database import insert_missing
from bot.store.models import ReceivedRow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_RECEIVED = ReceivedRow.__table__


def first_seen(connection: Connection, keys: Collection[str], now: datetime) -> set[str]:
    """Remember the keys and return those that were not known before."""
    if not keys:
        return set()
    rows = [{"key": key, "received_at": now} for key in sorted(set(keys))]
    return set(insert_missing(connection, _RECEIVED, rows, _RECEIVED.c.key))
