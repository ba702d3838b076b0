"""Texts sent a second, compared with the SDK's transport alone.

All texts are queued before the sender starts, and there is no throttle. Both are timed by the
simulated Telnyx, from the first text to the last, in turns.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load, telnyx
from benchmarks.servers import WEB_ONLY, WORK, environment, migrated, serving, started

if TYPE_CHECKING:
    from sqlalchemy import URL

SDK = "SDK alone"
SENDERS = {SDK: None, "bot, SQLite": "sqlite", "bot, PostgreSQL": "postgresql"}
CONNECTIONS = 50
"""Connections that fill the outbox."""


@click.command("sends")
@click.option("--texts", default=2000, show_default=True, help="Texts in each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of measurement.")
def measure(*, texts: int, rounds: int) -> None:
    """Measure texts sent a second, compared with the SDK's transport alone.

    Prints medians and ratios; exits with 1 if a text is missing, sent twice, or not stored as
    accepted.
    """
    rates: dict[str, list[float]] = {name: [] for name in SENDERS}
    with databases.empty() as make_database:
        for number, (name, kind) in itertools.product(range(rounds), SENDERS.items()):
            click.echo(f"round {number + 1}: {name}", err=True)
            rates[name].append(asyncio.run(_measure(make_database(kind), texts)))
    click.echo(_table(rates))


async def _measure(database: URL | None, texts: int) -> float:
    """Send texts by the bot, or without a database by the SDK; return texts a second."""
    key = SigningKey.generate()
    async with telnyx.simulated() as carrier:
        settings = environment(key, database, carrier.base_url, SEND_RATE_ACCOUNT="0")
        command: tuple[str, ...] = ("-m", "benchmarks.baselines.sdk", str(texts))
        if database is not None:
            await _fill(key, database, settings, texts)
            command = WORK
        async with started(command, settings):
            times = (await carrier.arrivals(texts)).values()
    if database is not None and (accepted := await databases.count_accepted(database)) != texts:
        sys.exit(f"{texts} texts were sent, and {accepted} are stored as accepted")
    return (texts - 1) / (max(times) - min(times))


async def _fill(key: SigningKey, database: URL, settings: dict[str, str], texts: int) -> None:
    await migrated(database)
    async with serving(WEB_ONLY, settings) as bot:
        requests = load.signed(key, bot.host, 0, texts)
        shares = (requests[number::CONNECTIONS] for number in range(CONNECTIONS))
        await asyncio.gather(*(load.post(bot.host, share) for share in shares))


def _table(rates: dict[str, list[float]]) -> str:
    lines = ["| | texts/s | / SDK alone |", "|---|---|---|"]
    for name, runs in rates.items():
        ratio = statistics.median(a / b for a, b in zip(runs, rates[SDK], strict=True))
        lines.append(f"| {name} | {statistics.median(runs):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)
