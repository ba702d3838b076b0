from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bot import app
from bot.simulator.clock import StoppedClock
from tests.kit.settings import settings_for

if TYPE_CHECKING:
    from sqlalchemy import URL

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


@on_sqlite
async def test_an_error_of_the_block_is_raised_as_it_is(database_url: URL) -> None:
    error = LookupError("of the block")
    with pytest.raises(LookupError) as raised:
        async with app.run_bot(
            settings_for(database_url), StoppedClock(), with_web=True, with_work=True, warm=False
        ):
            raise error
    assert raised.value is error


@on_sqlite
async def test_nothing_runs_after_the_block(database_url: URL) -> None:
    async with app.run_bot(
        settings_for(database_url), StoppedClock(), with_web=True, with_work=True, warm=False
    ):
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert {"clock monitor", "expirer", "inbox", "janitor", "sender"} <= names
    assert asyncio.all_tasks() == {asyncio.current_task()}
