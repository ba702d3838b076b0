"""A check that the database accepts writes: inserts a row as webhooks do, and rolls it back."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert

from bot.store.tables import ProcessedWebhookRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PROCESSED_WEBHOOKS = ProcessedWebhookRow.__table__
_SMALL_CACHE = 10
_LARGE_KEY = 64 * 1024


class RolledBack(Exception):  # noqa: N818 - nothing is wrong
    """Raised after successful writes, so that they are rolled back."""


def write_and_roll_back(connection: Connection) -> None:
    """Write a row and raise RolledBack, or the database's error."""
    # A random key: two processes that check at once do not wait for each other.
    key = f"check:{secrets.token_hex(8)}"
    if connection.dialect.name == "sqlite":
        _write_to_disk(connection, key)
    else:
        _write(connection, key)
    raise RolledBack


def _write_to_disk(connection: Connection, key: str) -> None:
    """Make SQLite write to its disk, although the transaction is never committed.

    SQLite caches pages until the commit, and would not notice a full disk. A row larger than the
    cache is written at once: 64 KB, in half a millisecond.
    """
    default = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql(f"PRAGMA cache_size = {_SMALL_CACHE}")
    try:
        _write(connection, key + "x" * _LARGE_KEY)
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {default}")


def _write(connection: Connection, key: str) -> None:
    connection.execute(insert(_PROCESSED_WEBHOOKS).values(key=key, processed_at=datetime.now(UTC)))
