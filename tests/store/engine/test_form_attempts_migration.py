"""The migration that counts attempts at the web form continues the counts of the last day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table, insert, select

from bot.store import form_attempts
from bot.store.engine import migrate
from bot.store.queues import outbox
from bot.store.tables import FormAttempt, OutboxRow
from tests.store.engine.test_migrate import read

if TYPE_CHECKING:
    from sqlalchemy import URL

    from tests.conftest import MakeDatabase

NOW = datetime.now(UTC)
RECENT, OLD = NOW - timedelta(hours=2), NOW - timedelta(days=2)
BOT_NUMBER, PHONE = "+13125550100", "+13125550001"


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)


def insert_rows_of_0011(connection: Connection) -> None:
    """Insert two requests at the form, one of the last day, and one of an app."""
    command.upgrade(migrate.config(connection), "0011")

    def add(table: str, **row: Any) -> None:
        of_0011 = Table(table, MetaData(), autoload_with=connection)
        connection.execute(insert(of_0011).values(row))

    add(
        "conversations",
        id=1,
        phone=PHONE,
        bot_number=BOT_NUMBER,
        state="idle",
        hints_in_a_row=0,
        answers_in_a_row=0,
    )
    for number, (origin, at) in enumerate((("form", RECENT), ("form", OLD), ("app", RECENT))):
        key = f"{number:032x}"
        times = {"created_at": at, "expires_at": at + timedelta(minutes=10)}
        add(
            "verifications",
            public_id=key,
            origin=origin,
            bot_number=BOT_NUMBER,
            phone=PHONE,
            metadata={},
            status="expired",
            test=False,
            asked_from="network" if origin == "form" else None,
            **times,
        )
        add(
            "tokens",
            id=key,
            conversation_id=1,
            key_id="key",
            length=6,
            alphabet="digits",
            issued_at=at,
            expires_at=times["expires_at"],
            resend_after=at,
            guesses=0,
            verification_id=key,
            origin=origin,
        )
        add(
            "outbox",
            key=key,
            conversation_id=1,
            token_id=key,
            bot_number=BOT_NUMBER,
            reply="code",
            body="a text",
            state="accepted",
            created_at=at,
            send_by=at,
            due_at=at,
            attempts=1,
            carrier_id=key,
        )


@pytest.mark.parametrize("downgraded", [False, True])
async def test_the_counts_of_the_last_day_continue(
    empty_database_url: URL, *, downgraded: bool
) -> None:
    url = empty_database_url
    await migrate.on_connection(url, insert_rows_of_0011)
    await migrate.migrate(url)
    if downgraded:
        await migrate.on_connection(
            url, lambda connection: command.downgrade(migrate.config(connection), "0011")
        )
        await migrate.migrate(url)
    day = NOW - timedelta(days=1)
    requests = await read(
        url, lambda each: form_attempts.count(each, FormAttempt.REQUEST, "network", day)
    )
    # A downgrade keeps no networks.
    assert requests == ((0, None) if downgraded else (1, RECENT))
    assert await read(url, lambda each: outbox.count_form_codes(each, day)) == 1
    origins = select(OutboxRow.origin).order_by(OutboxRow.id)
    assert await read(url, lambda each: list(each.scalars(origins))) == ["form", None, None]
