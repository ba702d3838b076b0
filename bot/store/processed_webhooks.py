"""The keys of the webhooks that have been processed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, bindparam, true

from bot.store.sql.array_param import array_param
from bot.store.sql.bulk_insert import insert_missing_from
from bot.store.sql.column_types import UtcDateTime
from bot.store.tables import ProcessedWebhookRow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_PROCESSED_WEBHOOKS = ProcessedWebhookRow.__table__
_NOW = bindparam("now", type_=UtcDateTime)
# Without a WHERE, SQLite would parse ON CONFLICT as part of the SELECT.
_NEW_ROWS = array_param("keys", String()).add_columns(_NOW).where(true())


def first_seen(connection: Connection, keys: Collection[str], now: datetime) -> set[str]:
    """Store the keys, and return those that are new."""
    if not keys:
        return set()
    parameters = {"keys": sorted(set(keys)), "now": now}
    key = _PROCESSED_WEBHOOKS.c.key
    return set(insert_missing_from(connection, _PROCESSED_WEBHOOKS, _NEW_ROWS, parameters, key))
