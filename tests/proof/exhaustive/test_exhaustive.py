"""The exhaustive check, in scopes that can be exhausted and up to a depth in the whole space."""

from __future__ import annotations

import pytest

from bot.conversation import decision
from tests.proof.exhaustive.scopes import SCOPES, day_of
from tests.proof.exhaustive.search import Results, Search
from tests.proof.exhaustive.traces import described_violation

EVERYTHING = "everything"
MANY_STATES = ["own code, a real day", "app, two numbers", "own code, not me, two numbers"]
MANY_STATES += ["own code, not me", "app, not me"]
STATES = 10_000_000
"""They need 1.5 GB."""


@pytest.mark.parametrize(
    "name",
    ["own code, courtesy", "own code, old texts", "own code, two numbers", "app", "reference"],
)
def test_every_reachable_state_keeps_the_invariants(name: str) -> None:
    assert searched(name).left == 0


def test_everything_up_to_a_depth_keeps_the_invariants() -> None:
    assert searched(EVERYTHING, depth=4).depth == 4


@pytest.mark.parametrize(
    ("name", "depth"),
    [("own code, not me", 6), ("own code, not me, two numbers", 4), ("app, not me", 4)],
)
def test_not_me_up_to_a_depth_keeps_the_invariants(name: str, depth: int) -> None:
    assert searched(name, depth=depth).depth == depth


@pytest.mark.soak
@pytest.mark.parametrize("name", ["app and reference", "app, old texts", "reference, two numbers"])
def test_every_reachable_state_of_a_larger_scope_keeps_the_invariants(name: str) -> None:
    assert searched(name).left == 0


@pytest.mark.soak
@pytest.mark.parametrize("name", [*MANY_STATES, EVERYTHING])
def test_as_many_states_as_fit_in_memory_keep_the_invariants(name: str) -> None:
    results = searched(name, states=STATES)
    assert results.states > STATES or results.left == 0


def searched(name: str, *, depth: int | None = None, states: int | None = None) -> Results:
    """Search a scope, print the figures, and fail with the shortest way to a violation."""
    scope = SCOPES[name]
    with day_of(scope):
        search = Search(scope)
        results = search.run(depth=depth, states=states)
        if results.violation is not None:
            pytest.fail(described_violation(search, results.violation), pytrace=False)
    print(results)  # noqa: T201 - the figures are the result
    return results


def test_a_fault_in_the_rules_is_found_with_the_shortest_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decision, "_input_elsewhere", lambda *_: None)
    with pytest.raises(pytest.fail.Exception) as failure:
        searched("own code, two numbers")
    sentence = (
        "A change of what holds at all numbers is followed at the others; what follows ends there."
    )
    assert str(failure.value).splitlines() == [
        f"Not true: {sentence}",
        "    0 min  number 1: STOP -> reply stopped, number.opted_out",
    ]
