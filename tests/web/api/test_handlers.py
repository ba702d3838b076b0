from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from structlog.testing import capture_logs

from bot.conversation.verification import Origin, Reason, RequestOutcome, Status, Verification
from bot.services.verifications import RequestResult
from bot.simulator.clock import NOON, StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.store.api_keys import Scope
from bot.store.engine.errors import UnavailableError
from bot.web.api.handlers import MAX_BODY_BYTES
from bot.web.api.openapi import document_text
from tests.kit.api_server import served
from tests.kit.apps import App, app_with, make_key
from tests.kit.fake_verifications import CODE, LETTERS, REFERENCE, FakeVerifications

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from bot.store.engine.database import Database

TEST_NUMBER = "+13125550055"
LANDLINE = "+442079460000"

on_sqlite = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
pytestmark = on_sqlite


@dataclass
class ApiServer:
    """The API alone, with verifications in memory."""

    app: App
    bot: FakeVerifications
    database: Database
    clock: StoppedClock

    async def with_key(self, *scopes: Scope, per_minute: int = 600) -> App:
        key = await make_key(self.database, self.clock, scopes or tuple(Scope), per_minute)
        return App(self.app.session, self.app.url, key)


@pytest.fixture
async def server(database: Database) -> AsyncIterator[ApiServer]:
    clock = StoppedClock()
    bot = FakeVerifications(clock)
    test_numbers = {TEST_NUMBER, LANDLINE[:-1] + "1"}
    key = await make_key(database, clock)
    async with (
        served(bot, database, clock, test_numbers) as url,
        app_with(url, key) as app,
    ):
        yield ApiServer(app, bot, database, clock)


@pytest.fixture
def app(server: ApiServer) -> App:
    return server.app


def assert_problem(answer: Any, status: int, code: str | None = None) -> None:
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    problem = answer.body
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("code") == code
    assert problem["type"] == (f"/docs#{code}" if code else "about:blank")


# Begin a verification.


async def test_a_number_is_read_as_people_write_it_and_the_verification_is_returned(
    server: ApiServer, app: App
) -> None:
    body = {"to": "(312) 555-0001", "reference": "order 1138", "metadata": {"user": ["ü", 1.5]}}
    answer = await app.post("verifications", body)

    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Location"] == f"/v1/verifications/{answer.body['id']}"
    assert answer.body == {
        "id": "0" * 32,
        "status": "pending",
        "reason": None,
        "to": PHONE,
        "bot_number": BOT_NUMBER,
        "reference": "order 1138",
        "label": None,
        "metadata": {"user": ["ü", 1.5]},
        "origin": "app",
        "complete": "typed",
        "created_at": "2026-01-15T12:00:00Z",
        "expires_at": "2026-01-15T12:10:00Z",
        "ended_at": None,
        "revoked_at": None,
        "test": False,
        "code_length": None,
    }
    (params,) = server.bot.requests
    assert (params.origin, params.phone, params.session, params.visit) == (
        Origin.APP,
        PHONE,
        None,
        None,
    )
    assert (await app.get(f"verifications/{answer.body['id']}")).body == answer.body


async def test_only_the_response_to_a_creating_request_has_the_letters_of_a_reply(
    app: App,
) -> None:
    body = {"to": PHONE, "complete": "reply"}
    begun = (await app.post("verifications", body, once="once")).body
    assert (begun["complete"], begun["reply_with"]) == ("reply", LETTERS)
    assert (await app.post("verifications", body, once="once")).body == begun
    id_ = begun["id"]
    others = [
        await app.get(f"verifications/{id_}"),
        await app.get("verifications"),
        await app.post(f"verifications/{id_}/resend"),
        await app.post(f"verifications/{id_}/cancel"),
    ]
    assert all("reply_with" not in other.text for other in others)


