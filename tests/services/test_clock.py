from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.services import clock as clock_module
from bot.services.clock import SystemClock


class FixedDatetime(datetime):
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        del tz
        return cls.moment


@pytest.mark.parametrize("jump", [timedelta(days=-3), timedelta(days=3)])
def test_a_jump_of_the_wall_clock_does_not_change_the_time_for_decisions(
    monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr(FixedDatetime, "moment", before + jump)
    monkeypatch.setattr(clock_module, "datetime", FixedDatetime)
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=1)
    assert clock.wall() == before + jump


def test_time_is_in_utc_and_runs() -> None:
    clock = SystemClock()
    first = clock.now()
    assert first.tzinfo is UTC
    assert clock.now() >= first
