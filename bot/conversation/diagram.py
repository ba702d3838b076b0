"""What docs/conversation.md shows, drawn from the table: `python -m bot.conversation.diagram`."""

from __future__ import annotations

from bot.conversation.machine import TABLE
from bot.conversation.state import State


def mermaid() -> str:
    """Draw every move that changes the state, in Mermaid's notation."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, event), move in TABLE.items():
        if move.to is not state:
            edges.setdefault((state, move.to), []).append(event.value)
    lines = [f"    {state} --> {to}: {'<br/>'.join(why)}" for (state, to), why in edges.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.IDLE}", *lines])


if __name__ == "__main__":
    print(mermaid())  # noqa: T201 - this is what the command is for
