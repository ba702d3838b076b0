from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from html.parser import HTMLParser
from importlib import resources
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import DummyCookieJar, web
from structlog.testing import capture_logs

from bot.conversation.state import Alphabet, CodeFormat
from bot.conversation.verification import Origin, RequestOutcome
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.store.engine.errors import UnavailableError
from bot.web.app import error_middleware
from bot.web.form.sessions import Sessions
from bot.web.form.views import MAX_BODY_BYTES, RESPONSE_INTERVAL, Form, FormSettings
from bot.web.http.lookup_gate import LookupGate
from tests.kit.fake_verifications import CODE, FIRST_ID, FakeVerifications
from tests.kit.form_client import FormClient
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.pytest_plugin import AiohttpClient
    from aiohttp.test_utils import TestClient

    from tests.kit.form_client import Page

KEYS = ["a secret of the tests that is long enough", "an older secret that is long enough, too"]
WRONG = "That code is not right, or it has ended. Please check it, or ask for a new one."
TEST_NUMBER = "+15005550006"
PUBLIC_URL = "https://verify.example.com"
TERMS = FormSettings(
    app_name="Textproof",
    code_format=CodeFormat(6, Alphabet.DIGITS),
    code_lifetime=timedelta(minutes=10),
    country_code="+1",
    countries=("US",),
    bot_numbers=frozenset({BOT_NUMBER}),
    test_numbers=frozenset({TEST_NUMBER}),
)
REFUSALS = (
    RequestOutcome.LOCKED,
    RequestOutcome.OPTED_OUT,
    RequestOutcome.NOT_ME,
    RequestOutcome.TOO_MANY_CODES,
)


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.web.form.views.RESPONSE_INTERVAL", 0.001)


@dataclass
class Counter:
    """A form alone, with an engine behind it that keeps all in memory."""

    client: TestClient[Any, Any]
    engine: FakeVerifications
    clock: StoppedClock

    def asker(self) -> FormClient:
        return FormClient(self.client)


@pytest.fixture
def make_counter(aiohttp_client: AiohttpClient) -> Callable[..., Awaitable[Counter]]:
    async def make(
        public_url: str = "",
        keys: list[str] = KEYS,
        lookup_timeout: float = TEST_TIMEOUT,
        **changes: Any,
    ) -> Counter:
        clock = StoppedClock()
        engine = FakeVerifications(clock)
        terms = replace(TERMS, **changes)
        application = web.Application(middlewares=[error_middleware])
        form = Form(engine, terms, Sessions(keys, public_url), clock, LookupGate(lookup_timeout))
        application.add_routes(form.routes())
        return Counter(await aiohttp_client(application), engine, clock)

    return make


@pytest.fixture
async def counter(make_counter: Callable[..., Awaitable[Counter]]) -> Counter:
    return await make_counter()


@pytest.fixture
def asker(counter: Counter) -> FormClient:
    return counter.asker()


async def test_who_types_a_number_and_the_code_that_came_is_verified(
    counter: Counter, asker: FormClient
) -> None:
    asked = await asker.open()
    assert (asked.status, asked.error) == (200, "")
    code_form = await asker.post("/request", phone="(312) 555-0001")
    assert (code_form.status, code_form.path) == (200, "/verify")
    assert "+1 312-555-0001" in code_form.body
    done = await asker.post("/verify", code=CODE)
    assert (done.status, done.path) == (200, "/success")
    assert "Your number is verified" in done.body
    (params,) = counter.engine.requests
    assert (params.origin, params.phone) == (Origin.FORM, PHONE)


async def test_a_wrong_code_is_told_and_the_right_one_still_works(
    counter: Counter, asker: FormClient
) -> None:
    await asker.request(PHONE)
    again = await asker.post("/verify", code="654321")
    assert (again.status, again.path, again.error) == (200, "/verify?told=wrong", WRONG)
    assert (await asker.post("/verify", code=CODE)).path == "/success"
    assert [code for _, code in counter.engine.checked] == ["654321", CODE]


