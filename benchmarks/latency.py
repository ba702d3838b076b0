"""How long a person waits for a code: from the webhook to the API request that leaves.

The bot is idle between texts. The first text after ready is told apart: a process that has just
started must not be slower than one that is at work.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load, telnyx
from benchmarks.servers import SERVE, environment, migrated, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL

KINDS = {"SQLite": "sqlite", "PostgreSQL": "postgresql"}
PAUSE = 0.05
"""Seconds between texts: the one before has left and is settled, and no pace is felt."""


@click.command("latency")
@click.option("--texts", default=100, show_default=True, help="How many after each start.")
@click.option("--starts", default=5, show_default=True, help="How often the bot is started.")
def measure(*, texts: int, starts: int) -> None:
    """Time a code: from the webhook to the API request that leaves, milliseconds.

    Prints a table; exits with 1 where a text does not come, or comes twice.
    """
    waits: dict[str, list[list[float]]] = {name: [] for name in KINDS}
    with databases.empty() as make_database:
        for number in range(starts):
            for name, kind in KINDS.items():
                click.echo(f"start {number + 1}: {name}", err=True)
                waits[name].append(asyncio.run(_measure(make_database(kind), texts)))
    click.echo(_table(waits))


async def _measure(database: URL | None, texts: int) -> list[float]:
    """Start a bot, text it, and tell how long each code took to leave (seconds)."""
    key = SigningKey.generate()
    async with telnyx.pretended() as carrier:
        settings = environment(key, await migrated(database), carrier.base_url)
        async with serving(SERVE, settings) as bot:
            requests = load.signed(key, bot.host, 0, texts)
            left = await load.post(bot.host, requests, PAUSE)
            came = await carrier.arrivals(texts)
    return [came[load.phone(number)] - at for number, at in enumerate(left)]


def _table(waits: dict[str, list[list[float]]]) -> str:
    lines = ["| | first | slowest first | p50 | p99 |", "|---|---|---|---|---|"]
    for name, runs in waits.items():
        firsts = [run[0] for run in runs]
        every = [wait for run in runs for wait in run]
        figures = (statistics.median(firsts), max(firsts), *_percentiles(every))
        cells = " | ".join(f"{figure * 1e3:.1f}" for figure in figures)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Give the median and the slowest hundredth."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]
