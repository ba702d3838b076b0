from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from html import escape
from html.parser import HTMLParser
from importlib import resources
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import DummyCookieJar, web
from msgspec import structs
from structlog.testing import capture_logs

from bot.conversation.channels import FORM
from bot.conversation.state import Alphabet, CodeFormat
from bot.conversation.verification import Origin, RequestOutcome
from bot.services.intake.form_gate import FormLevel, FormOutcome, FormRefusal
from bot.services.recipients import Recipients
from bot.simulator.clock import StoppedClock
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.store.engine.errors import UnavailableError
from bot.web.app import error_middleware
from bot.web.form.sessions import Sessions
from bot.web.form.views import MAX_BODY_BYTES, RESPONSE_INTERVAL, Form, FormSettings
from bot.web.http.lookup_gate import LookupGate
from bot.web.http.refusals import Refusals
from tests.kit.fake_verifications import CODE, FIRST_ID, FakeVerifications
from tests.kit.form_client import FormClient, solved
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.pytest_plugin import AiohttpClient
    from aiohttp.test_utils import TestClient

    from bot.conversation.verification import Verification
    from tests.kit.form_client import Page

KEYS = ["a secret of the tests that is long enough", "an older secret that is long enough, too"]
WRONG = "That code is not right, or it has expired. Please check it, or ask for a new one."
TEST_NUMBER = "+15005550006"
STATIC_FILES = ("form.css", "form.js", "icon.svg", "proof-worker.js")
PUBLIC_URL = "https://verify.example.com"
SETTINGS = FormSettings(
    app_name="Textproof",
    code_format=CodeFormat(6, Alphabet.DIGITS),
    code_lifetime=timedelta(minutes=10),
    recipients=Recipients("+1", [BOT_NUMBER], [TEST_NUMBER], countries=["US"]),
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
class FormServer:
    """The form alone, with verifications in memory."""

    client: TestClient[Any, Any]
    engine: FakeVerifications
    clock: StoppedClock

    def person(self) -> FormClient:
        return FormClient(self.client)


@pytest.fixture
def make_server(aiohttp_client: AiohttpClient) -> Callable[..., Awaitable[FormServer]]:
    async def make(
        public_url: str = "",
        keys: list[str] = KEYS,
        lookup_timeout: float = TEST_TIMEOUT,
        refusals: Refusals | None = None,
        **changes: Any,
    ) -> FormServer:
        clock = StoppedClock()
        engine = FakeVerifications(clock)
        settings = replace(SETTINGS, **changes)
        application = web.Application(middlewares=[error_middleware])
        form = Form(
            engine,
            settings,
            Sessions(keys, public_url),
            clock,
            lookups=LookupGate(lookup_timeout),
            refusals=refusals or Refusals(0.0),
        )
        application.add_routes(form.routes())
        return FormServer(await aiohttp_client(application), engine, clock)

    return make


@pytest.fixture
async def server(make_server: Callable[..., Awaitable[FormServer]]) -> FormServer:
    return await make_server()


@pytest.fixture
def person(server: FormServer) -> FormClient:
    return server.person()


async def test_typing_a_number_and_its_code_verifies_the_number(
    server: FormServer, person: FormClient
) -> None:
    asked = await person.open()
    assert (asked.status, asked.error) == (200, "")
    code_form = await person.post("/request", phone="(312) 555-0001")
    assert (code_form.status, code_form.path) == (200, "/verify")
    assert "+1 312-555-0001" in code_form.body
    done = await person.post("/verify", code=CODE)
    assert (done.status, done.path) == (200, "/success")
    assert "Your number is verified" in done.body
    (params,) = server.engine.requests
    assert (params.origin, params.phone) == (Origin.FORM, PHONE)
    assert {params.channel, *server.engine.channels} == {FORM}


async def test_the_page_says_how_long_the_code_is_that_was_sent(
    server: FormServer, person: FormClient
) -> None:
    await person.request(PHONE)
    assert "6 digits" in (await person.open("/verify")).body
    ((id_, verification),) = server.engine.stored.items()
    server.engine.stored[id_] = structs.replace(verification, code_length=8)
    assert "8 digits" in (await person.open("/verify")).body


async def test_the_form_says_what_asking_for_a_code_is_agreeing_to(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    terms, privacy = "https://example.com/terms/?a=1&b=2", "https://example.com/privacy"
    server = await make_server(app_name="Harbor", terms_url=terms, privacy_url=privacy)
    page = (await server.person().open()).body
    assert "By asking for a code, you agree that Harbor texts it to this number" in page
    for words in ("one text for each request", "Message and data rates may apply", "Reply STOP"):
        assert words in page
    assert f'<a href="{escape(terms)}">Terms</a>' in page
    assert f'<a href="{privacy}">Privacy</a>' in page


async def test_the_form_links_only_to_pages_that_are_set(
    make_server: Callable[..., Awaitable[FormServer]], person: FormClient
) -> None:
    assert "<a " not in (await person.open()).body
    server = await make_server(privacy_url="https://example.com/privacy")
    page = (await server.person().open()).body
    assert page.count("<a ") == 1
    assert ">Privacy</a>" in page


async def test_after_a_wrong_code_the_right_one_still_works(
    server: FormServer, person: FormClient
) -> None:
    await person.request(PHONE)
    again = await person.post("/verify", code="654321")
    assert (again.status, again.path, again.error) == (200, "/verify?message=wrong", WRONG)
    assert (await person.post("/verify", code=CODE)).path == "/success"
    assert [code for _, code in server.engine.checked] == ["654321", CODE]


@pytest.mark.parametrize(
    "typed",
    ["123456", " 123 456 ", "123-456", "123\u2013456", "１２３４５６", "1.2.3.4.5.6"],  # noqa: RUF001
)
async def test_a_code_may_be_typed_as_people_do(person: FormClient, typed: str) -> None:
    await person.request(PHONE)
    assert (await person.post("/verify", code=typed)).path == "/success"


@pytest.mark.parametrize("fields", [{}, {"code": ""}, {"code": " - "}])
async def test_an_empty_code_costs_no_try(
    server: FormServer, person: FormClient, fields: dict[str, str]
) -> None:
    await person.request(PHONE)
    assert (await person.post("/verify", **fields)).error == WRONG
    assert server.engine.checked == []


async def test_an_expired_code_and_a_code_never_sent_get_the_same_message(
    server: FormServer, person: FormClient
) -> None:
    server.engine.outcome = RequestOutcome.LOCKED
    await person.request(PHONE)
    assert (await person.post("/verify", code=CODE)).error == WRONG


async def test_a_reload_posts_nothing_twice(server: FormServer, person: FormClient) -> None:
    await person.open()
    for path, fields in (
        ("/request", {"phone": PHONE}),
        ("/verify", {"code": "000000"}),
        ("/resend", {}),
        ("/verify", {"code": CODE}),
    ):
        posted = await person.ask(
            "POST", path, data={"csrf": person.csrf} | fields, allow_redirects=False
        )
        assert posted.status == 303
        await person.open(posted.headers["Location"])
    assert len(server.engine.requests) == 1


async def test_every_resend_gets_the_same_response(server: FormServer, person: FormClient) -> None:
    await person.request(PHONE)
    shown = []
    for server.engine.outcome in (
        RequestOutcome.DONE,
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.NOT_PENDING,
        RequestOutcome.NOT_FOUND,
    ):
        shown.append(await person.post("/resend"))
    assert {page.path for page in shown} == {"/verify?message=again"}
    assert len({page.body for page in shown}) == 1
    assert "on its way once more" in shown[0].body
    assert server.engine.resent == [FIRST_ID] * 5


async def test_a_reply_by_text_leads_to_the_success_page(
    server: FormServer, person: FormClient
) -> None:
    await person.request(PHONE)
    assert (await person.open("/status")).body == '{"verified": false}'
    not_yet = await person.open("/success")
    assert not_yet.path == "/verify?message=not-yet"
    assert "No reply has arrived yet." in not_yet.body
    server.engine.verify(FIRST_ID)
    assert (await person.open("/status")).body == '{"verified": true}'
    assert (await person.open("/success")).path == "/success"
    assert (await person.open("/verify")).path == "/success"
    assert (await person.post("/verify", code="000000")).path == "/success"


@pytest.mark.parametrize("path", ["/verify", "/success"])
async def test_without_a_request_every_page_redirects_to_the_form(
    person: FormClient, path: str
) -> None:
    assert (await person.open(path)).path == "/"
    assert (await person.open(path)).path == "/"
    assert (await person.open("/status")).body == '{"verified": false}'
    assert (await person.post("/verify", code=CODE)).path == "/"
    assert (await person.post("/resend")).path == "/"


async def test_the_page_shows_the_lifetime_of_the_code(
    server: FormServer, person: FormClient
) -> None:
    page = await person.request(PHONE)
    assert 'data-seconds-left="600"' in page.body
    assert "It works for 10 minutes." in page.body
    server.clock.travel(timedelta(minutes=9))
    assert 'data-seconds-left="60"' in (await person.open("/verify")).body
    server.clock.travel(timedelta(minutes=9))
    assert 'data-seconds-left="0"' in (await person.open("/verify")).body


# What the form reveals about a number.


async def test_a_number_that_gets_no_code_looks_like_any_other(server: FormServer) -> None:
    shown = {}
    for server.engine.outcome in (RequestOutcome.DONE, *REFUSALS):
        person = server.person()
        await person.open()
        posted = await person.ask(
            "POST", "/request", data={"csrf": person.csrf, "phone": PHONE}, allow_redirects=False
        )
        page = await person.open("/verify")
        wrong = await person.post("/verify", code="000000")
        again = await person.post("/resend")
        shown[server.engine.outcome] = [
            (seen.status, seen.path, _without_secrets(seen))
            for seen in (posted, page, wrong, again)
        ]
    assert len(shown) == 5
    assert all(pages == shown[RequestOutcome.DONE] for pages in shown.values())


def _without_secrets(shown: Page) -> str:
    """Replace what is random in each page."""
    headers = {
        name: value for name, value in shown.headers.items() if name not in {"Date", "Set-Cookie"}
    }
    return re.sub(r"[0-9a-f]{64}", "…", shown.body) + str(sorted(headers.items()))


@pytest.mark.parametrize("takes", [0.0, 0.05, 0.1])
async def test_a_response_takes_as_long_whatever_the_outcome(
    server: FormServer, person: FormClient, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    begin, check = server.engine.begin, server.engine.check

    async def slow_begin(*asked: Any) -> Any:
        await asyncio.sleep(takes)
        return await begin(*asked)

    async def slow_check(*asked: Any, **more: Any) -> Any:
        await asyncio.sleep(takes)
        return await check(*asked, **more)

    monkeypatch.setattr("bot.web.form.views.RESPONSE_INTERVAL", RESPONSE_INTERVAL)
    monkeypatch.setattr(server.engine, "begin", slow_begin)
    monkeypatch.setattr(server.engine, "check", slow_check)
    await person.open()
    for path, fields in (("/request", {"phone": PHONE}), ("/verify", {"code": "000000"})):
        began = time.perf_counter()
        await person.ask("POST", path, data={"csrf": person.csrf} | fields, allow_redirects=False)
        took = time.perf_counter() - began
        assert took >= RESPONSE_INTERVAL - 0.01
        await person.open("/verify")


# Numbers.


@pytest.mark.parametrize(
    "typed", ["3125550001", "312.555.0001", "+1 312 555 0001", "(312) 555-0001", " 1 312 5550001 "]
)
async def test_a_number_is_read_as_people_write_it(
    server: FormServer, person: FormClient, typed: str
) -> None:
    page = await person.request(typed)
    assert page.path == "/verify"
    assert server.engine.requests[0].phone == PHONE


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
        ("+1 900 123 4567", "This is a premium-rate number."),
        ("+1 416 555 0123", "Please type a number of one of these: US."),
        ("+49 171 1234567", "No code can be texted to that country."),
        ("+1 500 555 0007", "This is a forwarding number."),
        ("+1 312 555 0100", "This is our own number. Please type yours."),
    ],
)
async def test_a_number_that_cannot_be_texted_stays_in_the_field_with_an_error(
    server: FormServer, person: FormClient, typed: str, error: str
) -> None:
    page = await person.request(typed)
    assert (page.status, page.path) == (422, "/request")
    assert error in page.error
    form = _Fields.of(page)
    assert form["phone"]["value"] == typed
    assert form["phone"]["aria-invalid"] == "true"
    assert "error" in form["phone"]["aria-describedby"].split()
    assert server.engine.requests == []
    assert (await person.post("/request", phone=PHONE)).path == "/verify"


async def test_a_test_number_may_be_of_any_kind(server: FormServer, person: FormClient) -> None:
    assert (await person.request(TEST_NUMBER)).path == "/verify"
    assert server.engine.requests[0].phone == TEST_NUMBER


async def test_typed_text_is_escaped(person: FormClient) -> None:
    said = "\"><script>alert(1)</script>{{ 7 * 7 }}&amp;'"
    page = await person.request(said)
    assert "<script>alert" not in page.body
    assert _Fields.of(page)["phone"]["value"] == said


# Limits.


async def test_after_too_many_requests_the_page_says_how_long_to_wait(
    server: FormServer, person: FormClient
) -> None:
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.retry_at = server.clock.now() + timedelta(minutes=12)
    page = await person.request(PHONE)
    assert (page.status, page.headers["Retry-After"]) == (429, "720")
    assert "Please wait 12 minutes" in page.body
    server.engine.retry_at = None
    assert (await person.request(PHONE)).headers["Retry-After"] == "3600"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (FormRefusal.SESSION_LOCKED, "Several codes that were typed here were not right."),
        (FormRefusal.NETWORK_LOCKED, "Many codes that were typed in your network were not right."),
    ],
)
async def test_after_too_many_wrong_codes_the_page_says_when_and_how_to_go_on(
    server: FormServer, person: FormClient, refusal: FormRefusal, words: str
) -> None:
    await person.request(PHONE)
    server.engine.outcome, server.engine.form_refusal = RequestOutcome.TOO_MANY_REQUESTS, refusal
    server.engine.retry_at = server.clock.now() + timedelta(minutes=12)
    page = await person.post("/verify", code=CODE)
    assert (page.status, page.headers["Retry-After"]) == (429, "720")
    assert words in page.body
    assert "Please wait 12 minutes" in page.body
    assert "Or reply to the text with its code and the two letters" in page.body
    assert PHONE[-4:] not in page.body


