"""The shortest way to a world as steps, and its replay with facts that were never merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.state import Conversation, PhoneLimits
from tests.proof.exhaustive import edges, facts
from tests.proof.exhaustive.facts import Side
from tests.proof.exhaustive.offers import Names, Offer, offers
from tests.proof.exhaustive.scopes import NOW, NUMBERS, PHONE, QUARTER
from tests.proof.exhaustive.search import World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from bot.conversation.app_events import EventType
    from bot.conversation.replies import Reply
    from bot.conversation.verification import Reason, RequestOutcome
    from tests.proof.exhaustive.edges import Edge
    from tests.proof.exhaustive.scopes import Scope
    from tests.proof.exhaustive.search import Search, Violation

_MARK = "#"
"""Separates the name of a token or verification from what makes it new."""


class Input(Struct, frozen=True):
    """An input at one of the two numbers, by its name."""

    side: int
    name: str


class Wait(Struct, frozen=True):
    """A number of quarters of an hour in which nothing happens."""

    quarters: int


Step = Input | Wait


class Reaction(Struct, frozen=True):
    """What a person and an app see of a decision, with times relative to it."""

    reply: Reply | None
    app_events: tuple[tuple[EventType, str | None, Reason | None], ...]
    answer: tuple[RequestOutcome, timedelta | None, int, bool] | None
    cancel: str

    @classmethod
    def of(cls, edge: Edge) -> Reaction:
        """Return the reaction of an edge, with the names that tokens have without their marks."""
        decision, answer = edge.decision, edge.decision.answer
        retry_in = answer.retry_at - edge.now if answer and answer.retry_at else None
        return cls(
            edge.reply,
            tuple(
                (each.type, each.verification and each.verification.split(_MARK)[0], each.reason)
                for each in decision.app_events
            ),
            (answer.outcome, retry_in, answer.tries_left, answer.counted) if answer else None,
            decision.cancel.name,
        )


class Way(Struct, frozen=True):
    """Steps to a world; `order` is which number of the bot has each of its sides."""

    steps: tuple[Step, ...]
    order: tuple[int, int]


def way_along(search: Search, path: Sequence[int]) -> Way:
    """Return the steps along worlds, each of which leads to the next one."""
    steps: list[Step] = []
    order = (0, 1)
    for world, following in pairwise(path):
        step, order = _step(search, world, following, order)
        steps.append(step)
    return Way(tuple(steps), order)


def _step(
    search: Search, world: int, following: int, order: tuple[int, int]
) -> tuple[Step, tuple[int, int]]:
    """Return a step between worlds, and which number each side of the second one belongs to.

    A world does not say which number its sides belong to: `order` does.
    """
    before, after = search.world(world), search.world(following)
    held = facts.held_by(before.sides[0]) | facts.held_by(before.sides[1])
    for index in range(search.scope.numbers):
        side, other = before.sides[index], before.sides[1 - index]
        for offer in search.offers(side):
            if offer.only_free in held:
                continue
            edge = edges.make(
                side,
                before.limits,
                before.web_limits,
                offer,
                now=NOW,
                scope=search.scope,
                keyring=search.keyring,
            )
            new = facts.merged_side(edge.after, edge.limits_after, NOW, search.scope)
            new_other = _followed(search, edge, other)
            limits = facts.merged_limits(edge.limits_after, NOW, search.scope)
            web_limits = facts.merged_limits(edge.web_limits_after, NOW, search.scope)
            if (limits, web_limits) != (after.limits, after.web_limits):
                continue
            for place in range(2):
                if (after.sides[place], after.sides[1 - place]) == (new, new_other):
                    owner, rest = order[index], order[1 - index]
                    return Input(owner, offer.name), (owner, rest) if place == 0 else (rest, owner)
    quarters = search.quarters(world)
    sides = [_later(search, side, before.limits, quarters) for side in before.sides]
    return Wait(quarters), order if tuple(sides) == after.sides else order[::-1]


def _followed(search: Search, edge: Edge, other: Side) -> Side:
    """Return the other side after an edge, as the search keeps it."""
    if search.scope.numbers == 1:
        return other
    followed = edges.follow(edge, other, search.keyring)
    if followed is None:
        new = facts.merged_person(edge.decision.person, NOW, search.scope)
        return replace(other, person=new)
    return facts.merged_side(followed.after, followed.decision.limits, NOW, search.scope)


def _later(search: Search, side: Side, limits: PhoneLimits, quarters: int) -> Side:
    return facts.merged_side(side, limits, facts.after(quarters), search.scope)


@dataclass
class Replay:
    """The two conversations of a phone with a clock that runs, and facts that are not merged."""

    scope: Scope
    now: datetime = NOW
    limits: PhoneLimits = field(default_factory=PhoneLimits)
    web_limits: PhoneLimits = field(default_factory=PhoneLimits)
    keyring: edges.RecordingKeyring = field(default_factory=edges.RecordingKeyring)
    sides: list[Side] = field(
        default_factory=lambda: [Side(Conversation(number, PHONE)) for number in NUMBERS]
    )
    inputs: int = 0

    def takes(self, step: Step) -> Reaction | None:
        """Take a step; return the reaction to an input."""
        if isinstance(step, Wait):
            self.now += step.quarters * QUARTER
            return None
        edge = self.edge(step.side, self.offers(step.side)[step.name])
        self.sides[step.side] = edge.after
        other = self._other_after(edge, step.side)
        if self.scope.numbers > 1:
            self.sides[1 - step.side] = other
        self.limits, self.web_limits = edge.limits_after, edge.web_limits_after
        self.inputs += 1
        return Reaction.of(edge)

    def offers(self, side: int) -> dict[str, Offer]:
        """Return the inputs that can be made at a number, by name."""
        found = offers(
            self._loaded(side),
            self.scope,
            self.keyring,
            now=self.now,
            names=Names(f"{_MARK}{self.inputs}"),
        )
        return {offer.name: offer for offer in found}

    def edge(self, side: int, offer: Offer) -> Edge:
        """Return an edge, without taking it."""
        return edges.make(
            self._loaded(side),
            self.limits,
            self.web_limits,
            offer,
            now=self.now,
            scope=self.scope,
            keyring=self.keyring,
        )

    def _loaded(self, index: int) -> Side:
        side = self.sides[index]
        conversation = facts.as_loaded(side.conversation, self.now)
        return replace(side, conversation=conversation)

    def _other_after(self, edge: Edge, side: int) -> Side:
        """Return the side of the other number after an edge at one."""
        other = self._loaded(1 - side)
        followed = edges.follow(edge, other, self.keyring)
        return followed.after if followed else replace(other, person=edge.decision.person)

    def seen(self, index: int) -> World:
        """Return the facts as the search keeps them; the first side is that of a number."""
        sides = self.sides[index], self.sides[1 - index]
        return self._seen(sides, self.limits, self.web_limits)

    def seen_after(self, edge: Edge, index: int) -> World:
        """Return the same as `seen`, after a decision."""
        other = self.sides[1 - index]
        if self.scope.numbers > 1:
            other = self._other_after(edge, index)
        return self._seen((edge.after, other), edge.limits_after, edge.web_limits_after)

    def _seen(
        self, sides: tuple[Side, Side], limits: PhoneLimits, web_limits: PhoneLimits
    ) -> World:
        first, second = (
            _unmarked(facts.merged_side(each, limits, self.now, self.scope)) for each in sides
        )
        return World(
            (first, second),
            facts.merged_limits(limits, self.now, self.scope),
            facts.merged_limits(web_limits, self.now, self.scope),
        )


def _unmarked(side: Side) -> Side:
    """Return a side with the names that the search uses."""
    conversation = side.conversation
    tokens = tuple(
        replace(
            token,
            id=token.id.split(_MARK)[0],
            verification=(token.verification or "").split(_MARK)[0],
        )
        for token in conversation.verification_tokens
    )
    return replace(side, conversation=replace(conversation, verification_tokens=tokens))


def described(scope: Scope, steps: Sequence[Step]) -> list[str]:
    """Replay steps; return a line for each, with the time, the reply and the app events."""
    replay = Replay(scope)
    lines = []
    for step in steps:
        at = f"{(replay.now - NOW) // QUARTER * 15:5} min"
        reaction = replay.takes(step)
        if isinstance(step, Wait):
            lines.append(f"{at}  {step.quarters * 15} minutes pass")
            continue
        seen = [] if reaction is None else _seen(reaction)
        lines.append(f"{at}  number {step.side + 1}: {step.name} -> {', '.join(seen) or 'nothing'}")
    return lines


def _seen(reaction: Reaction) -> list[str]:
    seen = [] if reaction.reply is None else [f"reply {reaction.reply}"]
    if reaction.answer is not None:
        seen.append(f"answer {reaction.answer[0]}")
    return seen + [
        " ".join(filter(None, (type_, name and f"of {name}", reason)))
        for type_, name, reason in reaction.app_events
    ]


def described_violation(search: Search, violation: Violation) -> str:
    """Return the invariant and the shortest way to the edge for which it is not true."""
    way = way_along(search, search.path_to(violation.world))
    last = Input(way.order[violation.side], violation.offer)
    steps = (*way.steps, last) if violation.offer else way.steps
    return "\n".join([f"Not true: {violation.invariant}", *described(search.scope, steps)])
