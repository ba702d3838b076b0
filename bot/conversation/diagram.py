"""The diagram in docs/conversation.md, drawn from the table.

Print it with `python -m bot.conversation.diagram`.
"""

from __future__ import annotations

from bot.conversation.machine import TRANSITIONS
from bot.conversation.state import State


def mermaid() -> str:
    """Return every transition that changes the state, in Mermaid's notation."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, event), transition in TRANSITIONS.items():
        if transition.to is not state:
            edges.setdefault((state, transition.to), []).append(event.value)
    lines = [f"    {old} --> {new}: {'<br/>'.join(labels)}" for (old, new), labels in edges.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.IDLE}", *lines])


if __name__ == "__main__":
    print(mermaid())  # noqa: T201 - the purpose of the command
