"""Write docs/conversation.md: the rules of the state machine, its diagram and its whole table.

Everything is taken from bot/conversation/transitions.py. Run this script after a change there:
python docs/write_states.py
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from bot.conversation import transitions
from bot.conversation.state import State
from bot.conversation.transitions import IGNORED, TRANSITIONS, Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.conversation.transitions import Transition

PAGE = Path(__file__).with_name("conversation.md")

_INTRODUCTION = """\
# The states of a conversation

This page is generated from `bot/conversation/transitions.py`, the only place where states change,
by `python docs/write_states.py`.
"""
_DIAGRAM_NOTE = "Transitions that stay in a state are left out of the diagram; the table has all."
_TABLE_NOTE = """\
A reason is why the verifications fail whose codes end. A verification whose code has run out of
time expires; it does not fail.
"""
_IGNORED_NOTE = """\
These pairs are ignored: nothing is changed or sent. A pair that is neither here
nor in the table cannot occur; if it does, the input is refused and logged as an error.
"""
_COLUMNS = ("Event", "State", "Next state", "Actions", "Reply", "Answer to the app")


def page() -> str:
    """Return the whole page."""
    parts = [
        _INTRODUCTION,
        inspect.cleandoc(transitions.__doc__ or ""),
        "## The diagram",
        f"{_DIAGRAM_NOTE}\n\n```mermaid\n{mermaid()}\n```",
        "## The table",
        f"{_TABLE_NOTE}\n{table()}",
        "## What is ignored",
        f"{_IGNORED_NOTE}\n{ignored()}",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def mermaid() -> str:
    """Return every transition that changes the state, in Mermaid's notation."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, event), transition in TRANSITIONS.items():
        if transition.to is not state:
            edges.setdefault((state, transition.to), []).append(event.value)
    lines = [f"    {old} --> {new}: {'<br/>'.join(labels)}" for (old, new), labels in edges.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.IDLE}", *lines])


def table() -> str:
    """Return all transitions as a table; events and states with the same ones share a row."""
    rows: dict[tuple[str, ...], list[State]] = {}
    for (state, event), transition in TRANSITIONS.items():
        rows.setdefault((event, *_cells(state, event, transition)), []).append(state)
    events: dict[tuple[str, ...], list[str]] = {}
    for (event_name, *cells), states in rows.items():
        events.setdefault((_names(states), *cells), []).append(event_name)
    lines = [_line(["; ".join(names), *cells]) for cells, names in events.items()]
    return "\n".join([_line(_COLUMNS), _line(["---"] * len(_COLUMNS)), *lines])


def ignored() -> str:
    """Return the ignored pairs as a list, by their states."""
    by_states: dict[tuple[State, ...], list[str]] = {}
    for event in Event:
        states = tuple(state for state in State if (state, event) in IGNORED)
        if states:
            by_states.setdefault(states, []).append(event.value)
    ordered = sorted(by_states.items(), key=lambda item: -len(item[0]))
    return "\n".join(
        f"- {'always' if len(states) == len(State) else 'in ' + _names(states)}:"
        f" {'; '.join(events)}"
        for states, events in ordered
    )


def _cells(state: State, event: Event, transition: Transition) -> tuple[str, ...]:
    moving = any(TRANSITIONS.get((other, event)) == transition for other in State if other != state)
    to = f"`{transition.to}`" if moving or transition.to is not state else "the same"
    if transition.unless_live:
        to += ", unless a code is live"
    actions = "; ".join(transition.actions)
    if transition.reason:
        actions += f" (reason: `{transition.reason}`)"
    return to, actions, _code(transition.reply), _code(transition.answer)


def _code(name: str | None) -> str:
    return f"`{name}`" if name else ""


def _names(states: Iterable[State]) -> str:
    return ", ".join(f"`{state}`" for state in states)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
