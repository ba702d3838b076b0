"""Merged facts behave alike: two ways to the same state, replayed without merging anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proof.exhaustive.facts import held_by
from tests.proof.exhaustive.scopes import SCOPES, day_of
from tests.proof.exhaustive.search import Search, World
from tests.proof.exhaustive.traces import Reaction, Replay, way_along

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_EACH_RUN = ["own code, courtesy", "own code, two numbers", "app and reference", "everything"]
ONLY_IN_THE_SOAK = [name for name in SCOPES if name not in IN_EACH_RUN]
STATES = 3_000
WAYS = 6


@pytest.mark.parametrize(
    "name",
    [*IN_EACH_RUN, *(pytest.param(name, marks=pytest.mark.soak) for name in ONLY_IN_THE_SOAK)],
)
def test_two_ways_to_a_state_lead_to_facts_that_react_alike_to_every_input(name: str) -> None:
    scope = SCOPES[name]
    with day_of(scope):
        search = Search(scope, merge_interval=97)
        assert search.run(states=STATES).violation is None
        ways = search.merges[:: len(search.merges) // WAYS]
        assert len(ways) >= WAYS
        for before, world in ways:
            shortest = reactions_after(search, search.path_to(world))
            another = reactions_after(search, [*search.path_to(before), world])
            assert shortest == another


def reactions_after(search: Search, path: Sequence[int]) -> list[object]:
    """Replay a way; return the reactions to every input after it, and what each leads to."""
    way, world = way_along(search, path), search.world(path[-1])
    replay = Replay(search.scope)
    for step in way.steps:
        replay.takes(step)
    reactions: list[object] = []
    for index in range(search.scope.numbers):
        number = way.order[index]
        expected = World(
            (world.sides[index], world.sides[1 - index]), world.limits, world.web_limits
        )
        assert replay.seen(number) == expected
        reactions += reactions_at(replay, number)
    # If both sides are equal, the order of the two numbers is not known.
    return sorted(reactions, key=repr)


def reactions_at(replay: Replay, number: int) -> list[object]:
    reactions: list[object] = []
    sides = replay.seen(number).sides
    held = held_by(sides[0]) | held_by(sides[1])
    for name, offer in replay.offers(number).items():
        if offer.only_free in held:
            continue
        edge = replay.edge(number, offer)
        after = replay.seen_after(edge, number)
        reactions.append((name, Reaction.of(edge), after))
    return reactions
