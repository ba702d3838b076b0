"""SQLite: one thread that writes, and readers that never wait for it (WAL).

A transaction runs in that thread from begin to commit. With an asynchronous driver, each statement
would be a switch between threads, which costs ten times as much as the statement itself.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple

from sqlalchemy import create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from bot.store.engine.errors import UnreachableError, error_name, is_locked, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_READERS = 10
# SQLite cannot be interrupted while it waits for a lock. Short waits, repeated until the caller's
# deadline, keep that deadline however long another process holds the lock.
_LOCK_TIMEOUT = 0.1
# With None, sqlite3 does not begin transactions by itself: the listener below does.
_CONNECT_ARGS = {"isolation_level": None, "timeout": _LOCK_TIMEOUT}


class Sqlite:
    """One database file. Writes begin IMMEDIATE and run one by one, in the order of the calls."""

    writers: ClassVar = 1

    def __init__(self, url: URL) -> None:
        self._writer = create_engine(
            url.set(drivername="sqlite"),
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args=_CONNECT_ARGS,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self.reader = create_async_engine(
            url,
            pool_size=_READERS,
            max_overflow=0,
            hide_parameters=True,
            connect_args=_CONNECT_ARGS,
        )
        _set_up(self._writer, "BEGIN IMMEDIATE")
        _set_up(self.reader.sync_engine, "BEGIN")

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,  # noqa: ARG002 - all wait for the one lock
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all.

        A commit cannot be interrupted: however slow it is, this waits for its outcome.
        """
        loop = asyncio.get_running_loop()
        latest = time.monotonic() + deadline - loop.time()

        def transaction() -> T:
            with self._begin(latest) as connection:
                result = work(connection, *args)
                _check_deadline(latest)
                try:
                    connection.commit()
                except BaseException:
                    # Otherwise the pool would reuse a connection inside a transaction.
                    connection.invalidate()
                    raise
                return result

        return await loop.run_in_executor(self._thread, transaction)

    def _begin(self, latest: float) -> Connection:
        """Connect and begin, again and again while another process holds the write lock."""
        _check_deadline(latest)
        connection = _connect(self._writer)
        while True:
            try:
                connection.begin()
            except BaseException as error:
                locked = isinstance(error, OperationalError) and is_locked(error)
                if not locked or time.monotonic() > latest:
                    connection.close()
                    raise
            else:
                return connection

    async def checkpoint(self) -> None:
        """Move committed data from the write-ahead log to the database file, while writers go on.

        If the log grows long, the next commit does it, and all writers wait for that.
        """
        async with open_connection(self.reader) as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    async def close(self) -> None:
        """Close all connections, after the writes that are queued."""
        await asyncio.to_thread(self._thread.shutdown)
        self._writer.dispose()
        await self.reader.dispose()


def _connect(engine: Engine) -> Connection:
    """Connect; any failure is an outage (UnreachableError)."""
    try:
        return engine.connect()
    except Exception as error:
        raise UnreachableError(error_name(error)) from error


def _check_deadline(latest: float) -> None:
    """Raise TimeoutError if the deadline has passed, since the webhook is then refused."""
    if time.monotonic() > latest:
        raise TimeoutError


def _set_up(engine: Engine, begin: str) -> None:
    """Set the pragmas of new connections, and the statement that begins a transaction."""

    @event.listens_for(engine, "connect")
    def set_pragmas(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # Otherwise the journals of single statements are files: a quarter of all writing.
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
