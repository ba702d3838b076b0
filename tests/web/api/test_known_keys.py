from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bot.simulator.clock import StoppedClock
from bot.store import api_keys
from bot.store.engine.errors import UnavailableError
from bot.web.api import known_keys
from bot.web.api.known_keys import KnownKeys
from tests.kit.apps import make_key
from tests.kit.loop_time import advance

if TYPE_CHECKING:
    from bot.store.engine.database import Database

INTERVAL = 3600.0
"""Seconds between readings here: a busy machine may stall for more than one."""
UNKNOWN = ("0" * 12, "a" * 64)

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


async def new_key(database: Database) -> tuple[str, str]:
    parts = api_keys.split(await make_key(database, StoppedClock()))
    assert parts is not None
    return parts


class Readings:
    """Counts the readings of a database; `fault` is raised until removed."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fault: Exception | None = None
        self._read = database.read
        monkeypatch.setattr(database, "read", self._counted)

    async def _counted(self, *work: Any) -> Any:
        self.count += 1
        if self.fault is not None:
            raise self.fault
        return await self._read(*work)


async def test_a_key_that_another_process_created_is_known_within_a_second(
    database: Database,
) -> None:
    keys, first = KnownKeys(database, INTERVAL), await new_key(database)
    assert await keys.include(*first)
    second = await new_key(database)
    assert not await keys.include(*second)
    advance(INTERVAL)
    assert await keys.include(*second)
    assert await keys.include(*first)


async def test_a_wrong_secret_and_a_revoked_key_are_unknown(database: Database) -> None:
    (right, _), revoked = await new_key(database), await new_key(database)
    await database.write(api_keys.revoke, revoked[0], StoppedClock().now())
    keys = KnownKeys(database, INTERVAL)
    assert not await keys.include(right, "a" * 64)
    assert not await keys.include(*revoked)


async def test_a_key_that_was_forgotten_is_unknown(database: Database) -> None:
    keys, key = KnownKeys(database, INTERVAL), await new_key(database)
    assert await keys.include(*key)
    keys.forget(key[0])
    keys.forget(key[0])
    assert not await keys.include(*key)


@on_sqlite
async def test_the_keys_are_read_once_a_second_however_many_unknown_ones_are_used(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, key = KnownKeys(database, INTERVAL), await new_key(database)
    readings = Readings(database, monkeypatch)
    for second in range(1, 4):
        found = await asyncio.gather(*(keys.include(*UNKNOWN) for _ in range(200)))
        assert not any(found)
        assert await keys.include(*key)
        assert readings.count == second
        advance(INTERVAL)


@on_sqlite
async def test_a_request_that_ends_early_does_not_end_the_reading_for_others(
    database: Database,
) -> None:
    keys, key = KnownKeys(database, INTERVAL), await new_key(database)
    first, second = (asyncio.create_task(keys.include(*key)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first


@on_sqlite
async def test_while_the_keys_cannot_be_read_it_is_unknown_which_exist(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, key = KnownKeys(database, INTERVAL), await new_key(database)
    readings = Readings(database, monkeypatch)
    readings.fault = UnavailableError("gone for the test")
    assert not await keys.include(*key)
    with pytest.raises(UnavailableError):
        keys.check_current()
    readings.fault = None
    advance(INTERVAL)
    assert await keys.include(*key)
    keys.check_current()
    readings.fault = UnavailableError("gone for the test")
    advance(INTERVAL)
    assert await keys.include(*key)
    assert not await keys.include(*UNKNOWN)
    with pytest.raises(UnavailableError):
        keys.check_current()


@on_sqlite
async def test_a_reading_that_fails_now_and_then_leaves_the_refusals_as_they_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MAX_AGE", INTERVAL)
    keys, readings = KnownKeys(database, 0.0), Readings(database, monkeypatch)
    assert not await keys.include(*UNKNOWN)
    readings.fault = UnavailableError("gone for the test")
    assert not await keys.include(*UNKNOWN)
    assert readings.count == 2
    keys.check_current()
    advance(INTERVAL)
    with pytest.raises(UnavailableError):
        keys.check_current()


@on_sqlite
async def test_without_strangers_old_keys_are_still_current(database: Database) -> None:
    keys = KnownKeys(database, INTERVAL)
    await keys.refresh()
    advance(INTERVAL / 2)
    assert not await keys.include(*UNKNOWN)
    keys.check_current()
