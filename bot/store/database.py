"""One door to the database, SQLite or PostgreSQL: `write` and `read` run a synchronous function.

A function handed to `write` gets a connection in a transaction and runs at once from begin to
commit, so making the transaction faster later touches this file alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from sqlalchemy import URL, Connection, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WRITE_WITHIN = 1.5
"""Seconds a transaction may take from being asked for to its commit, waiting included."""
_COMMIT_WITHIN = 2.0
_POOL_SIZE = 10
# SQLite waits for a lock in its own thread, which cannot be called back. Short waits, repeated
# until the caller's own deadline, keep that deadline whoever else holds the lock.
_SQLITE_LOCK_WAIT = 0.1
_DEADLOCKS = ("40P01", "40001")
# PostgreSQL: connection lost, resources short, server going down or read-only, waits cut short.
_OUTAGES = ("08", "53", "57", "58", "25006", "55P03")


class UnavailableError(Exception):
    """The database cannot serve now; nothing of the transaction was committed."""


class DeadlockError(UnavailableError):
    """Two transactions waited for each other, and this one gave way: run it again."""


class UncertainCommitError(UnavailableError):
    """The connection was lost while committing: the transaction may stand or not."""


class Database:
    """The database behind a URL (`sqlite+aiosqlite://…` or `postgresql+asyncpg://…`).

    On SQLite all writes share one connection behind a lock and begin IMMEDIATE; reads have an
    engine of their own, since they must not wait for the write lock.
    """

    def __init__(self, url: URL | str) -> None:
        self.url = make_url(url)
        self._on_sqlite = self.url.get_backend_name() == "sqlite"
        if self._on_sqlite:
            self._writer = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE", pool_size=1)
            self._reader = _sqlite_engine(self.url, begin="BEGIN", pool_size=_POOL_SIZE)
        else:
            self._writer = self._reader = _postgresql_engine(self.url)
        self._one_writer: contextlib.AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self._on_sqlite else contextlib.nullcontext()
        )

    async def write(
        self,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        deadline: float | None = None,
    ) -> T:
        """Run `work` in one transaction and commit it in time, or not at all.

        In time is before `deadline` (the event loop's clock), and within `WRITE_WITHIN` seconds
        anyway, waiting for a lock included. A deadlock is retried once. Raises UnavailableError
        where the database cannot, and UncertainCommitError where only the outcome of the commit
        is unknown; what `work` raises about its data passes through.
        """
        latest = asyncio.get_running_loop().time() + WRITE_WITHIN
        deadline = latest if deadline is None else min(deadline, latest)
        try:
            return await self._write(deadline, work, *args)
        except DeadlockError:
            return await self._write(deadline, work, *args)

    async def _write(self, deadline: float, work: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        with _outages_translated():
            _refuse_after(deadline)  # a connection cancelled while it opens is lost, not closed
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout_at(deadline):
                    await stack.enter_async_context(self._one_writer)
                    connection = await stack.enter_async_context(_connected(self._writer))
                    await _begin(connection)
                    result = await connection.run_sync(work, *args)
                _refuse_after(deadline)
                await _commit(connection)
                return result

    async def read(self, work: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run `work`, which changes nothing; raises UnavailableError as `write` does."""
        with _outages_translated():
            async with asyncio.timeout(WRITE_WITHIN), _connected(self._reader) as connection:
                return await connection.run_sync(work, *args)

    async def close(self) -> None:
        """Close all connections."""
        await self._writer.dispose()
        await self._reader.dispose()


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *returning: Any
) -> list[Any]:
    """Insert the rows whose key is not there yet, in one statement, and return columns of those.

    The unique key decides, never a look before the insert. Give the rows sorted by key: then
    transactions that insert the same keys wait for each other and do not deadlock.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(list(rows)).on_conflict_do_nothing()
    if not returning:
        connection.execute(statement)
        return []
    return list(connection.scalars(statement.returning(*returning)))


@contextlib.asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Connect; whatever keeps us from that, a wrong password too, is an outage and may pass."""
    connection = engine.connect()
    try:
        await connection.start()
    except Exception as error:
        raise UnavailableError(_kind(error)) from error
    try:
        yield connection
    finally:
        await connection.close()


async def _begin(connection: AsyncConnection) -> None:
    """Begin, trying again while another process holds SQLite's write lock."""
    while True:
        try:
            await connection.begin()
        except OperationalError as error:
            if not is_locked(error):
                raise
        else:
            return


async def _commit(connection: AsyncConnection) -> None:
    """Commit; SQLite's commit cannot be called back, so however slow it is, its answer is true."""
    try:
        async with asyncio.timeout(_COMMIT_WITHIN):
            await connection.commit()
    except (DBAPIError, OSError, TimeoutError) as error:
        raise UncertainCommitError(_kind(error)) from error


def _refuse_after(deadline: float) -> None:
    """Raise TimeoutError once it is too late to commit: the webhook is being refused by now."""
    if asyncio.get_running_loop().time() > deadline:
        raise TimeoutError


@contextlib.contextmanager
def _outages_translated() -> Iterator[None]:
    """Tell an outage, which passes, from an error in the data, which comes back."""
    try:
        yield
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise UnavailableError(_kind(error)) from error
    except DBAPIError as error:
        sqlstate = _sqlstate(error)
        if sqlstate in _DEADLOCKS:
            raise DeadlockError(_kind(error)) from error
        if error.connection_invalidated or _is_outage(error, sqlstate):
            raise UnavailableError(_kind(error)) from error
        raise


def _is_outage(error: DBAPIError, sqlstate: str) -> bool:
    if sqlstate:
        return sqlstate.startswith(_OUTAGES)
    return isinstance(error, (OperationalError, InterfaceError, InternalError))


def _kind(error: BaseException) -> str:
    """Name an error without its text, which may quote data."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    sqlite_name = getattr(cause, "sqlite_errorname", "")
    return " ".join(filter(None, (type(cause).__name__, sqlite_name, _sqlstate(error))))


def _sqlstate(error: BaseException) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def is_locked(error: OperationalError) -> bool:
    """Tell whether SQLite refused because another connection holds a lock."""
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _sqlite_engine(url: URL, *, begin: str, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        # None keeps sqlite3 from beginning by itself: the listener below does.
        connect_args={"isolation_level": None, "timeout": _SQLITE_LOCK_WAIT},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql_engine(url: URL) -> AsyncEngine:
    milliseconds = str(int(WRITE_WITHIN * 1000))
    return create_async_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=WRITE_WITHIN,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": WRITE_WITHIN,
            "server_settings": {
                "application_name": "textproof",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": "10000",
            },
        },
    )
