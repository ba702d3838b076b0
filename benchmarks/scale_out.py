"""Two web processes and a worker on one PostgreSQL, beside one and a worker, in turns.

No process is kept to one processor: whether two are faster depends on how many there are, since
PostgreSQL, wrk and the pretend Telnyx want theirs too. The worker sends as fast as it can, and in
the end each phone must have its one text.
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

    from benchmarks.load import Measured

COUNTS = (1, 2)


@click.command("scale-out")
@click.option("--seconds", default=2, show_default=True, help="How long each measurement takes.")
@click.option("--rounds", default=3, show_default=True, help="How often each is repeated.")
@click.option("--connections", default=64, show_default=True, help="How many webhooks at once.")
def measure(*, seconds: int, rounds: int, connections: int) -> None:
    """Count webhooks a second that two web processes take, beside one.

    Prints medians and ratios; exits with 1 where a webhook was refused, its code is missing, or a
    text did not come just once.
    """
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    with databases.empty() as make_database:
        for number, count in itertools.product(range(rounds), COUNTS):
            click.echo(f"round {number + 1}: {count} of serve --web-only, and work", err=True)
            measuring = _measure(count, make_database("postgresql"), connections, seconds)
            rates[count].append(asyncio.run(measuring))
    click.echo(_table(rates))


async def _measure(count: int, database: URL | None, connections: int, seconds: int) -> float:
    key, known = SigningKey.generate(), await migrated(database)
    async with AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(telnyx.pretended())
        settings = environment(key, known, carrier.base_url, SEND_RATE_ACCOUNT="0")
        await stack.enter_async_context(started(WORK, settings, cpu=None))
        measured = await _press(count, key, settings, connections // count, seconds)
        # The web processes have ended: nothing more is queued.
        found = await databases.must_hold(known, sum(one.requests for one in measured))
        await carrier.arrivals(found)
    return sum(one.rate for one in measured)


async def _press(
    count: int, key: SigningKey, settings: dict[str, str], connections: int, seconds: int
) -> list[Measured]:
    """Run web processes, each with a wrk of its own."""
    async with AsyncExitStack() as stack:
        presses = []
        for number in range(count):
            web = await stack.enter_async_context(serving(WEB_ONLY, settings, cpu=None))
            first = number * load.FAR_APART
            presses.append(load.press(web, key, connections, seconds, first=first, cpu=None))
        return await asyncio.gather(*presses)


def _table(rates: dict[int, list[float]]) -> str:
    lines = [
        f"| web processes, on {os.cpu_count()} processors | webhooks/s | / one |",
        "|---|---|---|",
    ]
    for count, of in rates.items():
        ratio = statistics.median(a / b for a, b in zip(of, rates[1], strict=True))
        lines.append(f"| {count} | {statistics.median(of):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)
