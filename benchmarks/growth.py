"""What a webhook costs among many people, and how long it waits beside the janitor.

Databases of every size are filled first and measured in turns: a machine that is shared drifts,
and only ratios of one run can be trusted.
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
PAST = timedelta(days=2)
"""When people were here: lately enough for nothing to be purged."""
LONG_PAST = timedelta(days=60)
STEP = 48_619
"""Leads to all people in turn, each far from the one before."""
RULES = Rules(Policy(), Keyring(["a secret of the benchmark that is long enough"]))


@dataclass(slots=True)
class Crowd:
    """A database, the count of people it knows, and what it has cost: microseconds a webhook."""

    database: Database
    size: int
    megabytes: float
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    come: int = 0

    async def measure(self, *, keep: bool) -> None:
        """Serve some batches, half of each people who are new and half who are known."""
        batches = [self._texts() for _ in range(BATCHES)]
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in batches:
            await self.database.write(apply, batch, datetime.now(UTC), RULES)
        spent = (time.process_time() - cpu, time.perf_counter() - wall)
        if keep:
            for costs, seconds in zip((self.cpu, self.wall), spent, strict=True):
                costs.append(seconds * 1e6 / (BATCH * BATCHES))

    def _texts(self) -> list[InboundText]:
        """Have nobody text twice: who has a code that lives is soon served."""
        come = range(self.come, self.come + BATCH // 2)
        self.come += BATCH // 2
        known = [number * STEP % self.size for number in come]
        newcomers = [self.size + number for number in come]
        return [_verify(number) for number in (*known, *newcomers)]


@dataclass(slots=True)
class Purged:
    """How long webhooks took, in seconds, and how long the purge did; `alone` is without it."""

    alone: list[float]
    beside: list[float]
    rows: int
    seconds: float


@click.command("growth")
@click.option("--sizes", default="10000,100000,1000000", show_default=True, help="People known.")
@click.option("--rounds", default=7, show_default=True, help="How often each is measured.")
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Databases.")
@click.option("--out", type=click.Path(path_type=Path), help="A folder for the figures and plot.")
def measure(*, sizes: str, rounds: int, only: tuple[str, ...], out: Path | None) -> None:
    """Find what a webhook costs among few people and among many."""
    results: dict[str, list[Crowd]] = {}
    with databases.empty() as make_database:
        for kind in only or KINDS:
            urls = {int(size): url for size in sizes.split(",") if (url := make_database(kind))}
            results[kind] = asyncio.run(_grow(urls, rounds))
            click.echo(_table(kind, results[kind]))
    if out:
        out.mkdir(exist_ok=True)
        figures = {
            kind: {crowd.size: {"cpu": crowd.cpu, "wall": crowd.wall} for crowd in crowds}
            for kind, crowds in results.items()
        }
        (out / "growth.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        from benchmarks import plot  # noqa: PLC0415 - only a picture needs matplotlib

        lines = {
            f"{kind}, {name}": [
                (crowd.size, statistics.median(getattr(crowd, costs))) for crowd in crowds
            ]
            for kind, crowds in results.items()
            for name, costs in (("CPU", "cpu"), ("time", "wall"))
        }
        plot.draw_growth(lines, out / "growth.svg")


async def _grow(urls: dict[int, URL], rounds: int) -> list[Crowd]:
    async with AsyncExitStack() as stack:
        crowds = [await stack.enter_async_context(_crowd(urls[size], size)) for size in urls]
        for url in urls.values():
            _recall(url)
        # The first round warms caches, as a bot at work has them.
        for number, crowd in itertools.product(range(rounds + 1), crowds):
            await crowd.measure(keep=number > 0)
    return crowds


def _recall(url: URL) -> None:
    """Have the machine's memory hold a file of SQLite, as where there is enough of it.

    Else what is measured is how far the disk reads ahead.
    """
    if url.get_backend_name() == "sqlite" and url.database:
        with Path(url.database).open("rb") as file:
            while file.read(2**20):
                pass


@asynccontextmanager
async def _crowd(url: URL, size: int) -> AsyncIterator[Crowd]:
    began = time.monotonic()
    await fill(url, size, datetime.now(UTC) - PAST)
    seconds = time.monotonic() - began
    database = Database(url)
    try:
        megabytes = await database.read(_size) / 1e6
        click.echo(f"{size:,} people: {megabytes:,.0f} MB in {seconds:.0f} s", err=True)
        yield Crowd(database, size, megabytes)
    finally:
        await database.close()


async def fill(url: URL, size: int, began: datetime) -> None:
    """Have so many people be known, the first since `began`, all within two days."""
    await migrate.migrate(url)
    apart = PAST / size
    for first in range(0, size, CHUNK):
        people = range(first, min(first + CHUNK, size))
        await migrate.on_connection(url, partial(_gather, people=people, began=began, apart=apart))
    if url.get_backend_name() == "postgresql":
        await _tidy(url)


async def _tidy(url: URL) -> None:
    """Have PostgreSQL know its tables now: it would begin to by itself while it is measured."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))
        await connection.execute(text("CHECKPOINT"))
    await engine.dispose()


