"""No statement of a bot at work looks through a whole table, however many people it knows.

Whatever is executed while it serves people, apps and the form, sends, tells of events and keeps
house is judged by the plan that the database makes for it. What only an operator's command runs,
like the counts of `bot status`, may take its time and is not looked at.
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

from bot.conversation.verification import Origin, Status
from bot.services.verifications import VerificationRequest
from bot.simulator.clock import NOON
from bot.simulator.sandbox import PHONE
from bot.simulator.stories.transcript import code_in
from bot.store import retention
from bot.store.engine import migrate
from bot.store.tables import Base
from tests.kit.apps import app_with, make_key
from tests.kit.bulk_data import GROWING, insert_people
from tests.kit.stored import other_than

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeSandbox

CROWD = range(20000)
OTHERS = [f"+1312555{number:04}" for number in range(2, 8)]
QUEUES = {
    index.name
    for table in Base.metadata.tables.values()
    for index in table.indexes
    if "= '" in str(index.dialect_options["postgresql"]["where"])
}
"""Indexes of what waits: as short as the queue, however long the table."""
MANAGEMENT = ("BEGIN", "SAVEPOINT", "RELEASE", "PRAGMA", "SHOW")

Statements = dict[str, Any]


@pytest.fixture
async def crowded(database_url: URL) -> URL:
    """Have many people be known already."""

    def fill(connection: Connection) -> None:
        insert_people(connection, CROWD, NOON - timedelta(days=1), timedelta(seconds=20))

    await migrate.on_connection(database_url, fill)
    return database_url


@contextmanager
def noted() -> Iterator[Statements]:
    """Note what any engine executes: each statement, with parameters it had."""
    statements: Statements = {}

    def note(*executed: Any) -> None:
        _, _, statement, parameters, *_ = executed
        if not statement.startswith(MANAGEMENT):
            statements[statement] = parameters[0] if isinstance(parameters, list) else parameters

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def be_busy(sandbox: Sandbox) -> None:
    """Do all that people, apps and loops do."""
    await text_much(sandbox)
    await ask_by_api(sandbox)
    await ask_at_form(sandbox)
    await be_unlucky(sandbox)
    async with ClientSession() as session, session.get(f"{sandbox.bot.url}/readyz") as answer:
        assert answer.status == 200
    await sandbox.travel(PHONE, timedelta(hours=1))
    assert sandbox.bot.expirer is not None
    await sandbox.bot.expirer.expire_all()
    assert await sandbox.bot.database.write(retention.purge_chunk, NOON + timedelta(days=40))


async def text_much(sandbox: Sandbox) -> None:
    (asked,) = await sandbox.text(PHONE, "VERIFY")
    code = code_in(asked.text) or ""
    await sandbox.travel(PHONE, timedelta(seconds=31))
    for said in ("RESEND", other_than(code), "hello", code, "STATUS", "STOP", "START", "NOT ME"):
        await sandbox.text(PHONE, said)


async def ask_by_api(sandbox: Sandbox) -> None:
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


async def ask_at_form(sandbox: Sandbox) -> None:
    apps = sandbox.bot.verifications
    assert apps is not None
    for _ in range(2):
        begun = await apps.begin(
            VerificationRequest(Origin.FORM, OTHERS[4], session="s", asked_from="here")
        )
        await sandbox.travel(PHONE, timedelta(seconds=31))
        assert begun.verification is not None
        await apps.resend(begun.verification.id)
    await apps.of_session("s")


async def be_unlucky(sandbox: Sandbox) -> None:
    """Have the carrier fail in each way that has statements of its own."""
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
    (told,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).one()
    (plan,) = json.loads(told) if isinstance(told, str) else told
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
    """Tell whether a statement reads some rows from the end of a table and stops."""
    return "LIMIT" in statement and "WHERE" not in statement


def scans(connection: Connection, statements: Statements) -> dict[str, list[str]]:
    """Name what statements look through, by statement."""
    on_sqlite = connection.dialect.name == "sqlite"
    find = scans_on_sqlite if on_sqlite else scans_on_postgresql
    if not on_sqlite:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
    return {
        statement: found
        for statement, parameters in statements.items()
        if not is_page(statement) and (found := find(connection, statement, parameters))
    }


async def test_no_statement_of_a_bot_at_work_looks_through_a_table(
    crowded: URL, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few of so many, as in a table that has grown.
    monkeypatch.setattr(retention, "CHUNK", 5)
    sandbox = await make_sandbox(with_app=True, web_codes_per_day=4)
    with noted() as statements:
        await be_busy(sandbox)
    assert len(statements) > 50
    found: dict[str, list[str]] = {}

    def judge(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            found.update(scans(connection, statements))
        # PostgreSQL soon knows its tables by itself, SQLite only where it is told to.
        connection.execute(text("ANALYZE"))
        found.update(scans(connection, statements))

    await migrate.on_connection(crowded, judge)
    assert found == {}


def test_what_points_at_rows_that_are_removed_is_found_by_an_index() -> None:
    for table in Base.metadata.tables.values():
        for pointing in (key.parent for key in table.foreign_keys):
            (key,) = pointing.foreign_keys
            if key.column.table in {removed for removed, *_ in retention._KEPT}:
                assert pointing in {index.columns.values()[0] for index in table.indexes}
