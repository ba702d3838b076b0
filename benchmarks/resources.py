"""What a process takes: the time until it is ready, and memory, also after many webhooks.

On a machine that is shared, the seconds of a processor say more than those of a clock.
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
"""How webhooks are posted between two looks at the memory."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds until ready, by the clock and of a processor, and MiB at each look from then on."""

    ready_after: float
    cpu: float
    memory: list[float]


@click.command("resources")
@click.option("--webhooks", default=50_000, show_default=True, help="How many, at least.")
@click.option("--starts", default=5, show_default=True, help="How often each is started.")
def measure(*, webhooks: int, starts: int) -> None:
    """Time a start, and look at a process's memory while webhooks come, on SQLite.

    Prints medians; exits with 1 where a webhook was refused or its code is missing. Only the
    last start of each gets webhooks.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in COMMANDS}
    with databases.empty() as make_database:
        for number, name in itertools.product(range(starts), COMMANDS):
            click.echo(f"start {number + 1}: {name}", err=True)
            count = webhooks if number == starts - 1 else 0
            measuring = _measure(COMMANDS[name], make_database("sqlite"), count)
            taken[name].append(asyncio.run(measuring))
    click.echo(_table(taken))


async def _measure(command: tuple[str, ...], database: URL | None, webhooks: int) -> Taken:
    key, known = SigningKey.generate(), await migrated(database)
    async with (
        telnyx.pretended() as carrier,
        serving(command, environment(key, known, carrier.base_url)) as bot,
    ):
        cpu, memory, posted = bot.worked(), [_resident(bot.pid)], 0
        while posted < webhooks:
            first = len(memory) * load.FAR_APART
            measured = await load.press(bot, key, CONNECTIONS, SECONDS, first=first)
            posted += measured.requests
            memory.append(_resident(bot.pid))
        await databases.must_hold(known, posted)
        await carrier.arrivals()
    return Taken(bot.ready_after, cpu, memory)


def _resident(pid: int) -> float:
    """Read how much of a process is in memory (MiB)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("the process has ended")
    return int(found[1]) / 1024


def _table(taken: dict[str, list[Taken]]) -> str:
    lines = [
        "| | ready after s | of a processor s | MiB when ready | halfway | after all webhooks |",
        "|---|---|---|---|---|---|",
    ]
    for name, of in taken.items():
        ready_after = statistics.median(one.ready_after for one in of)
        cpu = statistics.median(one.cpu for one in of)
        idle = statistics.median(one.memory[0] for one in of)
        looks = of[-1].memory
        halfway, end = looks[len(looks) // 2], looks[-1]
        lines.append(
            f"| {name} | {ready_after:.2f} | {cpu:.2f} | {idle:.0f} | {halfway:.0f} | {end:.0f} |"
        )
    return "\n".join(lines)