@pytest.mark.parametrize(
    "typed",
    ["123456", " 123 456 ", "123-456", "123\u2013456", "１２３４５６", "1.2.3.4.5.6"],  # noqa: RUF001
)
async def test_a_code_may_be_typed_as_people_do(asker: FormClient, typed: str) -> None:
    await asker.request(PHONE)
    assert (await asker.post("/verify", code=typed)).path == "/success"


@pytest.mark.parametrize("fields", [{}, {"code": ""}, {"code": " - "}])
async def test_no_code_at_all_costs_no_try(
    counter: Counter, asker: FormClient, fields: dict[str, str]
) -> None:
    await asker.request(PHONE)
    assert (await asker.post("/verify", **fields)).error == WRONG
    assert counter.engine.checked == []


async def test_the_same_is_said_of_a_code_that_has_ended_and_of_one_that_never_was(
    counter: Counter, asker: FormClient
) -> None:
    counter.engine.answers = RequestOutcome.LOCKED
    await asker.request(PHONE)
    assert (await asker.post("/verify", code=CODE)).error == WRONG


async def test_a_reload_posts_nothing_twice(counter: Counter, asker: FormClient) -> None:
    await asker.open()
    for path, fields in (
        ("/request", {"phone": PHONE}),
        ("/verify", {"code": "000000"}),
        ("/resend", {}),
        ("/verify", {"code": CODE}),
    ):
        posted = await asker.ask(
            "POST", path, data={"csrf": asker.csrf} | fields, allow_redirects=False
        )
        assert posted.status == 303
        await asker.open(posted.headers["Location"])
    assert len(counter.engine.requests) == 1


async def test_a_code_is_sent_again_with_the_same_answer_whatever_comes_of_it(
    counter: Counter, asker: FormClient
) -> None:
    await asker.request(PHONE)
    shown = []
    for counter.engine.answers in (
        RequestOutcome.DONE,
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.NOT_PENDING,
        RequestOutcome.NOT_FOUND,
    ):
        shown.append(await asker.post("/resend"))
    assert {page.path for page in shown} == {"/verify?told=again"}
    assert len({page.body for page in shown}) == 1
    assert "on its way once more" in shown[0].body
    assert counter.engine.resent == [FIRST_ID] * 5


async def test_a_reply_by_text_turns_the_page(counter: Counter, asker: FormClient) -> None:
    await asker.request(PHONE)
    assert (await asker.open("/status")).body == '{"verified": false}'
    not_yet = await asker.open("/success")
    assert not_yet.path == "/verify?told=not-yet"
    assert "No reply has arrived yet." in not_yet.body
    counter.engine.verify(FIRST_ID)
    assert (await asker.open("/status")).body == '{"verified": true}'
    assert (await asker.open("/success")).path == "/success"
    assert (await asker.open("/verify")).path == "/success"
    assert (await asker.post("/verify", code="000000")).path == "/success"


@pytest.mark.parametrize("path", ["/verify", "/success"])
async def test_who_has_asked_for_no_code_is_led_to_the_form(asker: FormClient, path: str) -> None:
    assert (await asker.open(path)).path == "/"
    assert (await asker.open(path)).path == "/"
    assert (await asker.open("/status")).body == '{"verified": false}'
    assert (await asker.post("/verify", code=CODE)).path == "/"
    assert (await asker.post("/resend")).path == "/"


async def test_the_page_knows_how_long_the_code_lives(counter: Counter, asker: FormClient) -> None:
    page = await asker.request(PHONE)
    assert 'data-left="600"' in page.body
    assert "It works for 10 minutes." in page.body
    counter.clock.travel(timedelta(minutes=9))
    assert 'data-left="60"' in (await asker.open("/verify")).body
    counter.clock.travel(timedelta(minutes=9))
    assert 'data-left="0"' in (await asker.open("/verify")).body


# What a stranger could learn of a number.


