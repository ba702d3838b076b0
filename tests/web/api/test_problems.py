from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from bot.conversation.verification import RequestOutcome
from bot.simulator.clock import NOON
from bot.web.api import problems
from bot.web.api.problems import DETAILS


def test_every_refusal_has_a_detail() -> None:
    assert set(RequestOutcome) - DETAILS.keys() == {
        RequestOutcome.DONE,
        RequestOutcome.RIGHT,
        RequestOutcome.WRONG,
    }


@pytest.mark.parametrize(("wait", "header"), [(timedelta(seconds=7), "7"), (None, "30")])
def test_a_problem_of_too_many_requests_says_when_to_retry(
    wait: timedelta | None, header: str
) -> None:
    retry_at = NOON + wait if wait else None
    problem = problems.retry_later(RequestOutcome.LOCKED, retry_at, NOON, default=30)
    assert problem.headers == {"Retry-After": header}


def test_many_errors_and_long_names_are_cut() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

    with pytest.raises(ValidationError) as raised:
        Strict.model_validate({f"{number:>02}" + "x" * 1000: 1 for number in range(50)})
    view = problems.for_validation(raised.value).view
    assert view.errors is not None
    assert len(view.errors) == 20
    assert {len(wrong.field) for wrong in view.errors} == {64}
    assert {wrong.reason for wrong in view.errors} == {"is not a known field"}
