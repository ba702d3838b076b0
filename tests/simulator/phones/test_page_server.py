from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from aiohttp import ClientSession, ClientTimeout, FormData
from nacl.signing import SigningKey
from yarl import URL as Address  # noqa: N811 - the tests have another URL

from bot.conversation.inputs import Shape
from bot.simulator.clock import NOON, StoppedClock
from bot.simulator.phone_status import record_changes
from bot.simulator.phones.page.server import PortError, serve_page
from bot.simulator.sandbox import BOT_NUMBER, PHONE, open_sandbox
from bot.simulator.stories.player import Player, start_time_of
from bot.simulator.telnyx.faults import NAMED_FAULTS
from bot.simulator.telnyx.journal import Author, FaultArmed, PhoneText
from tests.kit.ports import free_port
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from aiohttp import ClientResponse

    from bot.simulator.sandbox import Sandbox
    from tests.conftest import MakeDatabase

pytestmark = pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)

TEXTS, CLOCK, FAULTS = "/simulator/texts", "/simulator/clock", "/simulator/faults"
EVENTS, TRANSCRIPT = "/simulator/events", "/simulator/transcript"
LATEST = "/simulator/messages/latest"
OTHER_PHONE = "+13125550002"
SUCCESS = "Textproof: thank you, this number is verified. There is nothing more to do."
VERIFY = {"from": PHONE, "text": "VERIFY"}
JSON, PROBLEM = "application/json", "application/problem+json"

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the page's HTTP API."""

    session: ClientSession

    async def ask(self, method: str, path: str | Address, **how: Any) -> Answer:
        async with self.session.request(method, path, **how) as answer:
            # A stream has no end to wait for.
            body = "" if answer.content_type == "text/event-stream" else await answer.text()
            return Answer(answer.status, answer.content_type, answer.headers.copy(), body)

    async def get(self, path: str | Address, **query: str | int) -> Answer:
        return await self.ask("GET", path, params=query or None)

    async def post(self, path: str, params: object) -> Answer:
        return await self.ask("POST", path, json=params)

    async def text(self, text: str, phone: str = PHONE) -> None:
        answer = await self.post(TEXTS, {"from": phone, "text": text})
        assert (answer.status, answer.json) == (200, {"webhook_status": 200})

    async def latest(self, phone: str = PHONE, **query: str | int) -> Event:
        answer = await self.get(LATEST, to=phone, **query)
        assert answer.status == 200, answer.body
        message: Event = answer.json
        return message

    async def assert_nothing_new(self, phone: str = PHONE, **query: str | int) -> None:
        answer = await self.get(LATEST, to=phone, wait=0, **query)
        assert answer.status == 404, answer.body

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        async with self.session.get(EVENTS) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield parse_events(answer)


async def parse_events(answer: ClientResponse) -> AsyncIterator[Event]:
    async for line in answer.content:
        name, _, data = line.decode().partition(": ")
        if name == "data":
            yield json.loads(data)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    timeout = ClientTimeout(total=TEST_TIMEOUT)
    async with ClientSession(url, timeout=timeout) as session:
        yield Client(session)