async def test_a_number_that_gets_no_code_looks_like_any_other(counter: Counter) -> None:
    shown = {}
    for counter.engine.answers in (RequestOutcome.DONE, *REFUSALS):
        asker = counter.asker()
        await asker.open()
        posted = await asker.ask(
            "POST", "/request", data={"csrf": asker.csrf, "phone": PHONE}, allow_redirects=False
        )
        page = await asker.open("/verify")
        wrong = await asker.post("/verify", code="000000")
        again = await asker.post("/resend")
        shown[counter.engine.answers] = [
            (seen.status, seen.path, _without_secrets(seen))
            for seen in (posted, page, wrong, again)
        ]
    assert len(shown) == 5
    assert all(pages == shown[RequestOutcome.DONE] for pages in shown.values())


def _without_secrets(shown: Page) -> str:
    """Take out what is random in each page."""
    headers = {
        name: value for name, value in shown.headers.items() if name not in {"Date", "Set-Cookie"}
    }
    return re.sub(r"[0-9a-f]{64}", "…", shown.body) + str(sorted(headers.items()))


@pytest.mark.parametrize("takes", [0.0, 0.05, 0.1])
async def test_an_answer_is_as_late_whatever_has_become_of_the_request(
    counter: Counter, asker: FormClient, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    begin, check = counter.engine.begin, counter.engine.check

    async def slow_begin(*asked: Any) -> Any:
        await asyncio.sleep(takes)
        return await begin(*asked)

    async def slow_check(*asked: Any) -> Any:
        await asyncio.sleep(takes)
        return await check(*asked)

    monkeypatch.setattr("bot.web.form.views.RESPONSE_INTERVAL", RESPONSE_INTERVAL)
    monkeypatch.setattr(counter.engine, "begin", slow_begin)
    monkeypatch.setattr(counter.engine, "check", slow_check)
    await asker.open()
    for path, fields in (("/request", {"phone": PHONE}), ("/verify", {"code": "000000"})):
        began = time.perf_counter()
        await asker.ask("POST", path, data={"csrf": asker.csrf} | fields, allow_redirects=False)
        took = time.perf_counter() - began
        assert took >= RESPONSE_INTERVAL - 0.01
        await asker.open("/verify")


# Numbers.


@pytest.mark.parametrize(
    "typed", ["3125550001", "312.555.0001", "+1 312 555 0001", "(312) 555-0001", " 1 312 5550001 "]
)
async def test_a_number_is_read_as_people_write_it(
    counter: Counter, asker: FormClient, typed: str
) -> None:
    page = await asker.request(typed)
    assert page.path == "/verify"
    assert counter.engine.requests[0].phone == PHONE


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("", "Please type your phone number."),
        ("  ", "Please type your phone number."),
        ("hello", "This is not a phone number. Please type all of it, like (201) 555-0123, or"),
        ("555", "This is not a phone number."),
        ("1" * 300, "This is not a phone number."),
        ("\x00", "This is not a phone number."),
        ("+1 900 555 1234", "This is a premium-rate number. Please type the number of a mobile"),
        ("+1 800 555 1234", "This is a toll-free number."),
        ("+44 20 7946 0000", "This is a landline."),
        ("+39 848 123456", "This is a shared-cost number."),
        ("+1 555 123 4567", "This is not a number that is in use."),
        ("+1 416 555 0123", "Please type a number of one of these: US."),
        ("+49 171 1234567", "No code can be texted to that country."),
        ("+1 500 555 0007", "This is a forwarding number."),
        ("+1 312 555 0100", "This is our own number. Please type yours."),
    ],
)
async def test_a_number_that_no_code_can_go_to_is_kept_and_told_what_to_do(
    counter: Counter, asker: FormClient, typed: str, error: str
) -> None:
    page = await asker.request(typed)
    assert (page.status, page.path) == (422, "/request")
    assert error in page.error
    form = _Fields.of(page)
    assert form["phone"]["value"] == typed
    assert form["phone"]["aria-invalid"] == "true"
    assert "error" in form["phone"]["aria-describedby"].split()
    assert counter.engine.requests == []
    assert (await asker.post("/request", phone=PHONE)).path == "/verify"


