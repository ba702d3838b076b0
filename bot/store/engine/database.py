"""The database, SQLite or PostgreSQL: `write` and `read` run a synchronous function on it.

A function given to `write` receives a connection in a transaction, and runs without a pause from
begin to commit. How that is done depends on the database (`Backend`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, TypeVarTuple

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from bot.store.engine import errors
from bot.store.engine.errors import DeadlockError, UnavailableError, open_connection
from bot.store.engine.postgresql import Postgresql
from bot.store.engine.sqlite import Sqlite
from bot.store.engine.write_check import RolledBack, write_and_roll_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WRITE_TIMEOUT = 1.5
"""Seconds a transaction may take from the call to its commit, including waiting."""


class Backend(Protocol):
    """How transactions run on one kind of database."""

    reader: AsyncEngine
    writers: ClassVar[int]
    """How many concurrent write transactions are useful."""

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all."""

    async def checkpoint(self) -> None:
        """Move committed data from the write-ahead log to the database file, if there is one."""

    async def close(self) -> None:
        """Close all connections."""


class Database:
    """The database behind a URL (`sqlite+aiosqlite://…` or `postgresql+asyncpg://…`).

    `timeout` is how many seconds a transaction may take.
    """

    def __init__(self, url: URL | str, timeout: float = WRITE_TIMEOUT) -> None:
        self.url = make_url(url)
        self._timeout = timeout
        on_sqlite = self.url.get_backend_name() == "sqlite"
        self._backend: Backend = Sqlite(self.url) if on_sqlite else Postgresql(self.url, timeout)

    @property
    def writers(self) -> int:
        """Return how many concurrent write transactions are useful."""
        return self._backend.writers

    async def write(
        self,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        deadline: float | None = None,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` in one transaction and commit it in time, or not at all.

        The limit is `deadline` (the event loop's clock), and at most the database's own timeout;
        waiting for locks counts. After a deadlock it runs once more. Raise UnavailableError if the
        database cannot serve, and UncertainCommitError if only the outcome of the commit is
        unknown; errors that `work` raises about its data pass through.

        Without `wait_for_locks`, raise LockedError instead of waiting for a row's lock for longer
        than other transactions take. SQLite has only one lock, and always waits for it.
        """
        latest = asyncio.get_running_loop().time() + self._timeout
        deadline = latest if deadline is None else min(deadline, latest)
        try:
            return await self._write(deadline, work, *args, wait_for_locks=wait_for_locks)
        except DeadlockError:
            return await self._write(deadline, work, *args, wait_for_locks=wait_for_locks)

    async def _write(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,
    ) -> T:
        with errors.translate_errors():
            return await self._backend.transact(
                deadline, work, *args, wait_for_locks=wait_for_locks
            )

    async def check_write(self) -> None:
        """Write a row and roll it back, within the timeout of any transaction.

        Raise BusyError if locks or load kept it from finishing in time, and UnavailableError if the
        database accepts no writes for any other reason.
        """
        try:
            await self.write(write_and_roll_back)
        except RolledBack:
            return
        except DBAPIError as error:
            raise UnavailableError(errors.error_name(error)) from error

    async def read(self, work: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run `work`, which must only read; raise UnavailableError as `write` does."""
        with errors.translate_errors():
            async with (
                asyncio.timeout(self._timeout),
                open_connection(self._backend.reader) as connection,
            ):
                return await connection.run_sync(work, *args)

    async def checkpoint(self) -> None:
        """Move committed data from a long write-ahead log, so that no commit has to do it.

        Raise UnavailableError as `write` does.
        """
        with errors.translate_errors():
            await self._backend.checkpoint()

    async def close(self) -> None:
        """Close all connections."""
        await self._backend.close()
