"""The breadth-first search over all combinations of facts.

A world is two sides (the conversations with the two numbers), the phone's limits by text, and its
limits by apps. All four are interned as small numbers, and what an input does to them is decided
once for each combination that it depends on:

- a text depends on its own side and on the limits by text;
- a request of an app depends on its own side, on the limits by apps, and on whether the person is
  locked or has refused codes;
- of all these it depends only on the core: for each moment, only on whether it has passed. Where
  NOT ME can be texted, nothing is left out: it compares moments with each other;
- what holds for the person is part of both sides. An input that changes it is followed at the other
  side, by the rules (`edges.follow`).

`invariants.apps_and_texts_have_their_own_limits` checks the first two, and the replays check all
three, since they decide with all facts. Only the clock moves everything at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.inputs import NotMeElsewhere, TimePassed
from bot.conversation.state import NOTHING_USED, Conversation, PhoneLimits
from bot.conversation.verification import Origin
from tests.proof.exhaustive import edges, facts, invariants
from tests.proof.exhaustive.facts import Side
from tests.proof.exhaustive.offers import Offer, elsewhere, offers
from tests.proof.exhaustive.scopes import LONG_AGO, NOW, NUMBERS, PHONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bot.conversation.inputs import Input
    from bot.conversation.person import Person
    from tests.proof.exhaustive.edges import Edge
    from tests.proof.exhaustive.scopes import Scope

_BITS = 24
_MASK = (1 << _BITS) - 1
_PROGRESS_INTERVAL = 2.0
_CHECK_EVERY = 64

T = TypeVar("T")


class World(Struct, frozen=True):
    """The facts of one moment; with one number of the bot, the second side stays as it is."""

    sides: tuple[Side, Side]
    limits: PhoneLimits
    web_limits: PhoneLimits


class Violation(Struct, frozen=True):
    """An invariant that is not true, and where: the world before it, and the input, if any."""

    invariant: str
    world: int
    side: int
    offer: str


class Results(Struct):
    """The figures of a search.

    `edges` are all inputs and waits; those that change nothing are not in `merged`, which counts
    the ones that led to a state already known. `decided` are the inputs that `bot.conversation`
    decided; all others equal one of them. `left` are the states not expanded because of a bound.
    """

    scope: str
    states: int = 0
    edges: int = 0
    depth: int = 0
    merged: int = 0
    decided: int = 0
    left: int = 0
    seconds: float = 0.0
    violation: Violation | None = None

    def __str__(self) -> str:
        end = f"cut at depth {self.depth}, {self.left:,} states left" if self.left else "exhausted"
        if self.violation is not None:
            end = "an invariant is not true"
        return (
            f"{self.scope}: {self.states:,} states, {self.edges:,} edges (of them {self.merged:,}"
            f" to a state that was known), depth {self.depth}, {self.decided:,} decisions,"
            f" {self.seconds:.1f} s: {end}"
        )


class _Interned(Generic[T]):
    """Values, each with a small number."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        known = self._numbers.get(value)
        if known is None:
            known = self._numbers[value] = len(self.values)
            if known > _MASK:
                raise OverflowError("too many different values: raise _BITS")
            self.values.append(value)
        return known


_Move = tuple[int, int, int]
"""A side, limits, and the index of what follows at the other side."""
_FOLLOWING: tuple[Input | None, ...] = (None, TimePassed(), NotMeElsewhere())


class _Moves(Struct, frozen=True):
    """What the inputs at one side lead to: a side, limits, and what follows at the other side.

    `if_free` are the results of the input that begins a verification, which is possible only while
    no other side has it.
    """

    always: tuple[_Move, ...]
    if_free: tuple[_Move, ...]
    count: int
    count_if_free: int


