"""Migration 0013: what belongs to a person is kept once, for all of the bot's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, insert, select

from bot.store.engine import migrate
from bot.store.tables import Base
from tests.store.engine.test_migrate import broken_foreign_keys, hours, read
from tests.store.engine.test_one_line_one_phone import (
    BOT_NUMBER,
    SECOND_BOT_NUMBER,
    conversation,
    limits,
    outbox_text,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import URL, Connection

    from tests.conftest import MakeDatabase

PHONE = "+13125550001"
STOPPED = {"state": "opted_out", "opted_out_at": hours(2), "opt_out_wording": "STOP"}
OTHER_NUMBER = {"bot_number": SECOND_BOT_NUMBER}
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)


def upgrade_to_0011(connection: Connection) -> None:
    command.upgrade(migrate.config(connection), "0011")


def downgrade_to_0011(connection: Connection) -> None:
    command.downgrade(migrate.config(connection), "0011")


async def migrated(url: URL, *rows: tuple[str, dict[str, Any]]) -> Rows:
    """Store rows in a database of 0011, migrate it, and return all rows by table."""

    def insert_rows(connection: Connection) -> None:
        for name, row in rows:
            table = Table(name, MetaData(), autoload_with=connection)
            values = dict(row)
            if "code_times" in row:
                values["code_times"] = [time.isoformat() for time in row["code_times"]]
            connection.execute(insert(table).values(values))

    await migrate.on_connection(url, upgrade_to_0011)
    await migrate.on_connection(url, insert_rows)
    await migrate.migrate(url)
    assert await read(url, broken_foreign_keys) == []
    found: Rows = await read(url, all_rows)
    return found


def all_rows(connection: Connection) -> Rows:
    return {
        name: [
            dict(row._mapping)
            for row in connection.execute(select(table).order_by(*table.primary_key))
        ]
        for name, table in Base.metadata.tables.items()
    }


async def person_of(url: URL, *rows: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    (person,) = (await migrated(url, *rows))["people"]
    return person


async def test_a_phone_of_which_nothing_is_kept_gets_no_row(empty_database_url: URL) -> None:
    found = await migrated(
        empty_database_url, conversation(1, PHONE), limits(PHONE, refused_until=None)
    )
    assert found["people"] == []
    assert len(found["conversations"]) == len(found["phone_limits"]) == 1


async def test_the_latest_times_of_all_numbers_stay(empty_database_url: URL) -> None:
    person = await person_of(
        empty_database_url,
        conversation(1, PHONE, state="verified", verified_at=hours(1), opted_in_at=hours(5)),
        conversation(2, PHONE, **OTHER_NUMBER, verified_at=hours(4), opted_out_at=hours(3)),
    )
    assert person == {
        "phone": PHONE,
        "opted_out": False,
        "opted_out_at": hours(3),
        "opted_in_at": hours(5),
        "opt_out_wording": None,
        "verified_at": hours(4),
        "verified_alone_at": None,
        "not_me_at": None,
        "not_mes": 0,
        "cancelled_at": None,
        "own_code_at": None,
    }


@pytest.mark.parametrize(
    ("stopped_at", "started_at", "opted_out"),
    [
        (hours(2), None, True),
        (hours(2), hours(1), True),
        (hours(2), hours(2), True),
        (hours(2), hours(3), False),
        (None, hours(3), True),
    ],
)
async def test_an_opt_out_at_one_number_is_one_for_all_unless_a_start_followed(
    empty_database_url: URL,
    stopped_at: datetime | None,
    started_at: datetime | None,
    *,
    opted_out: bool,
) -> None:
    found = await migrated(
        empty_database_url,
        conversation(1, PHONE, **STOPPED | {"opted_out_at": stopped_at}),
        conversation(2, PHONE, **OTHER_NUMBER, opted_in_at=started_at),
        outbox_text(1, body="a confirmation"),
        outbox_text(2, bot_number=SECOND_BOT_NUMBER),
        ("phone_limits", limits(PHONE)[1] | {"refused_until": None}),
    )
    (person,) = found["people"]
    assert person["opted_out"] is opted_out
    assert person["opt_out_wording"] == "STOP"
    elsewhere = "cancelled" if opted_out else "queued"
    assert [row["state"] for row in found["outbox"]] == ["queued", elsewhere]


async def test_other_phones_are_left_alone(empty_database_url: URL) -> None:
    other = "+13125550002"
    found = await migrated(
        empty_database_url,
        conversation(1, PHONE, **STOPPED),
        conversation(2, other),
        outbox_text(2),
    )
    assert [row["phone"] for row in found["people"]] == [PHONE]
    assert [row["state"] for row in found["outbox"]] == ["queued"]


@pytest.mark.parametrize("known", [True, False])
async def test_the_end_of_a_refusal_becomes_the_time_of_the_not_me(
    empty_database_url: URL, *, known: bool
) -> None:
    verified_at = hours(1) if known else None
    person = await person_of(
        empty_database_url,
        conversation(1, PHONE, verified_at=verified_at),
        limits(PHONE, refused_until=hours(9)),
    )
    assert (person["not_me_at"], person["not_mes"]) == (hours(8), 1)
    assert (person["verified_at"], person["opted_out"]) == (verified_at, False)


async def test_a_downgrade_gives_each_conversation_what_the_person_has(
    empty_database_url: URL,
) -> None:
    url = empty_database_url
    await migrated(
        url,
        conversation(1, PHONE, **STOPPED, verified_at=hours(1)),
        conversation(2, PHONE, **OTHER_NUMBER),
        limits(PHONE, refused_until=hours(9)),
    )
    before = await read(url, all_rows)
    await migrate.on_connection(url, downgrade_to_0011)

    def states(connection: Connection) -> list[Any]:
        table = Table("conversations", MetaData(), autoload_with=connection)
        rows = connection.execute(select(table).order_by(table.c.id))
        return [(row.bot_number, row.state, row.opt_out_wording) for row in rows]

    assert await read(url, states) == [
        (BOT_NUMBER, "opted_out", "STOP"),
        (SECOND_BOT_NUMBER, "opted_out", "STOP"),
    ]
    await migrate.migrate(url)
    assert (await read(url, all_rows))["people"] == before["people"]
