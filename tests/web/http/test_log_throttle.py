from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from bot.simulator.clock import StoppedClock
from bot.web.http import log_throttle
from bot.web.http.log_throttle import LogThrottle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    stopped = StoppedClock()
    monkeypatch.setattr(log_throttle, "datetime", SimpleNamespace(now=lambda _: stopped.now()))
    return stopped


def test_each_kind_of_warning_is_logged_once_a_minute_with_its_count(clock: StoppedClock) -> None:
    throttle = LogThrottle()
    with capture_logs() as logged:
        for _ in range(3):
            throttle.log("bad signature", hint="check the key")
            throttle.log("bad token")
        clock.travel(timedelta(minutes=1))
        throttle.log("bad signature", hint="check the key")

    assert [(entry["event"], entry["count"]) for entry in logged] == [
        ("bad signature", 1),
        ("bad token", 1),
        ("bad signature", 3),
    ]
    assert logged[0]["hint"] == "check the key"
