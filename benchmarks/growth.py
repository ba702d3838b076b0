"""The cost of a webhook with many known people, and its latency while the janitor runs.

Databases of all sizes are filled first and measured in turns: the speed of a shared machine
changes, so only ratios within one run are reliable.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import databases
from benchmarks.servers import BOT_NUMBER
from bot.carrier.webhooks import InboundText
from bot.conversation.codes import Keyring
from bot.conversation.inputs import TextReceived
from bot.conversation.policy import Policy
from bot.services.clock import SystemClock
from bot.services.intake.inbox import Inbox, apply
from bot.services.intake.unit_of_work import Rules
from bot.services.upkeep.janitor import Janitor
from bot.store.engine import migrate
from bot.store.engine.database import Database
from tests.kit.bulk_data import insert_people, phone_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import URL, Connection

BATCH = 32
BATCHES = 25
CHUNK = 250_000
KINDS = ("sqlite", "postgresql")
RECENT = timedelta(days=2)
"""How long ago people texted: too recently for their rows to be purged."""
EXPIRED = timedelta(days=60)
STEP = 48_619
"""The step from one known person to the next, so that they are far apart."""
RULES = Rules(Policy(), Keyring(["a secret of the benchmark that is long enough"]))


@dataclass(slots=True)
class Population:
    """A database, the number of people in it, and the costs measured (microseconds a webhook)."""

    database: Database
    size: int
    megabytes: float
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    used: int = 0

    async def measure(self, *, keep: bool) -> None:
        """Process some batches of texts, half from new people and half from known ones."""
        batches = [self._texts() for _ in range(BATCHES)]
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in batches:
            await self.database.write(apply, batch, datetime.now(UTC), RULES)
        spent = (time.process_time() - cpu, time.perf_counter() - wall)
        if keep:
            for costs, seconds in zip((self.cpu, self.wall), spent, strict=True):
                costs.append(seconds * 1e6 / (BATCH * BATCHES))

    def _texts(self) -> list[InboundText]:
        """Return texts from people who have not texted yet: a text after a live code is cheap."""
        numbers = range(self.used, self.used + BATCH // 2)
        self.used += BATCH // 2
        known = [number * STEP % self.size for number in numbers]
        new_people = [self.size + number for number in numbers]
        return [_verify(number) for number in (*known, *new_people)]


@dataclass(slots=True)
class PurgeResult:
    """Latencies of webhooks without the purge and during it, and its duration (seconds)."""

    alone: list[float]
    during: list[float]
    rows: int
    seconds: float


@click.command("growth")
@click.option(
    "--sizes", default="10000,100000,1000000", show_default=True, help="Numbers of known people."
)
@click.option("--rounds", default=7, show_default=True, help="Rounds of measurement.")
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Databases.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the figures and the plot.")
def measure(*, sizes: str, rounds: int, only: tuple[str, ...], out: Path | None) -> None:
    """Measure the cost of a webhook with few known people and with many."""
    results: dict[str, list[Population]] = {}
    with databases.empty() as make_database:
        for kind in only or KINDS:
            urls = {int(size): url for size in sizes.split(",") if (url := make_database(kind))}
            results[kind] = asyncio.run(_grow(urls, rounds))
            click.echo(_table(kind, results[kind]))
    if out:
        out.mkdir(exist_ok=True)
        figures = {
            kind: {
                population.size: {"cpu": population.cpu, "wall": population.wall}
                for population in populations
            }
            for kind, populations in results.items()
        }
        (out / "growth.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        from benchmarks import plot  # noqa: PLC0415 - only a picture needs matplotlib

        lines = {
            f"{kind}, {name}": [
                (population.size, statistics.median(getattr(population, costs)))
                for population in populations
            ]
            for kind, populations in results.items()
            for name, costs in (("CPU", "cpu"), ("time", "wall"))
        }
        plot.draw_growth(lines, out / "growth.svg")


async def _grow(urls: dict[int, URL], rounds: int) -> list[Population]:
    async with AsyncExitStack() as stack:
        populations = [
            await stack.enter_async_context(_population(urls[size], size)) for size in urls
        ]
        for url in urls.values():
            _warm_file_cache(url)
        # The first round warms the caches.
        for number, population in itertools.product(range(rounds + 1), populations):
            await population.measure(keep=number > 0)
    return populations


def _warm_file_cache(url: URL) -> None:
    """Read a SQLite file, so that the operating system caches it.

    Otherwise the disk's read-ahead would be measured.
    """
    if url.get_backend_name() == "sqlite" and url.database:
        with Path(url.database).open("rb") as file:
            while file.read(2**20):
                pass


@asynccontextmanager
async def _population(url: URL, size: int) -> AsyncIterator[Population]:
    began = time.monotonic()
    await fill(url, size, datetime.now(UTC) - RECENT)
    seconds = time.monotonic() - began
    database = Database(url)
    try:
        megabytes = await database.read(_size) / 1e6
        click.echo(f"{size:,} people: {megabytes:,.0f} MB in {seconds:.0f} s", err=True)
        yield Population(database, size, megabytes)
    finally:
        await database.close()


async def fill(url: URL, size: int, began: datetime) -> None:
    """Insert `size` people, the first at `began`, all within two days."""
    await migrate.migrate(url)
    apart = RECENT / size
    for first in range(0, size, CHUNK):
        people = range(first, min(first + CHUNK, size))
        await migrate.on_connection(url, partial(_insert, people=people, began=began, apart=apart))
    if url.get_backend_name() == "postgresql":
        await _vacuum(url)


async def _vacuum(url: URL) -> None:
    """Vacuum and analyze now: autovacuum would start during the measurement."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))
        await connection.execute(text("CHECKPOINT"))
    await engine.dispose()