@pytest.fixture
async def page(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with serve_page(sandbox, 0) as url, connected(url) as client:
        yield client


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def assert_nothing_happened(sandbox: Sandbox) -> None:
    assert sandbox.telnyx.journal.entries == []
    assert sandbox.telnyx.requests == []
    assert sandbox.clock.now() == NOON


# The page and its security headers.

_SECURITY_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def assert_secured(headers: Mapping[str, str]) -> None:
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    for directive in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[directive] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    sources = {source for sources in policy.values() for source in sources.split()}
    assert sources == {"'none'", "'self'", "'script'"}
    assert {name: headers.get(name) for name in _SECURITY_HEADERS} == _SECURITY_HEADERS
    assert headers["Cache-Control"] in {"no-store", "no-cache"}
    assert [name for name in headers if name.startswith("Access-Control-")] == []


_ANSWERS: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "the page": ("GET", "/", {}, 200, "text/html"),
    "style": ("GET", "/static/phone.css", {}, 200, "text/css"),
    "script": ("GET", "/static/phone.js", {}, 200, "text/javascript"),
    "icon": ("GET", "/static/icon.svg", {}, 200, "image/svg+xml"),
    "head": ("HEAD", "/", {}, 200, "text/html"),
    "events": ("GET", EVENTS, {}, 200, "text/event-stream"),
    "transcript": ("GET", TRANSCRIPT, {}, 200, "text/plain"),
    "text": ("POST", TEXTS, {"json": VERIFY}, 200, JSON),
    "clock": ("POST", CLOCK, {"json": {"ahead": "1m"}}, 200, JSON),
    "fault": ("POST", FAULTS, {"json": {"fault": "500"}}, 200, JSON),
    "no such path": ("GET", "/simulator", {}, 404, PROBLEM),
    "no such asset": ("GET", "/static/phone.html", {}, 404, PROBLEM),
    "path traversal": ("GET", "/static/..%2Fserver.py", {}, 404, PROBLEM),
    "no message": ("GET", f"{LATEST}?to=%2B13125550001&wait=0", {}, 404, PROBLEM),
    "no such method": ("GET", TEXTS, {}, 405, PROBLEM),
    "preflight": ("OPTIONS", TEXTS, {}, 405, PROBLEM),
    "no JSON": ("POST", TEXTS, {"data": b"{}"}, 415, PROBLEM),
    "no fields": ("POST", TEXTS, {"json": {}}, 422, PROBLEM),
    "foreign host": ("GET", "/", {"headers": {"Host": "evil.example"}}, 403, PROBLEM),
}


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "kind"), _ANSWERS.values(), ids=_ANSWERS
)
async def test_every_response_has_its_type_and_the_security_headers(  # noqa: PLR0913, PLR0917
    method: str, path: str, how: dict[str, Any], status: int, kind: str, page: Client
) -> None:
    answer = await page.ask(method, Address(path, encoded=True), **how)
    assert (answer.status, answer.kind) == (status, kind)
    assert_secured(answer.headers)
    assert ("Allow" in answer.headers) is (status == 405)


