"""Empty databases to measure on: files of SQLite, and a PostgreSQL that is found or started."""

from __future__ import annotations

import itertools
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import postgresql
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL


@contextmanager
def empty() -> Iterator[Callable[[str | None], URL | None]]:
    """Give each measurement a database without tables: of "sqlite", "postgresql", or none."""
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
