"""What sending costs those who text meanwhile: `serve` beside `serve --web-only`, in turns.

Every webhook queues a code, so that `serve` has enough to send at the account's pace all along.
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
    """Webhooks that came in and texts that left, a second."""

    webhooks: float
    texts: float


@click.command("together")
@click.option("--seconds", default=5, show_default=True, help="How long each measurement takes.")
@click.option("--rounds", default=3, show_default=True, help="How often each is repeated.")
@click.option("--connections", default=64, show_default=True, help="How many webhooks at once.")
def measure(*, seconds: int, rounds: int, connections: int) -> None:
    """Count webhooks a second while texts are sent, beside the web alone.

    Prints medians and ratios; exits with 1 where a webhook was refused, its code is missing, or a
    text came twice.
    """
    lines = ["| | | webhooks/s | / web alone | texts/s |", "|---|---|---|---|---|"]
    with databases.empty() as make_database:
        for name, kind in KINDS.items():
            rates: dict[str, list[Rates]] = {how: [] for how in COMMANDS}
            for number, how in itertools.product(range(rounds), COMMANDS):
                click.echo(f"{name}, round {number + 1}: {how}", err=True)
                measuring = _measure(COMMANDS[how], make_database(kind), connections, seconds)
                rates[how].append(asyncio.run(measuring))
            lines += _rows(name, rates)
    click.echo("\n".join(lines))


async def _measure(
    command: tuple[str, ...], database: URL | None, connections: int, seconds: int
) -> Rates:
    key, known = SigningKey.generate(), await migrated(database)
    async with (
        telnyx.pretended() as carrier,
        serving(command, environment(key, known, carrier.base_url)) as bot,
    ):
        measured = await load.press(bot, key, connections, seconds)
        texts = len(await carrier.arrivals()) / seconds
    await databases.must_hold(known, measured.requests)
    return Rates(measured.rate, texts)


def _rows(name: str, rates: dict[str, list[Rates]]) -> list[str]:
    rows = []
    for how, of in rates.items():
        pairs = zip(of, rates[ALONE], strict=True)
        ratio = statistics.median(one.webhooks / alone.webhooks for one, alone in pairs)
        webhooks = statistics.median(one.webhooks for one in of)
        texts = statistics.median(one.texts for one in of)
        rows.append(f"| {name} | {how} | {webhooks:,.0f} | {ratio:.2f} | {texts:.0f} |")
    return rows
