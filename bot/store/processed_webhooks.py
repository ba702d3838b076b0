"""The keys of the webhooks that have been applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, bindparam, true

from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_missing_from
from bot.store.tables import ProcessedWebhookRow, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_PROCESSED_WEBHOOKS = ProcessedWebhookRow.__table__
_NOW = bindparam("now", type_=UtcDateTime)
# SQLite takes ON CONFLICT for a part of the SELECT where that has no WHERE.
_SEEN = array_param("keys", String()).add_columns(_NOW).where(true())


def first_seen(connection: Connection, keys: Collection[str], now: datetime) -> set[str]:
    """Remember the keys and return those that were not known before."""
    if not keys:
        return set()
    seen = {"keys": sorted(set(keys)), "now": now}
    return set(
        insert_missing_from(connection, _PROCESSED_WEBHOOKS, _SEEN, seen, _PROCESSED_WEBHOOKS.c.key)
    )
