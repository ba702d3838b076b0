"""Webhooks a second, compared with the limit and with the usual way.

Each server runs on one processor and wrk on another, in turns: the speed of a shared machine
changes, so only ratios within one run are reliable. Every code must be queued in the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from nacl.signing import SigningKey

from benchmarks import databases, load
from benchmarks.servers import CONTENDERS, LIMIT, USUAL, environment, migrated, serving

if TYPE_CHECKING:
    from sqlalchemy import URL

    from benchmarks.load import Measurement
    from benchmarks.servers import Contender

Results = dict[int, dict[str, list["Measurement"]]]


@click.command("webhooks")
@click.option("--seconds", default=5, show_default=True, help="Seconds of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of measurement.")
@click.option(
    "--connections", default="1,8,64,256", show_default=True, help="Numbers of connections."
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(CONTENDERS)), help="Servers to measure."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the figures and the plot.")
def measure(
    *, seconds: int, rounds: int, connections: str, only: tuple[str, ...], out: Path | None
) -> None:
    """Measure webhooks a second, compared with the limit and the usual way.

    Prints medians and ratios; exits with 1 if a webhook was refused or its code is missing.
    """
    chosen = [CONTENDERS[name] for name in only or CONTENDERS]
    results: Results = {}
    with databases.empty() as make_database:
        for count in map(int, connections.split(",")):
            results[count] = {contender.name: [] for contender in chosen}
            for number, contender in itertools.product(range(rounds), chosen):
                click.echo(f"{count} connections, round {number + 1}: {contender.name}", err=True)
                database = make_database(contender.database)
                measured = asyncio.run(_measure(contender, database, count, seconds))
                results[count][contender.name].append(measured)
    click.echo(_table(results))
    if out:
        out.mkdir(exist_ok=True)
        figures = {
            count: {name: [asdict(run) for run in runs] for name, runs in by_name.items()}
            for count, by_name in results.items()
        }
        (out / "performance.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        from benchmarks import plot  # noqa: PLC0415 - only a picture needs matplotlib

        plot.draw(results, out / "performance.svg")


async def _measure(
    contender: Contender, database: URL | None, connections: int, seconds: int
) -> Measurement:
    key = SigningKey.generate()
    if contender.name.startswith("bot"):
        await migrated(database)
    max_rate = load.MAX_RATE if database is None else load.MAX_RATE_WITH_DATABASE
    async with serving(contender.command, environment(key, database)) as server:
        measured = await load.run_wrk(server, key, connections, seconds, max_rate=max_rate)
    if database is not None:
        await databases.check_codes(database, measured.requests)
    return measured


def _table(results: Results) -> str:
    columns = [
        *("connections", "", "/s", "/ limit", "/ usual way", "CPU µs", "limit / it"),
        *("p50 ms", "/ limit", "p99 ms", "/ limit"),
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for count, by_name in results.items():
        for name, runs in by_name.items():
            rate, p50, p99, cpu = (
                statistics.median(getattr(run, figure) for run in runs)
                for figure in ("rate", "p50", "p99", "cpu")
            )
            lines.append(
                f"| {count} | {name} | {rate:,.0f} | {_ratio(by_name, LIMIT, name, 'rate')}"
                f" | {_ratio(by_name, USUAL, name, 'rate')}"
                f" | {cpu * 1e6:.0f} | {_ratio(by_name, name, LIMIT, 'cpu')}"
                f" | {p50 * 1e3:.1f} | {_ratio(by_name, LIMIT, name, 'p50')}"
                f" | {p99 * 1e3:.1f} | {_ratio(by_name, LIMIT, name, 'p99')} |"
            )
    return "\n".join(lines)


def _ratio(by_name: dict[str, list[Measurement]], base: str, name: str, figure: str) -> str:
    """Return the median of the ratios round by round."""
    pairs = zip(by_name.get(name, ()), by_name.get(base, ()), strict=False)
    ratios = [getattr(run, figure) / getattr(other, figure) for run, other in pairs]
    return f"{statistics.median(ratios):.2f}" if ratios else ""
