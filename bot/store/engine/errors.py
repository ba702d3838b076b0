"""What it means that the database failed: an outage passes, an error in the data comes back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_DEADLOCKS = ("40P01", "40001")
# PostgreSQL: connection lost, resources short, server going down or read-only, waits cut short.
_LOCK_TIMEOUT = "55P03"
# The limit of time of a statement: the next to ask may get its turn.
_BUSY = "57014"
_OUTAGES = ("08", "53", "57", "58", "25006")


class UnavailableError(Exception):
    """The database cannot serve now; nothing of the transaction was committed."""


class BusyError(UnavailableError):
    """The transaction did not get its turn in time: others have a lock, or the database is slow."""


class LockedError(BusyError):
    """Another transaction held a lock that this one needs for longer than this one would wait."""


class UnreachableError(UnavailableError):
    """There is no connection: what the cause says was said before any statement."""


class DeadlockError(UnavailableError):
    """Two transactions were in each other's way, and this one gave way: run it again."""


class UncertainCommitError(UnavailableError):
    """The connection was lost while committing: the transaction may stand or not."""


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise UnavailableError for an outage; let an error in the data pass."""
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
    """Connect; whatever keeps us from that, a wrong password too, is an outage and may pass."""
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
    """Name an error without its text, which may quote data."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    sqlite_name = getattr(cause, "sqlite_errorname", "")
    return " ".join(filter(None, (type(cause).__name__, sqlite_name, _sqlstate(error))))


def is_locked(error: DBAPIError) -> bool:
    """Tell whether SQLite refused because another connection holds a lock."""
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _is_outage(error: DBAPIError, sqlstate: str) -> bool:
    if sqlstate:
        return sqlstate.startswith(_OUTAGES)
    return isinstance(error, (OperationalError, InterfaceError, InternalError))


def _sqlstate(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlstate", None) or ""
