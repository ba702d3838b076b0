"""The processes that are measured, and the processes they talk to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientConnectionError, ClientSession

from bot.store.engine import migrate
from tests.kit.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nacl.signing import SigningKey
    from sqlalchemy import URL

START_TIMEOUT = 20.0  # seconds
BOT_NUMBER = "+13125550100"
SERVE = ("-m", "bot", "serve")
WEB_ONLY = (*SERVE, "--web-only")
WORK = ("-m", "bot", "work")
SERVER_CPU, OTHERS_CPU = 0, 1
_ROOT = Path(__file__).parents[1]
_POLL_INTERVAL = 0.01
_NOT_READY = 503


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to compare: its command, and the kind of its database, if it has one."""

    name: str
    command: tuple[str, ...]
    database: str | None = None


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("bare aiohttp", ("-m", "benchmarks.baselines.bare")),
        Contender("signature only", ("-m", "benchmarks.baselines.signature")),
        Contender("usual way", ("-m", "benchmarks.baselines.naive"), "sqlite"),
        Contender("bot, SQLite", WEB_ONLY, "sqlite"),
        Contender("bot, PostgreSQL", WEB_ONLY, "postgresql"),
    )
}
LIMIT = "signature only"
USUAL = "usual way"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the seconds from its start until it was ready."""

    url: str
    host: str
    pid: int
    ready_after: float

    def cpu_time(self) -> float:
        """Return the CPU time of all threads (seconds)."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        user, system = map(int, stat.rpartition(")")[2].split()[11:13])
        return (user + system) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def serving(
    command: tuple[str, ...], environment: Mapping[str, str], *, cpu: int | None = SERVER_CPU
) -> AsyncIterator[Server]:
    """Run a server, on one processor or any, until the block ends."""
    host = f"127.0.0.1:{free_port()}"
    start = time.monotonic()
    port = host.rpartition(":")[2]
    async with started(command, {**environment, "PORT": port}, cpu=cpu) as pid:
        async with asyncio.timeout(START_TIMEOUT):
            await _wait_until_ready(host)
        ready_after = time.monotonic() - start
        yield Server(f"http://{host}/webhooks/telnyx", host, pid, ready_after)


@asynccontextmanager
async def started(
    command: tuple[str, ...], environment: Mapping[str, str], *, cpu: int | None = SERVER_CPU
) -> AsyncIterator[int]:
    """Run a Python program until the block ends, and yield its process id."""
    process = await asyncio.create_subprocess_exec(
        *(*pinned(cpu), sys.executable, *command), cwd=_ROOT, env=environment
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


def pinned(cpu: int | None) -> tuple[str, ...]:
    """Return the prefix that pins a command to one processor; empty for None."""
    return () if cpu is None else ("taskset", "-c", str(cpu))


async def migrated(database: URL | None) -> URL:
    """Create the tables of a database."""
    if database is None:
        raise TypeError("the bot needs a database")
    await migrate.migrate(database)
    return database


def environment(
    key: SigningKey, database: URL | None, telnyx: str = "http://127.0.0.1:9/v2", **more: str
) -> dict[str, str]:
    """Return the environment of a server, with a Telnyx API or one that is not reachable."""
    address = database.render_as_string(hide_password=False) if database else ""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(_ROOT),
        "DATABASE_URL": address,
        "TELNYX_PUBLIC_KEY": base64.b64encode(bytes(key.verify_key)).decode(),
        "TELNYX_API_KEY": "KEY-of-the-benchmark",
        "TELNYX_BASE_URL": telnyx,
        "FROM_NUMBER": BOT_NUMBER,
        "SECRET_KEY": "a secret of the benchmark that is long enough",
        "HOST": "127.0.0.1",
        "LOG_LEVEL": "warning",
        **more,
    }


async def _wait_until_ready(host: str) -> None:
    """Request `/readyz` until the server is ready; any answer but 503 counts."""
    async with ClientSession() as session:
        while True:
            with contextlib.suppress(ClientConnectionError):
                async with session.get(f"http://{host}/readyz") as answer:
                    if answer.status != _NOT_READY:
                        return
            await asyncio.sleep(_POLL_INTERVAL)
