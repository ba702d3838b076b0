"""The servers that are measured, each started afresh on one processor, with an empty database."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text

from bot.store import schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nacl.signing import SigningKey
    from sqlalchemy import URL

START_WITHIN = 20.0  # seconds
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server by name: `command` starts it, `keeps` tells whether it has a database of its own."""

    name: str
    command: tuple[str, ...]
    database: str | None = None


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("bare aiohttp", ("-m", "benchmarks.baselines.bare")),
        Contender("signature only", ("-m", "benchmarks.baselines.signature")),
        Contender("usual way", ("-m", "benchmarks.baselines.naive"), "sqlite"),
        Contender("bot, SQLite", ("-m", "bot", "serve", "--web-only"), "sqlite"),
        Contender("bot, PostgreSQL", ("-m", "bot", "serve", "--web-only"), "postgresql"),
    )
}
LIMIT = "signature only"
USUAL = "usual way"


@dataclass(frozen=True, slots=True)
class Server:
    """A server at work."""

    url: str
    host: str
    pid: int


def free_port() -> int:
    """Find a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@asynccontextmanager
async def serving(
    contender: Contender, key: SigningKey, database: URL | None, cpu: int
) -> AsyncIterator[Server]:
    """Run a contender on one processor until the block ends."""
    if database is not None and contender.command[1] == "bot":
        await schema.migrate(database)
    port = free_port()
    host = f"127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(cpu), sys.executable, *contender.command),
        cwd=_ROOT,
        env=_environment(key, database, port),
    )
    try:
        async with asyncio.timeout(START_WITHIN):
            await _until_listening(port)
        yield Server(f"http://{host}/webhooks/telnyx", host, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


def _environment(key: SigningKey, database: URL | None, port: int) -> dict[str, str]:
    address = database.render_as_string(hide_password=False) if database else ""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(_ROOT),
        "DATABASE_URL": address,
        "TELNYX_PUBLIC_KEY": base64.b64encode(bytes(key.verify_key)).decode(),
        "TELNYX_API_KEY": "KEY-of-the-benchmark",
        "TELNYX_BASE_URL": "http://127.0.0.1:9/v2",
        "FROM_NUMBER": "+13125550100",
        "SECRET_KEY": "a secret of the benchmark that is long enough",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "warning",
    }


async def _until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def queued(database: URL) -> int:
    """Count the codes that wait to be sent: what every 200 must have left behind."""
    driver = "sqlite" if database.get_backend_name() == "sqlite" else "postgresql+asyncpg"
    if driver != "sqlite":
        return asyncio.run(_queued_on_postgresql(database))
    engine = create_engine(database.set(drivername=driver))
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM outbox")) or 0


async def _queued_on_postgresql(database: URL) -> int:
    import asyncpg  # noqa: PLC0415 - only where PostgreSQL is measured

    connection = await asyncpg.connect(
        database.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM outbox")
        return count
    finally:
        await connection.close()
