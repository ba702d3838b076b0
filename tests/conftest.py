from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest
from sqlalchemy.engine import URL, make_url

from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import open_sandbox
from bot.store.engine import migrate
from tests.kit import postgresql
from tests.kit.processes import Processes
from tests.kit.timeouts import slow_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bot.simulator.clock import TravelClock
    from bot.simulator.sandbox import Sandbox
    from bot.store.engine.database import Database


# How long an example takes says something about the machine, and nothing about the bot.
hypothesis.settings.register_profile(
    "textproof", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("textproof")


class MakeDatabase(Protocol):
    def __call__(self, *, migrated: bool = True) -> URL: ...


class MakeSandbox(Protocol):
    async def __call__(self, *, clock: TravelClock | None = None, **changes: Any) -> Sandbox: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the soak tests without a timeout."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        if server is None:
            pytest.skip(postgresql.HOW_TO_GET_ONE)
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    asyncio.run(migrate.migrate(_sqlite_url(file)))
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeDatabase]:
    """Make databases, of either kind in a run of the test of its own."""
    # Requested here, before the test's own loop runs, since a template is made in another loop.
    postgres = request.param == "postgresql"
    template: Any = request.getfixturevalue("postgresql_server" if postgres else "migrated_sqlite")
    with ExitStack() as stack:

        def make(*, migrated: bool = True) -> URL:
            if postgres:
                server: postgresql.Server = template
                return stack.enter_context(server.database(migrated=migrated))
            file = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
            if migrated:
                shutil.copy(template, file)
            return _sqlite_url(file)

        yield make


@pytest.fixture
def database_url(make_database: MakeDatabase) -> URL:
    return make_database()


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    database = slow_database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def make_sandbox(database_url: URL) -> AsyncIterator[MakeSandbox]:
    """Run the bot and the simulated Telnyx on a database, with a stopped clock by default."""
    async with AsyncExitStack() as stack:

        async def make(*, clock: TravelClock | None = None, **changes: Any) -> Sandbox:
            opening = open_sandbox(database_url, clock or StoppedClock(), **changes)
            return await stack.enter_async_context(opening)

        yield make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an empty folder, far from the checkout, to start processes in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
async def processes(folder: Path) -> AsyncIterator[Processes]:
    async with Processes(folder) as processes:
        yield processes


@pytest.fixture
async def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return await make_sandbox()


def _sqlite_url(file: Path) -> URL:
    return make_url(f"sqlite+aiosqlite:///{file}")
