"""A PgBouncer for the tests, between the bot and PostgreSQL."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.kit.ports import free_port
from tests.kit.postgresql import unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    Mode = Literal["session", "transaction", "statement"]

_START_TIMEOUT = 60.0

HOW_TO_GET_ONE = "no PgBouncer: apt-get install pgbouncer"


def program() -> str | None:
    """Return the path of PgBouncer; Debian installs it outside of most users' PATH."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def pooling(server: URL, mode: Mode, **settings: str) -> Iterator[URL]:
    """Run a PgBouncer in front of a server until the block ends, and yield the URL through it."""
    found, user, port = program(), unprivileged_user(), free_port()
    assert found is not None, HOW_TO_GET_ONE
    with tempfile.TemporaryDirectory(prefix="textproof-pgbouncer-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(_configuration(server, port, {"pool_mode": mode} | settings))
        configuration.chmod(0o644)
        with (folder / "log").open("wb") as log:
            # PgBouncer refuses to run as root, as PostgreSQL does.
            process = subprocess.Popen(
                [found, configuration], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait_for(port, process, folder / "log")
            yield server.set(host="127.0.0.1", port=port)
        finally:
            process.terminate()
            process.wait()


def _configuration(server: URL, port: int, settings: dict[str, str]) -> str:
    """Return Debian's default configuration with this server's addresses."""
    own = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "default_pool_size": "5",
    }
    where = f"host={server.host} port={server.port or 5432} user={server.username}"
    password = f" password={server.password}" if server.password else ""
    lines = [f"{name} = {value}" for name, value in (own | settings).items()]
    return "\n".join(["[databases]", f"* = {where}{password}", "[pgbouncer]", *lines, ""])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        # First, since the port may be another process's if this one could not bind it.
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(log.read_text(encoding="utf-8"))
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
