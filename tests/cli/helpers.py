from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.cli.main import main
from bot.services.upkeep.janitor import Janitor
from bot.store.queues import outbox
from tests.kit.timeouts import slow_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from sqlalchemy.engine import URL

    from bot.store.engine.database import Database
    from bot.store.tables import OutboxState
    from tests.kit.processes import Ended, Processes


PASSWORD = "hunter2"
CODE = re.compile(r"Textproof code: ([0-9]+)\.")
MOMENT = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
SUCCESS = "Textproof: thank you, this number is verified. There is nothing more to do."

on_postgresql = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)


def run_with_crashing_janitor(arguments: list[str]) -> None:
    """Run `bot ...` with a background task that raises at once."""

    async def crash(_janitor: Janitor) -> None:
        raise RuntimeError

    setattr(Janitor, "run", crash)  # noqa: B010 - mypy forbids the assignment
    main(arguments, prog_name="bot")


def code_in(text: str) -> str:
    found = CODE.search(text)
    assert found, text
    return found[1]


def other_than(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


@asynccontextmanager
async def opened(url: URL) -> AsyncIterator[Database]:
    database = slow_database(url)
    try:
        yield database
    finally:
        await database.close()


async def texts_by_state(url: URL) -> dict[OutboxState, int]:
    async with opened(url) as database:
        return await database.read(outbox.counts)


async def run_all(
    processes: Processes, commands: Iterable[str], env: Mapping[str, str]
) -> list[Ended]:
    """Run commands all at once, each until it has ended by itself."""
    return await asyncio.gather(*(processes.run(command, env=env) for command in commands))


def assert_refused(ended: Ended, *expected: str, code: int = 1) -> None:
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err, ended.err
    assert PASSWORD not in ended.out + ended.err
    for part in expected:
        assert part in ended.err


def file_of(url: URL) -> Path:
    assert url.database is not None
    return Path(url.database)


WRONG_SETTINGS = {
    "TELNYX_API_KEY": "",
    "TELNYX_PUBLIC_KEY": f"{PASSWORD}==",
    "TELNYX_BASE_URL": f"ftp://user:{PASSWORD}@127.0.0.1",
    "FROM_NUMBER": "555-0100",
    "SECRET_KEY": PASSWORD,
    "DATABASE_URL": f"mysql://user:{PASSWORD}@127.0.0.1/bot",
    "PORT": "http",
    "COUNTRY_CODE": "+999",
    "TOKEN_LENGTH": "65",
    "TOKEN_ALPHABET": "klingon",
    "TOKEN_TTL": "0",
    "TOKEN_ATTEMPTS": "0",
    "RESEND_COOLDOWN": "-1",
    "CODES_PER_HOUR": "0",
    "CODES_PER_DAY": "many",
    "ALLOW_WEAK_CODES": "perhaps",
    "APP_NAME": "An emoji costs more 💸",
    "SUPPORT_CONTACT": "x" * 41,
    "SEND_RATE_ACCOUNT": "-1",
    "SEND_RATE_PER_NUMBER": "-1",
    "TEST_NUMBERS": "+15005550006",
    "PUBLIC_URL": f"https://user:{PASSWORD}@127.0.0.1",
    "WEB_FORM": "perhaps",
    "WEB_CODES_PER_DAY": "-1",
    "TERMS_URL": f"javascript:{PASSWORD}",
    "PRIVACY_URL": f"https://user:{PASSWORD}@127.0.0.1/privacy",
    "ALLOWED_COUNTRIES": "Atlantis",
    "TRUSTED_PROXIES": "proxy",
    "EVENTS_URL": f"ftp://user:{PASSWORD}@127.0.0.1",
    "EVENTS_SECRET": f"whsec_{PASSWORD}",
    "EVENTS_TO_PRIVATE": "maybe",
    "LOG_LEVEL": "loud",
    "LOG_FORMAT": "xml",
}
