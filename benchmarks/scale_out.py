"""Two web processes and a worker on one PostgreSQL, compared with one and a worker, in turns.

The processes are not pinned: whether two are faster depends on the number of processors, since
PostgreSQL, wrk and the simulated Telnyx use them too. The worker sends without a throttle, and in
the end each phone must have exactly one text.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load, telnyx
from benchmarks.servers import WEB_ONLY, WORK, environment, migrated, serving, started

if TYPE_CHECKING:
    from sqlalchemy import URL

    from benchmarks.load import Measurement

COUNTS = (1, 2)


@click.command("scale-out")
@click.option("--seconds", default=2, show_default=True, help="Seconds of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of measurement.")
@click.option("--connections", default=64, show_default=True, help="Connections.")
def measure(*, seconds: int, rounds: int, connections: int) -> None:
    """Measure webhooks a second of two web processes, compared with one.

    Prints medians and ratios; exits with 1 if a webhook was refused, its code is missing, or a text
    was not sent exactly once.
    """
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    with databases.empty() as make_database:
        for number, count in itertools.product(range(rounds), COUNTS):
            click.echo(f"round {number + 1}: {count} of serve --web-only, and work", err=True)
            measuring = _measure(count, make_database("postgresql"), connections, seconds)
            rates[count].append(asyncio.run(measuring))
    click.echo(_table(rates))


async def _measure(count: int, database: URL | None, connections: int, seconds: int) -> float:
    key, url = SigningKey.generate(), await migrated(database)
    async with AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(telnyx.simulated())
        settings = environment(key, url, carrier.base_url, SEND_RATE_ACCOUNT="0")
        await stack.enter_async_context(started(WORK, settings, cpu=None))
        measured = await _run_load(count, key, settings, connections // count, seconds)
        # The web processes have ended: no more texts are queued.
        codes = await databases.check_codes(url, sum(run.requests for run in measured))
        await carrier.arrivals(codes)
    return sum(run.rate for run in measured)


async def _run_load(
    count: int, key: SigningKey, settings: dict[str, str], connections: int, seconds: int
) -> list[Measurement]:
    """Run web processes, each with its own wrk."""
    async with AsyncExitStack() as stack:
        loads = []
        for number in range(count):
            web = await stack.enter_async_context(serving(WEB_ONLY, settings, cpu=None))
            first = number * load.PHONES_APART
            loads.append(load.run_wrk(web, key, connections, seconds, first=first, cpu=None))
        return await asyncio.gather(*loads)


def _table(rates: dict[int, list[float]]) -> str:
    lines = [
        f"| web processes, on {os.cpu_count()} processors | webhooks/s | / one |",
        "|---|---|---|",
    ]
    for count, runs in rates.items():
        ratio = statistics.median(a / b for a, b in zip(runs, rates[1], strict=True))
        lines.append(f"| {count} | {statistics.median(runs):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)
