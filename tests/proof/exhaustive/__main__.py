"""Runs the check: `python -m tests.proof.exhaustive [--scope NAME] [--depth N] [--seconds N]`."""

from __future__ import annotations

import argparse
import sys

from tests.proof.exhaustive import facts
from tests.proof.exhaustive.scopes import SCOPES, day_of
from tests.proof.exhaustive.search import Search
from tests.proof.exhaustive.traces import described_violation


def main() -> int:
    """Search the scopes, print the figures; return 1 if an invariant is not true."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.exhaustive")
    parser.add_argument("--scope", action="append", choices=SCOPES, help="default: each of them")
    parser.add_argument("--depth", type=int, help="steps from the start, inputs and waits")
    parser.add_argument("--states", type=int, help="stop after this number of states")
    parser.add_argument("--seconds", type=float, help="stop each scope after this time")
    chosen = parser.parse_args()
    print(_merging())  # noqa: T201 - the purpose of the command
    for name in chosen.scope or SCOPES:
        with day_of(SCOPES[name]):
            search = Search(SCOPES[name], _progress)
            results = search.run(depth=chosen.depth, states=chosen.states, seconds=chosen.seconds)
            print(results, flush=True)  # noqa: T201
            if results.violation is not None:
                print(described_violation(search, results.violation))  # noqa: T201
                return 1
    return 0


def _merging() -> str:
    """Return what is merged, as `facts` explains it."""
    return (facts.__doc__ or "").partition("\n\n")[2].strip()


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
