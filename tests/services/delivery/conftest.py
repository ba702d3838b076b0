from __future__ import annotations

import pytest

from bot.simulator.clock import StoppedClock


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()
