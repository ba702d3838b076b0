from __future__ import annotations

from datetime import timedelta

import pytest

from bot.web.http.retry_after import retry_after


@pytest.mark.parametrize(
    ("seconds", "header"), [(-1.0, "1"), (0.0, "1"), (0.001, "1"), (1.001, "2"), (3600.0, "3600")]
)
def test_a_wait_is_rounded_up_to_whole_seconds_and_at_least_one(
    seconds: float, header: str
) -> None:
    assert retry_after(timedelta(seconds=seconds)) == {"Retry-After": header}
