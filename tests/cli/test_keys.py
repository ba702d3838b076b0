from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import URL, make_url

from bot.cli.main import main
from bot.store import api_keys
from tests.cli.helpers import (
    MOMENT,
    on_sqlite,
)
from tests.kit.settings import as_written

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from click.testing import Result


def run_keys(url: URL, *arguments: str) -> Result:
    """Run `bot keys …` in this process, which is quick."""
    return CliRunner().invoke(main, ["keys", *arguments], env={"DATABASE_URL": as_written(url)})


async def test_a_key_is_shown_once_listed_without_its_secret_and_revoked_once(
    database_url: URL,
) -> None:
    def run(*arguments: str) -> Awaitable[Result]:
        return asyncio.to_thread(run_keys, database_url, *arguments)

    assert (await run("list")).stdout.startswith("There are no keys yet; create one: ")
    made = await run("create", " web shop ", "--scope", "verifications:read", "--per-minute", "9")
    assert (made.exit_code, made.stderr) == (
        0,
        "Keep this key in your app's secrets: it is never shown again.\n",
    )
    (name, secret) = api_keys.split(made.stdout.strip()) or ("", "")
    assert (await run("create", "other")).exit_code == 0

    listed = (await run("list")).stdout.splitlines()
    assert re.fullmatch(
        rf"{name}  web shop: verifications:read, 9 a minute, since {MOMENT}", listed[0]
    )
    assert "  other: verifications:read, verifications:write, 600 a minute, since " in listed[1]
    assert secret not in "".join(listed)

    revoked, again = await run("revoke", name), await run("revoke", name)
    assert (revoked.exit_code, revoked.stdout) == (
        0,
        "The key is revoked: requests with it are refused from now on.\n",
    )
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.endswith("run: bot keys list\n")
    assert re.search(
        rf"since {MOMENT}, revoked {MOMENT}$", (await run("list")).stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("create", " "), "bot: NAME: write 1 to 64 printable characters"),
        (("create", "x" * 65), "bot: NAME: write 1 to 64 printable characters"),
        (("create", "a", "--scope", "all"), "'verifications:read', 'verifications:write'"),
        (("create", "a", "--per-minute", "0"), "1<=x<=1000000"),
        (("revoke", "nobody"), "bot: no valid key has this ID"),
    ],
)
@on_sqlite
def test_a_mistake_about_a_key_is_reported_in_one_line(
    arguments: tuple[str, ...], expected: str, database_url: URL
) -> None:
    result = run_keys(database_url, *arguments)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert expected in result.stderr
    assert (api_keys.DEFAULT_PER_MINUTE, api_keys.MAX_PER_MINUTE, api_keys.MAX_TITLE_LENGTH) == (
        600,
        1_000_000,
        64,
    )
    assert {scope.value for scope in api_keys.Scope} == {
        "verifications:read",
        "verifications:write",
    }


def test_keys_does_not_create_a_database(tmp_path: Path) -> None:
    result = run_keys(make_url(f"sqlite+aiosqlite:///{tmp_path / 'none.db'}"), "create", "a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run: bot migrate" in result.stderr
    assert list(tmp_path.iterdir()) == []
