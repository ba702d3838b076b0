"""Empty databases to measure on: SQLite files, and a PostgreSQL that is found or started."""

from __future__ import annotations

import itertools
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.kit import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL


@contextmanager
def empty() -> Iterator[Callable[[str | None], URL | None]]:
    """Yield a function that makes a database without tables: "sqlite", "postgresql", or none."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        numbers = itertools.count()
        servers: list[postgresql.Server] = []

        def make(kind: str | None) -> URL | None:
            if kind == "sqlite":
                return make_url(f"sqlite+aiosqlite:///{folder}/{next(numbers)}.db")
            if kind is None:
                return None
            if not servers:
                server = stack.enter_context(postgresql.server())
                if server is None:
                    sys.exit(postgresql.HOW_TO_GET_ONE)
                servers.append(server)
            return stack.enter_context(servers[0].database(migrated=False))

        yield make


async def check_codes(database: URL, codes: int) -> int:
    """Return the number of queued codes; exit if it is below `codes`, the webhooks answered 200."""
    found = await _count(database, "SELECT count(*) FROM outbox")
    if found < codes:
        sys.exit(f"{codes} webhooks were answered 200, and {found} codes are queued")
    return found


async def count_accepted(database: URL) -> int:
    """Return the number of texts that Telnyx has accepted."""
    return await _count(database, "SELECT count(*) FROM outbox WHERE state = 'accepted'")


async def _count(database: URL, statement: str) -> int:
    engine = create_async_engine(database)
    try:
        async with engine.connect() as connection:
            return await connection.scalar(text(statement)) or 0
    finally:
        await engine.dispose()
