"""The page's server, on loopback: only `bot demo` ever starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

from aiohttp import web
from aiohttp_sse import sse_response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bot.conversation.inputs import Shape
from bot.conversation.numbers import is_e164
from bot.simulator.clock import to_length
from bot.simulator.phones.page.feed import as_event, of_text, to_json
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import transcript
from bot.simulator.telnyx.faults import MENU
from bot.simulator.telnyx.journal import Author, PhoneText
from bot.web.http.security_headers import NO_STORE, OWN_FILES, page_headers
from bot.web.http.static import static_handler
from bot.web.http.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler
    from aiohttp_sse import EventSourceResponse

    from bot.simulator.sandbox import Sandbox

PORT = 8025
"""Where the page is, if nobody else is there."""
_JUMPS = {"30s": "30 seconds", "11m": "11 minutes", "1d": "1 day"}
_QUICK_TEXTS = ("VERIFY", "RESEND", "STATUS", "NOT ME", "STOP", "START")
_MAX_TEXT_LENGTH = 1600
_DEFAULT_WAIT, _MAX_WAIT = 10.0, 60.0
_PING_EVERY = 1.0
"""Seconds after which a page that was closed is noticed."""
_RETRY = 1000
"""Milliseconds after which a page that has lost the demo looks for it again."""
_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADERS = page_headers(OWN_FILES) | NO_STORE
_STATIC_FILES = ("phone.css", "phone.js", "icon.svg")

_PageRequest = TypeVar("_PageRequest", bound="PageRequest")


def _phone(number: str) -> str:
    if not is_e164(number):
        raise ValueError("a phone's number is like +13125550001")
    return number


class PortError(Exception):
    """The port asked for cannot be had; the message says why."""


class PageRequest(BaseModel):
    """What a request may ask for; a field that there is not is refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TextRequest(PageRequest):
    """A text from a phone (E.164) to the bot."""

    phone: Annotated[str, AfterValidator(_phone)] = Field(alias="from")
    text: str = Field(max_length=_MAX_TEXT_LENGTH)
    shape: Shape = Shape.PLAIN


class ClockRequest(PageRequest):
    """How far the clock is to move ahead, like `11m`."""

    ahead: str


class FaultRequest(PageRequest):
    """A fault of the menu, by its name."""

    fault: str


class LatestRequest(PageRequest):
    """Which message is waited for: one `to` a phone, after the one with the id `after`."""

    to: Annotated[str, AfterValidator(_phone)]
    after: int | None = None
    wait: float = Field(default=_DEFAULT_WAIT, ge=0, le=_MAX_WAIT)