def _insert(connection: Connection, people: range, began: datetime, apart: timedelta) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA cache_size = -2000000")
    insert_people(connection, people, began, apart)


def _size(connection: Connection) -> int:
    on_sqlite = connection.dialect.name == "sqlite"
    pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    whole = pages if on_sqlite else "SELECT pg_database_size(current_database())"
    return connection.scalar(text(whole)) or 0


def _verify(number: int) -> InboundText:
    return InboundText(f"message:{uuid4()}", phone_of(number), BOT_NUMBER, TextReceived("VERIFY"))


def _table(kind: str, populations: list[Population]) -> str:
    lines = [
        f"| {kind}: people | MB | CPU µs a webhook | ratio | wall µs | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for population in populations:
        cpu, wall = statistics.median(population.cpu), statistics.median(population.wall)
        ratios = [
            _ratio(population.cpu, populations[0].cpu),
            _ratio(population.wall, populations[0].wall),
        ]
        lines.append(
            f"| {population.size:,} | {population.megabytes:,.0f} | {cpu:.0f} | {ratios[0]:.2f} "
            f"| {wall:.0f} | {ratios[1]:.2f} |"
        )
    return "\n".join(lines)


def _ratio(runs: list[float], base: list[float]) -> float:
    """Return the median of the ratios round by round."""
    return statistics.median(run / other for run, other in zip(runs, base, strict=True))


@click.command("purge")
@click.option("--people", default=190_000, show_default=True, help="Number of expired people.")
@click.option("--rate", default=200, show_default=True, help="Webhooks a second.")
@click.option(
    "--seconds", default=15, show_default=True, help="Seconds to measure without the janitor."
)
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Databases.")
def purge(*, people: int, rate: int, seconds: int, only: tuple[str, ...]) -> None:
    """Measure the latency of webhooks while the janitor removes expired rows.

    190,000 people have a million rows.
    """
    with databases.empty() as make_database:
        for kind in only or KINDS:
            if url := make_database(kind):
                asyncio.run(fill(url, people, datetime.now(UTC) - EXPIRED))
                purged = asyncio.run(_purge(url, people, rate, seconds))
                click.echo(_report(kind, purged))


async def _purge(url: URL, people: int, rate: int, seconds: int) -> PurgeResult:
    database, clock = Database(url), SystemClock()
    inbox = Inbox(database, RULES, clock, lambda: None)
    writer = asyncio.create_task(inbox.run())
    new_people = itertools.count(people)
    await asyncio.sleep(0)
    before = await _send_texts(inbox, new_people, rate, asyncio.create_task(asyncio.sleep(seconds)))
    began = time.monotonic()
    janitor = asyncio.create_task(Janitor(database, clock).purge())
    during = await _send_texts(inbox, new_people, rate, janitor)
    took = time.monotonic() - began
    after = await _send_texts(inbox, new_people, rate, asyncio.create_task(asyncio.sleep(seconds)))
    writer.cancel()
    await asyncio.wait([writer])
    await database.close()
    return PurgeResult(before + after, during, janitor.result(), took)


async def _send_texts(
    inbox: Inbox, new_people: Iterator[int], rate: int, until: asyncio.Task[Any]
) -> list[float]:
    """Send texts at a steady rate until a task is done; return their latencies."""
    loop = asyncio.get_running_loop()
    began, waits, texts = loop.time(), list[float](), set[asyncio.Task[None]]()

    async def send(due: float) -> None:
        await inbox.handle_webhook(_verify(next(new_people)))
        waits.append(loop.time() - due)

    for number in itertools.count():
        due = began + number / rate
        await asyncio.sleep(due - loop.time())
        if until.done():
            break
        task = asyncio.create_task(send(due))
        texts.add(task)
        task.add_done_callback(texts.discard)
    await asyncio.gather(*texts)
    return waits


def _report(kind: str, purged: PurgeResult) -> str:
    alone, during = (_percentile(waits, 99) for waits in (purged.alone, purged.during))
    return (
        f"{kind}: {purged.rows:,} rows in {purged.seconds:.0f} s; p99 {alone * 1e3:.1f} ms alone,"
        f" {during * 1e3:.1f} ms beside the janitor: {during / alone:.2f}"
    )


def _percentile(waits: list[float], percent: int) -> float:
    return statistics.quantiles(waits, n=100)[percent - 1]
