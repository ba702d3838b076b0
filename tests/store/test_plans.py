"""No statement of a running bot reads a whole table, however many people it knows.

The test examines the database's plan of every statement that the bot executes while it serves
people, apps and the form, sends texts and app events, and deletes old rows. Statements that only an
operator's command runs, like the counts of `bot status`, may be slow and are not examined.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import Connection, Engine, event, text

from bot.conversation.verification import Status
from bot.services.intake.form_gate import FORM_WAIT
from bot.simulator.clock import NOON
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.store import retention
from bot.store.engine import migrate
from bot.store.tables import Base
from tests.kit.apps import app_with, make_key
from tests.kit.bulk_data import GROWING, insert_people
from tests.kit.form_visits import begin_at_form, proven, visit, waiting
from tests.kit.stored import other_than

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

PEOPLE = range(20000)
OTHERS = [f"+1312555{number:04}" for number in range(2, 8)]
QUEUES = {
    index.name
    for table in Base.metadata.tables.values()
    for index in table.indexes
    if "= '" in str(index.dialect_options["postgresql"]["where"])
}
"""Indexes of queued rows: as short as the queue, however long the table."""
MANAGEMENT = ("BEGIN", "SAVEPOINT", "RELEASE", "PRAGMA", "SHOW")

Statements = dict[str, Any]


@pytest.fixture
async def filled_url(database_url: URL) -> URL:
    """Return a database that has the rows of many people."""

    def fill(connection: Connection) -> None:
        insert_people(connection, PEOPLE, NOON - timedelta(days=1), timedelta(seconds=20))

    await migrate.on_connection(database_url, fill)
    return database_url


@contextmanager
def recorded() -> Iterator[Statements]:
    """Record the statements that any engine executes, each with one set of its parameters."""
    statements: Statements = {}

    def record(*executed: Any) -> None:
        _, _, statement, parameters, *_ = executed
        if not statement.startswith(MANAGEMENT):
            statements[statement] = parameters[0] if isinstance(parameters, list) else parameters

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


async def use_everything(sandbox: Sandbox) -> None:
    """Do everything that people, apps and background tasks do."""
    await send_texts(sandbox)
    await use_api(sandbox)
    await use_form(sandbox)
    await meet_faults(sandbox)
    async with ClientSession() as session, session.get(f"{sandbox.bot.url}/readyz") as answer:
        assert answer.status == 200
    await sandbox.travel(PHONE, timedelta(hours=1))
    assert sandbox.bot.expirer is not None
    await sandbox.bot.expirer.expire_all()
    assert await sandbox.bot.database.write(retention.purge_chunk, NOON + timedelta(days=40))


async def send_texts(sandbox: Sandbox) -> None:
    (asked,) = await sandbox.text(PHONE, "VERIFY")
    code = code_in(asked.text) or ""
    await sandbox.travel(PHONE, timedelta(seconds=31))
    for body in ("RESEND", other_than(code), "hello", code, "STATUS", "STOP", "START", "NOT ME"):
        await sandbox.text(PHONE, body)


async def use_api(sandbox: Sandbox) -> None:
    key = await make_key(sandbox.bot.database, sandbox.clock)
    async with app_with(sandbox.bot.url or "", key) as app:
        begun = [await app.begin(to=phone, reference="order") for phone in OTHERS[:3]]
        names = [f"verifications/{each['id']}" for each in begun]
        await sandbox.quiet()
        sent = next(came.text for came in sandbox.telnyx.texts if came.phone == OTHERS[0])
        await sandbox.travel(PHONE, timedelta(seconds=31))
        await app.post(f"{names[0]}/resend", once="once")
        await app.post(f"{names[0]}/check", {"code": other_than(code_in(sent) or "")})
        await app.post(f"{names[0]}/check", {"code": code_in(sent)})
        await app.post(f"{names[1]}/cancel")
        await app.get(names[1])
        by_text = await app.begin()
        await sandbox.text(OTHERS[3], f"VERIFY {by_text['reference']}")
        await app.post(f"verifications/{(await app.begin())['id']}/cancel")
        first = await app.get("verifications?limit=1")
        filters = [f"status={status}" for status in Status]
        filters += ["to=%2B13125550002", "reference=order", f"cursor={first.body['next_cursor']}"]
        for each in filters:
            assert (await app.get(f"verifications?{each}")).status == 200


async def use_form(sandbox: Sandbox) -> None:
    apps = sandbox.bot.verifications
    assert apps is not None
    for number, seen in enumerate((visit("a"), proven("b"), proven("c"), proven("d"))):
        begun = await begin_at_form(apps, OTHERS[4], seen, session=f"s{number}")
        await sandbox.travel(PHONE, timedelta(seconds=31))
        assert begun.verification is not None
        await apps.check(begun.verification.id, "0000000", visit=seen)
        await apps.resend(begun.verification.id, visit=seen)
    for _ in range(2):
        await begin_at_form(apps, OTHERS[4], waiting("e"))
        await sandbox.travel(PHONE, FORM_WAIT)
    await apps.of_session("s0")


async def meet_faults(sandbox: Sandbox) -> None:
    """Let the carrier fail in each way that has statements of its own."""
    for fault in ("500", "drop", "early", "failed", "40300"):
        sandbox.arm(fault)
        await sandbox.text(OTHERS[5], "VERIFY")
        await sandbox.travel(PHONE, timedelta(minutes=20))
        await sandbox.text(OTHERS[5], "START")


def scans_on_sqlite(connection: Connection, statement: str, parameters: Any) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    details = [row.detail for row in plan]
    scanned = (re.fullmatch(r"SCAN (\w+?)(_\d+)?( USING .* (\w+))?", detail) for detail in details)
    return [
        found[0] for found in scanned if found and found[1] in GROWING and found[4] not in QUEUES
    ]


def scans_on_postgresql(connection: Connection, statement: str, parameters: Any) -> list[str]:
    (text_or_json,) = connection.exec_driver_sql(
        f"EXPLAIN (FORMAT JSON) {statement}", parameters
    ).one()
    (plan,) = json.loads(text_or_json) if isinstance(text_or_json, str) else text_or_json
    return [
        f"{node['Node Type']} by {node.get('Index Name') or node.get('Relation Name')}"
        for node in nodes_of(plan["Plan"])
        if node["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")
        and "Index Cond" not in node
        and node.get("Relation Name", "") in {*GROWING, ""}
        and node.get("Index Name") not in QUEUES
    ]


def nodes_of(node: Any) -> Iterator[Any]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes_of(child)


def is_page(statement: str) -> bool:
    """Return whether a statement reads a few rows from the end of a table and stops."""
    return "LIMIT" in statement and "WHERE" not in statement


def scans(connection: Connection, statements: Statements) -> dict[str, list[str]]:
    """Return the scans of each statement that has any."""
    on_sqlite = connection.dialect.name == "sqlite"
    find = scans_on_sqlite if on_sqlite else scans_on_postgresql
    if not on_sqlite:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
    return {
        statement: found
        for statement, parameters in statements.items()
        if not is_page(statement) and (found := find(connection, statement, parameters))
    }


async def test_no_statement_of_a_running_bot_scans_a_table(
    filled_url: URL, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A few rows of many, as in a table that has grown.
    monkeypatch.setattr(retention, "CHUNK", 5)
    sandbox = await make_sandbox(with_app=True, web_codes_per_day=4)
    with recorded() as statements:
        await use_everything(sandbox)
    assert len(statements) > 50
    found: dict[str, list[str]] = {}

    def examine(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            found.update(scans(connection, statements))
        # PostgreSQL soon analyzes its tables by itself, SQLite only when asked.
        connection.execute(text("ANALYZE"))
        found.update(scans(connection, statements))

    await migrate.on_connection(filled_url, examine)
    assert found == {}


def test_foreign_keys_to_rows_that_are_deleted_have_an_index() -> None:
    for table in Base.metadata.tables.values():
        for column in (key.parent for key in table.foreign_keys):
            (key,) = column.foreign_keys
            if key.column.table in {deleted for deleted, *_ in retention._RETENTION}:
                assert column in {index.columns.values()[0] for index in table.indexes}
