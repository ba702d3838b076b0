"""The keys of the webhooks that have been applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, bindparam, true

from bot.store.inserts import insert_missing_from
from bot.store.lists import listed
from bot.store.models import ReceivedRow, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_RECEIVED = ReceivedRow.__table__
_NOW = bindparam("now", type_=UtcDateTime)
# SQLite takes ON CONFLICT for a part of the SELECT where that has no WHERE.
_SEEN = listed("keys", String()).add_columns(_NOW).where(true())


def first_seen(connection: Connection, keys: Collection[str], now: datetime) -> set[str]:
    """Remember the keys and return those that were not known before."""
    if not keys:
        return set()
    seen = {"keys": sorted(set(keys)), "now": now}
    return set(insert_missing_from(connection, _RECEIVED, _SEEN, seen, _RECEIVED.c.key))
