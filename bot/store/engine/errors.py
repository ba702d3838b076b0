"""Database errors: an outage is raised as UnavailableError, an error in the data as it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_DEADLOCKS = ("40P01", "40001")
_LOCK_TIMEOUT = "55P03"
# statement_timeout: the next attempt may succeed.
_BUSY = "57014"
# PostgreSQL: connection lost, out of resources, server shutting down, failing or read-only.
_OUTAGES = ("08", "53", "57", "58", "25006")


class UnavailableError(Exception):
    """The database cannot serve now; the transaction was not committed."""


class BusyError(UnavailableError):
    """The transaction did not finish in time: it waited for a lock, or the database is slow."""


class LockedError(BusyError):
    """The transaction needs a lock that another held for longer than it may wait."""


class UnreachableError(UnavailableError):
    """No connection could be opened; the cause's text cannot quote data, as no statement ran."""


class DeadlockError(UnavailableError):
    """The transaction was rolled back because of a deadlock: run it again."""


class UncertainCommitError(UnavailableError):
    """The connection was lost during the commit: the transaction may be committed or not."""


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise UnavailableError for an outage; let errors in the data pass through."""
    try:
        yield
    except (PoolTimeoutError, TimeoutError) as error:
        raise BusyError(error_name(error)) from error
    except OSError as error:
        raise UnavailableError(error_name(error)) from error
    except DBAPIError as error:
        sqlstate = _sqlstate(error)
        if sqlstate in _DEADLOCKS:
            raise DeadlockError(error_name(error)) from error
        if sqlstate == _LOCK_TIMEOUT:
            raise LockedError(error_name(error)) from error
        if sqlstate == _BUSY or is_locked(error):
            raise BusyError(error_name(error)) from error
        if error.connection_invalidated or _is_outage(error, sqlstate):
            raise UnavailableError(error_name(error)) from error
        raise


@contextlib.asynccontextmanager
async def open_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Connect; any failure, a wrong password too, is an outage (UnreachableError, BusyError)."""
    connection = engine.connect()
    try:
        await connection.start()
    except (PoolTimeoutError, TimeoutError) as error:
        raise BusyError(error_name(error)) from error
    except Exception as error:
        raise UnreachableError(error_name(error)) from error
    try:
        yield connection
    finally:
        await connection.close()


def error_name(error: BaseException) -> str:
    """Return the name of an error without its text, which may quote data."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    sqlite_name = getattr(cause, "sqlite_errorname", "")
    return " ".join(filter(None, (type(cause).__name__, sqlite_name, _sqlstate(error))))


def is_locked(error: DBAPIError) -> bool:
    """Return whether SQLite refused because another connection holds a lock."""
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _is_outage(error: DBAPIError, sqlstate: str) -> bool:
    if sqlstate:
        return sqlstate.startswith(_OUTAGES)
    return isinstance(error, (OperationalError, InterfaceError, InternalError))


def _sqlstate(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlstate", None) or ""
