"""SQLite: one thread that writes, and readers beside it that no writer holds up (WAL).

A transaction runs in its thread from begin to commit. Through an asynchronous driver each of its
statements would be a hop between threads, ten times the work of the statement itself.
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
# SQLite cannot be called back while it waits for a lock. Short waits, repeated until the
# caller's own deadline, keep that deadline whoever else holds the lock.
_LOCK_WAIT = 0.1
# None keeps sqlite3 from beginning by itself: the listener below does.
_CONNECT_ARGS = {"isolation_level": None, "timeout": _LOCK_WAIT}


class Sqlite:
    """One database file. Its writes begin IMMEDIATE and take turns in the order asked for."""

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
        _prepare(self._writer, "BEGIN IMMEDIATE")
        _prepare(self.reader.sync_engine, "BEGIN")

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,  # noqa: ARG002 - the one lock is waited for by all
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all.

        A commit cannot be called back either: however slow it is, its answer is waited for,
        and is true.
        """
        loop = asyncio.get_running_loop()
        latest = time.monotonic() + deadline - loop.time()

        def transaction() -> T:
            with self._begun(latest) as connection:
                result = work(connection, *args)
                _refuse_after(latest)
                try:
                    connection.commit()
                except BaseException:
                    # The pool would hand it on as it is: within a transaction.
                    connection.invalidate()
                    raise
                return result

        return await loop.run_in_executor(self._thread, transaction)

    def _begun(self, latest: float) -> Connection:
        """Connect and begin, trying again while another process holds the write lock."""
        _refuse_after(latest)
        connection = _connected(self._writer)
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
        """Bring what was committed from the log to its place, while others go on writing.

        Where the log has grown long, the next to commit does it, and all wait behind that.
        """
        async with open_connection(self.reader) as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    async def close(self) -> None:
        """Close all connections, after what is being written."""
        await asyncio.to_thread(self._thread.shutdown)
        self._writer.dispose()
        await self.reader.dispose()


def _connected(engine: Engine) -> Connection:
    """Connect; whatever keeps us from that is an outage and may pass."""
    try:
        return engine.connect()
    except Exception as error:
        raise UnreachableError(error_name(error)) from error


def _refuse_after(latest: float) -> None:
    """Raise TimeoutError once it is too late to commit: the webhook is being refused by now."""
    if time.monotonic() > latest:
        raise TimeoutError


def _prepare(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
