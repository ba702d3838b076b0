from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot.services.clock import SystemClock
from bot.simulator.telnyx.server import SimulatedTelnyx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import URL

    from tests.conftest import MakeDatabase


@pytest.fixture
async def telnyx() -> AsyncIterator[SimulatedTelnyx]:
    async with SimulatedTelnyx(SystemClock()).running() as telnyx:
        yield telnyx


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)
