"""An app and Telnyx beside many connections with made-up keys and cookies.

An app with a good key begins verifications, and Telnyx posts webhooks, both at a steady pace: first
alone, then while the connections ask again as soon as they are answered. Everything is on loopback;
the bot has one processor, and all others share the second one.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load
from benchmarks.resources import resident
from benchmarks.servers import OTHERS_CPU, WEB_ONLY, environment, migrated, pinned, serving
from benchmarks.strangers import LOST
from bot.store import api_keys
from bot.store.api_keys import Scope
from bot.store.engine.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL

    from benchmarks.servers import Server

KINDS = {"SQLite": "sqlite", "PostgreSQL": "postgresql"}
PAUSE = 0.02
"""Seconds between two requests of the app, and between two webhooks."""
UNAVAILABLE = "503"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latencies in seconds, all answers by status, and what the bot used.

    `memory` is in MiB, `cpu` the share of one processor.
    """

    app: Sequence[float]
    webhooks: Sequence[float]
    own_answers: Counter[str]
    strangers_answers: Counter[str]
    memory: float
    cpu: float

    @property
    def unavailable(self) -> int:
        """Return how many requests of anybody were answered 503."""
        return self.own_answers[UNAVAILABLE] + self.strangers_answers[UNAVAILABLE]


@click.command("refusals")
@click.option("--connections", default=1800, show_default=True, help="Made-up keys and cookies.")
@click.option("--seconds", default=10, show_default=True, help="Seconds of each measurement.")
def measure(*, connections: int, seconds: int) -> None:
    """Measure an app and webhooks beside strangers (milliseconds).

    Prints a table; exits with 1 if anybody gets a 503.
    """
    lines = [
        "| | Strangers | app p50 | p99 | webhook p50 | p99 | refused/s | 503 | lost | CPU | MiB |",
        "|---" * 11 + "|",
    ]
    unavailable = 0
    with databases.empty() as make_database:
        for name, kind in KINDS.items():
            click.echo(name, err=True)
            runs = asyncio.run(_measure(make_database(kind), connections, seconds))
            for count, run in zip((0, connections), runs, strict=True):
                lines.append(_row(name, count, run, seconds))
                unavailable += run.unavailable
    click.echo("\n".join(lines))
    if unavailable:
        sys.exit(f"{unavailable} requests were answered 503")


async def _measure(database: URL | None, connections: int, seconds: int) -> list[Measurement]:
    """Measure without strangers, then with them."""
    signing_key, url = SigningKey.generate(), await migrated(database)
    api_key = await _new_key(url)
    settings = environment(signing_key, url, WEB_FORM="on")
    async with serving(WEB_ONLY, settings) as bot:
        return [
            await _run(bot, signing_key, api_key, number=number, strangers=count, seconds=seconds)
            for number, count in enumerate((0, connections))
        ]


async def _run(  # noqa: PLR0913 - the parameters of a measurement
    bot: Server,
    signing_key: SigningKey,
    api_key: str,
    *,
    number: int,
    strangers: int,
    seconds: int,
) -> Measurement:
    count = int(seconds / PAUSE)
    first = 2 * number * load.PHONES_APART
    webhooks = load.signed(signing_key, bot.host, first, count)
    requests = [
        _request(bot.host, api_key, load.phone(first + load.PHONES_APART + each))
        for each in range(count)
    ]
    process = await asyncio.create_subprocess_exec(
        *(*pinned(OTHERS_CPU), sys.executable, "-m", "benchmarks.strangers"),
        *(bot.host.rpartition(":")[2], str(strangers), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdout is None:
        raise RuntimeError("the strangers have no output")
    await process.stdout.readline()  # all are connected
    cpu, began_at = bot.cpu_time(), time.monotonic()
    own_answers = Counter[str]()
    app_latencies, webhook_latencies = await asyncio.gather(
        _latencies(bot.host, requests, seconds, own_answers),
        _latencies(bot.host, webhooks, seconds, own_answers),
    )
    cpu = (bot.cpu_time() - cpu) / (time.monotonic() - began_at)
    memory = resident(bot.pid)
    out, _ = await process.communicate()
    return Measurement(
        app=app_latencies,
        webhooks=webhook_latencies,
        own_answers=own_answers,
        strangers_answers=Counter(json.loads(out)),
        memory=memory,
        cpu=cpu,
    )


async def _new_key(url: URL) -> str:
    database = Database(url)
    try:
        return await database.write(
            api_keys.create,
            "a benchmark's",
            tuple(Scope),
            api_keys.MAX_PER_MINUTE,
            datetime.now(UTC),
        )
    finally:
        await database.close()


def _request(host: str, key: str, phone: str) -> bytes:
    body = json.dumps({"to": phone})
    return (
        f"POST /v1/verifications HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _latencies(
    host: str, requests: Sequence[bytes], seconds: int, answers: Counter[str]
) -> list[float]:
    """Send requests at a steady pace for some seconds, and return how long each took.

    Count the answers by status. A late answer delays the next request.
    """
    reader, writer = await asyncio.open_connection(*host.split(":"))
    took, ends_at = [], time.monotonic() + seconds
    for request in requests:
        sent_at = time.monotonic()
        if sent_at >= ends_at:
            break
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        took.append(time.monotonic() - sent_at)
        answers[head[9:12].decode()] += 1
        if length := _CONTENT_LENGTH.search(head):
            await reader.readexactly(int(length[1]))
        await asyncio.sleep(max(0.0, sent_at + PAUSE - time.monotonic()))
    writer.close()
    return took


def _row(name: str, strangers: int, run: Measurement, seconds: int) -> str:
    figures = [f"{cut * 1e3:.1f}" for each in (run.app, run.webhooks) for cut in _percentiles(each)]
    lost = run.strangers_answers[LOST]
    refused = (run.strangers_answers.total() - run.strangers_answers[UNAVAILABLE] - lost) / seconds
    cells = [name, f"{strangers:,}", *figures, f"{refused:,.0f}", str(run.unavailable), str(lost)]
    cells += [f"{run.cpu:.0%}", f"{run.memory:.0f}"]
    return f"| {' | '.join(cells)} |"


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]
