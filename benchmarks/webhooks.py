"""How many webhooks a second, beside the limit and the usual way.

Each contender runs on one processor and wrk on another, in turns: a machine that is shared drifts,
and only ratios of one run can be trusted. Every code must be found queued in the end.
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

    from benchmarks.load import Measured
    from benchmarks.servers import Contender

Results = dict[int, dict[str, list["Measured"]]]


@click.command("webhooks")
@click.option("--seconds", default=5, show_default=True, help="How long each measurement takes.")
@click.option("--rounds", default=3, show_default=True, help="How often each is repeated.")
@click.option("--connections", default="1,8,64,256", show_default=True, help="How many at once.")
@click.option("--only", multiple=True, type=click.Choice(list(CONTENDERS)), help="Contenders.")
@click.option("--out", type=click.Path(path_type=Path), help="A folder for the figures and plot.")
def measure(
    *, seconds: int, rounds: int, connections: str, only: tuple[str, ...], out: Path | None
) -> None:
    """Count webhooks a second, beside the limit and the usual way.

    Prints medians and ratios; exits with 1 where one was refused or its code is missing.
    """
    chosen = [CONTENDERS[name] for name in only or CONTENDERS]
    results: Results = {}
    with databases.empty() as make_database:
        for at_once in map(int, connections.split(",")):
            results[at_once] = {contender.name: [] for contender in chosen}
            for number, contender in itertools.product(range(rounds), chosen):
                click.echo(f"{at_once} at once, round {number + 1}: {contender.name}", err=True)
                database = make_database(contender.database)
                measured = asyncio.run(_measure(contender, database, at_once, seconds))
                results[at_once][contender.name].append(measured)
    click.echo(_table(results))
    if out:
        out.mkdir(exist_ok=True)
        figures = {
            at_once: {name: [asdict(one) for one in runs] for name, runs in of.items()}
            for at_once, of in results.items()
        }
        (out / "performance.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        from benchmarks import plot  # noqa: PLC0415 - only a picture needs matplotlib

        plot.draw(results, out / "performance.svg")


async def _measure(
    contender: Contender, database: URL | None, at_once: int, seconds: int
) -> Measured:
    key = SigningKey.generate()
    if contender.name.startswith("bot"):
        await migrated(database)
    fastest = load.FASTEST if database is None else load.FASTEST_WITH_DATABASE
    async with serving(contender.command, environment(key, database)) as server:
        measured = await load.press(server, key, at_once, seconds, fastest=fastest)
    if database is not None:
        await databases.must_hold(database, measured.requests)
    return measured


def _table(results: Results) -> str:
    columns = [
        *("at once", "", "/s", "/ limit", "/ usual way", "CPU µs", "limit / it"),
        *("p50 ms", "/ limit", "p99 ms", "/ limit"),
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for at_once, of in results.items():
        for name, runs in of.items():
            rate, p50, p99, cpu = (
                statistics.median(getattr(run, figure) for run in runs)
                for figure in ("rate", "p50", "p99", "cpu")
            )
            lines.append(
                f"| {at_once} | {name} | {rate:,.0f} | {_ratio(of, LIMIT, name, 'rate')}"
                f" | {_ratio(of, USUAL, name, 'rate')}"
                f" | {cpu * 1e6:.0f} | {_ratio(of, name, LIMIT, 'cpu')}"
                f" | {p50 * 1e3:.1f} | {_ratio(of, LIMIT, name, 'p50')}"
                f" | {p99 * 1e3:.1f} | {_ratio(of, LIMIT, name, 'p99')} |"
            )
    return "\n".join(lines)


def _ratio(of: dict[str, list[Measured]], base: str, name: str, figure: str) -> str:
    """Compare round by round, and give the median."""
    pairs = zip(of.get(name, ()), of.get(base, ()), strict=False)
    ratios = [getattr(run, figure) / getattr(other, figure) for run, other in pairs]
    return f"{statistics.median(ratios):.2f}" if ratios else ""