async def test_sending_again_too_often_gets_a_page_that_says_when(
    server: FormServer, person: FormClient
) -> None:
    await person.request(PHONE)
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.retry_at = server.clock.now() + timedelta(hours=2)
    page = await person.post("/resend")
    assert (page.status, page.headers["Retry-After"]) == (429, "7200")
    assert "Please wait 2 hours" in page.body


async def test_a_challenge_keeps_the_typed_number_and_its_proof_is_passed_on(
    server: FormServer, person: FormClient
) -> None:
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.form_refusal = FormRefusal.NEEDS_PROOF
    page = await person.request("(312) 555-0001")
    assert page.status == 200
    assert 'action="/request"' in page.body
    fields = solved(page)
    assert fields["phone"] == "(312) 555-0001"
    server.engine.outcome = RequestOutcome.DONE
    assert (await person.post("/request", **fields)).path == "/verify"
    first, second = server.engine.visits
    assert first
    assert second
    assert (first.proof, second.proof) == (None, fields["challenge"][:32])
    assert (first.session, first.network) == (second.session, second.network)
    assert first.network != first.wide_network


async def test_sending_again_may_need_a_proof_too(server: FormServer, person: FormClient) -> None:
    await person.request(PHONE)
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.form_refusal = FormRefusal.NEEDS_PROOF
    page = await person.post("/resend")
    assert 'action="/resend"' in page.body
    server.engine.outcome = RequestOutcome.DONE
    assert (await person.post("/resend", **solved(page))).path == "/verify?message=again"
    visit = server.engine.visits[-1]
    assert visit
    assert visit.proof


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (FormRefusal.NEEDS_PROOF, "Please press the button, and then wait 30 seconds."),
        (FormRefusal.MUST_WAIT, "Please wait 20 seconds, then press the button."),
        (FormRefusal.NETWORK_IS_WAITING, "Another person in your network is waiting already."),
    ],
)
async def test_without_a_proof_the_button_begins_and_ends_a_wait(
    server: FormServer, person: FormClient, refusal: FormRefusal, words: str
) -> None:
    server.engine.outcome, server.engine.form_refusal = RequestOutcome.TOO_MANY_REQUESTS, refusal
    server.engine.retry_at = server.clock.now() + timedelta(seconds=20)
    page = await person.request(PHONE)
    assert words in page.body
    assert ('id="challenge"' in page.body) is (refusal is FormRefusal.NEEDS_PROOF)
    await person.post("/request", phone=PHONE, waits=_Fields.of(page)["waits"]["value"])
    assert [visit.waits for visit in server.engine.visits if visit] == [False, True]


