from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from bot.conversation.verification import RequestOutcome
from bot.simulator.clock import NOON
from bot.web.api import problems
from bot.web.api.problems import DETAILS


def test_every_refusal_has_a_meaning() -> None:
    assert set(RequestOutcome) - DETAILS.keys() == {
        RequestOutcome.DONE,
        RequestOutcome.RIGHT,
        RequestOutcome.WRONG,
    }


@pytest.mark.parametrize(
    ("ahead", "wait"), [(-1.0, "1"), (0.0, "1"), (0.001, "1"), (1.001, "2"), (3600.0, "3600")]
)
def test_a_wait_is_told_in_whole_seconds(ahead: float, wait: str) -> None:
    problem = problems.retry_later(
        RequestOutcome.LOCKED, NOON + timedelta(seconds=ahead), NOON, usually=30
    )
    assert problem.headers == {"Retry-After": wait}


def test_many_mistakes_and_long_names_are_told_in_part() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    with pytest.raises(ValidationError) as raised:
        Strict.model_validate({f"{number:>02}" + "x" * 1000: 1 for number in range(50)})
    view = problems.for_validation(raised.value).view
    assert view.errors is not None
    assert len(view.errors) == 20
    assert {len(wrong.field) for wrong in view.errors} == {64}
    assert {wrong.reason for wrong in view.errors} == {"is not known here"}
