"""Processes that are forked from one that has imported everything, so that they start fast."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.process import BaseProcess
    from pathlib import Path

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    [
        "__main__",
        "aiosqlite",
        "asyncpg",
        "uvloop",
        "bot.cli.main",
        "bot.app",
        "bot.carrier.client",
        "bot.simulator.demo",
        "tests.kit.crash_points",
        "telnyx.resources.messages",
        "telnyx.types",
    ]
)


def fork(  # noqa: PLR0913 - the parts of a process, named at the call
    main: Callable[[list[str]], None],
    arguments: list[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    out: Path,
    err: Path,
) -> BaseProcess:
    """Run `main` in a new process with the environment `env` and its output in files."""
    process = _FORKSERVER.Process(
        target=_run, args=(main, arguments, (folder, dict(env), out, err)), daemon=True
    )
    process.start()
    return process


def _run(
    main: Callable[[list[str]], None],
    arguments: list[str],
    context: tuple[Path, dict[str, str], Path, Path],
) -> None:
    folder, env, out, err = context
    for number, file in ((1, out), (2, err)):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    main(arguments)