async def test_if_no_waits_are_left_the_page_says_so(
    server: FormServer, person: FormClient
) -> None:
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.form_refusal = FormRefusal.NO_WAITS_LEFT
    server.engine.retry_at = server.clock.now() + timedelta(hours=3)
    page = await person.request(PHONE)
    assert (page.status, page.headers["Retry-After"]) == (429, "10800")
    assert "Just now the form needs JavaScript to send a code." in page.body
    assert "try again in 3 hours" in page.body


async def test_when_the_codes_are_used_up_every_number_gets_the_same_page(
    server: FormServer,
) -> None:
    server.engine.form = FormOutcome(level=FormLevel.CLOSED)
    shown = []
    for server.engine.outcome in (RequestOutcome.DONE, RequestOutcome.TOO_MANY_CODES):
        person = server.person()
        page = await person.request(PHONE)
        assert page.path == "/verify?message=few"
        assert "only numbers that were verified before get one" in page.body
        again = await person.post("/resend")
        shown.append([_without_secrets(page), again.path, _without_secrets(again)])
    assert shown[0] == shown[1]


async def test_requests_behind_a_proxy_are_counted_by_client_network(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    server = await make_server(trusted_proxies=[ip_network("127.0.0.0/8")])
    person = server.person()
    for forwarded in ("203.0.113.9", "1.1.1.1, 203.0.113.9", "198.51.100.1"):
        person.headers = {"X-Forwarded-For": forwarded}
        await person.request(PHONE)
    first, second, third = (visit.network for visit in server.engine.visits if visit)
    assert first == second != third


async def test_without_a_trusted_proxy_a_client_cannot_choose_its_network(
    server: FormServer,
) -> None:
    person = server.person()
    for forwarded in ("203.0.113.9", "198.51.100.1"):
        person.headers = {"X-Forwarded-For": forwarded}
        await person.request(PHONE)
    first, second = (visit.network for visit in server.engine.visits if visit)
    assert first == second
    assert first
    assert "127.0.0.1" not in first
    assert first != hashlib.sha256(b"127.0.0.1").hexdigest()


# Sessions.


async def test_the_cookie_is_http_only_and_only_its_hash_is_stored(
    server: FormServer, person: FormClient
) -> None:
    cookie = (await person.open()).headers["Set-Cookie"]
    assert re.fullmatch(
        r"textproof=[\w-]{22}\.[0-9a-f]{64}; HttpOnly; Path=/; SameSite=Lax", cookie
    )
    await person.post("/request", phone=PHONE)
    assert server.engine.requests[0].session
    assert re.fullmatch("[0-9a-f]{64}", server.engine.requests[0].session)


async def test_over_https_the_cookie_is_for_this_host_only(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    server = await make_server(public_url=PUBLIC_URL)
    person = server.person()
    opened = await person.open()
    cookie = opened.headers["Set-Cookie"]
    assert re.fullmatch(
        r"__Host-textproof=[\w-]{22}\.[0-9a-f]{64}; HttpOnly; Path=/; SameSite=Lax; Secure",
        cookie,
    )
    person.headers = {"Cookie": cookie.partition(";")[0], "Origin": PUBLIC_URL}
    posted = await person.ask(
        "POST", "/request", data={"csrf": opened.csrf, "phone": PHONE}, allow_redirects=False
    )
    assert posted.headers["Location"] == "/verify"


async def test_a_request_begins_a_new_session_against_session_fixation(
    server: FormServer,
) -> None:
    thief, person = server.person(), server.person()
    await thief.open()
    known = _cookie(server)
    await person.request(PHONE)
    assert _cookie(server) != known
    await person.post("/verify", code=CODE)
    assert (await person.open("/success")).path == "/success"
    server.client.session.cookie_jar.clear()
    thief.headers = {"Cookie": f"textproof={known}"}
    assert (await thief.open("/status")).body == '{"verified": false}'


def _cookie(server: FormServer) -> str:
    (cookie,) = server.client.session.cookie_jar
    return cookie.value


async def test_a_code_works_only_in_the_browser_that_asked_for_it(server: FormServer) -> None:
    person = server.person()
    await person.request(PHONE)
    server.client.session.cookie_jar.clear()
    stranger = server.person()
    await stranger.open()
    assert (await stranger.post("/verify", code=CODE)).path == "/"
    assert server.engine.checked == []


@pytest.mark.parametrize(
    "cookie",
    [
        *("", "x", "x" * 22, "x" * 23, "é" * 22, "x" * 21 + "\u0663", "../" * 7, "." * 87),
        *("x" * 22 + ".", "x" * 22 + "." + "0" * 64, "x" * 22 + "." + "é" * 64),
    ],
)
async def test_a_malformed_cookie_is_ignored(server: FormServer, cookie: str) -> None:
    person = server.person()
    person.headers = {"Cookie": f"textproof={cookie}"}
    await person.open()
    server.client.session.cookie_jar.clear()
    asked = await person.ask("POST", "/request", data={"csrf": person.csrf, "phone": PHONE})
    assert asked.status == 403


@pytest.mark.parametrize("path", ["/verify", "/status", "/success"])
async def test_a_made_up_cookie_is_not_looked_up(
    server: FormServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    person = server.person()
    await person.request(PHONE)
    cookie, looked_up = _cookie(server), list[str]()
    find = server.engine.of_session

    async def record(session: str) -> Verification | None:
        looked_up.append(session)
        return await find(session)

    monkeypatch.setattr(server.engine, "of_session", record)
    await person.open(path)
    assert looked_up
    looked_up.clear()
    server.client.session.cookie_jar.clear()
    session_id, _, mac = cookie.partition(".")
    forged = "0" * 64 if mac[0] != "0" else "1" * 64
    for made_up in (session_id, f"{session_id}.{forged}", f"{'x' * 22}.{mac}"):
        person.headers = {"Cookie": f"textproof={made_up}"}
        await person.ask("GET", path, allow_redirects=False)
        for posted in ("/verify", "/resend"):
            await person.ask("POST", posted, data={"csrf": person.csrf, "code": CODE})
    assert (looked_up, server.engine.checked, server.engine.resent) == ([], [], [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/verify", 303),
        ("GET", "/status", 200),
        ("GET", "/success", 303),
        ("POST", "/request", 403),
        ("POST", "/verify", 403),
        ("POST", "/resend", 403),
    ],
)
async def test_without_a_valid_session_the_answer_leaves_after_a_delay(
    make_server: Callable[..., Awaitable[FormServer]], method: str, path: str, status: int
) -> None:
    refusals = Refusals(TEST_TIMEOUT)
    server = await make_server(refusals=refusals)
    person = server.person()
    person.headers = {"Cookie": f"textproof={'x' * 22}.{'0' * 64}"}
    # The form itself is for everybody.
    assert (await person.open()).status == 200
    server.client.session.cookie_jar.clear()
    asking = asyncio.create_task(person.ask(method, path, allow_redirects=False))
    await wait_until(lambda: refusals.waiting == 1)
    assert not asking.done()
    refusals.stop()
    assert (await asking).status == status


async def test_a_session_outlives_a_new_secret_key(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    before, after = await make_server(keys=KEYS[1:]), await make_server(keys=KEYS)
    await before.person().open()
    old = _cookie(before)
    person = after.person()
    person.headers = {"Cookie": f"textproof={old}"}
    renewed = await person.open()
    assert renewed.headers["Set-Cookie"].startswith(f"textproof={old.partition('.')[0]}.")
    assert old not in renewed.headers["Set-Cookie"]
    assert (await person.post("/request", phone=PHONE)).path == "/verify"


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
async def test_a_form_from_another_origin_is_refused(
    server: FormServer,
    person: FormClient,
    path: str,
    fields: dict[str, str],
    headers: dict[str, str],
) -> None:
    await person.request(PHONE)
    person.headers = headers
    refused = await person.post(path, **fields)
    assert refused.status == 403
    assert "Please begin again" in refused.body
    assert (len(server.engine.requests), server.engine.checked, server.engine.resent) == (
        1,
        [],
        [],
    )
    person.headers = {"Origin": str(server.client.make_url("")).rstrip("/")}
    person.headers["Sec-Fetch-Site"] = "same-origin"
    assert (await person.post(path, **fields)).status == 200


async def test_with_a_public_url_forms_must_come_from_it(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    server = await make_server(public_url="http://verify.example.com")
    person = server.person()
    await person.open()
    person.headers = {"Origin": str(server.client.make_url("")).rstrip("/")}
    assert (await person.post("/request", phone=PHONE)).status == 403
    person.headers = {"Origin": "http://verify.example.com"}
    assert (await person.post("/request", phone=PHONE)).status == 200


async def test_forms_from_another_origin_are_logged_once_a_minute(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    server = await make_server(public_url="http://verify.example.com")
    person = server.person()
    person.headers = {"Origin": "http://elsewhere.example"}
    with capture_logs() as logged:
        for _ in range(3):
            await person.request(PHONE)
    (only,) = logged
    assert only["event"] == "form refused"
    assert "PUBLIC_URL" in only["advice"]
    assert "elsewhere" not in str(only)


@pytest.mark.parametrize("token", ["", "0" * 64, "é", "\ud800"])
async def test_a_form_without_its_csrf_token_is_refused(
    server: FormServer, person: FormClient, token: str
) -> None:
    await person.open()
    body = f"phone=%2B13125550001&csrf={token}".encode("utf-8", "surrogatepass")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await person.ask("POST", "/request", data=body, headers=kind)
    assert refused.status == (400 if token == "\ud800" else 403)
    assert server.engine.requests == []


async def test_the_csrf_token_of_another_session_is_refused(
    server: FormServer, person: FormClient
) -> None:
    await person.open()
    old = person.csrf
    await person.request(PHONE)
    person.csrf = old
    assert (await person.post("/verify", code=CODE)).status == 403
    assert server.engine.checked == []


async def test_without_cookies_the_form_says_that_it_needs_one(server: FormServer) -> None:
    server.client.session._cookie_jar = DummyCookieJar()
    refused = await server.person().request(PHONE)
    assert refused.status == 403
    assert "your browser keeps no cookies" in refused.body


# Unexpected requests.


async def test_while_the_database_is_unavailable_the_page_says_to_try_again(
    server: FormServer, person: FormClient
) -> None:
    await person.request(PHONE)
    server.engine.fault = UnavailableError("gone for the test")
    for method, path in (
        ("POST", "/request"),
        ("POST", "/verify"),
        ("POST", "/resend"),
        ("GET", "/verify"),
        ("GET", "/status"),
        ("GET", "/success"),
    ):
        fields = {"csrf": person.csrf, "phone": PHONE, "code": CODE}
        away = await person.ask(method, path, data=fields if method == "POST" else None)
        assert (away.status, away.headers["Retry-After"]) == (503, "5")
        assert "Please try again" in away.body
    assert (await person.open()).status == 200
    server.engine.fault = None
    assert (await person.open("/verify")).path == "/verify"


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
async def test_another_method_is_not_allowed(person: FormClient, method: str, path: str) -> None:
    assert (await person.ask(method, path)).status == 405


@pytest.mark.parametrize("path", ["/request", "/verify", "/resend"])
async def test_a_body_is_limited(person: FormClient, path: str) -> None:
    await person.open()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    async def in_pieces() -> Any:
        yield b"phone=" + b"1" * MAX_BODY_BYTES

    for body, status in (
        (b"phone=" + b"1" * MAX_BODY_BYTES, 413),
        (in_pieces(), 413),
        (b"&".join([b"a=1"] * 9), 400),
        (b"phone=\xff", 400),
    ):
        refused = await person.ask("POST", path, data=body, headers=kind)
        assert refused.status == status
        assert "frame-ancestors 'none'" in refused.headers["Content-Security-Policy"]
    assert (await person.ask("POST", path, json={"phone": PHONE})).status == 415
    assert (await person.ask("POST", path)).status == 415


async def test_a_body_that_does_not_arrive_is_refused(
    server: FormServer, person: FormClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.web.form.views.BODY_TIMEOUT", 0.05)
    await person.open()

    async def never_whole() -> Any:
        yield b"phone="
        await asyncio.Event().wait()
        yield b"1"

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    slow = await person.ask("POST", "/request", data=never_whole(), headers=kind)
    assert slow.status == 408
    assert server.engine.requests == []


async def test_every_page_has_security_headers_and_is_not_cached(person: FormClient) -> None:
    pages = [await person.open(), await person.request("x"), await person.request(PHONE)]
    pages += [await person.open("/status"), await person.post("/verify", code=CODE)]
    pages += [await person.ask("POST", "/verify", data={"csrf": "x"})]
    pages += [await person.open(f"/static/{name}") for name in STATIC_FILES]
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"


async def test_a_page_has_nothing_inline_and_loads_nothing_from_elsewhere(
    server: FormServer, person: FormClient
) -> None:
    pages = [await person.open(), await person.request("x"), await person.request(PHONE)]
    pages += [await person.post("/verify", code="000000"), await person.post("/verify", code=CODE)]
    server.engine.outcome = RequestOutcome.TOO_MANY_REQUESTS
    server.engine.form_refusal = FormRefusal.NEEDS_PROOF
    pages += [await person.request(PHONE)]
    for page in pages:
        assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page.body) == []
        assert re.findall(r"<script(?! src=\"/static/form.js\" defer></script>)", page.body) == []
        assert re.findall(r"(?:src|href|action)=\"(?!/)", page.body) == []
        assert "//" not in page.body


async def test_only_the_static_files_are_served(person: FormClient) -> None:
    for name in ("base.html", "code.html", "..%2fform.py", "nothing"):
        assert (await person.open(f"/static/{name}")).status == 404
    for name in STATIC_FILES:
        assert (await person.open(f"/static/{name}")).status == 200
    assert {path.name for path in (resources.files("bot.web.form") / "templates").iterdir()} >= {
        "base.html",
        "challenge.html",
        "code.html",
        "number.html",
        "error.html",
        "success.html",
    }


async def test_no_number_no_code_and_no_session_reaches_a_log(
    server: FormServer, person: FormClient, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        await person.request("+1 900 555 1234")
        await person.request(PHONE)
        cookie = _cookie(server)
        await person.post("/verify", code="000000")
        server.engine.fault = UnavailableError("gone for the test")
        await person.post("/resend")
        server.engine.fault = None
        await person.post("/verify", code=CODE)
    output = str(logged) + caplog.text
    for secret in ("5551234", "5550001", "000000", CODE, cookie, person.csrf):
        assert secret not in output


# Accessibility and wording.


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


async def test_a_phone_can_autofill_the_number_and_the_code(person: FormClient) -> None:
    number = _Fields.of(await person.open())["phone"]
    assert (number["type"], number["autocomplete"]) == ("tel", "tel")
    code = _Fields.of(await person.post("/request", phone=PHONE))["code"]
    assert (code["autocomplete"], code["inputmode"]) == ("one-time-code", "numeric")


async def test_a_hexadecimal_code_is_typed_on_the_full_keyboard_in_any_case(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    server = await make_server(code_format=CodeFormat(6, Alphabet.HEX))
    person = server.person()
    page = await person.request(PHONE)
    assert _Fields.of(page)["code"]["inputmode"] == "text"
    assert "6 characters, 0-9 and A-F" in page.body
    await person.post("/verify", code="12ab-ef")
    assert server.engine.checked[0][1] == "12ABEF"


async def test_the_form_shows_the_name_of_the_app(
    make_server: Callable[..., Awaitable[FormServer]],
) -> None:
    person = (await make_server(app_name="Tom & Co", recipients=Recipients("+49", []))).person()
    page = await person.open()
    assert "<title>Verify your phone number – Tom &amp; Co</title>" in page.body  # noqa: RUF001
    assert "For example 01512 3456789." in page.body


async def test_requests_to_the_form_leave_database_connections_for_webhooks(
    make_server: Callable[..., Awaitable[FormServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await make_server(lookup_timeout=0.1)
    person = server.person()
    await person.request(PHONE)
    reading, free = 0, asyncio.Event()

    async def slow(_session: str) -> None:
        nonlocal reading
        reading += 1
        await free.wait()

    monkeypatch.setattr(server.engine, "of_session", slow)
    asking = [asyncio.create_task(person.open("/status")) for _ in range(12)]
    await wait_until(lambda: sum(task.done() for task in asking) == 8)
    assert reading == 4
    free.set()
    shown = await asyncio.gather(*asking)
    assert sorted(each.status for each in shown) == [200] * 4 + [429] * 8
    (busy,) = {each.body for each in shown if each.status == 429}
    assert "Many requests came from your network at once." in busy
    assert (await person.open("/status")).status == 200


async def test_people_of_another_network_do_not_wait_for_a_busy_one(
    make_server: Callable[..., Awaitable[FormServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await make_server(trusted_proxies=[ip_network("127.0.0.0/8")])
    person = server.person()
    await person.request(PHONE)
    reading, free = 0, asyncio.Event()

    async def slow(_session: str) -> None:
        nonlocal reading
        reading += 1
        await free.wait()

    def ask(client: str) -> asyncio.Task[Page]:
        headers = {"X-Forwarded-For": client}
        return asyncio.create_task(person.ask("GET", "/status", headers=headers))

    monkeypatch.setattr(server.engine, "of_session", slow)
    asking = [ask("203.0.113.9") for _ in range(12)]
    await wait_until(lambda: reading == 4)
    asking.append(ask("198.51.100.1"))
    await wait_until(lambda: reading == 5)
    free.set()
    assert {page.status for page in await asyncio.gather(*asking)} == {200}
