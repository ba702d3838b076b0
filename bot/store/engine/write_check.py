"""Whether the database takes writes: a row is written as webhooks write it, and rolled back."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert

from bot.store.tables import ProcessedWebhookRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

_RECEIVED = ProcessedWebhookRow.__table__
_SMALL_CACHE = 10
_LARGE_KEY = 64 * 1024


class RolledBack(Exception):  # noqa: N818 - nothing is wrong
    """Raised when all was written, so that nothing of it is kept."""


def write_and_roll_back(connection: Connection) -> None:
    """Write a row, and raise RolledBack, or what the database raises."""
    # The key is nobody else's: two processes that check at once do not wait for each other.
    key = f"check:{secrets.token_hex(8)}"
    if connection.dialect.name == "sqlite":
        _write_to_disk(connection, key)
    else:
        _write(connection, key)
    raise RolledBack


def _write_to_disk(connection: Connection, key: str) -> None:
    """Have SQLite write to its disk before the commit that never comes.

    It keeps pages in its cache until then, where a full disk would not be noticed. A row that is
    larger than the cache leaves it: 64 KB, in half a millisecond.
    """
    usual = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql(f"PRAGMA cache_size = {_SMALL_CACHE}")
    try:
        _write(connection, key + "x" * _LARGE_KEY)
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {usual}")


def _write(connection: Connection, key: str) -> None:
    connection.execute(insert(_RECEIVED).values(key=key, received_at=datetime.now(UTC)))