def _gather(connection: Connection, people: range, began: datetime, apart: timedelta) -> None:
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


def _table(kind: str, crowds: list[Crowd]) -> str:
    lines = [
        f"| {kind}: people | MB | CPU µs a webhook | of the fewest | wall µs | of the fewest |",
        "|---|---|---|---|---|---|",
    ]
    for crowd in crowds:
        cpu, wall = statistics.median(crowd.cpu), statistics.median(crowd.wall)
        ratios = [_ratio(crowd.cpu, crowds[0].cpu), _ratio(crowd.wall, crowds[0].wall)]
        lines.append(
            f"| {crowd.size:,} | {crowd.megabytes:,.0f} | {cpu:.0f} | {ratios[0]:.2f} "
            f"| {wall:.0f} | {ratios[1]:.2f} |"
        )
    return "\n".join(lines)


def _ratio(runs: list[float], base: list[float]) -> float:
    """Compare round by round, and give the median."""
    return statistics.median(run / other for run, other in zip(runs, base, strict=True))


@click.command("purge")
@click.option("--people", default=190_000, show_default=True, help="Long gone.")
@click.option("--rate", default=200, show_default=True, help="Webhooks a second meanwhile.")
@click.option("--seconds", default=15, show_default=True, help="How long without the janitor.")
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Databases.")
def purge(*, people: int, rate: int, seconds: int, only: tuple[str, ...]) -> None:
    """Find how long webhooks wait while the janitor removes what people left behind.

    Of 190,000 people that is a million rows.
    """
    with databases.empty() as make_database:
        for kind in only or KINDS:
            if url := make_database(kind):
                asyncio.run(fill(url, people, datetime.now(UTC) - LONG_PAST))
                purged = asyncio.run(_purge(url, people, rate, seconds))
                click.echo(_told(kind, purged))


async def _purge(url: URL, people: int, rate: int, seconds: int) -> Purged:
    database, clock = Database(url), SystemClock()
    inbox = Inbox(database, RULES, clock, lambda: None)
    writer = asyncio.create_task(inbox.run())
    newcomers = itertools.count(people)
    await asyncio.sleep(0)
    before = await _press(inbox, newcomers, rate, asyncio.create_task(asyncio.sleep(seconds)))
    began = time.monotonic()
    janitor = asyncio.create_task(Janitor(database, clock).purge())
    beside = await _press(inbox, newcomers, rate, janitor)
    took = time.monotonic() - began
    after = await _press(inbox, newcomers, rate, asyncio.create_task(asyncio.sleep(seconds)))
    writer.cancel()
    await asyncio.wait([writer])
    await database.close()
    return Purged(before + after, beside, janitor.result(), took)


async def _press(
    inbox: Inbox, newcomers: Iterator[int], rate: int, until: asyncio.Task[Any]
) -> list[float]:
    """Have people text at a steady rate until a task is done; return how long each waited."""
    loop = asyncio.get_running_loop()
    began, waits, texts = loop.time(), list[float](), set[asyncio.Task[None]]()

    async def send(due: float) -> None:
        await inbox.handle_webhook(_verify(next(newcomers)))
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


def _told(kind: str, purged: Purged) -> str:
    alone, beside = (_percentile(waits, 99) for waits in (purged.alone, purged.beside))
    return (
        f"{kind}: {purged.rows:,} rows in {purged.seconds:.0f} s; p99 {alone * 1e3:.1f} ms alone,"
        f" {beside * 1e3:.1f} ms beside the janitor: {beside / alone:.2f}"
    )


def _percentile(waits: list[float], which: int) -> float:
    return statistics.quantiles(waits, n=100)[which - 1]
