"""The bot as its operator runs it: in processes of its own."""

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
from bot.services.clock import SystemClock
from bot.simulator.sandbox import BOT_NUMBER, LONG_DEADLINES
from bot.simulator.telnyx.server import API_KEY, SimulatedTelnyx
from tests.kit.fork_server import fork
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from sqlalchemy import URL

SECRET = "a-secret-of-the-tests-that-is-long-enough"
_ASK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process has left: its exit code and all that it wrote."""

    code: int
    out: str
    err: str


def run_bot(arguments: list[str]) -> None:
    """Be `bot …`, but with time for the database on a machine that stands still at times."""
    setattr(app, "run_bot", partial(app.run_bot, deadlines=LONG_DEADLINES))  # noqa: B010 - mypy minds
    main(arguments, prog_name="bot")


def run_bot_with_its_own_deadlines(arguments: list[str]) -> None:
    """Be `bot …`, as hurried as it is for Telnyx."""
    main(arguments, prog_name="bot")


class BotProcess:
    """A `bot …` at work, and all that it has written so far."""

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
        """Return what came on standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """Return what came on standard error: the log."""
        return self._err.read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """Return the log's finished lines, where it is written as JSON."""
        lines = self.err.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line[-1] == "\n"]

    async def logged(self, beginning: str) -> dict[str, Any]:
        """Wait for an event in the log; raises AssertionError where the process ends before."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log if line["event"].startswith(beginning)]

        await wait_until(lambda: bool(found()) or self.code is not None)
        assert found(), f"ended with {self.code} before {beginning!r}:\n{self.err}"
        return found()[0]

    async def ready(self) -> str:
        """Wait until the web server welcomes webhooks, and return its address."""
        url: str = (await self.logged("listening"))["url"]
        async with asyncio.timeout(TEST_TIMEOUT), ClientSession() as session:
            while True:
                with contextlib.suppress(ClientConnectionError):
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            return url
                await asyncio.sleep(_ASK_EVERY)

    def tell(self, line: str) -> None:
        """Write a line to the standard input of a talkative process."""
        assert isinstance(self._process, Process)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def send(self, signal: int) -> None:
        """Send a signal."""
        os.kill(self.pid, signal)

    async def end(self) -> Ended:
        """Wait until the process has ended by itself; raises TimeoutError."""
        await wait_until(lambda: self.code is not None)
        return Ended(self.code or 0, self.out, self.err)

    async def kill(self) -> Ended:
        """End the process as a power cut would."""
        if self.code is None:
            self._process.kill()
        return await self.end()


def environment(url: URL, telnyx: SimulatedTelnyx | None = None, **more: str) -> dict[str, str]:
    """Make the settings of a bot at work on a database, with a Telnyx or with none in reach."""
    telnyx = telnyx or SimulatedTelnyx(SystemClock())
    return {
        "TELNYX_API_KEY": API_KEY,
        "TELNYX_PUBLIC_KEY": telnyx.public_key,
        "TELNYX_BASE_URL": telnyx.base_url or "http://127.0.0.1:9/v2",
        "FROM_NUMBER": BOT_NUMBER,
        "SECRET_KEY": SECRET,
        "DATABASE_URL": as_written(url),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "LOG_FORMAT": "json",
        **more,
    }


def as_written(url: URL) -> str:
    """Write a URL as hosts hand it out: `postgres://`, which names no driver."""
    written = url.set(drivername="postgres") if url.get_backend_name() == "postgresql" else url
    return written.render_as_string(hide_password=False)


class Processes:
    """Starts `bot …` from one folder, with no environment but what is given."""

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
        """Fork one."""
        out, err = self._output()
        process = await asyncio.to_thread(
            fork,
            main,
            list(arguments),
            folder=self._folder,
            env={"PATH": os.defpath, **(env or {})},
            out=out,
            err=err,
        )
        return self._at_work(BotProcess(process, out, err))

    async def start_cold(
        self, *arguments: str, env: Mapping[str, str] | None = None, talkative: bool = False
    ) -> BotProcess:
        """Start one as its operator does; a `talkative` one is told lines by the test."""
        out, err = self._output()
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "bot", *arguments),
                cwd=self._folder,
                env={"PATH": os.defpath, **(env or {})},
                stdin=PIPE if talkative else DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return self._at_work(BotProcess(process, out, err))

    async def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Fork one and wait until it has ended by itself."""
        return await (await self.start(*arguments, env=env)).end()

    async def run_cold(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Start one as its operator does, and wait until it has ended by itself."""
        return await (await self.start_cold(*arguments, env=env)).end()

    def _output(self) -> tuple[Path, Path]:
        number = next(self._numbers)
        files = self._files / f"{number}.out", self._files / f"{number}.err"
        for file in files:
            file.touch()
        return files

    def _at_work(self, bot: BotProcess) -> BotProcess:
        self._stack.push_async_callback(bot.kill)
        return bot