async def test_a_test_number_may_be_of_any_kind(counter: Counter, asker: FormClient) -> None:
    assert (await asker.request(TEST_NUMBER)).path == "/verify"
    assert counter.engine.requests[0].phone == TEST_NUMBER


async def test_what_was_typed_is_shown_as_text_whatever_it_is(asker: FormClient) -> None:
    said = "\"><script>alert(1)</script>{{ 7 * 7 }}&amp;'"
    page = await asker.request(said)
    assert "<script>alert" not in page.body
    assert _Fields.of(page)["phone"]["value"] == said


# Money.


async def test_too_many_requests_are_told_when_to_come_again(
    counter: Counter, asker: FormClient
) -> None:
    counter.engine.answers = RequestOutcome.TOO_MANY_REQUESTS
    counter.engine.retry_at = counter.clock.now() + timedelta(minutes=12)
    page = await asker.request(PHONE)
    assert (page.status, page.headers["Retry-After"]) == (429, "720")
    assert "Please wait 12 minutes" in page.body
    counter.engine.retry_at = None
    assert (await asker.request(PHONE)).headers["Retry-After"] == "3600"


async def test_requests_are_counted_by_who_makes_them(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    counter = await make_counter(trusted_proxies=[ip_network("127.0.0.0/8")])
    asker = counter.asker()
    for forwarded in ("203.0.113.9", "1.1.1.1, 203.0.113.9", "198.51.100.1"):
        asker.headers = {"X-Forwarded-For": forwarded}
        await asker.request(PHONE)
    first, second, third = (params.asked_from for params in counter.engine.requests)
    assert first == second != third


async def test_who_has_no_proxy_cannot_choose_whom_they_are_counted_as(counter: Counter) -> None:
    asker = counter.asker()
    for forwarded in ("203.0.113.9", "198.51.100.1"):
        asker.headers = {"X-Forwarded-For": forwarded}
        await asker.request(PHONE)
    first, second = (params.asked_from for params in counter.engine.requests)
    assert first == second
    assert first
    assert "127.0.0.1" not in first
    assert first != hashlib.sha256(b"127.0.0.1").hexdigest()


# Sessions.


async def test_a_cookie_is_for_the_server_alone_and_says_nothing(
    counter: Counter, asker: FormClient
) -> None:
    cookie = (await asker.open()).headers["Set-Cookie"]
    assert re.fullmatch(r"textproof=[\w-]{22}; HttpOnly; Path=/; SameSite=Lax", cookie)
    await asker.post("/request", phone=PHONE)
    assert counter.engine.requests[0].session
    assert re.fullmatch("[0-9a-f]{64}", counter.engine.requests[0].session)


async def test_where_people_come_by_https_the_cookie_is_for_this_host_alone(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    counter = await make_counter(public_url=PUBLIC_URL)
    asker = counter.asker()
    opened = await asker.open()
    cookie = opened.headers["Set-Cookie"]
    assert re.fullmatch(
        r"__Host-textproof=[\w-]{22}; HttpOnly; Path=/; SameSite=Lax; Secure", cookie
    )
    asker.headers = {"Cookie": cookie.partition(";")[0], "Origin": PUBLIC_URL}
    posted = await asker.ask(
        "POST", "/request", data={"csrf": opened.csrf, "phone": PHONE}, allow_redirects=False
    )
    assert posted.headers["Location"] == "/verify"


async def test_a_request_makes_a_new_session_so_that_none_can_be_foisted_on_a_person(
    counter: Counter,
) -> None:
    thief, person = counter.asker(), counter.asker()
    await thief.open()
    known = _cookie(counter)
    await person.request(PHONE)
    assert _cookie(counter) != known
    await person.post("/verify", code=CODE)
    assert (await person.open("/success")).path == "/success"
    counter.client.session.cookie_jar.clear()
    thief.headers = {"Cookie": f"textproof={known}"}
    assert (await thief.open("/status")).body == '{"verified": false}'


def _cookie(counter: Counter) -> str:
    (cookie,) = counter.client.session.cookie_jar
    return cookie.value


async def test_a_code_works_only_in_the_browser_that_asked_for_it(counter: Counter) -> None:
    person = counter.asker()
    await person.request(PHONE)
    counter.client.session.cookie_jar.clear()
    stranger = counter.asker()
    await stranger.open()
    assert (await stranger.post("/verify", code=CODE)).path == "/"
    assert counter.engine.checked == []


@pytest.mark.parametrize("cookie", ["", "x", "x" * 23, "é" * 22, "x" * 21 + "\u0663", "../" * 7])
async def test_a_cookie_that_could_not_be_ours_is_none(counter: Counter, cookie: str) -> None:
    asker = counter.asker()
    asker.headers = {"Cookie": f"textproof={cookie}"}
    await asker.open()
    counter.client.session.cookie_jar.clear()
    asked = await asker.ask("POST", "/request", data={"csrf": asker.csrf, "phone": PHONE})
    assert asked.status == 403


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/request", {"phone": PHONE}), ("/verify", {"code": CODE}), ("/resend", {})],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": "http://\N{ACCOUNT OF}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
    ],
)
async def test_a_form_that_another_page_sends_is_refused(
    counter: Counter, asker: FormClient, path: str, fields: dict[str, str], headers: dict[str, str]
) -> None:
    await asker.request(PHONE)
    asker.headers = headers
    refused = await asker.post(path, **fields)
    assert refused.status == 403
    assert "Please begin again" in refused.body
    assert (len(counter.engine.requests), counter.engine.checked, counter.engine.resent) == (
        1,
        [],
        [],
    )
    asker.headers = {"Origin": str(counter.client.make_url("")).rstrip("/")}
    asker.headers["Sec-Fetch-Site"] = "same-origin"
    assert (await asker.post(path, **fields)).status == 200


