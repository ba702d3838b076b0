"""How many texts leave in a second, beside what the SDK's transport does alone.

All are queued before the sender starts, and no pace holds it back. Both are timed by the pretend
Telnyx, from the first text that comes to the last, in turns.
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
AT_ONCE = 50
"""Connections by which the outbox is filled."""


@click.command("sends")
@click.option("--texts", default=2000, show_default=True, help="How many in each measurement.")
@click.option("--rounds", default=3, show_default=True, help="How often each is repeated.")
def measure(*, texts: int, rounds: int) -> None:
    """Count texts a second, beside what the SDK's transport does alone.

    Prints medians and ratios; exits with 1 where a text does not come, comes twice, or is not
    known to have come.
    """
    rates: dict[str, list[float]] = {name: [] for name in SENDERS}
    with databases.empty() as make_database:
        for number, (name, kind) in itertools.product(range(rounds), SENDERS.items()):
            click.echo(f"round {number + 1}: {name}", err=True)
            rates[name].append(asyncio.run(_measure(make_database(kind), texts)))
    click.echo(_table(rates))


async def _measure(database: URL | None, texts: int) -> float:
    """Have texts sent by the bot, or without a database by the SDK; tell how many a second."""
    key = SigningKey.generate()
    async with telnyx.pretended() as carrier:
        settings = environment(key, database, carrier.base_url, SEND_RATE_ACCOUNT="0")
        command: tuple[str, ...] = ("-m", "benchmarks.baselines.sdk", str(texts))
        if database is not None:
            await _fill(key, database, settings, texts)
            command = WORK
        async with started(command, settings):
            came = (await carrier.arrivals(texts)).values()
    if database is not None and (known := await databases.accepted(database)) != texts:
        sys.exit(f"{texts} texts came, and {known} are known to have come")
    return (texts - 1) / (max(came) - min(came))


async def _fill(key: SigningKey, database: URL, settings: dict[str, str], texts: int) -> None:
    await migrated(database)
    async with serving(WEB_ONLY, settings) as bot:
        requests = load.signed(key, bot.host, 0, texts)
        shares = (requests[number::AT_ONCE] for number in range(AT_ONCE))
        await asyncio.gather(*(load.post(bot.host, share) for share in shares))


def _table(rates: dict[str, list[float]]) -> str:
    lines = ["| | texts/s | / SDK alone |", "|---|---|---|"]
    for name, of in rates.items():
        ratio = statistics.median(a / b for a, b in zip(of, rates[SDK], strict=True))
        lines.append(f"| {name} | {statistics.median(of):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)
