"""Proof that the checks of the conversation rules can fail: twenty small faults, one at a time.

`python -m tests.proof.mutations` puts each fault into a copy of the package and runs the exhaustive
check and the tests of the conversation there. It prints what each has found, and exits with 1 if a
fault is found by neither. docs/reliability.md has the list.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[2]
_COPIED = ("bot", "tests", "pyproject.toml")
_SCOPES = ("own code, courtesy", "own code, old texts", "own code, two numbers", "app", "reference")
_TIMEOUT = 600  # seconds


class Mutation(NamedTuple):
    """A fault: in a module of `bot.conversation`, `right` is replaced by `wrong`."""

    fault: str
    module: str
    right: str
    wrong: str


MUTATIONS = (
    Mutation(
        "a right guess is not counted",
        "transitions",
        "E.GUESS_RIGHT, A.COUNT_GUESS, ",
        "E.GUESS_RIGHT, ",
    ),
    Mutation(
        "a wrong guess is not counted",
        "transitions",
        "E.GUESS_WRONG, A.COUNT_GUESS, ",
        "E.GUESS_WRONG, ",
    ),
    Mutation(
        "the last wrong guess does not lock",
        "transitions",
        "A.END_UNUSABLE_CODES, A.LOCK,",
        "A.END_UNUSABLE_CODES,",
    ),
    Mutation(
        "a code without tries goes on",
        "transitions",
        "A.COUNT_FAILURE, A.END_UNUSABLE_CODES,\n            to=S.IDLE",
        "A.COUNT_FAILURE,\n            to=S.IDLE",
    ),
    Mutation(
        "a right guess leaves codes without tries",
        "transitions",
        "            A.END_UNUSABLE_CODES, A.RESET_WRONG_GUESSES,",
        "            A.RESET_WRONG_GUESSES,",
    ),
    Mutation(
        "NOT ME does not refuse codes",
        "transitions",
        "A.REVOKE_SUCCESSES, A.REFUSE_CODES,\n            to=S.IDLE",
        "A.REVOKE_SUCCESSES,\n            to=S.IDLE",
    ),
    Mutation(
        "STOP leaves codes",
        "transitions",
        "E.STOP, A.END_CODES, ",
        "E.STOP, ",
    ),
    Mutation(
        "a STOP that the carrier has answered is answered again",
        "transitions",
        "A.OPT_OUT, to=S.OPTED_OUT, reason=",
        "A.OPT_OUT, to=S.OPTED_OUT, reply=R.STOPPED, reason=",
    ),
    Mutation(
        "HELP is answered after STOP",
        "transitions",
        "**_rows(_OPTED_IN, E.HELP,",
        "**_rows((*_OPTED_IN, *_OPTED_OUT), E.HELP,",
    ),
    Mutation(
        "START ends a lock",
        "transitions",
        "**_rows(_LOCKED, E.START, A.RECORD_START),",
        "**_rows(_LOCKED, E.START, A.RECORD_START, to=S.IDLE),",
    ),
    Mutation(
        "one expired code ends the wait for all",
        "transitions",
        "E.CODE_EXPIRED, A.END_UNUSABLE_CODES,\n            to=S.IDLE, unless_live=True, ",
        "E.CODE_EXPIRED, A.END_UNUSABLE_CODES,\n            to=S.IDLE, ",
    ),
    Mutation(
        "wrong submissions never lock",
        "transitions",
        "A.COUNT_FAILURE, A.END_SHORT_CODES, A.LOCK_SUBMISSIONS,",
        "A.COUNT_FAILURE, A.END_SHORT_CODES,",
    ),
    Mutation(
        "a success at an app gives back the tries by text",
        "transitions",
        "A.RESET_WRONG_SUBMISSIONS, A.OPEN_CHANNELS,",
        "A.RESET_WRONG_GUESSES, A.OPEN_CHANNELS,",
    ),
    Mutation(
        "a code that cannot be delivered goes on",
        "transitions",
        "E.CODE_UNDELIVERABLE, A.END_CODE,",
        "E.CODE_UNDELIVERABLE,",
    ),
    Mutation(
        "the limits of codes by text are not checked",
        "guards",
        "    if free_at is not None and context.now < free_at:\n        announced",
        "    if free_at is not None and context.now > free_at:\n        announced",
    ),
    Mutation(
        "a code is sent again within its cooldown",
        "guards",
        "if token is not None and context.now < token.resend_after:",
        "if token is not None and context.now > token.resend_after:",
    ),
    Mutation(
        "a reply is compared with every code",
        "guards",
        "    matching = _matching(context, guess, usable)",
        "    matching = _matching(context, guess, context.tokens)",
    ),
    Mutation(
        "submissions are compared during their lock",
        "guards",
        "    if context.channel_limits.locked_at(context.now):",
        "    if context.limits.locked_at(context.now):",
    ),
    Mutation(
        "a START as old as the STOP undoes it",
        "guards",
        "sent_at <= last <= latest",
        "sent_at < last <= latest",
    ),
    Mutation(
        "a used reference gets another code",
        "guards",
        "    if token is None and not reference.available:",
        "    if token is None and reference.begun_here:",
    ),
)


class Found(NamedTuple):
    """The invariant and the test that find a fault, each "" if none does."""

    invariant: str
    test: str


def found_by(mutation: Mutation | None) -> Found:
    """Put a fault into a copy of the package, or none, and return what fails there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            copier = shutil.copytree if source.is_dir() else shutil.copy
            copier(source, copy / name)
        if mutation is not None:
            apply(mutation, copy)
        return Found(_violated_invariant(copy), _failed_test(copy))


def apply(mutation: Mutation, root: Path) -> None:
    """Put a fault into the package at `root`; raises ValueError if its place is not found once."""
    module = root / "bot" / "conversation" / f"{mutation.module}.py"
    source = module.read_text(encoding="utf-8")
    if source.count(mutation.right) != 1:
        raise ValueError(f"{mutation.right!r} is not exactly once in {module.name}")
    module.write_text(source.replace(mutation.right, mutation.wrong), encoding="utf-8")


def _violated_invariant(root: Path) -> str:
    names = [part for scope in _SCOPES for part in ("--scope", scope)]
    output = _run(root, "tests.proof.exhaustive", *names)
    found = re.search(r"^Not true: (.+)$|^\S*\.(ImpossibleError: .+)$", output, re.MULTILINE)
    return (found[1] or found[2]) if found else ""


def _failed_test(root: Path) -> str:
    output = _run(
        root, "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", "tests/conversation"
    )
    found = re.search(r"^(?:FAILED|ERROR) tests/conversation/(.+?)(?: - |$)", output, re.MULTILINE)
    return found[1] if found else ""


def _run(root: Path, module: str, *arguments: str) -> str:
    """Run a module in a copy of the package; return its output, and raise if it hangs."""
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    return run.stdout + run.stderr


@click.command()
def main() -> None:
    """Put each fault into a copy of the package, and print what finds it."""
    if any(unchanged := found_by(None)):
        sys.exit(f"without any fault, this fails: {' '.join(unchanged)}")
    missed = 0
    for number, mutation in enumerate(MUTATIONS, 1):
        found = found_by(mutation)
        missed += not any(found)
        click.echo(f"{number:2}. {mutation.fault}")
        click.echo(f"      exhaustive check: {found.invariant or 'does not find it'}")
        click.echo(f"      tests: {found.test or 'do not find it'}")
    click.echo(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} faults were found")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
