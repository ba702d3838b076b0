"""Chance that can be had again: each round has a seed, and a failure names it."""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = int(os.environ.get("PROOF_SEED") or time.time())
"""Where all chance in the proof comes from; set PROOF_SEED to have it again."""
SOAK = Path(os.environ.get("SOAK_FILE") or "soak.json")
"""How far the soak has come, so that it can be stopped and resumed; remove it to start anew."""


@contextmanager
def seeded(name: str, number: int = 0) -> Iterator[random.Random]:
    """Give the chance of one round; an error in it says how to have that round again."""
    try:
        yield random.Random(f"{SEED} {name} {number}")  # noqa: S311 - no secret
    except BaseException as error:
        error.add_note(f"round {number} of {name!r}: PROOF_SEED={SEED}")
        raise


def soak_rounds(name: str, rounds: int) -> Iterator[tuple[int, random.Random]]:
    """Number the rounds that are still to be done, and note each when it is."""
    for number in range(_done().get(name, 0), rounds):
        began = time.monotonic()
        with seeded(name, number) as chance:
            yield number, chance
        done = _done() | {name: number + 1}
        SOAK.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        took = time.monotonic() - began
        print(f"{name}: {number + 1} of {rounds}, {took:.1f} s", flush=True)  # noqa: T201 - progress


def _done() -> dict[str, int]:
    if not SOAK.exists():
        return {}
    done: dict[str, int] = json.loads(SOAK.read_text(encoding="utf-8"))
    return done
