"""Migration 0011: rows of one line under two spellings become one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, insert, select

from bot.conversation.numbers import canonical
from bot.store.engine import migrate
from bot.store.tables import Base
from tests.store.engine.test_migrate import (
    MOVED_COLUMNS,
    ROWS,
    broken_foreign_keys,
    hours,
    read,
)

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

    from tests.conftest import MakeDatabase

CANONICAL, OTHER = "+525512345678", "+5215512345678"
OF_THE_USA = "+13125550001"
BOT_NUMBER, SECOND_BOT_NUMBER = "+13125550100", "+13125550101"
NEW_CONVERSATION: dict[str, Any] = ROWS["conversations"] | {
    "state": "idle",
    "verified_at": None,
    "token_id": None,
    "opted_out_at": None,
    "opted_in_at": None,
    "opt_out_wording": None,
    "hints_in_a_row": 0,
    "last_hint_at": None,
    "answers_in_a_row": 0,
    "last_answer_at": None,
}

NEW_COLUMNS: dict[str, dict[str, Any]] = {
    "conversations": {"texted_from": None, "unreachable": None},
    "outbox": {"recipient": None, "origin": None},
    "phone_limits": {"key_code_times": ()},
}
OTHERS = {"unknown_reference_times", "reply_rule", "letters_index", "explained", "complete"}
OTHERS |= {"form_code_times", "failures", "wrong_times", "closed", "channel", "code_length"}
OTHERS |= {"blocked_at", "revoked_at", "label"}
"""The columns that the other migrations after 0008 have added."""

Rows = list[tuple[str, dict[str, Any]]]
_ids = count(100)


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> URL:
    return make_database(migrated=False)


def conversation(id_: int, phone: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "conversations", NEW_CONVERSATION | {"id": id_, "phone": phone} | changes


def token(id_: str, conversation_id: int, **changes: Any) -> tuple[str, dict[str, Any]]:
    unused = {"used_at": None, "ended_at": None, "verification_id": None, "origin": "person"}
    row = ROWS["tokens"] | unused | {"id": id_, "conversation_id": conversation_id}
    return "tokens", row | changes


def outbox_text(conversation_id: int, **changes: Any) -> tuple[str, dict[str, Any]]:
    row = ROWS["outbox"] | {"id": next(_ids), "carrier_id": None, "token_id": None}
    return "outbox", row | {"conversation_id": conversation_id} | changes


def limits(phone: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "phone_limits", ROWS["phone_limits"] | {"phone": phone} | changes


def verification(id_: str, phone: str | None) -> tuple[str, dict[str, Any]]:
    row = ROWS["verifications"] | {"id": next(_ids), "public_id": id_, "phone": phone}
    return "verifications", row | {"reference": id_, "reason": None, "ended_at": None}


async def migrated(url: URL, *rows: tuple[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Store rows in a database of 0008, migrate it, and return all rows by table."""

    def insert_rows(connection: Connection) -> None:
        command.upgrade(migrate.config(connection), "0008")
        for name, row in rows:
            table = Table(name, MetaData(), autoload_with=connection)
            values = dict(row)
            if "code_times" in row:
                values["code_times"] = [time.isoformat() for time in row["code_times"]]
            connection.execute(insert(table).values(values))

    def read_rows(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        return {
            name: [
                {column: row._mapping[column] for column in row._mapping if column not in OTHERS}
                for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for name, table in Base.metadata.tables.items()
        }

    await migrate.on_connection(url, insert_rows)
    await migrate.migrate(url)
    assert await read(url, broken_foreign_keys) == []
    found: dict[str, list[dict[str, Any]]] = await read(url, read_rows)
    return _with_moved_columns(found)


def _with_moved_columns(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Put back what the migration to `people` has moved, so that the rows are those of 0011."""
    people = {row["phone"]: row for row in found["people"]}
    for row in found["conversations"]:
        person = people.get(row["phone"], {})
        row |= {name: person.get(name) for name in MOVED_COLUMNS["conversations"]}
    for row in found["phone_limits"]:
        row["refused_until"] = people[row["phone"]]["not_me_at"] + timedelta(hours=1)
    return found


async def only_conversation(url: URL, *rows: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    (found,) = (await migrated(url, *rows))["conversations"]
    return found


async def test_rows_under_the_other_spelling_get_the_canonical_one(
    empty_database_url: URL,
) -> None:
    event = ROWS["app_events"] | {"subject": OTHER}
    found = await migrated(
        empty_database_url,
        limits(OTHER),
        ("web_phone_limits", ROWS["web_phone_limits"] | {"phone": OTHER}),
        conversation(7, OTHER, last_hint_at=hours(1)),
        token("token", 7),
        outbox_text(7, token_id="token"),
        verification("verification", OTHER),
        ("app_events", event),
    )
    (phone,) = found["conversations"]
    assert (phone["id"], phone["phone"], phone["texted_from"]) == (7, CANONICAL, OTHER)
    times = ROWS["web_phone_limits"]["code_times"]
    assert found["phone_limits"] == [
        ROWS["phone_limits"] | {"phone": CANONICAL, "key_code_times": times}
    ]
    assert found["verifications"][0]["phone"] == CANONICAL
    assert found["app_events"][0]["subject"] == CANONICAL
    # A text that may have been sent already is sent again to the same number.
    assert [(row["recipient"], row["state"]) for row in found["outbox"]] == [(OTHER, "queued")]


async def test_texts_to_a_phone_that_never_texted_go_to_the_canonical_spelling(
    empty_database_url: URL,
) -> None:
    phone = await only_conversation(empty_database_url, conversation(7, OTHER))
    assert (phone["phone"], phone["texted_from"]) == (CANONICAL, None)


@pytest.mark.parametrize(
    "phone",
    ["+525512345678", "+5491123456789", "+5511987654321", "+551177654321", OF_THE_USA],
)
async def test_rows_of_other_phones_stay_as_they_are(empty_database_url: URL, phone: str) -> None:
    rows = conversation(7, phone), limits(phone), token("token", 7), outbox_text(7)
    found = await migrated(empty_database_url, *rows)
    for name, row in rows:
        assert found[name] == [row | NEW_COLUMNS.get(name, {})]


@pytest.mark.parametrize("other", ["+541123456789", "+543764123456", "+551187654321", OTHER])
async def test_the_rules_are_those_of_the_bot(empty_database_url: URL, other: str) -> None:
    phone = await only_conversation(empty_database_url, conversation(7, other))
    assert phone["phone"] == canonical(other) != other


@pytest.mark.parametrize("opted_out", [CANONICAL, OTHER])
async def test_an_opt_out_wins_and_nothing_more_is_sent(
    empty_database_url: URL, opted_out: str
) -> None:
    opt_out = {"state": "opted_out", "opted_out_at": hours(2), "opt_out_wording": "STOP"}
    rows: Rows = []
    for id_, phone in enumerate((CANONICAL, OTHER)):
        codes = [(f"code {id_}", f"verification {id_}")]
        changes = opt_out if phone == opted_out else {"state": "awaiting_code"}
        rows += [conversation(id_, phone, opted_in_at=hours(id_), **changes)]
        rows += [token(code, id_, verification_id=each) for code, each in codes]
        rows += [outbox_text(id_, token_id=code) for code, _ in codes]
        rows += [outbox_text(id_)]
    found = await migrated(empty_database_url, *rows)
    (phone_row,) = found["conversations"]
    assert phone_row["state"] == "opted_out"
    assert (phone_row["opted_out_at"], phone_row["opted_in_at"]) == (hours(2), hours(1))
    assert phone_row["opt_out_wording"] == "STOP"
    assert {row["state"] for row in found["outbox"]} == {"cancelled"}
    assert all(row["ended_at"] for row in found["tokens"])


async def test_the_later_success_stays(empty_database_url: URL) -> None:
    phone = await only_conversation(
        empty_database_url,
        conversation(1, CANONICAL, state="verified", verified_at=hours(2)),
        conversation(2, OTHER, state="verified", verified_at=hours(5)),
    )
    assert (phone["id"], phone["state"]) == (1, "verified")
    assert (phone["phone"], phone["verified_at"]) == (CANONICAL, hours(5))


async def test_limits_take_the_greater_values_and_all_codes_count(empty_database_url: URL) -> None:
    found = await migrated(
        empty_database_url,
        limits(CANONICAL, wrong_guesses=4, locks=0, locked_until=None, code_times=(hours(3),)),
        limits(OTHER, wrong_guesses=2, locks=3, code_times=(hours(1), hours(5))),
    )
    assert found["phone_limits"] == [
        ROWS["phone_limits"]
        | {"phone": CANONICAL, "wrong_guesses": 4, "locks": 3}
        | {"code_times": (hours(1), hours(3), hours(5)), "key_code_times": ()}
    ]


async def test_open_verifications_follow_with_their_codes_and_texts(
    empty_database_url: URL,
) -> None:
    found = await migrated(
        empty_database_url,
        conversation(1, CANONICAL, state="verified", verified_at=hours(1)),
        conversation(2, OTHER, state="awaiting_code"),
        token("code", 2, verification_id="verification", origin="app"),
        outbox_text(2, token_id="code"),
        verification("verification", OTHER),
        verification("without a phone", None),
    )
    (phone,) = found["conversations"]
    assert (phone["id"], phone["state"], phone["verified_at"]) == (1, "awaiting_code", hours(1))
    assert [row["conversation_id"] for row in found["tokens"]] == [1]
    assert found["tokens"][0]["ended_at"] is None
    assert [
        (row["conversation_id"], row["state"], row["recipient"]) for row in found["outbox"]
    ] == [(1, "queued", OTHER)]
    assert [(row["phone"], row["status"]) for row in found["verifications"]] == [
        (CANONICAL, "pending"),
        (None, "pending"),
    ]


@pytest.mark.parametrize("works", ["older", "newer"])
async def test_of_two_codes_the_one_that_works_stays(empty_database_url: URL, works: str) -> None:
    def ended(code: str) -> dict[str, Any]:
        return {"ended_at": None if code == works else hours(1)}

    found = await migrated(
        empty_database_url,
        conversation(1, CANONICAL, state="awaiting_code", token_id="older"),
        conversation(2, OTHER, state="awaiting_code", token_id="newer"),
        token("older", 1, expires_at=hours(2), **ended("older")),
        token("newer", 2, expires_at=hours(3), **ended("newer")),
        outbox_text(1, token_id="older"),
        outbox_text(2, token_id="newer"),
    )
    (phone,) = found["conversations"]
    assert phone["token_id"] == works
    of_code = {row["token_id"]: row["state"] for row in found["outbox"]}
    assert of_code == {"older": "cancelled", "newer": "cancelled"} | {works: "queued"}


async def test_a_code_that_another_one_replaces_no_longer_works(empty_database_url: URL) -> None:
    found = await migrated(
        empty_database_url,
        conversation(1, CANONICAL, state="awaiting_code", token_id="later"),
        conversation(2, OTHER, state="awaiting_code", token_id="earlier"),
        token("later", 1, expires_at=hours(3)),
        token("earlier", 2, expires_at=hours(2)),
    )
    ended = {row["id"]: row["ended_at"] for row in found["tokens"]}
    assert ended["later"] is None
    assert ended["earlier"] <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("canonical_at", "other_at", "expected"),
    [(hours(1), hours(2), OTHER), (hours(2), hours(1), None), (None, None, None)],
)
async def test_texts_go_to_the_spelling_that_last_texted(
    empty_database_url: URL,
    canonical_at: datetime | None,
    other_at: datetime | None,
    expected: str | None,
) -> None:
    phone = await only_conversation(
        empty_database_url,
        conversation(1, CANONICAL, last_answer_at=canonical_at),
        conversation(2, OTHER, last_hint_at=other_at),
    )
    assert phone["texted_from"] == expected


async def test_each_bot_number_keeps_a_conversation_of_its_own(empty_database_url: URL) -> None:
    found = await migrated(
        empty_database_url,
        conversation(1, CANONICAL),
        conversation(2, OTHER, hints_in_a_row=2),
        conversation(3, OTHER, bot_number=SECOND_BOT_NUMBER),
    )
    assert [
        (row["id"], row["phone"], row["bot_number"], row["hints_in_a_row"])
        for row in found["conversations"]
    ] == [(1, CANONICAL, BOT_NUMBER, 2), (3, CANONICAL, SECOND_BOT_NUMBER, 0)]
