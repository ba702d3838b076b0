from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from bot import __version__
from bot.cli.main import main

HOUSE = Path(__file__).parents[1]
PROCFILE = (HOUSE / "Procfile").read_text(encoding="utf-8")
REQUIREMENTS = (HOUSE / "requirements.txt").read_text(encoding="utf-8")
PINNED = re.compile(
    r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>[0-9][0-9.]*)( ; [^#@]+?)?"
    r"( --hash=sha256:[0-9a-f]{64})+"
)


def test_the_arrows_run_as_the_contracts_say() -> None:
    # In a process of its own, since import-linter disables all loggers of the one it runs in.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    ended = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache", "--no-logo"],
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert " 0 broken" in ended.stdout


def pinned() -> dict[str, str]:
    """Read the requirements' versions by name; raises AssertionError where one is not pinned."""
    lines = REQUIREMENTS.replace("\\\n", "").splitlines()
    versions = {}
    for line in lines:
        wanted = re.sub(r"\s+", " ", line.partition("#")[0]).strip()
        if wanted:
            match = PINNED.fullmatch(wanted)
            assert match, wanted
            versions[match["name"]] = match["version"]
    return versions


def test_every_requirement_of_a_deploy_is_pinned_with_hashes_and_names_no_address() -> None:
    assert len(pinned()) > 30
    assert re.findall(r"\S*(?://|@)\S*|\b\w+\.(?:org|com|net|io|dev)\b", REQUIREMENTS) == []


def test_the_pinned_requirements_are_all_that_the_package_depends_on() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = pinned()
    for dependency in map(Requirement, project["dependencies"]):
        assert versions[dependency.name] in dependency.specifier, dependency


@pytest.mark.parametrize("line", PROCFILE.splitlines())
def test_each_line_of_the_procfile_runs_a_command_that_exists(line: str) -> None:
    kind, _, command = line.partition(": ")
    assert kind in {"release", "web"}
    # `python -m`, since such a host installs requirements.txt alone, and with it no `bot` script.
    python, module, name, *arguments = shlex.split(command)
    assert (python, module, name) == ("python", "-m", "bot")
    shown = CliRunner().invoke(main, [*arguments, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"Usage: main {arguments[0]}" in shown.output


def test_the_procfile_migrates_before_it_serves() -> None:
    assert [line.partition(":")[0] for line in PROCFILE.splitlines()] == ["release", "web"]


def test_the_changelog_tells_of_this_version() -> None:
    changelog = (HOUSE / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[([0-9.]+)\] - (.+)", heading) for heading in headings[1:]]
    versions = [match[1] for match in released if match]
    dates = [date.fromisoformat(match[2]) for match in released if match]
    assert len(versions) == len(headings) - 1
    assert versions[0] == __version__
    assert dates == sorted(dates, reverse=True)
