"""PostgreSQL: a pool of connections, each transaction on one of its own.

Between the bot and the server may stand a pooler, like PgBouncer, which lends one server connection
to many clients, each for a session or for a transaction only. Whatever outlives a transaction may
then be somebody else's: the limits of time are set in each transaction, and no statement stays
prepared. A server that is reached directly is told its limits once, and keeps what it has prepared.
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
"""Seconds that a transaction which must not wait for locks waits for one. What others hold a lock
for is done sooner, unless they stand still."""
_POOL_SIZE = 7
_COMMIT_LONGER = 0.5
"""Seconds beyond those of a transaction until a commit that is not answered counts as lost."""
_NAME = {"application_name": "textproof"}
_PROTOCOL_VIOLATION = "08P01"
_NOTHING_PREPARED = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
"""asyncpg's cache off, and that of SQLAlchemy: statements then have no name, so that two clients of
one server connection cannot meet over a name, and none is left behind there."""


class Postgresql:
    """One database on a server; `within` are the seconds that a statement may take."""

    writers: ClassVar = 2  # while one waits for the server, another is prepared

    def __init__(self, url: URL, within: float) -> None:
        self._commit_within = within + _COMMIT_LONGER
        limits = {
            "statement_timeout": str(int(within * 1000)),
            "idle_in_transaction_session_timeout": "10000",
        }
        hurried = {"lock_timeout": str(int(_LOCK_TIMEOUT * 1000))}
        self.reader = _pool(url, limits, _POOL_SIZE, within)
        # One for each that writes, and one to try what met a lock again.
        self._hurried = _pool(url, limits | hurried, self.writers + 1, within)

    async def transact(
        self,
        deadline: float,
        work: Callable[[Connection, *Ts], T],
        *args: *Ts,
        wait_for_locks: bool = True,
    ) -> T:
        """Run `work` and commit it before `deadline` (the event loop's clock), or not at all.

        Raises UncertainCommitError where only the outcome of the commit is unknown.
        """
        pool = self.reader if wait_for_locks else self._hurried
        _refuse_after(deadline)  # a connection cancelled while it opens is lost, not closed
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout_at(deadline):
                connection = await stack.enter_async_context(open_connection(pool))
                await connection.begin()
                result = await connection.run_sync(work, *args)
            _refuse_after(deadline)
            await _commit(connection, self._commit_within)
            return result

    async def checkpoint(self) -> None:
        """Leave that to the server, which has a process for it."""

    async def close(self) -> None:
        """Close all connections."""
        await self.reader.dispose()
        await self._hurried.dispose()


def _pool(url: URL, limits: Mapping[str, str], size: int, within: float) -> AsyncEngine:
    return engine(
        url,
        limits,
        pool_size=size,
        max_overflow=0,
        pool_timeout=within,
        pool_pre_ping=True,
        connect_args={"timeout": within},
    )


def engine(url: URL, limits: Mapping[str, str], **options: Any) -> AsyncEngine:
    """Make an engine for a server or a pooler; `limits` are settings that hold in transactions.

    Which of the two it is, each connection finds out when it is opened, unless the address says
    `pgbouncer=true`.
    """
    pooler = url.query.get("pgbouncer") == "true"
    url = url.difference_update_query(["pgbouncer"])
    made = create_async_engine(url, hide_parameters=True, **options)
    event.listen(made.sync_engine, "do_connect", _Connecting(limits, pooler=pooler))
    return made


class _Connecting:
    """Opens connections; once a pooler was met, or named, it is taken for granted."""

    def __init__(self, limits: Mapping[str, str], *, pooler: bool) -> None:
        on_begin = "".join(f" SET LOCAL {name} = {value};" for name, value in limits.items())
        self._directly = {"server_settings": {**_NAME, **limits}}
        self._through_pooler = {
            **_NOTHING_PREPARED,
            "server_settings": _NAME,
            "connection_class": _beginning_with(on_begin),
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
        """Connect to a server; return None where it is a pooler."""
        try:
            connection = dialect.connect(*args, **options, **self._directly)
        except dialect.loaded_dbapi.Error as error:
            # PgBouncer knows few settings of a session, and refuses the others.
            refused = getattr(error, "sqlstate", None) == _PROTOCOL_VIOLATION
            if refused and "startup parameter" in str(error):
                return None
            raise
        try:
            if connection.run_async(_is_the_server):
                return connection
        except BaseException:
            dialect.do_terminate(connection)
            raise
        connection.close()
        return None


def _beginning_with(limits: str) -> type:
    """Make a class of connections on which a transaction sets its own limits, in the same trip."""
    import asyncpg  # noqa: PLC0415 - takes a tenth of a second, which SQLite need not spend

    class Pooled(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
            begins = query.startswith("BEGIN")
            return await super().execute(
                query + limits if begins else query, *args, timeout=timeout
            )

    return Pooled


async def _is_the_server(connection: Any) -> bool:
    """Tell a server from a pooler, by whether the process we speak with is the one that works.

    At the start of a session the server names its process, for cancelling; a pooler makes up a
    number of its own there.
    """
    # Without parameters asyncpg sends this as one message, which a pooler hands to one server; of
    # the answer it returns the tag alone.
    told = connection.get_server_pid()
    return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {told}") == "SELECT 1")


async def _commit(connection: AsyncConnection, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await connection.commit()
    except (DBAPIError, OSError, TimeoutError) as error:
        # The pool would hand it on as it is: within a transaction, perhaps.
        await connection.invalidate()
        raise UncertainCommitError(error_name(error)) from error


def _refuse_after(deadline: float) -> None:
    """Raise TimeoutError once it is too late to commit: the webhook is being refused by now."""
    if asyncio.get_running_loop().time() > deadline:
        raise TimeoutError
