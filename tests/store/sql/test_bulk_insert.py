"""Inserts of many rows: SQLite is given several rows in a statement, and one by one the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from bot.conversation.state import PhoneLimits
from bot.store import phone_limits
from bot.store.tables import PhoneLimitsRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.store.engine.database import Database

LIMITS = PhoneLimitsRow.__table__


def guesses_by_phone(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(LIMITS.c.phone, LIMITS.c.wrong_guesses))
    return dict(map(tuple, rows))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 33, 200])
async def test_every_row_is_inserted_and_then_updated_with_its_own_values(
    database: Database, count: int
) -> None:
    for first in (0, 1000):
        expected = {f"+1312555{number:04}": first + number for number in range(count)}
        limits = {phone: PhoneLimits(guesses) for phone, guesses in expected.items()}
        await database.write(phone_limits.save, limits)
        assert await database.read(guesses_by_phone) == expected
