"""The phone page's server, on loopback; only `bot demo` starts it."""

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
from bot.simulator.clock import parse_duration
from bot.simulator.phones.page.feed import as_event, text_fields, to_json
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.stories.transcript import transcript
from bot.simulator.telnyx.faults import NAMED_FAULTS
from bot.simulator.telnyx.journal import Author, PhoneText
from bot.web.http.security_headers import NO_STORE, OWN_FILES, page_headers
from bot.web.http.static import static_handler
from bot.web.http.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler
    from aiohttp_sse import EventSourceResponse

    from bot.simulator.sandbox import Sandbox

DEFAULT_PORT = 8025
_JUMPS = {"30s": "30 seconds", "11m": "11 minutes", "1d": "1 day"}
_QUICK_TEXTS = ("VERIFY", "RESEND", "STATUS", "NOT ME", "STOP", "START")
_MAX_TEXT_LENGTH = 1600
_DEFAULT_WAIT, _MAX_WAIT = 10.0, 60.0
_PING_INTERVAL = 1.0
"""Seconds until a closed page is noticed."""
_RECONNECT_DELAY = 1000
"""Milliseconds until a page that lost its connection tries again."""
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_SECURITY_HEADERS = page_headers(OWN_FILES) | NO_STORE
_STATIC_FILES = ("phone.css", "phone.js", "icon.svg")

_PageRequest = TypeVar("_PageRequest", bound="PageRequest")


def _phone(number: str) -> str:
    if not is_e164(number):
        raise ValueError("write a phone number like +13125550001")
    return number


class PortError(Exception):
    """The port is not available; the message says why."""


class PageRequest(BaseModel):
    """The parameters of a request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TextRequest(PageRequest):
    """A text from a phone (E.164) to the bot."""

    phone: Annotated[str, AfterValidator(_phone)] = Field(alias="from")
    text: str = Field(max_length=_MAX_TEXT_LENGTH)
    shape: Shape = Shape.PLAIN


class ClockRequest(PageRequest):
    """The duration to move the clock ahead by, like `11m`."""

    ahead: str


class FaultRequest(PageRequest):
    """A fault's name."""

    fault: str


class LatestRequest(PageRequest):
    """The message to wait for: one `to` a phone, after the one with the id `after`."""

    to: Annotated[str, AfterValidator(_phone)]
    after: int | None = None
    wait: float = Field(default=_DEFAULT_WAIT, ge=0, le=_MAX_WAIT)


