"""How much sending slows webhooks: `serve` compared with `serve --web-only`, in turns.

Every webhook queues a code, so that `serve` always has texts to send at the account's rate.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load, telnyx
from benchmarks.servers import SERVE, WEB_ONLY, environment, migrated, serving

if TYPE_CHECKING:
    from sqlalchemy import URL

KINDS = {"SQLite": "sqlite", "PostgreSQL": "postgresql"}
ALONE, TOGETHER = "serve --web-only", "serve"
COMMANDS = {ALONE: WEB_ONLY, TOGETHER: SERVE}


@dataclass(frozen=True, slots=True)
class Rates:
    """Webhooks received and texts sent, a second."""

    webhooks: float
    texts: float


@click.command("together")
@click.option("--seconds", default=5, show_default=True, help="Seconds of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of measurement.")
@click.option("--connections", default=64, show_default=True, help="Connections.")
def measure(*, seconds: int, rounds: int, connections: int) -> None:
    """Measure webhooks a second while texts are sent, compared with web-only.

    Prints medians and ratios; exits with 1 if a webhook was refused, its code is missing, or a text
    was sent twice.
    """
    lines = ["| | | webhooks/s | / web alone | texts/s |", "|---|---|---|---|---|"]
    with databases.empty() as make_database:
        for name, kind in KINDS.items():
            rates: dict[str, list[Rates]] = {command: [] for command in COMMANDS}
            for number, command in itertools.product(range(rounds), COMMANDS):
                click.echo(f"{name}, round {number + 1}: {command}", err=True)
                measuring = _measure(COMMANDS[command], make_database(kind), connections, seconds)
                rates[command].append(asyncio.run(measuring))
            lines += _rows(name, rates)
    click.echo("\n".join(lines))


async def _measure(
    command: tuple[str, ...], database: URL | None, connections: int, seconds: int
) -> Rates:
    key, url = SigningKey.generate(), await migrated(database)
    async with (
        telnyx.simulated() as carrier,
        serving(command, environment(key, url, carrier.base_url)) as bot,
    ):
        measured = await load.run_wrk(bot, key, connections, seconds)
        texts = len(await carrier.arrivals()) / seconds
    await databases.check_codes(url, measured.requests)
    return Rates(measured.rate, texts)


def _rows(name: str, rates: dict[str, list[Rates]]) -> list[str]:
    rows = []
    for command, runs in rates.items():
        pairs = zip(runs, rates[ALONE], strict=True)
        ratio = statistics.median(run.webhooks / alone.webhooks for run, alone in pairs)
        webhooks = statistics.median(run.webhooks for run in runs)
        texts = statistics.median(run.texts for run in runs)
        rows.append(f"| {name} | {command} | {webhooks:,.0f} | {ratio:.2f} | {texts:.0f} |")
    return rows
