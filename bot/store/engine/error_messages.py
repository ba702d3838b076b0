"""Why the database cannot serve, in a sentence for the operator that names the setting to mend.

Errors are told apart by what is meant for that: SQLSTATEs (PostgreSQL, Appendix A), the error names
of SQLite, and the system's error numbers. Texts are only looked at where poolers use one SQLSTATE
for everything. What a server says while one connects names no data, and is shown if it is unknown;
what it says of a statement may quote data, and never is.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl

from sqlalchemy.exc import DBAPIError

from bot.store.engine.errors import UnavailableError, UnreachableError, error_name

_CHECK = "check DATABASE_URL"
_PASSWORD = "the database refuses the user or the password; check both in DATABASE_URL"  # noqa: S105 - it is none
_NO_DATABASE = (
    "the server has no database of this name; create it, or correct the name in DATABASE_URL"
)
_TLS_REQUIRED = (
    "the database takes encrypted connections only; end DATABASE_URL with ?sslmode=require"
)
_NOT_FROM_HERE = (
    "the database does not let this user in from this machine, or not without TLS; end DATABASE_URL"
    " with ?sslmode=require, or allow it in pg_hba.conf"
)
_FULL = "the database has no connection left; raise its limit, or let DATABASE_URL name a pooler"
_NO_ANSWER = (
    "the database does not answer in time; check host and port in DATABASE_URL, firewalls"
    " between, and what it is busy with"
)
_CUT = (
    "the database ended the connection; see its log, and check host, port and sslmode in"
    " DATABASE_URL (a pooler in statement mode, which cannot be used, does so too)"
)
_POOLER = (
    "a pooler stands before the database and was not recognised; end DATABASE_URL with"
    " ?pgbouncer=true"
)
_SQLSTATES = {
    "28P01": _PASSWORD,
    "28000": _NOT_FROM_HERE,
    "3D000": _NO_DATABASE,
    "53300": _FULL,
    "53100": "the disk of the database is full; make room there, or let DATABASE_URL name another",
    "57P03": "the database is starting or stopping; wait for it, or let DATABASE_URL name another",
    "57P01": "the database is being shut down; wait for it, or let DATABASE_URL name another",
    "25006": (
        "the database can only be read, as a replica can; let DATABASE_URL name the one that takes"
        " writes"
    ),
    "42501": (
        "the user of DATABASE_URL lacks a right in the database; grant it (migrating takes"
        " CREATE on the schema public), or name the owner"
    ),
    "08001": _CUT,
    "08003": _CUT,
    "08006": _CUT,
    "57014": _NO_ANSWER,
    "42P05": _POOLER,
    "26000": _POOLER,
    "55P03": "others hold a lock in the database for too long; see which, and try again",
}
# What servers and poolers say where the SQLSTATE alone leaves it open.
_SAID = {
    re.compile(pattern, re.IGNORECASE): sentence
    for pattern, sentence in (
        (r"(SSL|TLS) required|is insecure", _TLS_REQUIRED),
        (
            r"rejected SSL upgrade",
            "the database has no TLS; turn it on, or end DATABASE_URL with ?sslmode=disable",
        ),
        (
            r"role .* does not exist|no such user|authentication failed|auth.* failed|SASL",
            _PASSWORD,
        ),
        (r"no such database", _NO_DATABASE),
        (r"no more connections allowed|too many clients", _FULL),
    )
}
_AMBIGUOUS = ("28000", "08P01", "")
_ERRNOS = {
    errno.ECONNREFUSED: (
        "nothing listens at the host and port of DATABASE_URL; start the database, or correct both"
    ),
    errno.EHOSTUNREACH: _NO_ANSWER,
    errno.ENETUNREACH: _NO_ANSWER,
    errno.ETIMEDOUT: _NO_ANSWER,
    errno.ECONNRESET: _CUT,
    errno.EPIPE: _CUT,
}
_SQLITE = {
    "SQLITE_CANTOPEN": (
        "the database file cannot be opened or made; check the path in DATABASE_URL, and who may"
        " write in its folder"
    ),
    "SQLITE_READONLY": (
        "the database file can be read and not written; check who may write to it and its folder,"
        " or change DATABASE_URL"
    ),
    "SQLITE_PERM": "the database file may not be used; check its rights, or change DATABASE_URL",
    "SQLITE_BUSY": "another program holds the lock of the database file of DATABASE_URL; end it",
    "SQLITE_LOCKED": "another program holds the lock of the database file of DATABASE_URL; end it",
    "SQLITE_FULL": "the disk of the database file is full; make room, or change DATABASE_URL",
    "SQLITE_IOERR": "the disk of the database file fails; check it, or change DATABASE_URL",
    "SQLITE_NOTADB": "the file that DATABASE_URL names is no SQLite database; correct its path",
    "SQLITE_CORRUPT": "the database file is damaged; restore it, or change DATABASE_URL",
}
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")


def explain(error: BaseException) -> str:
    """Say in one sentence what keeps us from the database, without any password."""
    connecting = isinstance(error, UnreachableError)
    cause = _cause(error)
    known = _of_sqlite(cause) or _of_server(cause) or _of_network(cause)
    if known:
        return known
    if connecting and str(cause):
        said = str(cause.args[0] if cause.args else cause).splitlines()[0]
        return f"the database cannot be reached ({said}); {_CHECK}"
    what = "reached" if connecting else "used"
    return f"the database cannot be {what} ({error_name(cause)}); {_CHECK}"


def _cause(error: BaseException) -> BaseException:
    """Find what the driver or the system has raised."""
    while isinstance(error, UnavailableError) and error.__cause__:
        error = error.__cause__
    return error.driver_exception if isinstance(error, DBAPIError) else error


def _of_sqlite(error: BaseException) -> str | None:
    """Know an error of SQLite by its name, whose end may say more than is known here."""
    name = getattr(error, "sqlite_errorname", "")
    return next((known for start, known in _SQLITE.items() if name.startswith(start)), None)


def _of_server(error: BaseException) -> str | None:
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate in _AMBIGUOUS:
        text = str(error)
        for said, sentence in _SAID.items():
            if said.search(text):
                return sentence
    return _SQLSTATES.get(sqlstate)


def _of_network(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return "the host of DATABASE_URL does not resolve to an address; correct its name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "the certificate of the database is not trusted; install its authority's, or end"
            " DATABASE_URL with ?sslmode=require"
        )
    if isinstance(error, ssl.SSLError):
        return "the database and the bot agree on no TLS; check sslmode in DATABASE_URL"
    if not isinstance(error, OSError):
        return None
    # Where a name has several addresses, asyncio joins what came of all into one text.
    said = _ERRNO_IN_TEXT.search(str(error))
    number = error.errno or (int(said[1]) if said else 0)
    return _ERRNOS.get(number) or (_NO_ANSWER if isinstance(error, TimeoutError) else None)
