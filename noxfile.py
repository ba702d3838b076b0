"""The checks, as sessions of nox in the active environment: `pip install -e ".[dev]"`, then `nox`.

`.ci/run` runs them in a fresh environment.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen
from xml.etree import ElementTree as ET

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "tests"]

START_TIMEOUT = 60.0
"""Seconds until `bot demo` must have printed its addresses."""


@nox.session
def lint(session: nox.Session) -> None:
    """Check the rules and the format with ruff."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy."""
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check the layers with import-linter."""
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after `--` go to pytest."""
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests with branch coverage, which takes more than half as long again."""
    session.run("pytest", "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def not_skipped(session: nox.Session) -> None:
    """Fail if tests on PostgreSQL, through PgBouncer or in a browser were skipped.

    The argument is the file that `pytest --junitxml` wrote.
    """
    cases = list(ET.parse(session.posargs[0]).iter("testcase"))  # noqa: S314 - our own file
    for kind in ("postgresql", "pgbouncer", "browser"):
        chosen = [case for case in cases if kind in f"{case.get('classname')}.{case.get('name')}"]
        skipped = [case for case in chosen if case.find("skipped") is not None]
        session.log(f"{kind}: {len(chosen)} tests, {len(skipped)} skipped")
        if skipped or not chosen:
            session.error(f"tests for {kind} were skipped, or there are none")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it in an environment of its own, and run what it contains."""
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", name, ".")
        session.run("python", "-m", "venv", str(temporary / "venv"))
        bin_ = temporary / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        (file,) = temporary.glob("*.whl")
        session.run(str(bin_ / "python"), "-m", "pip", "install", "-q", str(file), external=True)
        (temporary / "empty").mkdir()
        with session.chdir(temporary / "empty"):
            session.run(str(bin_ / "bot"), "migrate", external=True)
            session.run(str(bin_ / "bot"), "demo", "--once", external=True)
            _open_pages(session, bin_ / "bot")


def _open_pages(session: nox.Session, bot: Path) -> None:
    """Start `bot demo`, and open its pages and their static files."""
    with Path("addresses").open("wb") as output:
        demo = subprocess.Popen(  # noqa: S603 - the command that was just installed
            [bot, "demo", "--port", "0"], stdin=subprocess.DEVNULL, stdout=output
        )
    try:
        for address, kind in zip(_addresses(session, demo), ("phone", "form"), strict=False):
            for path in ("/", f"/static/{kind}.css", f"/static/{kind}.js", "/static/icon.svg"):
                url = urljoin(address, path)
                session.log(f"{url} {urlopen(url).status}")  # noqa: S310 - on this machine
    finally:
        demo.terminate()
        demo.wait()
    if demo.returncode:
        session.error(f"bot demo ended with {demo.returncode}")


def _addresses(session: nox.Session, demo: subprocess.Popen[bytes]) -> list[str]:
    """Return the addresses that `bot demo` prints: the phone page, the web form, others."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        printed = Path("addresses").read_text(encoding="utf-8")
        addresses = re.findall(r"http:\S*(?=\s)", printed)
        if len(addresses) > 1:
            return addresses
        if demo.poll() is not None or time.monotonic() > deadline:
            session.error(f"bot demo did not start: {printed}")
        time.sleep(0.2)