async def test_without_a_number_the_response_says_how_to_ask_the_person(app: App) -> None:
    begun = await app.begin(metadata={"user": "u_17"})

    assert (begun["to"], begun["reference"], begun["origin"]) == (None, REFERENCE, "reference")
    assert begun["instruction"] == f"Text VERIFY {REFERENCE} to +1 312-555-0100"
    assert begun["sms_link"] == f"sms:{BOT_NUMBER}?body=VERIFY%20{REFERENCE}"
    assert unquote(begun["sms_link"].partition("body=")[2]) == f"VERIFY {REFERENCE}"
    assert ET.fromstring(begun["qr_code"]).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own
    shown = (await app.get(f"verifications/{begun['id']}")).body
    assert begun.keys() - shown.keys() == {"instruction", "sms_link", "qr_code"}


async def test_only_the_response_to_the_creating_request_shows_an_issued_reference(
    server: ApiServer, app: App
) -> None:
    body = {"label": "Rene\u0301's login"}
    begun = (await app.post("verifications", body, once="once")).body
    assert (begun["reference"], begun["label"]) == (REFERENCE, "René's login")
    assert (await app.post("verifications", body, once="once")).body == begun
    id_ = begun["id"]
    for other in (
        await app.get(f"verifications/{id_}"),
        await (await server.with_key(Scope.READ)).get(f"verifications/{id_}"),
        await app.get("verifications"),
        await app.post(f"verifications/{id_}/resend"),
        await app.post(f"verifications/{id_}/check", {"code": "654321"}),
    ):
        assert other.status == 200
        assert REFERENCE not in other.text
        assert "René's login" in other.text
    cancelled = await app.post(f"verifications/{id_}/cancel")
    assert cancelled.body["reference"] == REFERENCE  # it no longer works
    assert (await app.get(f"verifications/{id_}")).body["reference"] == REFERENCE


async def test_a_reference_that_has_expired_is_shown(server: ApiServer, app: App) -> None:
    begun = await app.begin()
    server.clock.travel(timedelta(minutes=10))
    assert (await app.get(f"verifications/{begun['id']}")).body["reference"] == REFERENCE


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("nobody", "this is not a phone number"),
        ("123", "no phone number has this many digits"),
        ("+1 900 123 4567", "this is a premium-rate number"),
        (LANDLINE, "this is a landline"),
        ("+18005550199", "this is a toll-free number"),
        ("+19005550100", "this is a premium-rate number"),
        ("+491801123456", "this is a shared-cost number"),
        ("+445512345678", "this is a company's shared number"),
        ("+447640123456", "this is a pager"),
        (BOT_NUMBER, "this is the bot's own number"),
        ("\ud83d\ude00\u0000", "this is not a phone number"),
    ],
)
async def test_a_number_that_cannot_be_texted_is_refused_with_the_reason(
    number: str, reason: str, server: ApiServer, app: App
) -> None:
    answer = await app.post("verifications", {"to": number})
    assert_problem(answer, 422)
    (error,) = answer.body["errors"]
    assert error["field"] == "to"
    assert error["reason"].startswith(reason)
    assert server.bot.requests == []
    assert number not in answer.text


@pytest.mark.parametrize("number", [TEST_NUMBER, LANDLINE[:-1] + "1"])
async def test_a_test_number_may_be_of_any_kind(number: str, app: App) -> None:
    assert (await app.begin(to=number))["to"] == number


