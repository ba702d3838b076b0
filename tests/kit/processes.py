"""`bot …` in processes of its own, as an operator runs it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aiohttp import ClientConnectionError, ClientSession

from bot import app
from bot.cli.main import main
from bot.simulator.sandbox import LONG_DEADLINES
from tests.kit.fork_server import fork
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

_POLL_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code and the output of a process that has ended."""

    code: int
    out: str
    err: str


def run_bot(arguments: list[str]) -> None:
    """Run `bot …` with long deadlines: a busy machine may stall."""
    setattr(app, "run_bot", partial(app.run_bot, deadlines=LONG_DEADLINES))  # noqa: B010 - mypy refuses the assignment
    main(arguments, prog_name="bot")


def run_bot_with_its_own_deadlines(arguments: list[str]) -> None:
    """Run `bot …` with the deadlines that it has for Telnyx."""
    main(arguments, prog_name="bot")


class BotProcess:
    """A running `bot …` and its output so far."""

    def __init__(self, process: Process | BaseProcess, out: Path, err: Path) -> None:
        self._process = process
        self._out, self._err = out, err

    @property
    def pid(self) -> int:
        """Return the process's id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Return the exit code, or minus the signal that ended it; None while it runs."""
        process = self._process
        return process.exitcode if isinstance(process, BaseProcess) else process.returncode

    @property
    def out(self) -> str:
        """Return the standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """Return the standard error: the log."""
        return self._err.read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """Return the complete lines of a log in JSON."""
        lines = self.err.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line[-1] == "\n"]

    async def logged(self, beginning: str) -> dict[str, Any]:
        """Wait for an event in the log; raise AssertionError if the process ends before."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log if line["event"].startswith(beginning)]

        await wait_until(lambda: bool(found()) or self.code is not None)
        assert found(), f"ended with {self.code} before {beginning!r}:\n{self.err}"
        return found()[0]

    async def ready(self) -> str:
        """Wait until the web server is ready, and return its address."""
        url: str = (await self.logged("listening"))["url"]
        async with asyncio.timeout(TEST_TIMEOUT), ClientSession() as session:
            while True:
                with contextlib.suppress(ClientConnectionError):
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            return url
                await asyncio.sleep(_POLL_INTERVAL)

    def write_line(self, line: str) -> None:
        """Write a line to standard input, for a process with `stdin`."""
        assert isinstance(self._process, Process)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def send(self, signal: int) -> None:
        """Send a signal."""
        os.kill(self.pid, signal)

    async def end(self) -> Ended:
        """Wait until the process has ended by itself; raise TimeoutError."""
        await wait_until(lambda: self.code is not None)
        return Ended(self.code or 0, self.out, self.err)

    async def kill(self) -> Ended:
        """Kill the process (SIGKILL)."""
        if self.code is None:
            self._process.kill()
        return await self.end()


class Processes:
    """Starts `bot …` in one folder, with the given environment only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._files = Path(self._stack.enter_context(TemporaryDirectory()))
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        main: Callable[[list[str]], None] = run_bot,
    ) -> BotProcess:
        """Fork a process that runs `bot …`."""
        out, err = self._output_files()
        process = await asyncio.to_thread(
            fork,
            main,
            list(arguments),
            folder=self._folder,
            env={"PATH": os.defpath, **(env or {})},
            out=out,
            err=err,
        )
        return self._started(BotProcess(process, out, err))

    async def start_cold(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bool = False
    ) -> BotProcess:
        """Start `bot …` in a new interpreter, with a pipe as its standard input if `stdin`."""
        out, err = self._output_files()
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "bot", *arguments),
                cwd=self._folder,
                env={"PATH": os.defpath, **(env or {})},
                stdin=PIPE if stdin else DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return self._started(BotProcess(process, out, err))

    async def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Fork a process and wait until it has ended by itself."""
        return await (await self.start(*arguments, env=env)).end()

    async def run_cold(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Start a new interpreter and wait until it has ended by itself."""
        return await (await self.start_cold(*arguments, env=env)).end()

    def _output_files(self) -> tuple[Path, Path]:
        number = next(self._numbers)
        files = self._files / f"{number}.out", self._files / f"{number}.err"
        for file in files:
            file.touch()
        return files

    def _started(self, bot: BotProcess) -> BotProcess:
        self._stack.push_async_callback(bot.kill)
        return bot
