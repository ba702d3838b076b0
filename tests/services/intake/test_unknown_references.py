"""References must not be guessed: after ten unknown ones in an hour, none is looked up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bot.conversation.codes import Keyring
from bot.conversation.policy import MAX_UNKNOWN_REFERENCES_PER_HOUR as LIMIT
from bot.conversation.policy import Policy
from bot.conversation.replies import Reply
from bot.conversation.state import Alphabet, CodeFormat
from bot.conversation.verification import Complete, Origin, Verification
from bot.services.intake.inbox import apply
from bot.services.intake.unit_of_work import Rules
from bot.simulator.clock import NOON
from bot.store import phone_limits, verifications
from tests.kit.samples import BOT_NUMBER, PHONE, RULES, text
from tests.kit.secret_keys import SECRET
from tests.kit.stored import outbox_rows
from tests.kit.timeouts import slow_database

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import URL, Connection

    from bot.store.engine.database import Database

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
OTHER = "+13125550002"
REFERENCE = "7Q2K42"
UNKNOWN = [f"{first}{second}BCDF" for first in range(2, 10) for second in range(2, 10)]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the references that are looked up in the database."""
    recorded: list[str] = []
    find = verifications.by_reference

    def by_reference(connection: Connection, references: Iterable[str]) -> dict[str, Verification]:
        recorded.extend(sorted(references))
        return find(connection, references)

    monkeypatch.setattr(verifications, "by_reference", by_reference)
    return recorded


@pytest.fixture
async def reference(database: Database) -> str:
    """Return a reference that an app shows."""
    waiting = Verification(
        "verification",
        Origin.REFERENCE,
        BOT_NUMBER,
        NOON,
        NOON + 3 * HOUR,
        reference=REFERENCE,
        complete=Complete.REPLY,
    )
    await database.write(verifications.add, [waiting])
    return REFERENCE


async def receive(
    database: Database,
    *references: str,
    at: datetime = NOON,
    phone: str = PHONE,
    rules: Rules = RULES,
) -> None:
    """Apply texts with references, all in one transaction."""
    items = [text(f"VERIFY {each}", phone=phone) for each in references]
    await database.write(apply, items, at, rules)


async def sent(database: Database) -> list[Reply]:
    return [row.reply for row in await outbox_rows(database)]


async def counted(database: Database, phone: str = PHONE) -> int:
    limits = await database.read(phone_limits.read, phone)
    return len(limits.unknown_reference_times)


async def test_after_ten_unknown_references_in_an_hour_none_is_looked_up(
    database: Database, reference: str, looked_up: list[str]
) -> None:
    for number, unknown in enumerate(UNKNOWN[:LIMIT]):
        await receive(database, unknown, at=NOON + number * MINUTE)
    await receive(database, reference, at=NOON + LIMIT * MINUTE)

    assert looked_up == UNKNOWN[:LIMIT]
    assert Reply.CODE not in await sent(database)


async def test_a_text_whose_reference_is_not_looked_up_is_answered_like_an_unknown_one(
    database: Database, reference: str
) -> None:
    await receive(database, *UNKNOWN[:LIMIT])
    await receive(database, reference)
    assert await sent(database) == [Reply.REFERENCE_UNKNOWN] * LIMIT  # then courtesy ends

    await database.write(apply, [text("VERIFY")], NOON + MINUTE, RULES)
    await receive(database, reference, at=NOON + MINUTE)
    assert (await sent(database))[LIMIT:] == [Reply.CODE, Reply.REFERENCE_UNKNOWN]


async def test_an_hour_after_the_first_unknown_reference_one_is_looked_up_again(
    database: Database, reference: str, looked_up: list[str]
) -> None:
    await receive(database, UNKNOWN[0])
    await receive(database, *UNKNOWN[1:LIMIT], at=NOON + MINUTE)
    looked_up.clear()
    await receive(database, UNKNOWN[LIMIT], at=NOON + HOUR)
    await receive(database, reference, at=NOON + HOUR)

    assert looked_up == [UNKNOWN[LIMIT]]
    await receive(database, reference, at=NOON + HOUR + MINUTE)
    assert (await sent(database))[-1] is Reply.CODE


async def test_unknown_references_in_one_transaction_are_limited_too(
    database: Database, reference: str, looked_up: list[str]
) -> None:
    await receive(database, *UNKNOWN[: 2 * LIMIT], reference)

    assert looked_up == UNKNOWN[:LIMIT]
    assert await counted(database) == LIMIT
    assert Reply.CODE not in await sent(database)


async def test_one_reference_texted_again_and_again_is_counted_each_time_it_is_looked_up(
    database: Database, looked_up: list[str]
) -> None:
    for _ in range(2 * LIMIT):
        await receive(database, UNKNOWN[0])

    assert looked_up == [UNKNOWN[0]] * LIMIT
    assert await counted(database) == LIMIT


async def test_the_limit_holds_across_processes(
    database: Database, database_url: URL, reference: str
) -> None:
    other_process = slow_database(database_url)
    try:
        for number, unknown in enumerate(UNKNOWN[:LIMIT]):
            await receive((database, other_process)[number % 2], unknown)
        await receive(other_process, reference)
    finally:
        await other_process.close()

    assert Reply.CODE not in await sent(database)


async def test_the_limit_of_one_phone_is_not_that_of_another(
    database: Database, reference: str
) -> None:
    await receive(database, *UNKNOWN[:LIMIT], phone=OTHER)
    await receive(database, reference)

    assert (await counted(database, OTHER), await counted(database)) == (LIMIT, 0)
    assert (await sent(database))[-1] is Reply.CODE


async def test_a_reference_looked_up_for_one_phone_is_not_known_to_a_phone_at_its_limit(
    database: Database, reference: str
) -> None:
    await receive(database, *UNKNOWN[:LIMIT], phone=OTHER)
    texts = [text(f"VERIFY {reference}", phone=phone) for phone in (OTHER, PHONE)]
    await database.write(apply, texts, NOON, RULES)

    stored = await database.read(verifications.find, ["verification"])
    assert stored["verification"].phone == PHONE


async def test_a_known_reference_is_not_counted(database: Database, reference: str) -> None:
    for _ in range(LIMIT + 1):
        await receive(database, reference)

    assert await counted(database) == 0


async def test_a_hex_code_that_looks_like_a_reference_is_not_counted(database: Database) -> None:
    hex_codes = replace(Policy(), code_format=CodeFormat(6, Alphabet.HEX))
    rules = Rules(hex_codes, Keyring([SECRET]))
    await database.write(apply, [text("VERIFY"), text("7B2C4D")], NOON, rules)

    assert await counted(database) == 0
    limits = await database.read(phone_limits.read, PHONE)
    assert limits.wrong_guesses == 1


async def test_unknown_references_are_limited_while_the_phone_is_opted_out(
    database: Database, looked_up: list[str]
) -> None:
    await database.write(apply, [text("STOP")], NOON, RULES)
    for unknown in UNKNOWN[: LIMIT + 1]:
        await receive(database, unknown)

    assert looked_up == UNKNOWN[:LIMIT]