_NESTED: dict[str, Any] = {}
for _ in range(8):
    _NESTED = {"in": [_NESTED]}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"to": 13125550001}, ["to"]),
        ({"to": ""}, ["to"]),
        ({"to": "1" * 65}, ["to"]),
        ({"to": PHONE, "reference": ""}, ["reference"]),
        ({"to": PHONE, "reference": "x" * 129}, ["reference"]),
        ({"to": PHONE, "reference": "two\nlines"}, ["reference"]),
        ({"to": PHONE, "reference": "\u0000"}, ["reference"]),
        ({"reference": "mine"}, ["reference"]),
        ({"label": ""}, ["label"]),
        ({"label": "x" * 25}, ["label"]),
        ({"label": "evil.example"}, ["label"]),
        ({"label": "call 112"}, ["label"]),
        ({"label": 7}, ["label"]),
        ({"to": PHONE, "label": "Ann's login"}, ["label"]),
        ({"to": PHONE, "complete": "both"}, ["complete"]),
        ({"to": PHONE, "complete": True}, ["complete"]),
        ({"metadata": []}, ["metadata"]),
        ({"metadata": {"a": "\u0000"}}, ["metadata"]),
        ({"metadata": {"a\u0000": 1}}, ["metadata"]),
        ({"metadata": {"a": float("nan")}}, ["metadata"]),
        ({"metadata": {"a": [float("inf")]}}, ["metadata"]),
        ({"metadata": {"a": "x" * 4096}}, ["metadata"]),
        ({"metadata": _NESTED}, ["metadata"]),
        ({"phone": PHONE, "To": PHONE}, ["phone", "To"]),
        ({"to": 1, "reference": 2, "metadata": 3}, ["to", "reference", "metadata"]),
        ([], ["body"]),
        ("VERIFY", ["body"]),
    ],
)
async def test_each_invalid_part_of_a_body_is_named(
    body: object, fields: list[str], server: ApiServer, app: App
) -> None:
    answer = await app.ask("POST", "verifications", raw=json.dumps(body).encode())
    assert_problem(answer, 422)
    assert answer.fields == fields
    assert server.bot.requests == []


async def test_metadata_is_returned_unchanged_however_odd(app: App) -> None:
    metadata = {"": None, "\\u0000": "\\u0000", "n": [0, -1.5, 10**30, True], "😀": {"é": "\x7f"}}
    assert (await app.begin(to=PHONE, metadata=metadata))["metadata"] == metadata


async def test_null_is_the_same_as_absent(app: App) -> None:
    begun = await app.begin(to=None, reference=None, label=None, metadata=None)
    assert (begun["origin"], begun["label"], begun["metadata"]) == ("reference", None, {})
    assert (await app.begin(to=PHONE, label=None))["label"] is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"metadata": {"a": "\\ud800"}}', b'{"a":' * 300 + b"1" + b"}" * 300],
)
async def test_a_body_that_is_not_json_is_refused(raw: bytes, app: App) -> None:
    assert_problem(await app.ask("POST", "verifications", raw=raw), 400)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_another_content_type_or_encoding_is_refused(
    headers: dict[str, str], app: App
) -> None:
    answer = await app.ask("POST", "verifications", raw=b"{}", headers=headers)
    assert_problem(answer, 415)


async def test_a_body_that_is_too_long_or_too_slow_is_refused(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = json.dumps({"to": PHONE}).encode().ljust(MAX_BODY_BYTES)
    assert (await app.ask("POST", "verifications", raw=most)).status == 201
    assert_problem(await app.ask("POST", "verifications", raw=most + b" "), 413)

    monkeypatch.setattr("bot.web.api.handlers.BODY_TIMEOUT", 0.05)
    host, port = app.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/verifications HTTP/1.1\r\nHost: bot\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + (app.key or "").encode() + b"\r\nContent-Length: 9\r\n\r\n{"
    )
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "application/problem+json" in answer


# Unknown paths, methods and ids.


@pytest.mark.parametrize("path", ["", "verification", "verifications/", "verifications/a/b"])
async def test_an_unknown_path_is_a_problem(path: str, app: App) -> None:
    assert_problem(await app.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "verifications", {"GET", "HEAD", "POST"}),
        ("PUT", "verifications/1", {"GET", "HEAD"}),
        ("GET", "verifications/1/check", {"POST"}),
        ("OPTIONS", "verifications", {"GET", "HEAD", "POST"}),
        ("QUERY", "verifications", {"GET", "HEAD", "POST"}),
    ],
)
async def test_the_response_to_a_wrong_method_names_the_right_ones(
    method: str, path: str, allowed: set[str], app: App
) -> None:
    answer = await app.ask(method, path)
    assert_problem(answer, 405)
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == allowed
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("name", ["unknown", "x" * 33, "%00", "%ED%A0%80", "é", "a.b"])
@pytest.mark.parametrize("what", ["", "/check", "/resend", "/cancel"])
async def test_an_unknown_id_is_not_found(name: str, what: str, app: App) -> None:
    body = {"code": CODE} if what == "/check" else None
    answer = await app.ask("POST" if what else "GET", f"verifications/{name}{what}", body)
    assert_problem(answer, 404, "not_found")


