from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from bot.simulator.clock import NOON
from bot.store.tables import PhoneLimitsRow, ProcessedWebhookRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.store.engine.database import Database

PROCESSED_WEBHOOKS, PHONE_LIMITS = ProcessedWebhookRow.__table__, PhoneLimitsRow.__table__
NOON_IN_TOKYO = NOON.astimezone(timezone(timedelta(hours=9)))


def insert_time(connection: Connection, time: datetime) -> None:
    connection.execute(insert(PROCESSED_WEBHOOKS).values(key="message:1", processed_at=time))


async def test_a_time_is_stored_and_read_in_utc(database: Database) -> None:
    await database.write(insert_time, NOON_IN_TOKYO)
    stored = await database.read(lambda c: c.scalar(select(PROCESSED_WEBHOOKS.c.processed_at)))
    assert isinstance(stored, datetime)
    assert stored == NOON
    assert stored.tzinfo is UTC


async def test_a_naive_time_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"):
        await database.write(insert_time, NOON.replace(tzinfo=None))


async def test_a_list_of_times_is_stored_in_its_order(database: Database) -> None:
    times = (NOON, NOON - timedelta(hours=1))

    def insert_times(connection: Connection) -> None:
        connection.execute(insert(PHONE_LIMITS).values(phone="+13125550001", code_times=times))

    await database.write(insert_times)
    assert await database.read(lambda c: c.scalar(select(PHONE_LIMITS.c.code_times))) == times