class Page:
    """The page and what it asks for, on one stage."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._journal = sandbox.telnyx.journal
        self._streams: set[EventSourceResponse] = set()
        templates = template_environment("bot.simulator.phones.page")
        self._page = templates.get_template("phone.html").render(
            bot_number=BOT_NUMBER,
            first_phone=PHONE,
            bot_url=sandbox.bot.url,
            form_url=sandbox.form_url,
            has_app=sandbox.key is not None,
            jumps=_JUMPS,
            menu=MENU,
            quick_texts=_QUICK_TEXTS,
        )

    def application(self) -> web.Application:
        """Make the web application."""
        application = web.Application(middlewares=[_from_this_machine, _told_what_is_wrong])
        application.on_response_prepare.append(_guard)
        application.on_shutdown.append(self._end_streams)
        application.add_routes(
            [
                web.get("/", self.show),
                web.get(
                    "/static/{name}", static_handler("bot.simulator.phones.page", _STATIC_FILES)
                ),
                web.get("/simulator/events", self.events),
                web.post("/simulator/texts", self.text),
                web.post("/simulator/clock", self.move_clock),
                web.post("/simulator/faults", self.arm),
                web.get("/simulator/messages/latest", self.latest),
                web.get("/simulator/transcript", self.transcript),
            ]
        )
        return application

    async def show(self, _request: web.Request) -> web.Response:
        """Show the page."""
        return web.Response(text=self._page, content_type="text/html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell of all that has happened and happens; who connects again begins anew."""
        async with sse_response(request, ping_interval=_PING_EVERY) as stream:
            self._streams.add(stream)
            telling = asyncio.create_task(self._tell(stream))
            try:
                await stream.wait()
            finally:
                telling.cancel()
                self._streams.discard(stream)
        return stream

    async def _tell(self, stream: EventSourceResponse) -> None:
        beginning = to_json({"kind": "Beginning", "now": self._sandbox.clock.now()})
        with contextlib.suppress(ConnectionError):
            await stream.send(beginning, retry=_RETRY)
            async for entry in self._journal.follow():
                await stream.send(as_event(entry, self._sandbox.clock.now()))

    async def _end_streams(self, _application: web.Application) -> None:
        """Let go of the pages that are open: they would wait for ever."""
        for stream in self._streams:
            stream.stop_streaming()

    async def text(self, request: web.Request) -> web.Response:
        """Text the bot from a phone; answer how the bot answered the webhook."""
        params = await _read(request, TextRequest)
        status = await self._sandbox.telnyx.text(
            params.phone, BOT_NUMBER, params.text, params.shape
        )
        return web.json_response({"webhook_status": status})

    async def move_clock(self, request: web.Request) -> web.Response:
        """Move the clock ahead; answer what time it is then."""
        self._sandbox.move_clock(to_length((await _read(request, ClockRequest)).ahead))
        return web.json_response({"now": self._sandbox.clock.now()}, dumps=to_json)

    async def arm(self, request: web.Request) -> web.Response:
        """Have a fault come about at its next occasion."""
        self._sandbox.arm((await _read(request, FaultRequest)).fault)
        return web.json_response({"armed": True})

    async def latest(self, request: web.Request) -> web.Response:
        """Answer the latest message to a phone, waiting for one that is new.

        New is what came after the message `after`; without that, after the phone's own last text.
        """
        query = dict(request.query)
        if "to" in query:
            query["to"] = query["to"].replace(" ", "+", 1)  # what "+" means in a query
        params = LatestRequest.model_validate(query)
        try:
            async with asyncio.timeout(params.wait):
                while (found := self._latest(params)) is None:
                    await self._journal.longer_than(len(self._journal.entries))
        except TimeoutError:
            what = f"no new message to {params.to} within {params.wait:g} seconds"
            return _problem(404, f"{what}; has the phone texted the bot?")
        return web.json_response(of_text(found), dumps=to_json)

    async def transcript(self, _request: web.Request) -> web.Response:
        """Answer the session so far, in the story language."""
        script = transcript(self._journal.entries, self._sandbox.clock.now())
        saved = {"Content-Disposition": 'attachment; filename="session.story"'}
        return web.Response(text=script, headers=saved)

    def _latest(self, params: LatestRequest) -> PhoneText | None:
        after = params.after
        if after is None:
            said = [
                entry.id
                for entry in self._journal.entries
                if isinstance(entry, PhoneText)
                and entry.phone == params.to
                and entry.author is Author.PERSON
            ]
            after = max(said, default=0)
        texts = self._sandbox.telnyx.texts
        came = [text for text in texts if text.phone == params.to and text.id > after]
        return came[-1] if came else None


@asynccontextmanager
async def served(sandbox: Sandbox, port: int | None) -> AsyncIterator[str]:
    """Serve the page until the block ends, and give its address.

    Without a port it is `PORT`, or a free one where that is taken. Raises PortError where the
    port asked for cannot be had.
    """
    runner = web.AppRunner(Page(sandbox).application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", PORT if port is None else port).start()
        except OSError as error:
            if port is not None:
                why = os.strerror(error.errno or 0)
                raise PortError(f"cannot listen on 127.0.0.1:{port} ({why})") from error
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _read(request: web.Request, kind: type[_PageRequest]) -> _PageRequest:
    """Read a JSON body; a page of another origin cannot send one unasked."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON, as Content-Type: application/json")
    return kind.model_validate_json(await request.read())


@web.middleware
async def _from_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse names that a stranger's page could have led to this machine (DNS rebinding)."""
    try:
        known = request.url.host in _HOSTS
    except ValueError:  # no host at all, or no port
        known = False
    if not known:
        return _problem(403, "open this page as http://localhost or http://127.0.0.1")
    return await handler(request)


@web.middleware
async def _told_what_is_wrong(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        answer = _problem(error.status, error.text or error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        told = [
            f"{'.'.join(map(str, m['loc'])) or 'body'}: {m['msg'].removeprefix('Value error, ')}"
            for m in mistakes
        ]
        return _problem(422, "; ".join(told))
    except ValueError as error:
        return _problem(422, str(error))


def _problem(status: int, detail: str) -> web.Response:
    """Say what is wrong (RFC 9457)."""
    return web.json_response(
        {"status": status, "detail": detail},
        status=status,
        content_type="application/problem+json",
    )


async def _guard(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