async def test_head_returns_headers_only(app: App) -> None:
    begun = await app.begin(to=PHONE)
    answer = await app.ask("HEAD", f"verifications/{begun['id']}")
    assert (answer.status, answer.text) == (200, "")


# Check, resend, cancel.


async def test_each_request_belongs_to_the_channel_of_its_key(server: ApiServer, app: App) -> None:
    other = await server.with_key(Scope.WRITE)
    begun = (await app.post("verifications", {"to": PHONE})).body
    await app.post(f"verifications/{begun['id']}/check", {"code": "654321"})
    await other.post(f"verifications/{begun['id']}/resend")
    keys = [(each.key or "").split("_")[1] for each in (app, app, other)]
    seen = [server.bot.requests[0].channel, *server.bot.channels]
    assert seen == [f"api:{key}" for key in keys]


async def test_a_right_code_verifies_and_a_wrong_one_leaves_fewer_tries(app: App) -> None:
    begun = await app.begin(to=PHONE)
    path = f"verifications/{begun['id']}/check"

    wrong = await app.post(path, {"code": "000000"})
    assert wrong.status == 200
    assert (wrong.body["valid"], wrong.body["tries_left"]) == (False, 4)
    assert wrong.body["verification"] == begun

    right = await app.post(path, {"code": CODE})
    assert right.status == 200
    assert right.body["valid"] is True
    assert right.body["verification"]["status"] == "verified"
    assert right.body["verification"]["ended_at"] == "2026-01-15T12:00:00Z"

    again = await app.post(path, {"code": CODE})
    assert_problem(again, 409, "not_pending")
    assert "verified" in again.body["detail"]
    assert CODE not in again.text


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["code"]),
        ({"code": 123456}, ["code"]),
        ({"code": ""}, ["code"]),
        ({"code": "1" * 65}, ["code"]),
        ({"code": None}, ["code"]),
        ({"code": "1", "to": PHONE}, ["to"]),
    ],
)
async def test_a_check_without_a_code_is_refused_and_quotes_nothing(
    body: dict[str, object], fields: list[str], app: App
) -> None:
    begun = await app.begin(to=PHONE)
    answer = await app.post(f"verifications/{begun['id']}/check", body)
    assert_problem(answer, 422)
    assert answer.fields == fields
    assert "123456" not in answer.text
    assert PHONE not in answer.text


async def test_a_code_can_be_sent_again_until_the_verification_is_canceled(app: App) -> None:
    begun = await app.begin(to=PHONE)
    path = f"verifications/{begun['id']}"
    again = await app.post(f"{path}/resend")
    assert (again.status, again.body) == (200, begun)
    canceled = await app.post(f"{path}/cancel")
    assert (canceled.status, canceled.body["status"]) == (200, "canceled")
    for what in ("resend", "cancel"):
        answer = await app.post(f"{path}/{what}")
        assert_problem(answer, 409, "not_pending")
        assert "canceled" in answer.body["detail"]


async def test_a_verification_past_its_lifetime_is_expired(server: ApiServer, app: App) -> None:
    begun = await app.begin(to=PHONE)
    server.clock.travel(timedelta(minutes=10))
    assert (await app.get(f"verifications/{begun['id']}")).body["status"] == "expired"
    answer = await app.post(f"verifications/{begun['id']}/cancel")
    assert "expired" in answer.body["detail"]


# Outcomes.

_PATHS = {
    "begin": ("verifications", {"to": PHONE}),
    "check": (f"verifications/{'0' * 32}/check", {"code": CODE}),
    "resend": (f"verifications/{'0' * 32}/resend", None),
    "cancel": (f"verifications/{'0' * 32}/cancel", None),
}


