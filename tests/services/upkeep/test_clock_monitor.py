from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest
from aiohttp import ClientSession

from bot import app
from bot.services.status import overview
from bot.services.upkeep.clock_monitor import ADVICE, CHECK_INTERVAL, WARNING_INTERVAL, ClockMonitor
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import LONG_DEADLINES
from bot.store.clock_drifts import CURRENT_FOR
from bot.store.engine.errors import UnavailableError
from bot.store.tables import ClockDriftRow
from tests.kit.settings import settings_for
from tests.kit.stored import row_count
from tests.kit.timeouts import wait_until

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import URL

    from bot.store.engine.database import Database

WARNING = "wall clock differs"
CHECK = timedelta(seconds=CHECK_INTERVAL)


class WrongClock(StoppedClock):
    """A clock whose process was started while the wall clock was wrong."""

    def __init__(self, drift: timedelta = timedelta()) -> None:
        super().__init__()
        self.drift = drift

    def wall(self) -> datetime:
        return self.now() + self.drift


async def status(database: Database, clock: WrongClock) -> str:
    # `bot status` is another process: it reads only the wall clock.
    return await database.read(overview, clock.wall())


@pytest.mark.parametrize(
    ("seconds", "shown_drift"), [(3600, "3600 s behind its"), (-90, "90 s ahead of its")]
)
async def test_a_wrong_clock_is_logged_and_shown_until_it_is_right(
    database: Database, capsys: pytest.CaptureFixture[str], seconds: int, shown_drift: str
) -> None:
    clock = WrongClock(timedelta(seconds=seconds))
    monitor = ClockMonitor(database, clock)
    await monitor.check()
    assert WARNING in capsys.readouterr().out
    shown = await status(database, clock)
    assert shown_drift in shown
    assert f":{os.getpid()}: " in shown
    assert ADVICE in shown

    clock.drift = timedelta()
    await monitor.check()
    assert "clock of" not in await status(database, clock)
    assert WARNING not in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0, 5, -5])
async def test_clocks_that_differ_by_at_most_five_seconds_are_not_logged(
    database: Database, capsys: pytest.CaptureFixture[str], seconds: int
) -> None:
    clock = WrongClock(timedelta(seconds=seconds))
    await ClockMonitor(database, clock).check()
    assert WARNING not in capsys.readouterr().out
    assert "clock of" not in await status(database, clock)


async def test_a_clock_that_stays_wrong_is_always_shown_and_logged_at_intervals(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = WrongClock(timedelta(hours=1))
    monitor = ClockMonitor(database, clock)
    began = clock.now()
    while clock.now() < began + 2 * WARNING_INTERVAL:
        await monitor.check()
        assert "clock of" in await status(database, clock)
        clock.travel(CHECK)
    assert capsys.readouterr().out.count(WARNING) == 2


async def test_the_drift_of_a_process_that_has_ended_is_not_shown_and_is_removed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WrongClock(timedelta(hours=1))
    await ClockMonitor(database, clock).check()
    clock.travel(CURRENT_FOR)
    assert "clock of" not in await status(database, clock)
    clock.travel(timedelta(days=1))
    monkeypatch.setattr(os, "getpid", lambda: 0)
    await ClockMonitor(database, clock).check()
    assert await row_count(database, ClockDriftRow) == 1


async def test_a_process_restarted_with_the_right_clock_is_not_shown(
    database: Database,
) -> None:
    clock = WrongClock(timedelta(hours=1))
    await ClockMonitor(database, clock).check()
    right = WrongClock()
    right.travel(timedelta(hours=1))
    await ClockMonitor(database, right).check()
    assert "clock of" not in await status(database, right)


async def test_a_wrong_clock_is_logged_without_a_database_and_recorded_when_it_is_back(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> NoReturn:
        raise UnavailableError("gone for the test")

    clock = WrongClock(timedelta(hours=1))
    monitor = ClockMonitor(database, clock)
    with monkeypatch.context() as outage:
        outage.setattr(database, "write", fail)
        await monitor.check()
    assert WARNING in capsys.readouterr().out
    await monitor.check()
    assert "clock of" in await status(database, clock)


@pytest.mark.parametrize("with_work", [True, False])
async def test_a_running_bot_checks_its_clock_and_is_ready_nevertheless(
    database_url: URL, database: Database, *, with_work: bool
) -> None:
    clock = WrongClock(timedelta(hours=1))
    async with app.run_bot(
        settings_for(database_url),
        clock,
        with_web=True,
        with_work=with_work,
        deadlines=LONG_DEADLINES,
    ) as bot:
        if bot.sender is not None:
            sender = bot.sender
            await wait_until(lambda: sender.alive)

        async def recorded() -> bool:
            return "3600 s behind" in await status(database, clock)

        await wait_until(recorded)
        async with ClientSession() as session:
            async with session.get(f"{bot.url}/readyz?verbose") as answer:
                assert answer.status == 200
                details = (await answer.json())["details"]
                assert details == {"clock_drift_seconds": 3600.0, "clock_warning": ADVICE}
            async with session.get(f"{bot.url}/readyz") as answer:
                assert "details" not in await answer.json()
