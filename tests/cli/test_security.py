from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from bot.cli.main import main
from tests.cli.helpers import on_sqlite
from tests.kit.settings import environment

if TYPE_CHECKING:
    from sqlalchemy import URL

    from tests.kit.processes import Processes

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
WARNING = "the codes are short enough to be guessed"


def report(**variables: str) -> str:
    """Return what `bot security` prints for settings that differ from the defaults."""
    env = environment(make_url("sqlite+aiosqlite:///bot.db")) | variables
    with mock.patch.dict(os.environ, env, clear=True):
        result = CliRunner().invoke(main, ["security"])
    assert result.exit_code == 0, result.output
    return result.stdout


def row(printed: str, name: str) -> list[str]:
    """Return the cells of the first row with a name."""
    line = next(line.strip() for line in printed.splitlines() if line.strip().startswith(name))
    return re.split(r" {2,}", line.removeprefix(name).strip())


def test_the_page_shows_the_report_at_the_defaults() -> None:
    shown = "".join(f"    {line}".rstrip() + "\n" for line in report().splitlines())
    assert shown in PAGE.read_text(encoding="utf-8"), report()


def test_the_report_has_comparisons_and_chances_of_one_phone_in_each_channel() -> None:
    for half in report().partition("all phones")[0].split("the owner verifies every day"):
        assert row(half, "by text")[:2] == ["8 + 32 + 10", "96 + 384 + 1,397"]
        assert row(half, "by text")[2:] == ["0.0008321 %", "0.009998 %"]
        assert row(half, "at the form")[0] == "8 + 12"
        assert row(half, "by one API key")[0] == "8 + 27"


def test_the_report_follows_the_settings() -> None:
    printed = report(TOKEN_LENGTH="8", TOKEN_ATTEMPTS="3", CODES_PER_HOUR="2", CODES_PER_DAY="4")
    assert "100,000,000 (TOKEN_LENGTH=8, TOKEN_ALPHABET=digits)" in printed
    assert "= 1.2e-07 (1 in 8,333,333)" in printed
    assert row(printed, "by text")[0] == "12"


def test_the_report_says_where_nothing_bounds_the_chance_over_all_phones() -> None:
    everywhere = report(WEB_FORM="on").partition("all phones together")[2]
    assert row(everywhere, "by text") == ["unbounded"] * 4
    assert row(everywhere, "by apps") == ["unbounded"] * 4
    form = "by the form, unverified numbers"
    assert row(everywhere, form) == ["2,500", "912,500", "0.25 %", "91.25 %"]
    assert row(report(), form) == ["0", "0", "0 %", "0 %"]


def test_the_report_says_that_weak_codes_are_allowed() -> None:
    printed = report(TOKEN_LENGTH="4", ALLOW_WEAK_CODES="on")
    assert "5.0e-03 (1 in 200)" in printed
    assert "at most 1.0e-04 (1 in 10,000), but ALLOW_WEAK_CODES=on" in printed
    assert row(printed, "by text")[-1] == "0.9604 %"


@on_sqlite
@pytest.mark.parametrize("command", ["serve", "work"])
async def test_each_start_with_weak_codes_logs_a_warning_with_the_figure(
    database_url: URL, processes: Processes, command: str
) -> None:
    for _ in range(2):
        weak = environment(database_url, TOKEN_LENGTH="4", ALLOW_WEAK_CODES="on")
        bot = await processes.start(command, env=weak)
        warning = await bot.logged(WARNING)
        await bot.kill()
        assert warning["level"] == "warning"
        assert warning["chance_per_day"] == "5.0e-03 (1 in 200)"


@on_sqlite
async def test_a_start_with_codes_that_are_long_enough_logs_no_warning(
    database_url: URL, processes: Processes
) -> None:
    bot = await processes.start("work", env=environment(database_url, ALLOW_WEAK_CODES="on"))
    await bot.logged("running without a web server")
    assert WARNING not in (await bot.kill()).err