async def test_with_a_public_address_a_form_comes_from_there(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    counter = await make_counter(public_url="http://verify.example.com")
    asker = counter.asker()
    await asker.open()
    asker.headers = {"Origin": str(counter.client.make_url("")).rstrip("/")}
    assert (await asker.post("/request", phone=PHONE)).status == 403
    asker.headers = {"Origin": "http://verify.example.com"}
    assert (await asker.post("/request", phone=PHONE)).status == 200


async def test_where_all_forms_seem_to_come_from_elsewhere_the_operator_is_told_once_a_minute(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    counter = await make_counter(public_url="http://verify.example.com")
    asker = counter.asker()
    asker.headers = {"Origin": "http://elsewhere.example"}
    with capture_logs() as logged:
        for _ in range(3):
            await asker.request(PHONE)
    (only,) = logged
    assert only["event"] == "form refused"
    assert "PUBLIC_URL" in only["advice"]
    assert "elsewhere" not in str(only)


@pytest.mark.parametrize("token", ["", "0" * 64, "é", "\ud800"])
async def test_a_form_without_its_token_is_refused(
    counter: Counter, asker: FormClient, token: str
) -> None:
    await asker.open()
    body = f"phone=%2B13125550001&csrf={token}".encode("utf-8", "surrogatepass")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await asker.ask("POST", "/request", data=body, headers=kind)
    assert refused.status == (400 if token == "\ud800" else 403)
    assert counter.engine.requests == []


async def test_the_token_of_another_session_is_no_token(
    counter: Counter, asker: FormClient
) -> None:
    await asker.open()
    old = asker.csrf
    await asker.request(PHONE)
    asker.csrf = old
    assert (await asker.post("/verify", code=CODE)).status == 403
    assert counter.engine.checked == []


def test_a_token_is_made_by_a_key_of_its_own_and_outlives_a_new_secret_key() -> None:
    session_id = "x" * 22
    old, both = Sessions([KEYS[1]], ""), Sessions(KEYS, "")
    assert both.knows(old.token(session_id), session_id)
    assert not old.knows(both.token(session_id), session_id)
    assert old.name_of(session_id) == both.name_of(session_id)
    assert not both.knows(old.token(session_id), "y" * 22)
    plain = hmac.new(KEYS[0].encode(), session_id.encode(), hashlib.sha256).hexdigest()
    assert not both.knows(plain, session_id)
    assert both.asked_from(session_id) != both.token(session_id)


async def test_without_cookies_the_form_says_that_it_needs_one(counter: Counter) -> None:
    counter.client.session._cookie_jar = DummyCookieJar()
    refused = await counter.asker().request(PHONE)
    assert refused.status == 403
    assert "your browser keeps no cookies" in refused.body


# What else may come in.


async def test_where_the_database_is_away_the_page_says_to_try_again(
    counter: Counter, asker: FormClient
) -> None:
    await asker.request(PHONE)
    counter.engine.fault = UnavailableError("gone for the test")
    for method, path in (
        ("POST", "/request"),
        ("POST", "/verify"),
        ("POST", "/resend"),
        ("GET", "/verify"),
        ("GET", "/status"),
        ("GET", "/success"),
    ):
        fields = {"csrf": asker.csrf, "phone": PHONE, "code": CODE}
        away = await asker.ask(method, path, data=fields if method == "POST" else None)
        assert (away.status, away.headers["Retry-After"]) == (503, "5")
        assert "Please try again" in away.body
    assert (await asker.open()).status == 200
    counter.engine.fault = None
    assert (await asker.open("/verify")).path == "/verify"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/request"),
        ("PUT", "/verify"),
        ("GET", "/resend"),
        ("POST", "/status"),
        ("DELETE", "/success"),
        ("POST", "/static/form.css"),
    ],
)
async def test_another_method_is_not_allowed(asker: FormClient, method: str, path: str) -> None:
    assert (await asker.ask(method, path)).status == 405


