"""A claim is cheap, however long the queue is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from bot.simulator.clock import NOON
from bot.store.queues import outbox

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bot.store.engine.database import Database

QUEUED, AT_ONCE, FEW = 100_000, 20_000, 1000
NUMBERS = ("+13125550100", "+13125550101")
# Each is to a different person; one in 2,000 has a code, one in ten is from the second number.
_NUMBERED = "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
_CONVERSATIONS = (
    "INSERT INTO conversations (id, phone, bot_number, state, hints_in_a_row,"
    " answers_in_a_row) {numbered}"
    " SELECT i, '+1' || (2000000000 + i), {number}, 'idle', 0, 0 FROM n"
)
_TOKENS = (
    "INSERT INTO tokens (id, conversation_id, key_id, length, alphabet, issued_at, expires_at,"
    " resend_after, guesses) {numbered}"
    " SELECT 'token' || i, i, 'key', 6, 'digits', {now}, {later}, {now}, 0 FROM n"
    " WHERE i % 2000 = 0"
)
_TEXTS = (
    "INSERT INTO outbox (key, conversation_id, bot_number, token_id, reply, body, state,"
    " created_at, send_by, due_at, attempts) {numbered}"
    " SELECT 'key' || i, i, {number}, CASE WHEN i % 2000 = 0 THEN 'token' || i END, 'status_idle',"
    " 'A text', 'queued', {now}, {later}, {now}, 0 FROM n"
)


def fill(connection: Connection, first: int, last: int) -> None:
    zone = "" if connection.dialect.name == "sqlite" else "+00"
    parts = {
        "numbered": _NUMBERED.format(first=first, last=last),
        "number": f"CASE WHEN i % 10 = 0 THEN '{NUMBERS[1]}' ELSE '{NUMBERS[0]}' END",
        "now": f"'2026-01-15 12:00:00.000000{zone}'",
        "later": f"'2026-01-15 12:10:00.000000{zone}'",
    }
    for statement in (_CONVERSATIONS, _TOKENS, _TEXTS):
        connection.exec_driver_sql(statement.format(**parts))


def analyze(connection: Connection) -> None:
    connection.execute(text("ANALYZE"))


def plans_of(connection: Connection, work: Any) -> list[str]:
    """Run `work`, and return the query plan of each of its statements."""
    ran: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: Any) -> None:
        ran.append((statement, parameters[0] if many else parameters))

    event.listen(connection, "before_cursor_execute", note)
    work(connection)
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    plans = []
    for statement, given in ran:
        steps = connection.exec_driver_sql(explain + statement, given)
        plans.append("\n".join([statement, *(str(step[-1]) for step in steps)]))
    return plans


@pytest.mark.parametrize("analyzed", [True, False])
async def test_a_claim_neither_sorts_nor_reads_a_queue_of_100_000(
    database: Database, *, analyzed: bool
) -> None:
    for first in range(1, QUEUED, AT_ONCE):
        await database.write(fill, first, first + AT_ONCE - 1)
    if analyzed:
        await database.write(analyze)

    def query_and_claim(connection: Connection) -> None:
        assert outbox.any_due(connection, NOON, [NUMBERS[0]])
        assert outbox.unsendable(connection, NOON) == {}
        assert outbox.drop(connection, [], NOON) == []
        claims = outbox.claim(connection, 20, NOON, lambda number: 20 * (number == NUMBERS[1]))
        assert [bool(claimed.token) for claimed in claims] == [True] * 20
        others = outbox.claim(connection, 60, NOON)
        assert [bool(claimed.token) for claimed in others] == [True] * 30 + [False] * 30

    for plan in await database.write(plans_of, query_and_claim):
        assert "SCAN outbox" not in plan
        assert "Seq Scan on outbox" not in plan
        assert "TEMP B-TREE" not in plan
        # If there are few codes, PostgreSQL may read and sort them all.
        assert all(int(count) < FEW for count in re.findall(r"Sort .*?rows=(\d+)", plan))
