"""PostgreSQL: a pool of connections, one for each running transaction.

There may be a pooler in between, like PgBouncer, which shares a server connection among clients, by
session or by transaction. State that outlives a transaction may then belong to another client: so
timeouts are set in each transaction, and no statement stays prepared. On a direct connection,
timeouts are set once for the session, and statements stay prepared.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from bot.store.engine.errors import UncertainCommitError, error_name, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LOCK_TIMEOUT = 0.1
"""Seconds for which a transaction without `wait_for_locks` waits for a lock. Other transactions are
shorter, unless their process hangs."""
_POOL_SIZE = 7
_EXTRA_COMMIT_TIMEOUT = 0.5
"""Seconds beyond a transaction's timeout after which a commit without a response counts as lost."""
_APPLICATION_NAME = {"application_name": "textproof"}
_PROTOCOL_VIOLATION = "08P01"
_NO_PREPARED_STATEMENTS = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
"""Turns off the statement caches of asyncpg and SQLAlchemy. With them, statements have names, and
those of clients that share a server connection would collide."""


class Postgresql:
    """One database on a server; `timeout` is how many seconds a statement may take."""

    writers: ClassVar = 2  # while one waits for the server, Python prepares another

    def __init__(self, url: URL, timeout: float) -> None:
        self._commit_timeout = timeout + _EXTRA_COMMIT_TIMEOUT
        timeouts = {
            "statement_timeout": str(int(timeout * 1000)),
            "idle_in_transaction_session_timeout": "10000",
        }
        lock_timeout = {"lock_timeout": str(int(_LOCK_TIMEOUT * 1000))}
        self.reader = _pool(url, timeouts, _POOL_SIZE, timeout)
        # One for each writer, and one to retry batches that met a lock.
        self._not_waiting = _pool(url, timeouts | lock_timeout, self.writers + 1, timeout)

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all.

        Raise UncertainCommitError if only the outcome of the commit is unknown.
        """
        pool = self.reader if wait_for_locks else self._not_waiting
        _check_deadline(deadline)  # a connection cancelled while it opens is lost, not closed
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout_at(deadline):
                connection = await stack.enter_async_context(open_connection(pool))
                await connection.begin()
                result = await connection.run_sync(work, *args)
            _check_deadline(deadline)
            await _commit(connection, self._commit_timeout)
            return result

    async def checkpoint(self) -> None:
        """Do nothing: the server has a process for it."""

    async def close(self) -> None:
        """Close all connections."""
        await self.reader.dispose()
        await self._not_waiting.dispose()


def _pool(url: URL, settings: Mapping[str, str], size: int, timeout: float) -> AsyncEngine:
    return engine(
        url,
        settings,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args={"timeout": timeout},
    )


def engine(url: URL, settings: Mapping[str, str], **options: Any) -> AsyncEngine:
    """Make an engine for a server or a pooler; `settings` apply in each transaction.

    Each new connection detects whether it has a pooler, unless the URL says `pgbouncer=true`.
    """
    pooler = url.query.get("pgbouncer") == "true"
    url = url.difference_update_query(["pgbouncer"])
    new_engine = create_async_engine(url, hide_parameters=True, **options)
    event.listen(new_engine.sync_engine, "do_connect", _Connector(settings, pooler=pooler))
    return new_engine


class _Connector:
    """Opens connections to a server, or to a pooler once one was detected or configured."""

    def __init__(self, settings: Mapping[str, str], *, pooler: bool) -> None:
        on_begin = "".join(f" SET LOCAL {name} = {value};" for name, value in settings.items())
        self._directly = {"server_settings": {**_APPLICATION_NAME, **settings}}
        self._through_pooler = {
            **_NO_PREPARED_STATEMENTS,
            "server_settings": _APPLICATION_NAME,
            "connection_class": _connection_class(on_begin),
        }
        self._pooler = pooler

    def __call__(
        self, dialect: Dialect, _record: object, args: Any, options: dict[str, Any]
    ) -> DBAPIConnection:
        if not self._pooler:
            connection = self._connect_directly(dialect, args, options)
            if connection is not None:
                return connection
            self._pooler = True
        return dialect.connect(*args, **options, **self._through_pooler)

    def _connect_directly(
        self, dialect: Dialect, args: Any, options: dict[str, Any]
    ) -> DBAPIConnection | None:
        """Connect to a server; return None if it is a pooler."""
        try:
            connection = dialect.connect(*args, **options, **self._directly)
        except dialect.loaded_dbapi.Error as error:
            # PgBouncer accepts few session settings, and refuses the others.
            refused = getattr(error, "sqlstate", None) == _PROTOCOL_VIOLATION
            if refused and "startup parameter" in str(error):
                return None
            raise
        try:
            if connection.run_async(_is_direct):
                return connection
        except BaseException:
            dialect.do_terminate(connection)
            raise
        connection.close()
        return None


def _connection_class(on_begin: str) -> type:
    """Return a connection class that appends SQL to each BEGIN, in the same round trip."""
    import asyncpg  # noqa: PLC0415 - takes 0.1 s, which SQLite does not need

    class PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
            if query.startswith("BEGIN"):
                query += on_begin
            return await super().execute(query, *args, timeout=timeout)

    return PooledConnection


async def _is_direct(connection: Any) -> bool:
    """Return whether the connection leads to a server and not to a pooler.

    At the start of a session a server sends its process id, for cancel requests; a pooler sends
    another number, which differs from the id of the server process that runs statements.
    """
    # Without parameters, asyncpg sends this as one message, which a pooler passes to one server. It
    # returns only the command tag.
    pid = connection.get_server_pid()
    return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {pid}") == "SELECT 1")


async def _commit(connection: AsyncConnection, max_seconds: float) -> None:
    try:
        async with asyncio.timeout(max_seconds):
            await connection.commit()
    except (DBAPIError, OSError, TimeoutError) as error:
        # Otherwise the pool would reuse a connection that may be inside a transaction.
        await connection.invalidate()
        raise UncertainCommitError(error_name(error)) from error


def _check_deadline(deadline: float) -> None:
    """Raise TimeoutError if the deadline has passed, since the webhook is then refused."""
    if asyncio.get_running_loop().time() > deadline:
        raise TimeoutError
