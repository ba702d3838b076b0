"""One door to the database, SQLite or PostgreSQL: `write` and `read` run a synchronous function.

A function handed to `write` gets a connection in a transaction and runs at once from begin to
commit; how that is done is the business of the kind of database alone.
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
"""Seconds a transaction may take from being asked for to its commit, waiting included."""


class Backend(Protocol):
    """A kind of database: how a transaction is run there."""

    reader: AsyncEngine
    writers: ClassVar[int]
    """How many transactions that write are worth having at once."""

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all."""

    async def checkpoint(self) -> None:
        """Bring what was committed to its place."""

    async def close(self) -> None:
        """Close all connections."""


class Database:
    """The database behind a URL (`sqlite+aiosqlite://…` or `postgresql+asyncpg://…`).

    `within` are the seconds a transaction may take.
    """

    def __init__(self, url: URL | str, within: float = WRITE_TIMEOUT) -> None:
        self.url = make_url(url)
        self._within = within
        on_sqlite = self.url.get_backend_name() == "sqlite"
        self._kind: Backend = Sqlite(self.url) if on_sqlite else Postgresql(self.url, within)

    @property
    def writers(self) -> int:
        """Return how many transactions that write are worth having at once."""
        return self._kind.writers

    async def write(
        self,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        deadline: float | None = None,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` in one transaction and commit it in time, or not at all.

        In time is before `deadline` (the event loop's clock), and within its seconds anyway,
        waiting for a lock included. A deadlock is retried once. Raises UnavailableError
        where the database cannot, and UncertainCommitError where only the outcome of the commit
        is unknown; what `work` raises about its data passes through.

        Unless it is to `wait_for_locks`, it raises LockedError where it would have to wait for a
        row longer than other transactions take. SQLite has one lock, and always waits for it.
        """
        latest = asyncio.get_running_loop().time() + self._within
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
            return await self._kind.transact(deadline, work, *args, wait_for_locks=wait_for_locks)

    async def check_write(self) -> None:
        """Write a row and roll it back, in the time of any transaction.

        Raises BusyError where it did not get its turn in time, and UnavailableError where the
        database takes no writes, for whatever reason.
        """
        try:
            await self.write(write_and_roll_back)
        except RolledBack:
            return
        except DBAPIError as error:
            raise UnavailableError(errors.error_name(error)) from error

    async def read(self, work: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run `work`, which changes nothing; raises UnavailableError as `write` does."""
        with errors.translate_errors():
            async with (
                asyncio.timeout(self._within),
                open_connection(self._kind.reader) as connection,
            ):
                return await connection.run_sync(work, *args)

    async def checkpoint(self) -> None:
        """Spare those who write next the work that much was written; raises UnavailableError."""
        with errors.translate_errors():
            await self._kind.checkpoint()

    async def close(self) -> None:
        """Close all connections."""
        await self._kind.close()