@pytest.mark.parametrize("path", ["/request", "/verify", "/resend"])
async def test_a_body_has_bounds(asker: FormClient, path: str) -> None:
    await asker.open()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    async def in_pieces() -> Any:
        yield b"phone=" + b"1" * MAX_BODY_BYTES

    for body, status in (
        (b"phone=" + b"1" * MAX_BODY_BYTES, 413),
        (in_pieces(), 413),
        (b"&".join([b"a=1"] * 9), 400),
        (b"phone=\xff", 400),
    ):
        refused = await asker.ask("POST", path, data=body, headers=kind)
        assert refused.status == status
        assert "frame-ancestors 'none'" in refused.headers["Content-Security-Policy"]
    assert (await asker.ask("POST", path, json={"phone": PHONE})).status == 415
    assert (await asker.ask("POST", path)).status == 415


async def test_a_body_that_does_not_come_is_not_waited_for(
    counter: Counter, asker: FormClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.web.form.views.BODY_TIMEOUT", 0.05)

    async def never_whole() -> Any:
        yield b"phone="
        await asyncio.Event().wait()
        yield b"1"

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    slow = await asker.ask("POST", "/request", data=never_whole(), headers=kind)
    assert slow.status == 408
    assert counter.engine.requests == []


async def test_every_page_is_guarded_and_kept_nowhere(asker: FormClient) -> None:
    pages = [await asker.open(), await asker.request("x"), await asker.request(PHONE)]
    pages += [await asker.open("/status"), await asker.post("/verify", code=CODE)]
    pages += [await asker.ask("POST", "/verify", data={"csrf": "x"})]
    pages += [await asker.open(f"/static/{name}") for name in ("form.css", "form.js", "icon.svg")]
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"


async def test_a_page_holds_no_script_and_no_style_and_loads_nothing_from_elsewhere(
    asker: FormClient,
) -> None:
    pages = [await asker.open(), await asker.request("x"), await asker.request(PHONE)]
    pages += [await asker.post("/verify", code="000000"), await asker.post("/verify", code=CODE)]
    for page in pages:
        assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page.body) == []
        assert re.findall(r"<script(?! src=\"/static/form.js\" defer></script>)", page.body) == []
        assert re.findall(r"(?:src|href|action)=\"(?!/)", page.body) == []
        assert "//" not in page.body


