"""The time from a webhook to the API request with its code.

The bot is idle between texts. The first text after a start is measured separately: a process that
has just started must not be slower than one that has run for some time.
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
"""Seconds between texts: long enough for the previous one to be settled, and for the throttle."""


@click.command("latency")
@click.option("--texts", default=100, show_default=True, help="Texts after each start.")
@click.option("--starts", default=5, show_default=True, help="Starts of the bot.")
def measure(*, texts: int, starts: int) -> None:
    """Measure the time from a webhook to the API request with its code (milliseconds).

    Prints a table; exits with 1 if a text is missing or sent twice.
    """
    waits: dict[str, list[list[float]]] = {name: [] for name in KINDS}
    with databases.empty() as make_database:
        for number in range(starts):
            for name, kind in KINDS.items():
                click.echo(f"start {number + 1}: {name}", err=True)
                waits[name].append(asyncio.run(_measure(make_database(kind), texts)))
    click.echo(_table(waits))


async def _measure(database: URL | None, texts: int) -> list[float]:
    """Start a bot, text it, and return the latency of each code (seconds)."""
    key = SigningKey.generate()
    async with telnyx.simulated() as carrier:
        settings = environment(key, await migrated(database), carrier.base_url)
        async with serving(SERVE, settings) as bot:
            requests = load.signed(key, bot.host, 0, texts)
            sent_at = await load.post(bot.host, requests, PAUSE)
            arrivals = await carrier.arrivals(texts)
    return [arrivals[load.phone(number)] - at for number, at in enumerate(sent_at)]


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
    """Return the median and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]