def documented_statuses(what: str) -> Collection[str]:
    path = "/v1/verifications" + ("" if what == "begin" else f"/{{id}}/{what}")
    responses: dict[str, Any] = json.loads(document_text())["paths"][path]["post"]["responses"]
    return responses.keys()


@pytest.mark.parametrize(
    ("what", "outcome", "status", "field"),
    [
        ("begin", RequestOutcome.TOO_MANY_CODES, 429, None),
        ("begin", RequestOutcome.LOCKED, 429, None),
        ("begin", RequestOutcome.NOT_ME, 429, None),
        ("begin", RequestOutcome.TOO_MANY_REQUESTS, 429, None),
        ("begin", RequestOutcome.OPTED_OUT, 422, "to"),
        ("begin", RequestOutcome.KEY_REUSED, 422, "Idempotency-Key"),
        ("check", RequestOutcome.TOO_MANY_GUESSES, 429, None),
        ("check", RequestOutcome.NOT_PENDING, 409, None),
        ("check", RequestOutcome.NOT_FOUND, 404, None),
        ("check", RequestOutcome.KEY_REUSED, 422, "Idempotency-Key"),
        ("resend", RequestOutcome.TOO_SOON, 429, None),
        ("resend", RequestOutcome.TOO_MANY_CODES, 429, None),
        ("resend", RequestOutcome.NOT_PENDING, 409, None),
        ("resend", RequestOutcome.NOT_FOUND, 404, None),
        ("cancel", RequestOutcome.NOT_PENDING, 409, None),
        ("cancel", RequestOutcome.NOT_FOUND, 404, None),
    ],
)
async def test_each_outcome_has_its_documented_response(
    what: str, outcome: RequestOutcome, status: int, field: str | None, server: ApiServer
) -> None:
    server.bot.next_result = RequestResult(outcome, retry_at=NOON + timedelta(seconds=41.2))
    answer = await server.app.post(*_PATHS[what])
    assert_problem(answer, status, outcome)
    assert str(status) in documented_statuses(what)
    assert answer.headers.get("Retry-After") == ("42" if status == 429 else None)
    assert [wrong["field"] for wrong in answer.body.get("errors", [])] == [field] * bool(field)
    assert PHONE not in answer.text


@pytest.mark.parametrize(
    ("retry_at", "wait"), [(NOON - timedelta(hours=1), "1"), (NOON, "1"), (None, "30")]
)
async def test_a_wait_is_at_least_a_second(
    retry_at: Any, wait: str, server: ApiServer, app: App
) -> None:
    server.bot.next_result = RequestResult(RequestOutcome.TOO_SOON, retry_at=retry_at)
    answer = await app.post(*_PATHS["resend"])
    assert answer.headers["Retry-After"] == wait


async def test_an_outage_returns_503_with_retry_after(server: ApiServer, app: App) -> None:
    server.bot.next_result = UnavailableError("gone for the test")
    answer = await app.post("verifications", {"to": PHONE})
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "5"
    assert "gone for the test" not in answer.text


async def test_an_internal_error_is_logged_and_quotes_nothing(server: ApiServer, app: App) -> None:
    server.bot.next_result = ValueError(f"about {PHONE}")
    with capture_logs() as log:
        answer = await app.post("verifications", {"to": PHONE})
    assert_problem(answer, 500)
    assert PHONE not in answer.text
    assert [line["event"] for line in log] == ["request failed"]


async def test_a_failed_verification_has_a_reason(server: ApiServer, app: App) -> None:
    server.bot.stored["gone"] = Verification(
        id="gone",
        origin=Origin.APP,
        bot_number=BOT_NUMBER,
        created_at=NOON,
        expires_at=NOON,
        status=Status.FAILED,
        reason=Reason.UNDELIVERABLE,
        ended_at=NOON,
    )
    shown = (await app.get("verifications/gone")).body
    assert (shown["status"], shown["reason"]) == ("failed", "undeliverable")


# List verifications.


