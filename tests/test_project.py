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

ROOT = Path(__file__).parents[1]
PROCFILE = (ROOT / "Procfile").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PINNED = re.compile(
    r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>[0-9][0-9.]*)( ; [^#@]+?)?"
    r"( --hash=sha256:[0-9a-f]{64})+"
)


def test_the_import_contracts_are_kept() -> None:
    # In a process of its own, because import-linter disables all loggers of its process.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache", "--no-logo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


def pinned() -> dict[str, str]:
    """Return the version of each requirement; raise AssertionError if one is not pinned."""
    lines = REQUIREMENTS.replace("\\\n", "").splitlines()
    versions = {}
    for line in lines:
        requirement = re.sub(r"\s+", " ", line.partition("#")[0]).strip()
        if requirement:
            match = PINNED.fullmatch(requirement)
            assert match, requirement
            versions[match["name"]] = match["version"]
    return versions


def test_every_deployed_requirement_is_pinned_with_hashes_and_without_an_address() -> None:
    assert len(pinned()) > 30
    assert re.findall(r"\S*(?://|@)\S*|\b\w+\.(?:org|com|net|io|dev)\b", REQUIREMENTS) == []


def test_every_dependency_of_the_package_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = pinned()
    for dependency in map(Requirement, project["dependencies"]):
        assert versions[dependency.name] in dependency.specifier, dependency


@pytest.mark.parametrize("line", PROCFILE.splitlines())
def test_each_line_of_the_procfile_runs_an_existing_command(line: str) -> None:
    kind, _, command = line.partition(": ")
    assert kind in {"release", "web"}
    # `python -m`, because such a host installs only requirements.txt, and so no `bot` script.
    python, module, name, *arguments = shlex.split(command)
    assert (python, module, name) == ("python", "-m", "bot")
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: main {arguments[0]}" in result.output


def test_the_procfile_migrates_before_it_serves() -> None:
    assert [line.partition(":")[0] for line in PROCFILE.splitlines()] == ["release", "web"]


def test_the_changelog_describes_the_current_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[([0-9.]+)\] - (.+)", heading) for heading in headings[1:]]
    versions = [match[1] for match in released if match]
    dates = [date.fromisoformat(match[2]) for match in released if match]
    assert len(versions) == len(headings) - 1
    assert versions[0] == __version__
    assert dates == sorted(dates, reverse=True)
