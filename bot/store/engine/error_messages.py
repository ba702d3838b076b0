"""Explains database errors to the operator, each in a sentence that names what to change.

Errors are recognised by SQLSTATE (PostgreSQL, Appendix A), by SQLite's error names, and by the
system's error numbers; by their text only where poolers use one SQLSTATE for everything. The text
of an unknown error is shown if it came while connecting; the text of an error in a statement may
quote data, and is never shown.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl

from sqlalchemy.exc import DBAPIError

from bot.store.engine.errors import UnavailableError, UnreachableError, error_name

_CHECK = "check DATABASE_URL"
_PASSWORD = "the database refuses the user or the password; check both in DATABASE_URL"  # noqa: S105 - not a password
_NO_DATABASE = (
    "the server has no database of this name; create it, or correct the name in DATABASE_URL"
)
_TLS_REQUIRED = (
    "the database accepts encrypted connections only; append ?sslmode=require to DATABASE_URL"
)
_NOT_FROM_HERE = (
    "the database does not let this user connect from this machine, or not without TLS; append"
    " ?sslmode=require to DATABASE_URL, or allow the connection in pg_hba.conf"
)
_FULL = "the database has no connection left; raise its limit, or use a pooler in DATABASE_URL"
_NO_ANSWER = (
    "the database does not answer in time; check host and port in DATABASE_URL, firewalls in"
    " between, and the load of the database"
)
_CONNECTION_CLOSED = (
    "the database closed the connection; see its log, and check host, port and sslmode in"
    " DATABASE_URL (a pooler in statement mode does this too, and is not supported)"
)
_POOLER = (
    "a pooler between the bot and the database was not recognised; append ?pgbouncer=true to"
    " DATABASE_URL"
)
_SQLSTATES = {
    "28P01": _PASSWORD,
    "28000": _NOT_FROM_HERE,
    "3D000": _NO_DATABASE,
    "53300": _FULL,
    "53100": "the disk of the database is full; free some space, or change DATABASE_URL",
    "57P03": "the database is starting or stopping; wait for it, or change DATABASE_URL",
    "57P01": "the database is being shut down; wait for it, or change DATABASE_URL",
    "25006": (
        "the database is read-only, as a replica is; change DATABASE_URL to the primary server"
    ),
    "42501": (
        "the user of DATABASE_URL lacks a privilege in the database; grant it (migrating needs"
        " CREATE on the schema public), or use the owner"
    ),
    "08001": _CONNECTION_CLOSED,
    "08003": _CONNECTION_CLOSED,
    "08006": _CONNECTION_CLOSED,
    "57014": _NO_ANSWER,
    "42P05": _POOLER,
    "26000": _POOLER,
    "55P03": "another session has held a lock in the database for too long; end it, and try again",
}
# Texts of servers and poolers, for SQLSTATEs that are ambiguous.
_TEXTS = {
    re.compile(pattern, re.IGNORECASE): sentence
    for pattern, sentence in (
        (r"(SSL|TLS) required|is insecure", _TLS_REQUIRED),
        (
            r"rejected SSL upgrade",
            "the database has no TLS; turn it on, or append ?sslmode=disable to DATABASE_URL",
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
    errno.ECONNRESET: _CONNECTION_CLOSED,
    errno.EPIPE: _CONNECTION_CLOSED,
}
_SQLITE = {
    "SQLITE_CANTOPEN": (
        "the database file cannot be opened or created; check the path in DATABASE_URL, and the"
        " permissions of its folder"
    ),
    "SQLITE_READONLY": (
        "the database file is read-only; check the permissions of the file and its folder, or"
        " change DATABASE_URL"
    ),
    "SQLITE_PERM": (
        "access to the database file is denied; check its permissions, or change DATABASE_URL"
    ),
    "SQLITE_BUSY": "another program has locked the database file of DATABASE_URL; stop it",
    "SQLITE_LOCKED": "another program has locked the database file of DATABASE_URL; stop it",
    "SQLITE_FULL": "the disk of the database file is full; free some space, or change DATABASE_URL",
    "SQLITE_IOERR": (
        "the disk of the database file reports errors; check it, or change DATABASE_URL"
    ),
    "SQLITE_NOTADB": "the file of DATABASE_URL is not an SQLite database; correct its path",
    "SQLITE_CORRUPT": "the database file is damaged; restore it, or change DATABASE_URL",
}
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")


def explain(error: BaseException) -> str:
    """Return one sentence that says why the database cannot be used, without any password."""
    connecting = isinstance(error, UnreachableError)
    cause = _cause(error)
    message = _explain_sqlite(cause) or _explain_server(cause) or _explain_network(cause)
    if message:
        return message
    if connecting and str(cause):
        text = str(cause.args[0] if cause.args else cause).splitlines()[0]
        return f"the database cannot be reached ({text}); {_CHECK}"
    action = "reached" if connecting else "used"
    return f"the database cannot be {action} ({error_name(cause)}); {_CHECK}"


def _cause(error: BaseException) -> BaseException:
    """Return the error that the driver or the system has raised."""
    while isinstance(error, UnavailableError) and error.__cause__:
        error = error.__cause__
    return error.driver_exception if isinstance(error, DBAPIError) else error


def _explain_sqlite(error: BaseException) -> str | None:
    """Recognise an SQLite error by the start of its name, since extended names are longer."""
    name = getattr(error, "sqlite_errorname", "")
    return next((message for start, message in _SQLITE.items() if name.startswith(start)), None)


def _explain_server(error: BaseException) -> str | None:
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate in _AMBIGUOUS:
        text = str(error)
        for pattern, sentence in _TEXTS.items():
            if pattern.search(text):
                return sentence
    return _SQLSTATES.get(sqlstate)


def _explain_network(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return "the host of DATABASE_URL does not resolve to an address; correct its name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "the certificate of the database is not trusted; install its authority's certificate,"
            " or append ?sslmode=require to DATABASE_URL"
        )
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake with the database failed; check sslmode in DATABASE_URL"
    if not isinstance(error, OSError):
        return None
    # If a name has several addresses, asyncio joins the errors of all into one text.
    found = _ERRNO_IN_TEXT.search(str(error))
    number = error.errno or (int(found[1]) if found else 0)
    return _ERRNOS.get(number) or (_NO_ANSWER if isinstance(error, TimeoutError) else None)
