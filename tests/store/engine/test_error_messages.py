"""The sentences an operator reads when the database cannot be used."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import ssl
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from bot.cli.main import main
from bot.store.engine.error_messages import explain
from bot.store.engine.errors import UnavailableError, UnreachableError
from tests.kit import pgbouncer, postgresql
from tests.kit.settings import as_written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result
    from sqlalchemy import URL

PASSWORD = "hunter2"
USERS = f"""
CREATE ROLE person LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on;
CREATE ROLE stranger LOGIN; CREATE ROLE crowded LOGIN CONNECTION LIMIT 0;
"""
RULES = """
host all person all scram-sha-256
host all stranger all reject
host all all all trust
"""


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    """Run a PostgreSQL server that requires passwords and rejects some users."""
    with postgresql.binaries() as programs:
        if programs is None:
            pytest.skip(postgresql.HOW_TO_GET_ONE)
        with postgresql.cluster(programs) as own:
            own.start()
            url = make_url(own.url).set(drivername="postgresql+asyncpg")
            for statement in filter(str.strip, USERS.split(";")):
                postgresql.execute(url, statement)
            (own.folder / "data" / "pg_hba.conf").write_text(RULES)
            postgresql.execute(url, "SELECT pg_reload_conf()")
            yield url


def run(url: URL | str, command: str = "migrate") -> Result:
    written = url if isinstance(url, str) else as_written(url)
    return CliRunner().invoke(main, command.split(), env={"DATABASE_URL": written})


def assert_explained(result: Result, sentence: str) -> None:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("bot: "), result.stderr
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr, result.stderr
    assert "DATABASE_URL" in result.stderr
    assert PASSWORD not in result.stderr
    assert "://" not in result.stderr


_POSTGRESQL: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": (
        {"username": "person", "password": f"not-{PASSWORD}"},
        "refuses the user or the password",
    ),
    "no password": ({"username": "person"}, "refuses the user or the password"),
    "unknown user": ({"username": "nobody"}, "refuses the user or the password"),
    "missing database": ({"database": "missing"}, "has no database of this name"),
    "unknown host": ({"host": "db.invalid"}, "does not resolve"),
    "refused connection": ({"port": 1}, "nothing listens at the host and port"),
    "refused at each address": (
        {"host": "localhost", "port": 1},
        "nothing listens at the host and port",
    ),
    "no TLS there": ({"query": {"sslmode": "require"}}, "the database has no TLS"),
    "not let in": ({"username": "stranger"}, "does not let this user connect from this machine"),
    "too many connections": ({"username": "crowded"}, "has no connection left"),
    "read-only": ({"username": "reader"}, "is read-only"),
    "no right to migrate": (
        {"username": "person", "password": PASSWORD},
        "lacks a privilege in the database",
    ),
}


@pytest.mark.parametrize("command", ["migrate", "status"])
@pytest.mark.parametrize(("changes", "sentence"), _POSTGRESQL.values(), ids=_POSTGRESQL)
def test_errors_of_postgresql_are_explained(
    server: URL, changes: dict[str, Any], sentence: str, command: str
) -> None:
    if command == "status" and sentence in ("is read-only", "lacks a privilege in the database"):
        sentence = "run: bot migrate"  # it only reads, and finds no schema
        result = run(server.set(**changes), command)
        assert (result.exit_code, sentence in result.stderr) == (1, True), result.stderr
        return
    assert_explained(run(server.set(**changes), command), sentence)


_POOLER: dict[str, tuple[dict[str, str], str]] = {
    "statement mode": ({"pool_mode": "statement"}, "(a pooler in statement mode "),
    "unknown user": (
        {"auth_type": "trust", "auth_file": "/dev/null"},
        "refuses the user or the password",
    ),
    "no connection left": ({"max_client_conn": "0"}, "has no connection left"),
}


@pytest.mark.skipif(pgbouncer.program() is None, reason=pgbouncer.HOW_TO_GET_ONE)
@pytest.mark.parametrize(("settings", "sentence"), _POOLER.values(), ids=_POOLER)
def test_errors_of_pgbouncer_are_explained(
    server: URL, settings: dict[str, str], sentence: str
) -> None:
    with pgbouncer.pooling(server, "transaction", **settings) as url:
        assert_explained(run(url), sentence)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
@pytest.mark.skipif(pgbouncer.program() is None, reason=pgbouncer.HOW_TO_GET_ONE)
def test_a_database_that_accepts_encrypted_connections_only(server: URL) -> None:
    with tempfile.TemporaryDirectory() as name:
        key, certificate = Path(name) / "key.pem", Path(name) / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db"),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        for file in (Path(name), key):
            file.chmod(0o755)  # PgBouncer is another user
        tls = {
            "client_tls_sslmode": "require",
            "client_tls_key_file": str(key),
            "client_tls_cert_file": str(certificate),
        }
        with pgbouncer.pooling(server, "transaction", **tls) as url:
            plain = url.set(query={"sslmode": "disable"})
            assert_explained(run(plain), "accepts encrypted connections only")
            trusted = url.set(query={"sslmode": "verify-full"})
            assert_explained(run(trusted), "certificate")
            assert run(url.set(query={"sslmode": "require"}), "status").exit_code == 1  # no schema


@pytest.mark.skipif(pgbouncer.program() is None, reason=pgbouncer.HOW_TO_GET_ONE)
def test_a_pooler_without_its_server_is_explained(server: URL) -> None:
    with pgbouncer.pooling(server.set(port=1), "transaction", query_wait_timeout="1") as url:
        assert_explained(run(url), "the database cannot be reached (")


def test_a_file_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    result = run(f"sqlite+aiosqlite:///{tmp_path}/missing/bot.db")
    assert result.exit_code == 1
    assert result.stderr.startswith("bot: there is no folder ")
    assert result.stderr.endswith("check DATABASE_URL\n")


@pytest.mark.parametrize("where", ["{tmp_path}", "/proc/bot.db"])
def test_a_file_that_cannot_be_opened(where: str, tmp_path: Path) -> None:
    result = run(f"sqlite+aiosqlite:///{where.format(tmp_path=tmp_path)}")
    assert_explained(result, "the database file cannot be opened or created")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "bot.db"
    file.write_text("a diary, and no database\n" * 100)
    assert_explained(run(f"sqlite+aiosqlite:///{file}"), "is not an SQLite database")


def test_a_read_only_file(migrated_sqlite: Path, tmp_path: Path) -> None:
    file = tmp_path / "bot.db"
    shutil.copy(migrated_sqlite, file)
    made = subprocess.run(["chattr", "+i", file], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("no file here can be made immutable, which binds root too")
    try:
        result = run(f"sqlite+aiosqlite:///{file}", "keys create app")
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert_explained(result, "is read-only")


def of_sqlite(*statements: str) -> sqlite3.Error:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        with pytest.raises(sqlite3.Error) as raised:
            connection.execute(statements[-1])
        return raised.value


def test_a_read_only_file_and_a_full_disk() -> None:
    only_read = of_sqlite("PRAGMA query_only = ON", "CREATE TABLE a (b)")
    full = of_sqlite(
        "CREATE TABLE a (b)", "PRAGMA max_page_count = 2", "INSERT INTO a VALUES (zeroblob(99999))"
    )
    for error, sentence in ((only_read, "is read-only"), (full, "disk of the")):
        assert sentence in explain(DBAPIError("INSERT", (PASSWORD,), error))


def because(error: UnavailableError, cause: BaseException) -> UnavailableError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (TimeoutError(), "does not answer in time"),
        (OSError(errno.EHOSTUNREACH, "No route"), "does not answer in time"),
        (OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"), "nothing listens"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "closed the connection"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "certificate of the database"),
        (ssl.SSLError(1, "no shared cipher"), "TLS handshake with the database failed"),
        (asyncpg.CannotConnectNowError("starting up"), "is starting or stopping"),
        (asyncpg.ProtocolViolationError("connection is insecure"), "encrypted connections only"),
    ],
)
def test_errors_that_are_hard_to_provoke_are_explained(cause: BaseException, sentence: str) -> None:
    message = explain(because(UnreachableError("kind"), cause))
    assert sentence in message
    assert "DATABASE_URL" in message


def test_an_unknown_error_is_quoted_only_if_it_came_while_connecting() -> None:
    unknown = asyncpg.DataError(f"the moon is full\nDETAIL: {PASSWORD}")
    assert explain(because(UnreachableError("kind"), unknown)) == (
        "the database cannot be reached (the moon is full); check DATABASE_URL"
    )
    quoting = asyncpg.InvalidTextRepresentationError(f'invalid input syntax: "{PASSWORD}"')
    for error in (because(UnavailableError("kind"), quoting), DBAPIError("SELECT", (), quoting)):
        assert explain(error) == (
            "the database cannot be used (InvalidTextRepresentationError 22P02); check DATABASE_URL"
        )