async def test_only_the_assets_are_served(asker: FormClient) -> None:
    for name in ("base.html", "code.html", "..%2fform.py", "nothing"):
        assert (await asker.open(f"/static/{name}")).status == 404
    for name in ("form.css", "form.js", "icon.svg"):
        assert (await asker.open(f"/static/{name}")).status == 200
    assert {path.name for path in (resources.files("bot.web.form") / "templates").iterdir()} >= {
        "base.html",
        "code.html",
        "number.html",
        "sorry.html",
        "success.html",
    }


async def test_no_number_no_code_and_no_session_reaches_a_log(
    counter: Counter, asker: FormClient, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        await asker.request("+1 900 555 1234")
        await asker.request(PHONE)
        cookie = _cookie(counter)
        await asker.post("/verify", code="000000")
        counter.engine.fault = UnavailableError("gone for the test")
        await asker.post("/resend")
        counter.engine.fault = None
        await asker.post("/verify", code=CODE)
    told = str(logged) + caplog.text
    for secret in ("5551234", "5550001", "000000", CODE, cookie, asker.csrf):
        assert secret not in told


# Who reads the pages.


class _Fields(HTMLParser):
    """The inputs of a page by name, and all its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, dict[str, str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "input":
            self.inputs[values["name"]] = values

    @classmethod
    def of(cls, shown: Page) -> dict[str, dict[str, str]]:
        parser = cls()
        parser.feed(shown.body)
        return parser.inputs


async def test_a_phone_can_fill_in_the_number_and_the_code(asker: FormClient) -> None:
    number = _Fields.of(await asker.open())["phone"]
    assert (number["type"], number["autocomplete"]) == ("tel", "tel")
    code = _Fields.of(await asker.post("/request", phone=PHONE))["code"]
    assert (code["autocomplete"], code["inputmode"]) == ("one-time-code", "numeric")


async def test_a_hexadecimal_code_is_typed_on_the_whole_keyboard_in_any_case(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    counter = await make_counter(code_format=CodeFormat(6, Alphabet.HEX))
    asker = counter.asker()
    page = await asker.request(PHONE)
    assert _Fields.of(page)["code"]["inputmode"] == "text"
    assert "6 characters, 0-9 and A-F" in page.body
    await asker.post("/verify", code="12ab-ef")
    assert counter.engine.checked[0][1] == "12ABEF"


async def test_the_form_bears_the_name_of_the_app(
    make_counter: Callable[..., Awaitable[Counter]],
) -> None:
    asker = (await make_counter(app_name="Tom & Co", country_code="+49")).asker()
    page = await asker.open()
    assert "<title>Verify your phone number – Tom &amp; Co</title>" in page.body  # noqa: RUF001
    assert "For example 01512 3456789." in page.body


async def test_strangers_leave_connections_to_the_database_for_webhooks(
    make_counter: Callable[..., Awaitable[Counter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = await make_counter(lookup_timeout=0.1)
    asker = counter.asker()
    await asker.request(PHONE)
    reading, free = 0, asyncio.Event()

    async def slow(_session: str) -> None:
        nonlocal reading
        reading += 1
        await free.wait()

    monkeypatch.setattr(counter.engine, "of_session", slow)
    asking = [asyncio.create_task(asker.open("/status")) for _ in range(12)]
    await wait_until(lambda: sum(task.done() for task in asking) == 8)
    assert reading == 4
    free.set()
    shown = await asyncio.gather(*asking)
    assert sorted(each.status for each in shown) == [200] * 4 + [503] * 8
    assert (await asker.open("/status")).status == 200