class Search:
    """A search in one scope.

    `parents` has each world found, and the world that led to it; `merges` has a sample of the other
    ways to a world, as the world that led to it and itself: one of each `merge_interval`.
    """

    def __init__(
        self,
        scope: Scope,
        progress: Callable[[str], None] = lambda _: None,
        *,
        merge_interval: int = 0,
    ) -> None:
        self.scope = scope
        self.keyring = edges.RecordingKeyring()
        self.parents: dict[int, int] = {}
        self.merges: list[tuple[int, int]] = []
        self.results = Results(scope.name)
        self._progress = progress
        self._sides: _Interned[Side] = _Interned()
        self._limits: _Interned[PhoneLimits] = _Interned()
        self._locks_of: dict[int, int] = {}
        self._texts: dict[int, _Moves] = {}
        self._requests: dict[int, _Moves] = {}
        self._decided_texts: dict[tuple[int, int], _Moves] = {}
        self._decided_requests: dict[tuple[int, int, int], _Moves] = {}
        self._core_sides: dict[int, int] = {}
        self._restored_sides: dict[int, int] = {}
        self._limits_restored: dict[int, int] = {}
        self._core_limits: dict[int, int] = {}
        self._side_moments: dict[int, int] = {}
        self._limits_moments: dict[int, int] = {}
        self._later_sides: dict[tuple[int, int, bool], int] = {}
        self._later_limits: dict[tuple[int, int], int] = {}
        self._holds: dict[int, tuple[bool, bool]] = {}
        self._people: _Interned[Person] = _Interned()
        self._followed_sides: dict[tuple[int, int, int, int], int] = {}
        self._expanding = 0
        self._has_requests = scope.app or scope.reference
        self._merge_interval = merge_interval

    def run(
        self, *, depth: int | None = None, states: int | None = None, seconds: float | None = None
    ) -> Results:
        """Search until everything was seen or a bound is reached; return the figures."""
        results, started = self.results, time.monotonic()
        shown = started
        start = self._start()
        self.parents = {start: start}
        frontier = [start]
        try:
            while frontier and (depth is None or results.depth < depth):
                found: list[int] = []
                for done, world in enumerate(frontier):
                    self._expand(world, found)
                    if done % _CHECK_EVERY:
                        continue
                    now = time.monotonic()
                    if now - shown > _PROGRESS_INTERVAL:
                        shown = now
                        self._show(now - started)
                    late = seconds is not None and now - started > seconds
                    if late or (states is not None and len(self.parents) > states):
                        results.left = len(frontier) - done - 1 + len(found)
                        return results
                frontier = found
                results.depth += bool(found)
            results.left = len(frontier)
        except _ViolationError as error:
            results.violation = error.violation
        finally:
            results.states = len(self.parents)
            results.seconds = time.monotonic() - started
        return results

    def _show(self, seconds: float) -> None:
        results = self.results
        self._progress(
            f"{results.scope}: depth {results.depth}, {len(self.parents):,} states,"
            f" {results.edges:,} edges, {results.decided:,} decisions,"
            f" {len(self.parents) / seconds:,.0f} states/s"
        )

    def _start(self) -> int:
        first, second = (
            self._sides.number(Side(Conversation(NUMBERS[0], PHONE))) for _ in range(2)
        )
        nothing = facts.merged_limits(NOTHING_USED, NOW, self.scope)
        limits = self._limits.number(nothing)
        return self._packed(first, second, limits, limits)

    def _packed(self, first: int, second: int, limits: int, web_limits: int) -> int:
        if first > second and self.scope.numbers > 1:
            first, second = second, first
        return ((first << _BITS | second) << _BITS | limits) << _BITS | web_limits

    def world(self, packed: int) -> World:
        """Return the facts of a world."""
        first, second, limits, web_limits = _unpacked(packed)
        sides = self._sides.values
        return World(
            (sides[first], sides[second]),
            self._limits.values[limits],
            self._limits.values[web_limits],
        )

    def _expand(self, world: int, found: list[int]) -> None:
        """Make all inputs in a world, and let the time pass to the next moment."""
        self._expanding = world
        first, second, limits, web = _unpacked(world)
        self._expand_side(0, (first, second, limits, web), found)
        if self.scope.numbers > 1 and second != first:
            self._expand_side(1, (second, first, limits, web), found)
        later = self.later(world)
        if later is not None:
            self.results.edges += 1
            self._add(later, found)

    def _add(self, world: int, found: list[int]) -> None:
        if world not in self.parents:
            self.parents[world] = self._expanding
            found.append(world)
            return
        self.results.merged += 1
        if self._merge_interval and not self.results.merged % self._merge_interval:
            self.merges.append((self._expanding, world))

    def _expand_side(self, index: int, parts: tuple[int, int, int, int], found: list[int]) -> None:
        side, other, limits, web = parts
        app_free, reference_free = self._free(side, other)
        texts = self._moves_by_text(index, side, limits)
        moves, count = texts.always, texts.count
        if reference_free:
            moves, count = moves + texts.if_free, count + texts.count_if_free
        for new_side, new_limits, following in moves:
            new_other = self._followed(index, (new_side, other, new_limits, web), following)
            self._add(self._packed(new_side, new_other, new_limits, web), found)
        if self._has_requests:
            requests = self._moves_by_app(index, side, limits, web)
            moves, count = requests.always, count + requests.count
            if app_free:
                moves, count = moves + requests.if_free, count + requests.count_if_free
            for new_side, new_web, following in moves:
                new_other = self._followed(index, (new_side, other, limits, new_web), following)
                self._add(self._packed(new_side, new_other, limits, new_web), found)
        self.results.edges += count

    def _followed(self, index: int, parts: tuple[int, int, int, int], following: int) -> int:
        """Return the other side after an input here: it has the same person, and may follow."""
        side, other, limits, web = parts
        if self.scope.numbers == 1:
            return other
        person = self._sides.values[side].person
        if not following:
            if self._sides.values[other].person == person:
                return other
            return self._sides.number(replace(self._sides.values[other], person=person))
        key = (other, self._people.number(person), limits, following)
        known = self._followed_sides.get(key)
        if known is None:
            informed = replace(self._sides.values[other], person=person)
            incoming = _FOLLOWING[following]
            if incoming is None:
                raise AssertionError("nothing follows")
            edge = edges.make(
                informed,
                self._limits.values[limits],
                self._limits.values[web],
                elsewhere(incoming, informed),
                now=NOW,
                scope=self.scope,
                keyring=self.keyring,
            )
            # Without the input here, which is not known any longer.
            self._check(index, edge, "")
            merged = facts.merged_side(edge.after, edge.decision.limits, NOW, self.scope)
            known = self._followed_sides[key] = self._sides.number(merged)
        return known

    def _free(self, side: int, other: int) -> tuple[bool, bool]:
        """Return whether the app's verification, and the reference's, may begin."""
        if not self._has_requests:
            return False, False
        here, there = self._holds_of(side), self._holds_of(other)
        return not (here[0] or there[0]), not (here[1] or there[1])

    def _holds_of(self, side: int) -> tuple[bool, bool]:
        """Return whether a side holds the app's verification, and the reference's."""
        known = self._holds.get(side)
        if known is None:
            tokens = self._sides.values[side].conversation.verification_tokens
            origins = {token.origin for token in tokens}
            known = self._holds[side] = (Origin.APP in origins, Origin.REFERENCE in origins)
        return known

    def _moves_by_text(self, index: int, side: int, limits: int) -> _Moves:
        key = side << _BITS | limits
        moves = self._texts.get(key)
        if moves is None:
            core, core_limits = self._core_of_side(side), self._core_of_limits(limits)
            decided = self._decided_texts.get((core, core_limits))
            if decided is None:
                self._check_end(index, core, core_limits)
                nothing = self._limits.values[0]
                decided = self._decided_texts[core, core_limits] = self._decide(
                    index, core, self._limits.values[core_limits], nothing, by_app=False
                )
            moves = self._texts[key] = self._restored(decided, side, limits, core_limits)
        return moves

    def _moves_by_app(self, index: int, side: int, limits: int, web: int) -> _Moves:
        locks = self._locks_of.get(limits)
        if locks is None:
            locks_of = facts.locks_of(self._limits.values[limits], self.scope)
            locks = self._locks_of[limits] = self._limits.number(locks_of)
        key = (side << _BITS | locks) << _BITS | web
        moves = self._requests.get(key)
        if moves is None:
            core, core_web = self._core_of_side(side), self._core_of_limits(web)
            decided = self._decided_requests.get((core, locks, core_web))
            if decided is None:
                values = self._limits.values
                decided = self._decided_requests[core, locks, core_web] = self._decide(
                    index, core, values[locks], values[core_web], by_app=True
                )
            moves = self._requests[key] = self._restored(decided, side, web, core_web)
        return moves

    def _core_of_side(self, side: int) -> int:
        if self.scope.not_me:
            return side
        core = self._core_sides.get(side)
        if core is None:
            core_side = facts.core_of_side(self._sides.values[side])
            core = self._core_sides[side] = self._sides.number(core_side)
        return core

    def _core_of_limits(self, limits: int) -> int:
        core = self._core_limits.get(limits)
        if core is None:
            before = self._limits.values[limits]
            if not invariants.the_windows_are_free_when_counted(before, self.scope):
                self._violated(invariants.the_windows_are_free_when_counted, 0, "")
            core_limits = before
            if not self.scope.not_me:
                core_limits = facts.core_of_limits(before, self.scope)
            core = self._core_limits[limits] = self._limits.number(core_limits)
        return core

    def _decide(
        self, index: int, side: int, limits: PhoneLimits, web_limits: PhoneLimits, *, by_app: bool
    ) -> _Moves:
        """Decide all inputs of one kind at one side."""
        before = self._sides.values[side]
        held = facts.held_by(before)
        always: dict[_Move, None] = {}
        if_free: dict[_Move, None] = {}
        counts = [0, 0]
        for offer in self.offers(before):
            if offer.by_app is not by_app or offer.only_free in held:
                continue
            edge = edges.make(
                before,
                limits,
                web_limits,
                offer,
                now=NOW,
                scope=self.scope,
                keyring=self.keyring,
            )
            self._check(index, edge)
            counts[bool(offer.only_free)] += 1
            merged = facts.merged_side(edge.after, edge.limits_after, NOW, self.scope)
            changed = edge.web_limits_after if by_app else edge.limits_after
            following = _FOLLOWING.index(edge.decision.elsewhere)
            result = self._sides.number(merged), self._limits.number(changed), following
            (if_free if offer.only_free else always)[result] = None
        self.results.decided += sum(counts)
        return _Moves(tuple(always), tuple(if_free), *counts)

    def _restored(self, decided: _Moves, side: int, limits: int, core_limits: int) -> _Moves:
        """Return the moves from a side and limits, by the decisions on their cores."""

        def moves(results: tuple[_Move, ...]) -> tuple[_Move, ...]:
            found: dict[_Move, None] = {}
            for new, changed, following in results:
                new_limits = self._restored_limits(changed, core_limits, limits)
                found[self._restored_side(new, side), new_limits, following] = None
            found.pop((side, limits, 0), None)
            return tuple(found)

        return _Moves(
            moves(decided.always), moves(decided.if_free), decided.count, decided.count_if_free
        )

    def _restored_side(self, decided: int, original: int) -> int:
        if self.scope.not_me:
            return decided
        key = decided << _BITS | original
        restored = self._restored_sides.get(key)
        if restored is None:
            values = self._sides.values
            side = facts.restored_side(values[decided], values[original])
            restored = self._restored_sides[key] = self._sides.number(side)
        return restored

    def _restored_limits(self, decided: int, core: int, original: int) -> int:
        if self.scope.not_me:
            limits = facts.merged_limits(self._limits.values[decided], NOW, self.scope)
            return self._limits.number(limits)
        key = decided << _BITS | original
        restored = self._limits_restored.get(key)
        if restored is None:
            values, scope = self._limits.values, self.scope
            limits = facts.restored_limits(values[decided], values[core], values[original], scope)
            merged = facts.merged_limits(limits, NOW, scope)
            restored = self._limits_restored[key] = self._limits.number(merged)
        return restored

    def offers(self, side: Side) -> Iterator[Offer]:
        """Return the inputs that can be made at one side."""
        return offers(side, self.scope, self.keyring)

    def _check(self, index: int, edge: Edge, offer: str | None = None) -> None:
        for invariant in invariants.INVARIANTS:
            if not invariant(edge):
                self._violated(invariant, index, edge.offer.name if offer is None else offer)

    def _check_end(self, index: int, side: int, limits: int) -> None:
        check = invariants.every_pending_verification_ends
        before = self._sides.values[side]
        if not check(before, self._limits.values[limits], self.scope, self.keyring):
            self._violated(check, index, "time passes")

    def _violated(self, invariant: Callable[..., bool], index: int, offer: str) -> None:
        sentence = (invariant.__doc__ or invariant.__name__).strip()
        raise _ViolationError(Violation(sentence, self._expanding, index, offer))

    def later(self, world: int) -> int | None:
        """Return the world at the next moment that matters, or None if there is none."""
        first, second, limits, web = _unpacked(world)
        quarters = self.quarters(world)
        if not quarters:
            return None
        locked = self._limits.values[limits].locked_until != LONG_AGO
        return self._packed(
            self._later_side(first, quarters, locked, limits),
            self._later_side(second, quarters, locked, limits),
            self._limits_later(limits, quarters),
            self._limits_later(web, quarters),
        )

    def quarters(self, world: int) -> int:
        """Return how many quarters of an hour it is until the next moment that matters."""
        first, second, limits, web = _unpacked(world)
        moments = (
            self._moment_of_side(first),
            self._moment_of_side(second),
            self._moment_of_limits(limits),
            self._moment_of_limits(web),
        )
        return min(filter(None, moments), default=0)

    def _moment_of_side(self, side: int) -> int:
        moment = self._side_moments.get(side)
        if moment is None:
            found = facts.moments_of_side(self._sides.values[side])
            moment = self._side_moments[side] = facts.next_moment(found)
        return moment

    def _moment_of_limits(self, limits: int) -> int:
        moment = self._limits_moments.get(limits)
        if moment is None:
            found = facts.moments_of_limits(self._limits.values[limits], self.scope)
            moment = self._limits_moments[limits] = facts.next_moment(found)
        return moment

    def _later_side(self, side: int, quarters: int, locked: bool, limits: int) -> int:  # noqa: FBT001
        key = side, quarters, locked
        later = self._later_sides.get(key)
        if later is None:
            at = facts.after(quarters)
            merged = facts.merged_side(
                self._sides.values[side], self._limits.values[limits], at, self.scope
            )
            later = self._later_sides[key] = self._sides.number(merged)
        return later

    def _limits_later(self, limits: int, quarters: int) -> int:
        key = limits, quarters
        later = self._later_limits.get(key)
        if later is None:
            at = facts.after(quarters)
            merged = facts.merged_limits(self._limits.values[limits], at, self.scope)
            later = self._later_limits[key] = self._limits.number(merged)
        return later

    def path_to(self, world: int) -> list[int]:
        """Return the worlds on the shortest way to a world, from the first one."""
        path = [world]
        while self.parents[path[-1]] != path[-1]:
            path.append(self.parents[path[-1]])
        return path[::-1]


class _ViolationError(Exception):
    """An edge for which an invariant is not true."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.invariant)
        self.violation = violation


def _unpacked(world: int) -> tuple[int, int, int, int]:
    limits = world >> _BITS
    second = limits >> _BITS
    return second >> _BITS, second & _MASK, limits & _MASK, world & _MASK
