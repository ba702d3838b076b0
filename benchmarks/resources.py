"""The time that a process takes to start, and its memory before and after many webhooks.

On a shared machine CPU seconds are more reliable than elapsed ones.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load, telnyx
from benchmarks.servers import SERVE, WEB_ONLY, environment, migrated, serving

if TYPE_CHECKING:
    from sqlalchemy import URL

COMMANDS = {"serve --web-only": WEB_ONLY, "serve": SERVE}
CONNECTIONS, SECONDS = 64, 5
"""The load between two measurements of the memory."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Seconds until ready (elapsed and CPU), and the memory at each measurement (MiB)."""

    ready_after: float
    cpu: float
    memory: list[float]


@click.command("resources")
@click.option("--webhooks", default=50_000, show_default=True, help="Minimum number of webhooks.")
@click.option("--starts", default=5, show_default=True, help="Starts of each command.")
def measure(*, webhooks: int, starts: int) -> None:
    """Measure the start-up time and the memory of a process on SQLite.

    Prints medians; exits with 1 if a webhook was refused or its code is missing. Only the last
    start of each command gets webhooks.
    """
    results: dict[str, list[Resources]] = {name: [] for name in COMMANDS}
    with databases.empty() as make_database:
        for number, name in itertools.product(range(starts), COMMANDS):
            click.echo(f"start {number + 1}: {name}", err=True)
            count = webhooks if number == starts - 1 else 0
            measuring = _measure(COMMANDS[name], make_database("sqlite"), count)
            results[name].append(asyncio.run(measuring))
    click.echo(_table(results))


async def _measure(command: tuple[str, ...], database: URL | None, webhooks: int) -> Resources:
    key, url = SigningKey.generate(), await migrated(database)
    async with (
        telnyx.simulated() as carrier,
        serving(command, environment(key, url, carrier.base_url)) as bot,
    ):
        cpu, memory, posted = bot.cpu_time(), [resident(bot.pid)], 0
        while posted < webhooks:
            first = len(memory) * load.PHONES_APART
            measured = await load.run_wrk(bot, key, CONNECTIONS, SECONDS, first=first)
            posted += measured.requests
            memory.append(resident(bot.pid))
        await databases.check_codes(url, posted)
        await carrier.arrivals()
    return Resources(bot.ready_after, cpu, memory)


def resident(pid: int) -> float:
    """Return the resident memory of a process (MiB)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("the process has ended")
    return int(found[1]) / 1024


def _table(results: dict[str, list[Resources]]) -> str:
    lines = [
        "| | ready after s | CPU s | MiB when ready | halfway | after all webhooks |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        ready_after = statistics.median(run.ready_after for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        idle = statistics.median(run.memory[0] for run in runs)
        sizes = runs[-1].memory
        halfway, end = sizes[len(sizes) // 2], sizes[-1]
        lines.append(
            f"| {name} | {ready_after:.2f} | {cpu:.2f} | {idle:.0f} | {halfway:.0f} | {end:.0f} |"
        )
    return "\n".join(lines)
