"""Random numbers that can be repeated: each round has a seed, and a failure names it."""

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
"""The seed of all random numbers in tests/proof; set PROOF_SEED to repeat a run."""
SOAK = Path(os.environ.get("SOAK_FILE") or "soak.json")
"""The progress of the soak tests, which can be stopped and resumed; remove it to start again."""


@contextmanager
def seeded(name: str, number: int = 0) -> Iterator[random.Random]:
    """Yield the random numbers of one round; an error in the round names its seed."""
    try:
        yield random.Random(f"{SEED} {name} {number}")  # noqa: S311 - no secret
    except BaseException as error:
        error.add_note(f"round {number} of {name!r}: PROOF_SEED={SEED}")
        raise


def soak_rounds(name: str, rounds: int) -> Iterator[tuple[int, random.Random]]:
    """Yield the index and the random numbers of each remaining round, and record its end."""
    for number in range(_done().get(name, 0), rounds):
        began = time.monotonic()
        with seeded(name, number) as rng:
            yield number, rng
        done = _done() | {name: number + 1}
        SOAK.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        took = time.monotonic() - began
        print(f"{name}: {number + 1} of {rounds}, {took:.1f} s", flush=True)  # noqa: T201 - progress


def _done() -> dict[str, int]:
    if not SOAK.exists():
        return {}
    done: dict[str, int] = json.loads(SOAK.read_text(encoding="utf-8"))
    return done