async def test_an_internal_error_has_the_security_headers_and_no_details(
    sandbox: Sandbox, page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> NoReturn:
        raise RuntimeError("an internal detail")

    monkeypatch.setattr(sandbox.telnyx, "text", broken)
    answer = await page.post(TEXTS, VERIFY)
    assert answer.status == 500
    assert "internal detail" not in answer.body
    assert_secured(answer.headers)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text in each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def by_attribute(self, name: str) -> dict[str | None, str]:
        """Return the first text of each element, by the value of its attribute."""
        return {
            attributes[name]: text.strip()
            for (_, attributes), text in zip(self.found, self.texts, strict=True)
            if name in attributes
        }


async def test_the_page_has_nothing_inline_and_no_address_but_its_own(
    sandbox: Sandbox, page: Client
) -> None:
    shown = (await page.get("/")).body
    elements = Elements(shown)
    assert len(elements.found) > 40
    tags = {tag for tag, _ in elements.found}
    assert tags & {"style", "base", "iframe", "object", "embed", "meta http-equiv"} == set()
    for (tag, attributes), text in zip(elements.found, elements.texts, strict=True):
        assert "http-equiv" not in attributes
        assert [name for name in attributes if name == "style" or name.startswith("on")] == []
        if tag == "script":
            assert (attributes["src"], text.strip()) == ("/static/phone.js", "")
        for name in ("src", "href", "action", "formaction", "srcset"):
            assert re.match(r"/(?!/)", attributes.get(name) or "/ "), attributes
    bot_url = sandbox.bot.url or ""
    assert bot_url in shown
    assert re.findall(r"\w*://\S*|data:|javascript:", shown.replace(bot_url, "")) == []


async def test_the_page_and_its_assets_load_nothing_from_elsewhere(
    page: Client,
) -> None:
    elements = Elements((await page.get("/")).body)
    loaded = [
        attributes.get("src") or attributes["href"] or ""
        for tag, attributes in elements.found
        if tag in {"script", "link"}
    ]
    assert sorted(loaded) == [f"/static/{name}" for name in ("icon.svg", "phone.css", "phone.js")]
    for path in loaded:
        asset = await page.get(path)
        assert asset.status == 200
        body = asset.body.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert body.strip() != ""
        assert re.findall(r"\w+://\S*|@import|url\(|\bimport\b|<script", body) == []
        assert (
            re.findall(r"(?:inner|outer|Adjacent)HTML|document\.write|eval\(|Function\(", body)
            == []
        )


async def test_every_fault_and_every_jump_has_a_button_that_works(
    sandbox: Sandbox, page: Client
) -> None:
    elements = Elements((await page.get("/")).body)
    faults = elements.by_attribute("data-fault")
    assert faults == {name: named.title for name, named in NAMED_FAULTS.items()}
    assert [(await page.post(FAULTS, {"fault": name})).status for name in faults] == [200] * len(
        NAMED_FAULTS
    )
    jumps = elements.by_attribute("data-jump")
    assert jumps == {"30s": "30 seconds", "11m": "11 minutes", "1d": "1 day"}
    for jump in jumps:
        assert (await page.post(CLOCK, {"ahead": jump})).status == 200
    assert sandbox.clock.now() == NOON + timedelta(days=1, minutes=11, seconds=30)


# Texts.


async def test_a_whole_conversation_is_possible_over_http(page: Client) -> None:
    await page.text("VERIFY")
    message = await page.latest()
    code = message["code"]
    assert re.fullmatch(r"\d{6}", code)
    assert message["text"].startswith(f"Textproof code: {code}. Reply with it within 10 minutes.")
    assert (message["phone"], message["bot_number"]) == (PHONE, BOT_NUMBER)
    assert (message["author"], message["segments"], message["encoding"]) == ("bot", 1, "GSM-7")
    await page.text(code)
    message = await page.latest()
    assert (message["text"], message["code"]) == (SUCCESS, None)


@pytest.mark.parametrize("shape", Shape)
async def test_a_text_arrives_at_the_bot_in_the_requested_shape(
    shape: Shape, sandbox: Sandbox, page: Client
) -> None:
    params = {"from": OTHER_PHONE, "text": "VERIFY", "shape": shape}
    assert (await page.post(TEXTS, params)).status == 200
    sent = sandbox.telnyx.journal.entries[0]
    assert isinstance(sent, PhoneText)
    assert (sent.author, sent.phone, sent.bot_number) == (Author.PERSON, OTHER_PHONE, BOT_NUMBER)
    assert (sent.text, sent.shape) == ("VERIFY", shape)


async def test_the_response_has_the_status_of_the_webhook(sandbox: Sandbox, page: Client) -> None:
    sandbox.telnyx._key = SigningKey.generate()  # a key that the bot does not know
    answer = await page.post(TEXTS, VERIFY)
    assert (answer.status, answer.json) == (200, {"webhook_status": 401})


async def test_the_longest_text_is_accepted(sandbox: Sandbox, page: Client) -> None:
    await page.text("x" * 1600)
    sent = sandbox.telnyx.journal.entries[0]
    assert isinstance(sent, PhoneText)
    assert sent.text == "x" * 1600


def _json(**params: object) -> bytes:
    return json.dumps(params).encode()


_BAD_TEXTS = {
    "no from": (_json(text="VERIFY"), "from"),
    "no plus": (_json(**VERIFY | {"from": "13125550001"}), "from"),
    "as people write it": (_json(**VERIFY | {"from": "(312) 555-0001"}), "from"),
    "too short": (_json(**VERIFY | {"from": "+1312"}), "from"),
    "with a line's end": (_json(**VERIFY | {"from": PHONE + "\n"}), "from"),
    "no string": (_json(**VERIFY | {"from": 13125550001}), "from"),
    "by its inner name": (_json(phone=PHONE, text="VERIFY"), "phone"),
    "no text": (_json(**{"from": PHONE}), "text"),
    "text null": (_json(**VERIFY | {"text": None}), "text"),
    "text too long": (_json(**VERIFY | {"text": "x" * 1601}), "text"),
    "unknown shape": (_json(**VERIFY, shape="round"), "shape"),
    "extra field": (_json(**VERIFY, to=BOT_NUMBER), "to"),
    "nothing": (b"", "body"),
    "no JSON": (b"VERIFY", "body"),
    "half JSON": (b'{"from": "+13125550001", "text": "VERIFY"', "body"),
    "half a character": (b'{"from": "+13125550001", "text": "\\ud83d"}', "body"),
    "no UTF-8": (b'{"from": "+13125550001", "text": "\xff"}', "body"),
    "list": (json.dumps([VERIFY]).encode(), "body"),
    "null": (b"null", "body"),
}


@pytest.mark.parametrize(("body", "field"), _BAD_TEXTS.values(), ids=_BAD_TEXTS)
async def test_a_bad_text_is_refused_with_the_name_of_the_field_and_not_sent(
    body: bytes, field: str, sandbox: Sandbox, page: Client
) -> None:
    answer = await page.ask("POST", TEXTS, data=body, headers={"Content-Type": JSON})
    assert_refused(answer, f"{field}: ")
    assert_nothing_happened(sandbox)


def assert_refused(answer: Answer, beginning: str, status: int = 422) -> None:
    assert (answer.status, answer.kind) == (status, PROBLEM), answer.body
    assert answer.json.keys() == {"status", "detail"}
    assert answer.json["status"] == status
    details = re.split("^|; ", answer.json["detail"])
    assert any(part.startswith(beginning) for part in details), answer.body


async def test_all_errors_of_a_text_are_reported_together(page: Client) -> None:
    answer = await page.post(TEXTS, {"from": "me", "shape": "round"})
    for field in ("from", "text", "shape"):
        assert_refused(answer, f"{field}: ")


# The latest message.


@pytest.fixture
def waiting_begun(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set when a request begins to wait for a message."""
    journal, begun = sandbox.telnyx.journal, asyncio.Event()
    original = journal.wait_for_more_than

    async def signal_and_wait(count: int) -> None:
        begun.set()
        await original(count)

    monkeypatch.setattr(journal, "wait_for_more_than", signal_and_wait)
    return begun


async def test_a_request_before_the_text_is_sent_gets_the_message_when_it_arrives(
    page: Client, waiting_begun: asyncio.Event
) -> None:
    request = asyncio.create_task(page.latest())
    await waiting_begun.wait()
    await page.text("VERIFY", OTHER_PHONE)
    await page.latest(OTHER_PHONE)
    assert not request.done()
    await page.text("VERIFY")
    message = await request
    assert (message["phone"], message["code"] is not None) == (PHONE, True)


async def test_a_message_older_than_the_phones_own_last_text_is_not_new(page: Client) -> None:
    await page.text("VERIFY")
    code = (await page.latest(wait=60))["code"]
    await page.text(code)
    assert (await page.latest())["text"] == SUCCESS
    await page.text(code)  # to which the bot does not reply
    await page.assert_nothing_new()
    await page.assert_nothing_new(OTHER_PHONE)


async def test_after_names_the_message_that_a_new_one_comes_after(page: Client) -> None:
    await page.text("VERIFY")
    first = await page.latest(after=0)
    assert await page.latest(wait=0) == first | await page.latest(wait=0)
    await page.assert_nothing_new(after=first["id"])
    await page.text(first["code"])
    second = await page.latest(after=first["id"])
    assert second["text"] == SUCCESS
    assert second["id"] > first["id"]
    assert (await page.latest(after=0))["id"] == second["id"]
    await page.assert_nothing_new(after=second["id"])


async def test_a_timeout_is_answered_with_a_hint(page: Client) -> None:
    for wait in ("0", "0.01"):
        answer = await page.get(LATEST, to=PHONE, wait=wait)
        assert_refused(answer, f"no new message to {PHONE} within {wait} seconds", 404)
        assert "has the phone texted the bot?" in answer.body


@pytest.mark.parametrize("plus", ["%2B", "+", "%20"])
async def test_a_plus_may_be_written_in_several_ways(plus: str, page: Client) -> None:
    await page.text("VERIFY")
    address = Address(f"{LATEST}?to={plus}{PHONE[1:]}", encoded=True)
    answer = await page.get(address)
    assert (answer.status, answer.json["phone"]) == (200, PHONE)


_BAD_QUERIES = {
    "no to": ({}, "to"),
    "no plus": ({"to": PHONE[1:]}, "to"),
    "no number": ({"to": "me"}, "to"),
    "two pluses": ({"to": f"+{PHONE}"}, "to"),
    "after nothing": ({"to": PHONE, "after": ""}, "after"),
    "after no message": ({"to": PHONE, "after": "VERIFY"}, "after"),
    "no wait": ({"to": PHONE, "wait": ""}, "wait"),
    "wait backwards": ({"to": PHONE, "wait": "-1"}, "wait"),
    "wait too long": ({"to": PHONE, "wait": "60.1"}, "wait"),
    "wait for ever": ({"to": PHONE, "wait": "inf"}, "wait"),
    "wait for no number": ({"to": PHONE, "wait": "nan"}, "wait"),
    "extra": ({"to": PHONE, "from": BOT_NUMBER}, "from"),
}


@pytest.mark.parametrize(("query", "field"), _BAD_QUERIES.values(), ids=_BAD_QUERIES)
async def test_a_bad_query_is_refused_with_the_name_of_the_field(
    query: dict[str, str], field: str, page: Client
) -> None:
    assert_refused(await page.get(LATEST, **query), f"{field}: ")


async def test_a_text_that_failed_is_no_message(sandbox: Sandbox, page: Client) -> None:
    assert (await page.post(FAULTS, {"fault": "failed"})).status == 200
    await page.text("VERIFY")
    await sandbox.quiet()
    assert len(sandbox.telnyx.requests) == 1
    await page.assert_nothing_new()


async def test_the_carriers_own_reply_is_a_message(page: Client) -> None:
    await page.text("STOP")
    message = await page.latest()
    assert (message["author"], message["code"]) == ("carrier", None)
    assert "unsubscribed" in message["text"]


# The clock, the faults and the transcript.


async def test_the_clock_moves_ahead_for_the_bot_too(sandbox: Sandbox, page: Client) -> None:
    await page.text("VERIFY")
    code = (await page.latest())["code"]
    answer = await page.post(CLOCK, {"ahead": "11m"})
    then = NOON + timedelta(minutes=11)
    assert (answer.status, answer.json) == (200, {"now": then.isoformat()})
    assert sandbox.clock.now() == then
    await page.text(code)
    assert (await page.latest())["text"].startswith("Your code has expired.")


async def test_a_fault_happens_and_the_next_attempt_follows_when_the_clock_has_moved(
    sandbox: Sandbox, page: Client
) -> None:
    assert (await page.post(FAULTS, {"fault": "500"})).status == 200
    await page.text("VERIFY")
    await sandbox.quiet()
    assert len(sandbox.telnyx.requests) == 1
    await page.assert_nothing_new()
    assert (await page.post(CLOCK, {"ahead": "1m"})).status == 200
    assert (await page.latest())["code"] is not None
    assert len(sandbox.telnyx.requests) == 2


_DURATION = "write a duration like 30s, 11m, 2h or 1d"
_BAD_CLOCKS: dict[str, tuple[object, str]] = {
    "nothing": ({}, "ahead: "),
    "number": ({"ahead": 11}, "ahead: "),
    "extra": ({"ahead": "1m", "back": "1m"}, "back: "),
    "list": (["1m"], "body: "),
    "no length": ({"ahead": "soon"}, _DURATION),
    "no unit": ({"ahead": "11"}, _DURATION),
    "back": ({"ahead": "-1m"}, _DURATION),
    "too far": ({"ahead": "99999d"}, "the clock cannot be more than ten years ahead"),
}


@pytest.mark.parametrize(("params", "error"), _BAD_CLOCKS.values(), ids=_BAD_CLOCKS)
async def test_a_bad_clock_request_does_not_move_the_clock(
    params: object, error: str, sandbox: Sandbox, page: Client
) -> None:
    assert_refused(await page.post(CLOCK, params), error)
    assert_nothing_happened(sandbox)


@pytest.mark.parametrize("name", NAMED_FAULTS)
async def test_each_fault_is_armed_by_its_name(name: str, sandbox: Sandbox, page: Client) -> None:
    answer = await page.post(FAULTS, {"fault": name})
    assert (answer.status, answer.json) == (200, {"armed": True})
    assert sandbox.telnyx.journal.entries == [FaultArmed(NOON, NAMED_FAULTS[name].fault)]
    telnyx = sandbox.telnyx
    armed = [*telnyx.faults, *telnyx.report_faults, *telnyx.webhook_faults]
    assert armed == [NAMED_FAULTS[name].fault]


_BAD_FAULTS: dict[str, tuple[object, str]] = {
    "nothing": ({}, "fault: "),
    "number": ({"fault": 500}, "fault: "),
    "extra": ({"fault": "500", "often": 2}, "often: "),
    "unknown": ({"fault": "503"}, f"unknown fault '503', not one of {', '.join(NAMED_FAULTS)}"),
}


@pytest.mark.parametrize(("params", "error"), _BAD_FAULTS.values(), ids=_BAD_FAULTS)
async def test_an_unknown_fault_is_refused(
    params: object, error: str, sandbox: Sandbox, page: Client
) -> None:
    assert_refused(await page.post(FAULTS, params), error)
    assert_nothing_happened(sandbox)


async def test_the_transcript_is_a_story_that_can_be_played_again(
    sandbox: Sandbox, page: Client, make_database: MakeDatabase
) -> None:
    await page.text("VERIFY")
    code = (await page.latest())["code"]
    await page.text("HELP")
    await sandbox.quiet()
    assert (await page.post(CLOCK, {"ahead": "2m"})).status == 200
    await page.text(code)
    await page.latest()
    await sandbox.quiet()

    answer = await page.get(TRANSCRIPT)
    assert (answer.status, answer.kind) == (200, "text/plain")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="session.story"'
    script = answer.body
    assert code not in script
    lines = script.splitlines()
    assert lines[0] == f"# at {NOON.isoformat()}"
    assert [line for line in lines if line[0] in ">/"] == [
        "> VERIFY",
        "> HELP",
        "/later 2m",
        "> {code}",
    ]
    async with open_sandbox(make_database(), StoppedClock(start_time_of(script))) as again:
        await Player(again).play(script)
        assert [text.author for text in again.telnyx.texts] == [
            text.author for text in sandbox.telnyx.texts
        ]


# The events.

_TEXT_FIELDS = [
    "id",
    "at",
    "author",
    "phone",
    "bot_number",
    "text",
    "shape",
    "arrival",
    "took",
    "code",
    "encoding",
    "segments",
]
_FIELDS = {
    "PhoneText": _TEXT_FIELDS,
    "Exchange": ["id", "at", "wire", "request", "response", "seconds"],
    "PhoneStatus": (
        [
            "at",
            "phone",
            "bot_number",
            "state",
            "tries_left",
            "expires_at",
            "locked_until",
            "verified_at",
        ]
    ),
    "ClockMoved": ["at", "duration"],
    "FaultArmed": ["name"],
    "FaultTriggered": ["name"],
}


def journal_of(sandbox: Sandbox) -> list[tuple[str, int | None]]:
    entries = sandbox.telnyx.journal.entries
    return [(type(entry).__name__, getattr(entry, "id", None)) for entry in entries]


async def test_events_start_with_a_reset_and_follow_the_journal_in_order(
    sandbox: Sandbox, page: Client
) -> None:
    sandbox.arm("500")
    await sandbox.text(PHONE, "VERIFY")
    await sandbox.travel(PHONE, timedelta(minutes=1))
    happened = journal_of(sandbox)
    assert len(happened) > 10
    async with page.events() as events:
        reset = await anext(events)
        now = (NOON + timedelta(minutes=1)).isoformat()
        assert reset == {"kind": "Reset", "now": now}
        entries = await take(events, len(happened))
    assert [(entry["kind"], entry.get("id")) for entry in entries] == happened
    assert {entry["now"] for entry in entries} == {now}


async def test_a_page_that_lost_the_demo_reconnects_within_a_second(page: Client) -> None:
    async with page.session.get(EVENTS) as answer:
        assert (await answer.content.readline()).startswith(b"data: ")
        assert await answer.content.readline() == b"retry: 1000\r\n"


async def test_every_open_page_gets_the_events_as_they_happen(
    sandbox: Sandbox, page: Client
) -> None:
    async with page.events() as first:
        assert (await anext(first))["kind"] == "Reset"
        await page.text("VERIFY")
        event = await anext(first)
        assert (event["kind"], event["author"], event["text"]) == ("PhoneText", "person", "VERIFY")
        code = (await page.latest())["code"]
        await sandbox.quiet()
        count = len(journal_of(sandbox))
        so_far = [event, *await take(first, count - 1)]
        assert code in {event.get("code") for event in so_far}

        async with page.events() as second:
            assert (await anext(second))["kind"] == "Reset"
            assert await take(second, count) == so_far
            await page.text(code)
            assert await anext(first) == await anext(second)
            await page.latest()
            await sandbox.quiet()
            more = len(journal_of(sandbox)) - count - 1
            assert await take(first, more) == await take(second, more)


async def test_each_kind_of_event_has_its_fields(sandbox: Sandbox, page: Client) -> None:
    recording = asyncio.create_task(record_changes(sandbox))
    seen: dict[str, list[Event]] = {}
    async with page.events() as events:
        assert (await anext(events)).keys() == {"kind", "now"}
        for path, params in (
            (FAULTS, {"fault": "twice"}),
            (TEXTS, VERIFY),
            (CLOCK, {"ahead": "11m"}),
        ):
            assert (await page.post(path, params)).status == 200
        while seen.keys() < _FIELDS.keys():
            event = await anext(events)
            assert event.keys() == {"kind", "now", *_FIELDS[event["kind"]]}
            seen.setdefault(event["kind"], []).append(event)
    recording.cancel()

    assert seen["FaultArmed"][0]["name"] == seen["FaultTriggered"][0]["name"] == "twice"
    assert seen["ClockMoved"][0]["duration"] == 660.0
    assert seen["ClockMoved"][0]["at"] == (NOON + timedelta(minutes=11)).isoformat()
    asked = seen["PhoneText"][0]
    assert (asked["author"], asked["arrival"], asked["took"]) == ("person", "queued", None)
    assert (asked["code"], asked["encoding"], asked["segments"]) == (None, "GSM-7", 1)
    webhook = next(exchange for exchange in seen["Exchange"] if exchange["wire"] == "webhook")
    assert webhook["request"].keys() == webhook["response"].keys() == {"start", "headers", "body"}
    assert webhook["request"]["start"] == "POST /webhooks/telnyx HTTP/1.1"
    assert webhook["response"]["start"] == "HTTP/1.1 200 OK"
    assert json.loads(webhook["request"]["body"])["data"]["event_type"] == "message.received"
    assert ["Content-Type", JSON] in webhook["request"]["headers"]
    assert webhook["seconds"] > 0
    status = seen["PhoneStatus"][0]
    assert (status["phone"], status["bot_number"]) == (PHONE, BOT_NUMBER)
    assert (status["state"], status["tries_left"]) == ("awaiting_code", 5)


@pytest.mark.parametrize("ping", [0.01, TEST_TIMEOUT], ids=["nothing happens", "something happens"])
async def test_a_page_that_is_closed_leaves_no_task_behind(ping: float, sandbox: Sandbox) -> None:
    def sending() -> list[str]:
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return [name for name in names if name == "Page._send_events"]

    async with serve_page(sandbox, 0, ping_interval=ping) as url:
        async with connected(url) as client, client.events() as events:
            await anext(events)
            assert len(sending()) == 1

        def ended() -> bool:
            if ping == TEST_TIMEOUT:
                sandbox.move_clock(timedelta())
            return not sending()

        await wait_until(ended)


async def test_the_server_ends_while_pages_are_open_and_a_request_waits_for_a_message(
    sandbox: Sandbox, waiting_begun: asyncio.Event
) -> None:
    async with asyncio.timeout(TEST_TIMEOUT), AsyncExitStack() as clients:
        async with serve_page(sandbox, 0) as url:
            client = await clients.enter_async_context(connected(url))
            streams = [await clients.enter_async_context(client.events()) for _ in range(2)]
            for events in streams:
                await anext(events)
            waiting_begun.clear()
            waiting = asyncio.create_task(client.get(LATEST, to=PHONE, wait=60))
            await waiting_begun.wait()
        for events in streams:
            assert [event async for event in events] == []  # the stream ended properly
        (lost,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(lost, ConnectionError | OSError), lost


# Host names and origins.

_LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
_FOREIGN_HOSTS = [
    "evil.example",
    "evil.localhost.example",
    "localhost.example",
    "localhost.",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "0.0.0.0",  # noqa: S104 - an address of this machine that is not loopback
    "[::2]",
    "localhost@evil.example",
]


@pytest.mark.parametrize("port", ["", ":80", ":65535"])
@pytest.mark.parametrize("host", _LOCAL_HOSTS)
async def test_a_local_host_name_gets_the_page_with_any_port(
    host: str, port: str, page: Client
) -> None:
    answer = await page.ask("GET", "/", headers={"Host": host + port})
    assert (answer.status, answer.kind) == (200, "text/html")


@pytest.mark.parametrize("port", ["", ":8025"])
@pytest.mark.parametrize("host", _FOREIGN_HOSTS)
async def test_a_foreign_host_name_is_refused(
    host: str, port: str, sandbox: Sandbox, page: Client
) -> None:
    headers = {"Host": host + port}
    for path in ("/", "/static/phone.js", EVENTS, TRANSCRIPT, "/nowhere"):
        answer = await page.ask("GET", path, headers=headers)
        assert_refused(answer, "open this page as http://localhost", 403)
    assert (await page.ask("POST", TEXTS, json=VERIFY, headers=headers)).status == 403
    assert_nothing_happened(sandbox)


@pytest.mark.parametrize("host", ["localhost:eighty", "localhost:65536"])
async def test_a_malformed_host_is_refused_too(host: str, sandbox: Sandbox, page: Client) -> None:
    answer = await page.ask("POST", TEXTS, json=VERIFY, headers={"Host": host})
    assert_refused(answer, "open this page as http://localhost", 403)
    assert_nothing_happened(sandbox)


_FORMS: dict[str, dict[str, Any]] = {
    "text": {"headers": {"Content-Type": "text/plain"}},
    "text that names JSON": {"headers": {"Content-Type": "text/plain; application/json"}},
    "form": {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "untyped": {"skip_auto_headers": ["Content-Type"]},
}
_REQUESTS = {TEXTS: VERIFY, CLOCK: {"ahead": "1m"}, FAULTS: {"fault": "500"}}


@pytest.mark.parametrize("how", _FORMS.values(), ids=_FORMS)
@pytest.mark.parametrize("path", _REQUESTS)
async def test_a_post_that_another_origin_can_send_without_preflight_is_refused(
    path: str, how: dict[str, Any], sandbox: Sandbox, page: Client
) -> None:
    body = json.dumps(_REQUESTS[path]).encode()
    answer = await page.ask("POST", path, data=body, **how)
    assert_refused(answer, "send JSON, as Content-Type: application/json", 415)
    assert_nothing_happened(sandbox)


async def test_a_multipart_form_is_refused(sandbox: Sandbox, page: Client) -> None:
    form = FormData({"from": PHONE, "text": "VERIFY"}, default_to_multipart=True)
    assert (await page.ask("POST", TEXTS, data=form)).status == 415
    assert_nothing_happened(sandbox)


async def test_json_may_name_its_encoding(page: Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await page.ask("POST", TEXTS, data=_json(**VERIFY), headers=headers)
    assert (answer.status, answer.json) == (200, {"webhook_status": 200})


# The port.


async def test_a_port_that_is_taken_raises_an_error(sandbox: Sandbox) -> None:
    with taken_port() as port:
        with pytest.raises(PortError) as caught:
            await serve_page(sandbox, port).__aenter__()
        assert str(caught.value) == f"cannot listen on 127.0.0.1:{port} (Address already in use)"


async def test_without_a_port_the_default_is_used(sandbox: Sandbox) -> None:
    port = free_port()
    async with serve_page(sandbox, None, default_port=port) as url:
        assert url == f"http://127.0.0.1:{port}"


async def test_if_the_default_port_is_taken_a_free_one_is_used(sandbox: Sandbox) -> None:
    with taken_port() as port:
        async with (
            serve_page(sandbox, None, default_port=port) as url,
            connected(url) as client,
        ):
            assert url.startswith("http://127.0.0.1:")
            assert url != f"http://127.0.0.1:{port}"
            assert (await client.get("/")).status == 200