class Page:
    """The page and its endpoints, for one sandbox."""

    def __init__(self, sandbox: Sandbox, ping_interval: float = _PING_INTERVAL) -> None:
        self._sandbox = sandbox
        self._journal = sandbox.telnyx.journal
        self._ping_interval = ping_interval
        self._streams: set[EventSourceResponse] = set()
        templates = template_environment("bot.simulator.phones.page")
        self._html = templates.get_template("phone.html").render(
            bot_number=BOT_NUMBER,
            first_phone=PHONE,
            bot_url=sandbox.bot.url,
            form_url=sandbox.form_url,
            has_app=sandbox.key is not None,
            jumps=_JUMPS,
            faults=NAMED_FAULTS,
            quick_texts=_QUICK_TEXTS,
        )

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application(middlewares=[_local_host_middleware, _problem_middleware])
        application.on_response_prepare.append(_add_security_headers)
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
        """Return the page."""
        return web.Response(text=self._html, content_type="text/html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream the journal as server-sent events, from the first entry at every connection."""
        async with sse_response(request, ping_interval=self._ping_interval) as stream:
            self._streams.add(stream)
            sending = asyncio.create_task(self._send_events(stream))
            try:
                await stream.wait()
            finally:
                sending.cancel()
                self._streams.discard(stream)
        return stream

    async def _send_events(self, stream: EventSourceResponse) -> None:
        reset = to_json({"kind": "Reset", "now": self._sandbox.clock.now()})
        with contextlib.suppress(ConnectionError):
            await stream.send(reset, retry=_RECONNECT_DELAY)
            async for entry in self._journal.follow():
                await stream.send(as_event(entry, self._sandbox.clock.now()))

    async def _end_streams(self, _application: web.Application) -> None:
        """End the streams of open pages: the server would wait for them forever."""
        for stream in self._streams:
            stream.stop_streaming()

    async def text(self, request: web.Request) -> web.Response:
        """Text the bot from a phone; return the HTTP status of the webhook."""
        params = await _read(request, TextRequest)
        status = await self._sandbox.telnyx.text(
            params.phone, BOT_NUMBER, params.text, params.shape
        )
        return web.json_response({"webhook_status": status})

    async def move_clock(self, request: web.Request) -> web.Response:
        """Move the clock ahead; return the new time."""
        self._sandbox.move_clock(parse_duration((await _read(request, ClockRequest)).ahead))
        return web.json_response({"now": self._sandbox.clock.now()}, dumps=to_json)

    async def arm(self, request: web.Request) -> web.Response:
        """Arm a fault."""
        self._sandbox.arm((await _read(request, FaultRequest)).fault)
        return web.json_response({"armed": True})

    async def latest(self, request: web.Request) -> web.Response:
        """Return the latest message to a phone; wait until there is a new one.

        A message is new if it came after the one with the id `after`, or by default after the
        phone's own last text.
        """
        query = dict(request.query)
        if "to" in query:
            query["to"] = query["to"].replace(" ", "+", 1)  # "+" is a space in a query
        params = LatestRequest.model_validate(query)
        try:
            async with asyncio.timeout(params.wait):
                while (found := self._latest(params)) is None:
                    await self._journal.wait_for_more_than(len(self._journal.entries))
        except TimeoutError:
            detail = f"no new message to {params.to} within {params.wait:g} seconds"
            return _problem(404, f"{detail}; has the phone texted the bot?")
        return web.json_response(text_fields(found), dumps=to_json)

    async def transcript(self, _request: web.Request) -> web.Response:
        """Return the session so far as a story."""
        script = transcript(self._journal.entries, self._sandbox.clock.now())
        headers = {"Content-Disposition": 'attachment; filename="session.story"'}
        return web.Response(text=script, headers=headers)

    def _latest(self, params: LatestRequest) -> PhoneText | None:
        after = params.after
        if after is None:
            own_ids = [
                entry.id
                for entry in self._journal.entries
                if isinstance(entry, PhoneText)
                and entry.phone == params.to
                and entry.author is Author.PERSON
            ]
            after = max(own_ids, default=0)
        texts = self._sandbox.telnyx.texts
        new = [text for text in texts if text.phone == params.to and text.id > after]
        return new[-1] if new else None


@asynccontextmanager
async def serve_page(
    sandbox: Sandbox,
    port: int | None,
    *,
    default_port: int = DEFAULT_PORT,
    ping_interval: float = _PING_INTERVAL,
) -> AsyncIterator[str]:
    """Serve the page until the block ends, and yield its address.

    Without a port, use `default_port`, or a free one if that is taken. Raise PortError if `port`
    is not available.
    """
    application = Page(sandbox, ping_interval).application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", default_port if port is None else port).start()
        except OSError as error:
            if port is not None:
                reason = os.strerror(error.errno or 0)
                raise PortError(f"cannot listen on 127.0.0.1:{port} ({reason})") from error
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _read(request: web.Request, kind: type[_PageRequest]) -> _PageRequest:
    """Read a JSON body; pages of other origins cannot send that type without a preflight."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON, as Content-Type: application/json")
    return kind.model_validate_json(await request.read())


@web.middleware
async def _local_host_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse host names that may be another site's (DNS rebinding)."""
    try:
        local = request.url.host in _LOCAL_HOSTS
    except ValueError:  # no host at all, or no port
        local = False
    if not local:
        return _problem(403, "open this page as http://localhost or http://127.0.0.1")
    return await handler(request)


@web.middleware
async def _problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _problem(error.status, error.text or error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        details = [
            f"{'.'.join(map(str, m['loc'])) or 'body'}: {m['msg'].removeprefix('Value error, ')}"
            for m in mistakes
        ]
        return _problem(422, "; ".join(details))
    except ValueError as error:
        return _problem(422, str(error))


def _problem(status: int, detail: str) -> web.Response:
    """Return a problem response (RFC 9457)."""
    return web.json_response(
        {"status": status, "detail": detail},
        status=status,
        content_type="application/problem+json",
    )


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
