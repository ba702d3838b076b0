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
from bot.simulator.phone_status import keep_updated
from bot.simulator.phones.page import server
from bot.simulator.phones.page.server import PortError, served
from bot.simulator.sandbox import BOT_NUMBER, PHONE, open_sandbox
from bot.simulator.stories.player import Player, beginning_of
from bot.simulator.telnyx.faults import MENU
from bot.simulator.telnyx.journal import Author, FaultArmed, PhoneText
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
    def said(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has nothing but HTTP."""

    session: ClientSession

    async def ask(self, method: str, path: str | Address, **how: Any) -> Answer:
        async with self.session.request(method, path, **how) as answer:
            # Of a stream without an end, the beginning has to do.
            body = "" if answer.content_type == "text/event-stream" else await answer.text()
            return Answer(answer.status, answer.content_type, answer.headers.copy(), body)

    async def get(self, path: str | Address, **query: str | int) -> Answer:
        return await self.ask("GET", path, params=query or None)

    async def post(self, path: str, params: object) -> Answer:
        return await self.ask("POST", path, json=params)

    async def text(self, said: str, phone: str = PHONE) -> None:
        answer = await self.post(TEXTS, {"from": phone, "text": said})
        assert (answer.status, answer.said) == (200, {"webhook_status": 200})

    async def latest(self, phone: str = PHONE, **query: str | int) -> Event:
        answer = await self.get(LATEST, to=phone, **query)
        assert answer.status == 200, answer.body
        message: Event = answer.said
        return message

    async def assert_nothing_new(self, phone: str = PHONE, **query: str | int) -> None:
        answer = await self.get(LATEST, to=phone, wait=0, **query)
        assert answer.status == 404, answer.body

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        async with self.session.get(EVENTS) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield told(answer)


async def told(answer: ClientResponse) -> AsyncIterator[Event]:
    async for line in answer.content:
        name, _, data = line.decode().partition(": ")
        if name == "data":
            yield json.loads(data)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


@asynccontextmanager
async def visiting(url: str) -> AsyncIterator[Visitor]:
    timeout = ClientTimeout(total=TEST_TIMEOUT)
    async with ClientSession(url, timeout=timeout) as session:
        yield Visitor(session)


@pytest.fixture
async def page(sandbox: Sandbox) -> AsyncIterator[Visitor]:
    async with served(sandbox, 0) as url, visiting(url) as visitor:
        yield visitor


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def assert_nothing_happened(sandbox: Sandbox) -> None:
    assert sandbox.telnyx.journal.entries == []
    assert sandbox.telnyx.requests == []
    assert sandbox.clock.now() == NOON


# The page and its guards.

_GUARDS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def assert_guarded(headers: Mapping[str, str]) -> None:
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
    assert {name: headers.get(name) for name in _GUARDS} == _GUARDS
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
    "no way out": ("GET", "/static/..%2Fserver.py", {}, 404, PROBLEM),
    "no message": ("GET", f"{LATEST}?to=%2B13125550001&wait=0", {}, 404, PROBLEM),
    "no such method": ("GET", TEXTS, {}, 405, PROBLEM),
    "preflight": ("OPTIONS", TEXTS, {}, 405, PROBLEM),
    "no JSON": ("POST", TEXTS, {"data": b"{}"}, 415, PROBLEM),
    "nothing said": ("POST", TEXTS, {"json": {}}, 422, PROBLEM),
    "stranger": ("GET", "/", {"headers": {"Host": "evil.example"}}, 403, PROBLEM),
}


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "kind"), _ANSWERS.values(), ids=_ANSWERS
)
async def test_every_answer_is_of_its_type_and_guarded(  # noqa: PLR0913, PLR0917
    method: str, path: str, how: dict[str, Any], status: int, kind: str, page: Visitor
) -> None:
    answer = await page.ask(method, Address(path, encoded=True), **how)
    assert (answer.status, answer.kind) == (status, kind)
    assert_guarded(answer.headers)
    assert ("Allow" in answer.headers) is (status == 405)


async def test_an_answer_of_a_fault_of_our_own_is_guarded_and_tells_nothing_of_it(
    sandbox: Sandbox, page: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> NoReturn:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(sandbox.telnyx, "text", broken)
    answer = await page.post(TEXTS, VERIFY)
    assert answer.status == 500
    assert "inside" not in answer.body
    assert_guarded(answer.headers)


class Elements(HTMLParser):
    """Reads a page: its elements with their attributes, and the text in each."""

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
        """Give the text that an element begins with by the value of its attribute."""
        return {
            attributes[name]: text.strip()
            for (_, attributes), text in zip(self.found, self.texts, strict=True)
            if name in attributes
        }


async def test_the_page_holds_nothing_inline_and_no_address_but_its_own(
    sandbox: Sandbox, page: Visitor
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


async def test_what_the_page_loads_is_its_own_and_loads_nothing_from_elsewhere(
    page: Visitor,
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


async def test_every_fault_and_every_jump_has_its_button_and_every_button_works(
    sandbox: Sandbox, page: Visitor
) -> None:
    elements = Elements((await page.get("/")).body)
    faults = elements.by_attribute("data-fault")
    assert faults == {name: choice.title for name, choice in MENU.items()}
    assert [(await page.post(FAULTS, {"fault": name})).status for name in faults] == [200] * len(
        MENU
    )
    jumps = elements.by_attribute("data-jump")
    assert jumps == {"30s": "30 seconds", "11m": "11 minutes", "1d": "1 day"}
    for jump in jumps:
        assert (await page.post(CLOCK, {"ahead": jump})).status == 200
    assert sandbox.clock.now() == NOON + timedelta(days=1, minutes=11, seconds=30)


# Texts.


async def test_a_whole_conversation_goes_over_http_alone(page: Visitor) -> None:
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
async def test_a_text_comes_to_the_bot_in_the_shape_asked_for(
    shape: Shape, sandbox: Sandbox, page: Visitor
) -> None:
    params = {"from": OTHER_PHONE, "text": "VERIFY", "shape": shape}
    assert (await page.post(TEXTS, params)).status == 200
    said = sandbox.telnyx.journal.entries[0]
    assert isinstance(said, PhoneText)
    assert (said.author, said.phone, said.bot_number) == (Author.PERSON, OTHER_PHONE, BOT_NUMBER)
    assert (said.text, said.shape) == ("VERIFY", shape)


async def test_who_texts_is_told_how_the_bot_answered_the_webhook(
    sandbox: Sandbox, page: Visitor
) -> None:
    sandbox.telnyx._key = SigningKey.generate()  # one that the bot does not know
    answer = await page.post(TEXTS, VERIFY)
    assert (answer.status, answer.said) == (200, {"webhook_status": 401})


async def test_the_longest_text_is_taken(sandbox: Sandbox, page: Visitor) -> None:
    await page.text("x" * 1600)
    said = sandbox.telnyx.journal.entries[0]
    assert isinstance(said, PhoneText)
    assert said.text == "x" * 1600


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
async def test_a_bad_text_is_refused_with_the_name_of_the_field_and_goes_nowhere(
    body: bytes, field: str, sandbox: Sandbox, page: Visitor
) -> None:
    answer = await page.ask("POST", TEXTS, data=body, headers={"Content-Type": JSON})
    assert_refused(answer, f"{field}: ")
    assert_nothing_happened(sandbox)


def assert_refused(answer: Answer, beginning: str, status: int = 422) -> None:
    assert (answer.status, answer.kind) == (status, PROBLEM), answer.body
    assert answer.said.keys() == {"status", "detail"}
    assert answer.said["status"] == status
    told = re.split("^|; ", answer.said["detail"])
    assert any(part.startswith(beginning) for part in told), answer.body


async def test_all_that_is_wrong_with_a_text_is_told_at_once(page: Visitor) -> None:
    answer = await page.post(TEXTS, {"from": "me", "shape": "round"})
    for field in ("from", "text", "shape"):
        assert_refused(answer, f"{field}: ")


# The latest message.


@pytest.fixture
def asked(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Tell when somebody has begun to wait for what is not there yet."""
    journal, asked = sandbox.telnyx.journal, asyncio.Event()
    longer_than = journal.longer_than

    async def noted(count: int) -> None:
        asked.set()
        await longer_than(count)

    monkeypatch.setattr(journal, "longer_than", noted)
    return asked


async def test_who_asks_before_the_text_is_sent_gets_the_message_once_it_comes(
    page: Visitor, asked: asyncio.Event
) -> None:
    asking = asyncio.create_task(page.latest())
    await asked.wait()
    await page.text("VERIFY", OTHER_PHONE)
    await page.latest(OTHER_PHONE)
    assert not asking.done()
    await page.text("VERIFY")
    message = await asking
    assert (message["phone"], message["code"] is not None) == (PHONE, True)


async def test_a_message_older_than_the_phones_own_last_text_is_not_new(page: Visitor) -> None:
    await page.text("VERIFY")
    code = (await page.latest(wait=60))["code"]
    await page.text(code)
    assert (await page.latest())["text"] == SUCCESS
    await page.text(code)  # which is met with silence
    await page.assert_nothing_new()
    await page.assert_nothing_new(OTHER_PHONE)


async def test_after_names_the_message_that_a_new_one_comes_after(page: Visitor) -> None:
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


async def test_what_has_not_come_in_time_is_answered_with_advice(page: Visitor) -> None:
    for wait in ("0", "0.01"):
        answer = await page.get(LATEST, to=PHONE, wait=wait)
        assert_refused(answer, f"no new message to {PHONE} within {wait} seconds", 404)
        assert "has the phone texted the bot?" in answer.body


@pytest.mark.parametrize("plus", ["%2B", "+", "%20"])
async def test_a_plus_is_understood_as_people_write_it(plus: str, page: Visitor) -> None:
    await page.text("VERIFY")
    address = Address(f"{LATEST}?to={plus}{PHONE[1:]}", encoded=True)
    answer = await page.get(address)
    assert (answer.status, answer.said["phone"]) == (200, PHONE)


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
async def test_a_bad_question_is_refused_with_the_name_of_the_field(
    query: dict[str, str], field: str, page: Visitor
) -> None:
    assert_refused(await page.get(LATEST, **query), f"{field}: ")


async def test_a_text_that_failed_on_its_way_is_no_message(sandbox: Sandbox, page: Visitor) -> None:
    assert (await page.post(FAULTS, {"fault": "failed"})).status == 200
    await page.text("VERIFY")
    await sandbox.quiet()
    assert len(sandbox.telnyx.requests) == 1
    await page.assert_nothing_new()


async def test_the_carriers_own_answer_is_a_message(page: Visitor) -> None:
    await page.text("STOP")
    message = await page.latest()
    assert (message["author"], message["code"]) == ("carrier", None)
    assert "unsubscribed" in message["text"]


# The clock, the faults and the transcript.


async def test_the_clock_moves_ahead_for_the_bot_too(sandbox: Sandbox, page: Visitor) -> None:
    await page.text("VERIFY")
    code = (await page.latest())["code"]
    answer = await page.post(CLOCK, {"ahead": "11m"})
    then = NOON + timedelta(minutes=11)
    assert (answer.status, answer.said) == (200, {"now": then.isoformat()})
    assert sandbox.clock.now() == then
    await page.text(code)
    assert (await page.latest())["text"].startswith("Your code has expired.")


async def test_a_fault_comes_about_and_the_next_try_once_the_clock_has_moved(
    sandbox: Sandbox, page: Visitor
) -> None:
    assert (await page.post(FAULTS, {"fault": "500"})).status == 200
    await page.text("VERIFY")
    await sandbox.quiet()
    assert len(sandbox.telnyx.requests) == 1
    await page.assert_nothing_new()
    assert (await page.post(CLOCK, {"ahead": "1m"})).status == 200
    assert (await page.latest())["code"] is not None
    assert len(sandbox.telnyx.requests) == 2


_LENGTH = "a length is like 30s, 11m, 2h or 1d"
_BAD_CLOCKS: dict[str, tuple[object, str]] = {
    "nothing": ({}, "ahead: "),
    "number": ({"ahead": 11}, "ahead: "),
    "extra": ({"ahead": "1m", "back": "1m"}, "back: "),
    "list": (["1m"], "body: "),
    "no length": ({"ahead": "soon"}, _LENGTH),
    "no unit": ({"ahead": "11"}, _LENGTH),
    "back": ({"ahead": "-1m"}, _LENGTH),
    "too far": ({"ahead": "99999d"}, "that is further ahead than this clock goes"),
}


@pytest.mark.parametrize(("params", "told"), _BAD_CLOCKS.values(), ids=_BAD_CLOCKS)
async def test_a_clock_that_is_badly_asked_stands_still(
    params: object, told: str, sandbox: Sandbox, page: Visitor
) -> None:
    assert_refused(await page.post(CLOCK, params), told)
    assert_nothing_happened(sandbox)


@pytest.mark.parametrize("name", MENU)
async def test_each_fault_of_the_menu_is_armed_by_its_name(
    name: str, sandbox: Sandbox, page: Visitor
) -> None:
    answer = await page.post(FAULTS, {"fault": name})
    assert (answer.status, answer.said) == (200, {"armed": True})
    assert sandbox.telnyx.journal.entries == [FaultArmed(NOON, MENU[name].fault)]
    telnyx = sandbox.telnyx
    armed = [*telnyx.faults, *telnyx.report_faults, *telnyx.webhook_faults]
    assert armed == [MENU[name].fault]


_BAD_FAULTS: dict[str, tuple[object, str]] = {
    "nothing": ({}, "fault: "),
    "number": ({"fault": 500}, "fault: "),
    "extra": ({"fault": "500", "often": 2}, "often: "),
    "unknown": ({"fault": "503"}, f"there is no fault '503', but {', '.join(MENU)}"),
}


@pytest.mark.parametrize(("params", "told"), _BAD_FAULTS.values(), ids=_BAD_FAULTS)
async def test_a_fault_that_there_is_not_is_refused(
    params: object, told: str, sandbox: Sandbox, page: Visitor
) -> None:
    assert_refused(await page.post(FAULTS, params), told)
    assert_nothing_happened(sandbox)


async def test_the_transcript_is_a_file_that_plays_again(
    sandbox: Sandbox, page: Visitor, make_database: MakeDatabase
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
    async with open_sandbox(make_database(), StoppedClock(beginning_of(script))) as again:
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
    "progress",
    "took",
    "code",
    "encoding",
    "segments",
]
_FIELDS = {
    "PhoneText": _TEXT_FIELDS,
    "Exchange": ["id", "at", "wire", "request", "answer", "seconds"],
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
    "ClockMoved": ["at", "length"],
    "FaultArmed": ["name"],
    "FaultMet": ["name"],
}


def written_down(sandbox: Sandbox) -> list[tuple[str, int | None]]:
    entries = sandbox.telnyx.journal.entries
    return [(type(entry).__name__, getattr(entry, "id", None)) for entry in entries]


async def test_events_begin_anew_and_tell_the_journal_in_order(
    sandbox: Sandbox, page: Visitor
) -> None:
    sandbox.arm("500")
    await sandbox.text(PHONE, "VERIFY")
    await sandbox.travel(PHONE, timedelta(minutes=1))
    happened = written_down(sandbox)
    assert len(happened) > 10
    async with page.events() as events:
        beginning = await anext(events)
        now = (NOON + timedelta(minutes=1)).isoformat()
        assert beginning == {"kind": "Beginning", "now": now}
        entries = await take(events, len(happened))
    assert [(entry["kind"], entry.get("id")) for entry in entries] == happened
    assert {entry["now"] for entry in entries} == {now}


async def test_a_lost_page_looks_for_the_demo_again_within_a_second(page: Visitor) -> None:
    async with page.session.get(EVENTS) as answer:
        assert (await answer.content.readline()).startswith(b"data: ")
        assert await answer.content.readline() == b"retry: 1000\r\n"


async def test_events_are_told_as_they_happen_to_all_who_listen(
    sandbox: Sandbox, page: Visitor
) -> None:
    async with page.events() as first:
        assert (await anext(first))["kind"] == "Beginning"
        await page.text("VERIFY")
        event = await anext(first)
        assert (event["kind"], event["author"], event["text"]) == ("PhoneText", "person", "VERIFY")
        code = (await page.latest())["code"]
        await sandbox.quiet()
        count = len(written_down(sandbox))
        so_far = [event, *await take(first, count - 1)]
        assert code in {event.get("code") for event in so_far}

        async with page.events() as second:
            assert (await anext(second))["kind"] == "Beginning"
            assert await take(second, count) == so_far
            await page.text(code)
            assert await anext(first) == await anext(second)
            await page.latest()
            await sandbox.quiet()
            more = len(written_down(sandbox)) - count - 1
            assert await take(first, more) == await take(second, more)


async def test_each_kind_of_event_has_its_fields(sandbox: Sandbox, page: Visitor) -> None:
    keeping = asyncio.create_task(keep_updated(sandbox))
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
    keeping.cancel()

    assert seen["FaultArmed"][0]["name"] == seen["FaultMet"][0]["name"] == "twice"
    assert seen["ClockMoved"][0]["length"] == 660.0
    assert seen["ClockMoved"][0]["at"] == (NOON + timedelta(minutes=11)).isoformat()
    asked = seen["PhoneText"][0]
    assert (asked["author"], asked["progress"], asked["took"]) == ("person", "queued", None)
    assert (asked["code"], asked["encoding"], asked["segments"]) == (None, "GSM-7", 1)
    webhook = next(exchange for exchange in seen["Exchange"] if exchange["wire"] == "webhook")
    assert webhook["request"].keys() == webhook["answer"].keys() == {"start", "headers", "body"}
    assert webhook["request"]["start"] == "POST /webhooks/telnyx HTTP/1.1"
    assert webhook["answer"]["start"] == "HTTP/1.1 200 OK"
    assert json.loads(webhook["request"]["body"])["data"]["event_type"] == "message.received"
    assert ["Content-Type", JSON] in webhook["request"]["headers"]
    assert webhook["seconds"] > 0
    stands = seen["PhoneStatus"][0]
    assert (stands["phone"], stands["bot_number"]) == (PHONE, BOT_NUMBER)
    assert (stands["state"], stands["tries_left"]) == ("awaiting_code", 5)


@pytest.mark.parametrize("ping", [0.01, TEST_TIMEOUT], ids=["nothing happens", "something happens"])
async def test_a_page_that_is_closed_leaves_no_task_behind(
    ping: float, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PING_EVERY", ping)

    def telling() -> list[str]:
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return [name for name in names if name == "Page._tell"]

    async with served(sandbox, 0) as url:
        async with visiting(url) as visitor, visitor.events() as events:
            await anext(events)
            assert len(telling()) == 1

        def ended() -> bool:
            if ping == TEST_TIMEOUT:
                sandbox.move_clock(timedelta())
            return not telling()

        await wait_until(ended)


async def test_the_server_ends_while_pages_are_open_and_somebody_waits_for_a_message(
    sandbox: Sandbox, asked: asyncio.Event
) -> None:
    async with asyncio.timeout(TEST_TIMEOUT), AsyncExitStack() as clients:
        async with served(sandbox, 0) as url:
            visitor = await clients.enter_async_context(visiting(url))
            streams = [await clients.enter_async_context(visitor.events()) for _ in range(2)]
            for events in streams:
                await anext(events)
            asked.clear()
            waiting = asyncio.create_task(visitor.get(LATEST, to=PHONE, wait=60))
            await asked.wait()
        for events in streams:
            assert [event async for event in events] == []  # an end in good order
        (lost,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(lost, ConnectionError | OSError), lost


# Who may ask.

_OWN = ["localhost", "127.0.0.1", "[::1]"]
_STRANGERS = [
    "evil.example",
    "evil.localhost.example",
    "localhost.example",
    "localhost.",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "0.0.0.0",  # noqa: S104 - a name that leads to this machine, and not its own
    "[::2]",
    "localhost@evil.example",
]


@pytest.mark.parametrize("port", ["", ":80", ":65535"])
@pytest.mark.parametrize("host", _OWN)
async def test_this_machines_own_names_lead_to_the_page_with_any_port(
    host: str, port: str, page: Visitor
) -> None:
    answer = await page.ask("GET", "/", headers={"Host": host + port})
    assert (answer.status, answer.kind) == (200, "text/html")


@pytest.mark.parametrize("port", ["", ":8025"])
@pytest.mark.parametrize("host", _STRANGERS)
async def test_a_strangers_name_leads_nowhere(
    host: str, port: str, sandbox: Sandbox, page: Visitor
) -> None:
    headers = {"Host": host + port}
    for path in ("/", "/static/phone.js", EVENTS, TRANSCRIPT, "/nowhere"):
        answer = await page.ask("GET", path, headers=headers)
        assert_refused(answer, "open this page as http://localhost", 403)
    assert (await page.ask("POST", TEXTS, json=VERIFY, headers=headers)).status == 403
    assert_nothing_happened(sandbox)


@pytest.mark.parametrize("host", ["localhost:eighty", "localhost:65536"])
async def test_what_is_no_host_is_refused_too(host: str, sandbox: Sandbox, page: Visitor) -> None:
    answer = await page.ask("POST", TEXTS, json=VERIFY, headers={"Host": host})
    assert_refused(answer, "open this page as http://localhost", 403)
    assert_nothing_happened(sandbox)


_FORMS: dict[str, dict[str, Any]] = {
    "text": {"headers": {"Content-Type": "text/plain"}},
    "text that names JSON": {"headers": {"Content-Type": "text/plain; application/json"}},
    "form": {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "untyped": {"skip_auto_headers": ["Content-Type"]},
}
_WISHES = {TEXTS: VERIFY, CLOCK: {"ahead": "1m"}, FAULTS: {"fault": "500"}}


@pytest.mark.parametrize("how", _FORMS.values(), ids=_FORMS)
@pytest.mark.parametrize("path", _WISHES)
async def test_what_a_page_of_another_origin_can_post_unasked_is_refused_and_does_nothing(
    path: str, how: dict[str, Any], sandbox: Sandbox, page: Visitor
) -> None:
    body = json.dumps(_WISHES[path]).encode()
    answer = await page.ask("POST", path, data=body, **how)
    assert_refused(answer, "send JSON, as Content-Type: application/json", 415)
    assert_nothing_happened(sandbox)


async def test_a_form_with_parts_is_refused_and_does_nothing(
    sandbox: Sandbox, page: Visitor
) -> None:
    form = FormData({"from": PHONE, "text": "VERIFY"}, default_to_multipart=True)
    assert (await page.ask("POST", TEXTS, data=form)).status == 415
    assert_nothing_happened(sandbox)


async def test_json_may_name_its_encoding(page: Visitor) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await page.ask("POST", TEXTS, data=_json(**VERIFY), headers=headers)
    assert (answer.status, answer.said) == (200, {"webhook_status": 200})


# Where it is.


async def test_a_port_that_is_taken_is_told_in_a_sentence(sandbox: Sandbox) -> None:
    with taken_port() as port:
        with pytest.raises(PortError) as caught:
            await served(sandbox, port).__aenter__()
        assert str(caught.value) == f"cannot listen on 127.0.0.1:{port} (Address already in use)"


async def test_without_a_port_it_is_the_usual_one(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken_port() as port:
        pass
    monkeypatch.setattr(server, "PORT", port)
    async with served(sandbox, None) as url:
        assert url == f"http://127.0.0.1:{port}"


async def test_where_the_usual_port_is_taken_it_is_a_free_one(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken_port() as port:
        monkeypatch.setattr(server, "PORT", port)
        async with served(sandbox, None) as url, visiting(url) as visitor:
            assert url.startswith("http://127.0.0.1:")
            assert url != f"http://127.0.0.1:{port}"
            assert (await visitor.get("/")).status == 200
