"""Rows of any number of people who were verified some time ago, generated in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

_BOT_NUMBER = "+13125550100"
_PHONES = 789 * 10**6
_STEP = 487_628_819
"""Has no common divisor with the count of phones, so that each person has another phone."""
_SCATTER = "(i * 2654435761 % 4294967296)"

_WORDS = {
    "sqlite": {
        "moment": "strftime('%Y-%m-%d %H:%M:%f000', :began + i * :apart, 'unixepoch')",
        "token": "printf('%032x', i)",
        "name": f"printf('%08x%024x', {_SCATTER}, i)",
        "random": "lower(hex(randomblob(16)))",
    },
    "postgresql": {
        "moment": "to_timestamp(:began + i * :apart)",
        "token": "lpad(to_hex(i), 32, '0')",
        "name": f"lpad(to_hex({_SCATTER}), 8, '0') || lpad(to_hex(i), 24, '0')",
        "random": "replace(CAST(gen_random_uuid() AS text), '-', '')",
    },
}
_ID = "CAST(i + 1 AS BIGINT)"
_AT = f"i * {_STEP} % {_PHONES}"
_PHONE = f"'+1' || (201 + {_AT} / 1000000) || (2000000 + {_AT} % 1000000)"
_LIMITS = {"phone": _PHONE, "wrong_guesses": "0", "locks": "0", "code_times": "'[]'"}
_TEXT = {
    "key": "{random}",
    "conversation_id": _ID,
    "state": "'delivered'",
    "created_at": "{moment}",
    "send_by": "{moment}",
    "due_at": "{moment}",
    "attempts": "1",
    "carrier_id": "{random}",
}
_ROWS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ("ledgers", 1, _LIMITS),
    (
        "conversations",
        1,
        {
            "id": _ID,
            "phone": _PHONE,
            "bot_number": f"'{_BOT_NUMBER}'",
            "state": "'verified'",
            "verified_at": "{moment}",
            "token_id": "{token}",
            "hints": "0",
            "answers": "0",
        },
    ),
    (
        "tokens",
        1,
        {
            "id": "{token}",
            "conversation_id": _ID,
            "key_id": "'0123456789abcdef'",
            "length": "6",
            "alphabet": "'digits'",
            "issued_at": "{moment}",
            "expires_at": "{moment}",
            "resend_after": "{moment}",
            "guesses": "0",
            "used_at": "{moment}",
        },
    ),
    (
        "outbox",
        1,
        _TEXT
        | {
            "token_id": "{token}",
            "reply": "'code'",
            "body": "'Textproof: your code is {{code}}. Reply with it within 10 minutes.'",
        },
    ),
    (
        "outbox",
        1,
        _TEXT | {"reply": "'success'", "body": "'Textproof: this number is verified. Thank you.'"},
    ),
    ("received", 1, {"key": "'message:' || {random}", "received_at": "{moment}"}),
    ("received", 1, {"key": "'event:' || {random}", "received_at": "{moment}"}),
    ("reports", 100, {"carrier_id": "{random}", "state": "'sent'", "received_at": "{moment}"}),
    ("web_ledgers", 10, _LIMITS),
    (
        "verifications",
        10,
        {
            "name": "{name}",
            "origin": "'app'",
            "bot_number": f"'{_BOT_NUMBER}'",
            "phone": _PHONE,
            "reference": "'order-' || i",
            "details": "'{{}}'",
            "status": "'verified'",
            "created_at": "{moment}",
            "expires_at": "{moment}",
            "ended_at": "{moment}",
            "test": "FALSE",
        },
    ),
    (
        "events",
        10,
        {
            "name": "'msg_' || {random}",
            "subject": "{name}",
            "type": "'verification.verified'",
            "body": "'{{}}'",
            "state": "'delivered'",
            "created_at": "{moment}",
            "due_at": "{moment}",
            "attempts": "1",
        },
    ),
    (
        "requests",
        10,
        {
            "key": "{random}",
            "fingerprint": "''",
            "outcome": "'right'",
            "verification_name": "{name}",
            "tries_left": "5",
            "answered_at": "{moment}",
        },
    ),
)

GROWING = frozenset(table for table, *_ in _ROWS)
"""The tables that grow with the number of people; the others are small."""
# Rows with an id of their own do not advance the sequence.
_COUNT_ON = "SELECT setval('conversations_id_seq', :last + 1)"


def phone_of(number: int) -> str:
    """Return the phone (E.164) of the person with this number."""
    at = number * _STEP % _PHONES
    return f"+1{201 + at // 10**6}{2_000_000 + at % 10**6}"


def insert_people(connection: Connection, people: range, began: datetime, apart: timedelta) -> None:
    """Insert the rows of people, the first of whom came at `began` and the others `apart`.

    Each one texted VERIFY and the code; every tenth was verified for an app.
    """
    words = _WORDS[connection.dialect.name]
    given = {
        "first": people.start,
        "last": people.stop - 1,
        "began": began.timestamp(),
        "apart": apart.total_seconds(),
    }
    for table, every, row in _ROWS:
        values = ", ".join(row.values()).format_map(words)
        statement = (
            f"INSERT INTO {table} ({', '.join(row)})"
            " WITH RECURSIVE n(i) AS (SELECT CAST(:first AS BIGINT)"
            " UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
            f" SELECT {values} FROM n WHERE i % {every} = 0"
        )
        connection.execute(text(statement), given)
    if connection.dialect.name == "postgresql":
        connection.execute(text(_COUNT_ON), given)