async def test_a_list_is_read_page_by_page_and_each_verification_once(
    server: ApiServer, app: App
) -> None:
    begun = [(await app.begin(to=PHONE))["id"] for _ in range(7)]
    read, path = [], "verifications?limit=3"
    for more in (True, True, False):
        page = (await app.get(path)).body
        read += [verification["id"] for verification in page["data"]]
        assert (page["next_cursor"] is not None) is more
        path = f"verifications?limit=3&cursor={page['next_cursor']}"
    assert read == begun[::-1]
    assert server.bot.filters[0].limit == 4


async def test_a_page_that_is_just_full_is_the_last(app: App) -> None:
    for _ in range(3):
        await app.begin(to=PHONE)
    page = (await app.get("verifications?limit=3")).body
    assert (len(page["data"]), page["next_cursor"]) == (3, None)
    assert (await app.get("verifications?limit=100")).status == 200


@pytest.mark.parametrize("to", ["%2B13125550001", "+13125550001", "312-555-0001"])
async def test_a_list_can_be_of_one_status_number_and_reference(
    to: str, server: ApiServer, app: App
) -> None:
    wanted = await app.begin(to=PHONE, reference="a b")
    await app.begin(to="+13125550002", reference="a b")
    await app.begin(to=PHONE)
    page = (await app.get(f"verifications?status=pending&to={to}&reference=a%20b")).body
    assert page == {"data": [wanted], "next_cursor": None}
    assert server.bot.filters[0].phone == PHONE
    assert (await app.get("verifications?status=verified")).body["data"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%201", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=gone", "status"),
        ("status=pending&status=failed", "status"),
        ("to=nobody", "to"),
        ("to=", "to"),
        ("reference=", "reference"),
        ("reference=%00", "reference"),
        (f"reference={'x' * 129}", "reference"),
        ("cursor=", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=YQ==", "cursor"),
        ("cursor=YR", "cursor"),
        ("cursor=%F0%9F%98%80", "cursor"),
        ("page=2", "page"),
    ],
)
async def test_each_invalid_parameter_is_named(query: str, field: str, app: App) -> None:
    answer = await app.get(f"verifications?{query}")
    assert_problem(answer, 422)
    assert answer.fields == [field]


# Idempotency.


async def test_a_repeated_request_is_carried_out_once(server: ApiServer, app: App) -> None:
    first = await app.post("verifications", {"to": PHONE}, once="a word")
    again = await app.post("verifications", {"to": PHONE}, once="a word")
    assert (first.status, again.status, again.body) == (422, 422, first.body)  # a blank
    first = await app.post("verifications", {"to": PHONE}, once="a-word")
    again = await app.post("verifications", {"to": PHONE}, once="a-word")
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert len(server.bot.stored) == 1


async def test_another_request_under_the_same_key_is_refused(server: ApiServer, app: App) -> None:
    begun = await app.post("verifications", {"to": PHONE}, once="1")
    path = f"verifications/{begun.body['id']}"
    for asked in (
        app.post("verifications", {"to": "+13125550002"}, once="1"),
        app.post(f"{path}/cancel", once="1"),
    ):
        answer = await asked
        assert_problem(answer, 422, "key_reused")
        assert answer.fields == ["Idempotency-Key"]
    assert server.bot.stored[begun.body["id"]].status is Status.PENDING


async def test_two_apps_may_use_the_same_idempotency_key(server: ApiServer, app: App) -> None:
    other = await server.with_key()
    ids = {(await each.post("verifications", {}, once="1")).body["id"] for each in (app, other)}
    assert len(ids) == 2
    first, second = server.bot.idempotency_keys
    assert first is not None
    assert second is not None
    assert first.key != second.key
    assert first.fingerprint == second.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", first.key)


@pytest.mark.parametrize("word", ["", "x" * 256, "a b", "ü"])
async def test_a_malformed_idempotency_key_is_refused(
    word: str, server: ApiServer, app: App
) -> None:
    headers = {"Idempotency-Key": word}
    for path, body in _PATHS.values():
        answer = await app.ask("POST", path, body, headers=headers)
        assert_problem(answer, 422)
        assert answer.fields == ["Idempotency-Key"]
    assert server.bot.idempotency_keys == []
