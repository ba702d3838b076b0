"""Rows of any number of people who verified their numbers some time ago, generated in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

_BOT_NUMBER = "+13125550100"
_PHONES = 789 * 10**6
_STEP = 487_628_819
"""Coprime to the number of phones, so that no two people have the same one."""
_SCATTER = "(i * 2654435761 % 4294967296)"

_EXPRESSIONS = {
    "sqlite": {
        "time": "strftime('%Y-%m-%d %H:%M:%f000', :start + i * :interval, 'unixepoch')",
        "token": "printf('%032x', i)",
        "public_id": f"printf('%08x%024x', {_SCATTER}, i)",
        "random": "lower(hex(randomblob(16)))",
    },
    "postgresql": {
        "time": "to_timestamp(:start + i * :interval)",
        "token": "lpad(to_hex(i), 32, '0')",
        "public_id": f"lpad(to_hex({_SCATTER}), 8, '0') || lpad(to_hex(i), 24, '0')",
        "random": "replace(CAST(gen_random_uuid() AS text), '-', '')",
    },
}
_ID = "CAST(i + 1 AS BIGINT)"
_POSITION = f"i * {_STEP} % {_PHONES}"
_PHONE = f"'+1' || (201 + {_POSITION} / 1000000) || (2000000 + {_POSITION} % 1000000)"
_LIMITS = {"phone": _PHONE, "wrong_guesses": "0", "locks": "0", "code_times": "'[]'"}
_TEXT = {
    "key": "{random}",
    "conversation_id": _ID,
    "state": "'delivered'",
    "created_at": "{time}",
    "send_by": "{time}",
    "due_at": "{time}",
    "attempts": "1",
    "carrier_id": "{random}",
}
_ROWS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ("phone_limits", 1, _LIMITS),
    (
        "conversations",
        1,
        {
            "id": _ID,
            "phone": _PHONE,
            "bot_number": f"'{_BOT_NUMBER}'",
            "state": "'verified'",
            "token_id": "{token}",
            "hints_in_a_row": "0",
            "answers_in_a_row": "0",
        },
    ),
    (
        "people",
        1,
        {"phone": _PHONE, "opted_out": "false", "verified_at": "{time}", "not_mes": "0"},
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
            "issued_at": "{time}",
            "expires_at": "{time}",
            "resend_after": "{time}",
            "guesses": "0",
            "used_at": "{time}",
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
    ("processed_webhooks", 1, {"key": "'message:' || {random}", "processed_at": "{time}"}),
    ("processed_webhooks", 1, {"key": "'event:' || {random}", "processed_at": "{time}"}),
    ("early_reports", 100, {"carrier_id": "{random}", "state": "'sent'", "received_at": "{time}"}),
    (
        "channel_limits",
        10,
        {
            "phone": _PHONE,
            "channel": "'api:0123456789ab'",
            "wrong_guesses": "0",
            "locks": "0",
            "failures": "0",
            "wrong_times": "'[]'",
        },
    ),
    (
        "form_attempts",
        10,
        {"kind": "'request'", "subject": "{random}", "made_at": "{time}"},
    ),
    ("form_proofs", 10, {"proof": "{random}", "used_at": "{time}"}),
    (
        "form_waits",
        10,
        {"network": "{random}", "session": "{random}", "ready_at": "{time}"},
    ),
    (
        "verifications",
        10,
        {
            "public_id": "{public_id}",
            "origin": "'app'",
            "bot_number": f"'{_BOT_NUMBER}'",
            "phone": _PHONE,
            "reference": "'order-' || i",
            "metadata": "'{{}}'",
            "status": "'verified'",
            "created_at": "{time}",
            "expires_at": "{time}",
            "ended_at": "{time}",
            "test": "FALSE",
        },
    ),
    (
        "app_events",
        10,
        {
            "public_id": "'msg_' || {random}",
            "subject": "{public_id}",
            "type": "'verification.verified'",
            "body": "'{{}}'",
            "state": "'delivered'",
            "created_at": "{time}",
            "due_at": "{time}",
            "attempts": "1",
        },
    ),
    (
        "idempotency_keys",
        10,
        {
            "key": "{random}",
            "fingerprint": "''",
            "outcome": "'right'",
            "verification_id": "{public_id}",
            "tries_left": "5",
            "answered_at": "{time}",
        },
    ),
)

GROWING = frozenset(table for table, *_ in _ROWS)
"""The tables that grow with the number of people; all others are small."""
# Rows inserted with an id do not advance the sequence.
_ADVANCE_SEQUENCE = "SELECT setval('conversations_id_seq', :last + 1)"


def phone_of(number: int) -> str:
    """Return the phone (E.164) of a person by number, generated or not."""
    position = number * _STEP % _PHONES
    return f"+1{201 + position // 10**6}{2_000_000 + position % 10**6}"


def insert_people(
    connection: Connection, people: range, start: datetime, interval: timedelta
) -> None:
    """Insert the rows of the people with these numbers, one every `interval` from `start` (UTC).

    Each has texted VERIFY and the code; every tenth has a verification of an app too.
    """
    expressions = _EXPRESSIONS[connection.dialect.name]
    parameters = {
        "first": people.start,
        "last": people.stop - 1,
        "start": start.timestamp(),
        "interval": interval.total_seconds(),
    }
    for table, every, row in _ROWS:
        values = ", ".join(row.values()).format_map(expressions)
        statement = (
            f"INSERT INTO {table} ({', '.join(row)})"
            " WITH RECURSIVE n(i) AS (SELECT CAST(:first AS BIGINT)"
            " UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
            f" SELECT {values} FROM n WHERE i % {every} = 0"
        )
        connection.execute(text(statement), parameters)
    if connection.dialect.name == "postgresql":
        connection.execute(text(_ADVANCE_SEQUENCE), parameters)
