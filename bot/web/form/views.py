"""The form on the web: type a number, get a code by text, type it here or reply with it.

The pages and their addresses are those of Telnyx's 2FA tutorials. What a stranger could learn of
a number here is nothing: whatever becomes of a request, the answer is the same and as late.
"""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from bot.conversation.intents import normalize_text
from bot.conversation.numbers import example, readable, region_of, to_e164, why_not_textable
from bot.conversation.replies import duration
from bot.conversation.state import Alphabet
from bot.conversation.verification import Origin, RequestOutcome, Status
from bot.services.verifications import VerificationRequest
from bot.store.engine.errors import UnavailableError
from bot.web.http.body import read_body
from bot.web.http.client_ip import client_address, network_of
from bot.web.http.log_throttle import LogThrottle
from bot.web.telnyx import RETRY_LATER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network

    from aiohttp.typedefs import Handler

    from bot.conversation.state import CodeFormat
    from bot.conversation.verification import Verification
    from bot.services.clock import Clock
    from bot.services.verifications import Verifications
    from bot.web.form.sessions import Sessions
    from bot.web.http.lookup_gate import LookupGate

MAX_BODY_BYTES = 4 * 1024
BODY_TIMEOUT = 5.0
"""Seconds a body may take to arrive."""
MAX_FIELDS = 8
RESPONSE_INTERVAL = 0.15
"""Seconds; an answer to what was posted leaves this long after it came, or at a multiple."""
RETRY_AFTER = timedelta(hours=1)
"""When to come again after too many requests, where nobody knows better."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: a browser would then send `Origin: null` with our own form (Fetch §3.2).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_ASSETS = {"form.css": "text/css", "form.js": "text/javascript", "icon.svg": "image/svg+xml"}
_BETWEEN_SYMBOLS = re.compile(r"[\s.-]+")

_WRONG = "That code is not right, or it has ended. Please check it, or ask for a new one."
_ERRORS = {"wrong": _WRONG}
_NOTES = {
    "again": "If that number can be texted, the code is on its way once more.",
    "not-yet": "No reply has arrived yet. It may take a moment: please try again.",
}


@dataclass(frozen=True, slots=True)
class FormSettings:
    """What the operator has chosen.

    `country_code` is like "+1", `countries` are those texted to, in two letters.
    `bot_numbers` (E.164) are not texted; `test_numbers` may be of any kind and country.
    """

    app_name: str
    code_format: CodeFormat
    code_lifetime: timedelta
    country_code: str
    countries: Sequence[str]
    bot_numbers: frozenset[str] = frozenset()
    test_numbers: frozenset[str] = frozenset()
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()


class Form:
    """The form's doors."""

    def __init__(
        self,
        verifications: Verifications,
        terms: FormSettings,
        sessions: Sessions,
        clock: Clock,
        lookups: LookupGate,
    ) -> None:
        self._verifications = verifications
        self._terms = terms
        self._sessions = sessions
        self._clock = clock
        self._complaints = LogThrottle()
        self._lookups = lookups
        self._pages = Environment(
            loader=PackageLoader("bot.web.form", "templates"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def routes(self) -> list[web.RouteDef]:
        """Name the form's doors."""
        return [
            web.get("/", self._guarded(self.ask_number)),
            web.post("/request", self._guarded(self.request_code)),
            web.get("/verify", self._guarded(self.ask_code)),
            web.post("/verify", self._guarded(self.verify)),
            web.post("/resend", self._guarded(self.resend)),
            web.get("/status", self._guarded(self.status)),
            web.get("/success", self._guarded(self.succeed)),
            web.get("/static/{name}", self._guarded(_asset)),
        ]

    async def ask_number(self, request: web.Request) -> web.Response:
        """Show the form that asks for a number."""
        session_id = self._sessions.id_of(request) or self._sessions.begin()
        response = self._number_page(session_id)
        self._sessions.keep(response, session_id)
        return response

    async def request_code(self, request: web.Request) -> web.Response:
        """Have a code texted, and go on to the form that asks for it; raises HTTPException.

        The session is a new one from here on: whoever knew the old one knows nothing of this.
        """
        fields = await _fields(request)
        session_id = self._own(request, fields)
        if session_id is None:
            return self._stale()
        typed = fields.get("phone", "")
        try:
            phone = self._phone(typed)
        except ValueError as error:
            return self._number_page(session_id, typed=typed, error=str(error), status=422)
        new_id = self._sessions.begin()
        params = VerificationRequest(
            Origin.FORM,
            phone,
            session=self._sessions.name_of(new_id),
            asked_from=self._asked_from(request),
        )
        result = await self._verifications.begin(params)
        if result.outcome is RequestOutcome.TOO_MANY_REQUESTS:
            return self._too_many(result.retry_at)
        response = _go("/verify")
        self._sessions.keep(response, new_id)
        return response

    async def ask_code(self, request: web.Request) -> web.Response:
        """Show the form that asks for the code."""
        session_id, verification = await self._standing(request)
        if session_id is None or verification is None:
            return _go("/")
        if verification.status is Status.VERIFIED:
            return _go("/success")
        told = request.query.get("told", "")
        ends_at = verification.created_at + self._terms.code_lifetime
        left = math.ceil((ends_at - self._clock.now()).total_seconds())
        return self._page(
            "code.html",
            number=readable(verification.phone or ""),
            life=duration(self._terms.code_lifetime),
            left=max(0, left),
            length=self._terms.code_format.length,
            hexadecimal=self._terms.code_format.alphabet is Alphabet.HEX,
            csrf=self._sessions.token(session_id),
            error=_ERRORS.get(told, ""),
            note=_NOTES.get(told, ""),
        )

    async def verify(self, request: web.Request) -> web.Response:
        """Check the code that was typed; raises HTTPException.

        Whatever is wrong with it is told in the same words.
        """
        fields = await _fields(request)
        if self._own(request, fields) is None:
            return self._stale()
        _, verification = await self._standing(request)
        code = _BETWEEN_SYMBOLS.sub("", normalize_text(fields.get("code", ""))).upper()
        if verification is not None and code:
            result = await self._verifications.check(verification.id, code)
            if result.outcome is RequestOutcome.RIGHT:
                return _go("/success")
        return _go("/verify?told=wrong")

    async def resend(self, request: web.Request) -> web.Response:
        """Have the same code texted again, where that may be; raises HTTPException."""
        fields = await _fields(request)
        if self._own(request, fields) is None:
            return self._stale()
        _, verification = await self._standing(request)
        if verification is not None:
            await self._verifications.resend(verification.id)
        return _go("/verify?told=again")

    async def status(self, request: web.Request) -> web.Response:
        """Tell the page's script whether the number is verified."""
        _, verification = await self._standing(request)
        verified = verification is not None and verification.status is Status.VERIFIED
        return web.json_response({"verified": verified})

    async def succeed(self, request: web.Request) -> web.Response:
        """Show that the number is verified, to the session that has verified it alone."""
        _, verification = await self._standing(request)
        if verification is None or verification.status is not Status.VERIFIED:
            return _go("/verify?told=not-yet")
        return self._page("success.html", number=readable(verification.phone or ""))

    def _guarded(self, handler: Handler) -> Handler:
        """Add to every answer what guards it, and let none to a post tell by its time."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            arrived = asyncio.get_running_loop().time()
            try:
                response = await handler(request)
            except UnavailableError:
                response = self._unavailable()
            except web.HTTPException as error:
                error.headers.update(_HEADERS)
                raise
            response.headers.update(_HEADERS)
            if request.method == "POST":
                await _beat_after(arrived)
            return response

        return guarded

    async def _standing(self, request: web.Request) -> tuple[str | None, Verification | None]:
        """Find the browser's session and its verification; raises UnavailableError."""
        session_id = self._sessions.id_of(request)
        if session_id is None:
            return None, None
        name = self._sessions.name_of(session_id)
        async with self._lookups.enter():
            return session_id, await self._verifications.of_session(name)

    def _own(self, request: web.Request, fields: Mapping[str, str]) -> str | None:
        """Tell the session of a form that one of our own pages has sent; None for any other."""
        session_id = self._sessions.id_of(request)
        if session_id is None:
            return None
        if not self._sessions.asked_here(request):
            self._complaints.log(
                "form refused",
                reason="it comes from a page at another address",
                advice="check PUBLIC_URL, if people are told to begin again",
            )
            return None
        known = self._sessions.knows(fields.get("csrf", ""), session_id)
        return session_id if known else None

    def _phone(self, typed: str) -> str:
        """Read a number that a code may go to; raises ValueError, which says what to do."""
        like = f", like {self._example}" if self._example else ""
        if not typed.strip():
            raise ValueError("Please type your phone number.")
        try:
            phone = to_e164(typed, self._terms.country_code)
        except ValueError:
            raise ValueError(
                f"This is not a phone number. Please type all of it{like},"
                " or begin with + and the country code."
            ) from None
        if phone in self._terms.bot_numbers:
            raise ValueError("This is our own number. Please type yours.")
        if phone in self._terms.test_numbers:
            return phone
        why_not = why_not_textable(phone)
        if why_not is not None:
            raise ValueError(f"This is {why_not}. Please type the number of a mobile phone.")
        if region_of(phone) not in self._terms.countries:
            raise ValueError(
                "No code can be texted to that country. Please type a number of one of these: "
                + ", ".join(self._terms.countries)
                + "."
            )
        return phone

    @property
    def _example(self) -> str:
        return example(self._terms.country_code)

    def _asked_from(self, request: web.Request) -> str:
        forwarded = request.headers.getall("X-Forwarded-For", [])
        address = client_address(request.remote, forwarded, self._terms.trusted_proxies)
        return self._sessions.asked_from(network_of(address))

    def _number_page(
        self, session_id: str, *, typed: str = "", error: str = "", status: int = 200
    ) -> web.Response:
        return self._page(
            "number.html",
            status=status,
            typed=typed,
            error=error,
            example=self._example,
            csrf=self._sessions.token(session_id),
        )

    def _too_many(self, retry_at: datetime | None) -> web.Response:
        now = self._clock.now()
        wait = max(timedelta(seconds=1), (retry_at or now + RETRY_AFTER) - now)
        return self._page(
            "sorry.html",
            status=429,
            headers={"Retry-After": str(math.ceil(wait.total_seconds()))},
            title="Please wait a little",
            text="Many codes have been asked for here in a short time."
            f" Please wait {duration(wait)}, then ask for yours.",
        )

    def _stale(self) -> web.Response:
        return self._page(
            "sorry.html",
            status=403,
            title="Please begin again",
            text="That page had become too old, or your browser keeps no cookies."
            " The form needs one to know that it is you.",
        )

    def _unavailable(self) -> web.Response:
        return self._page(
            "sorry.html",
            status=503,
            headers=RETRY_LATER,
            title="Please try again",
            text="Something does not work here at the moment, and it is not your fault."
            " Please try again in a minute.",
        )

    def _page(
        self,
        name: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: str | int,
    ) -> web.Response:
        page = self._pages.get_template(name).render(app_name=self._terms.app_name, **values)
        return web.Response(text=page, content_type="text/html", status=status, headers=headers)


async def _fields(request: web.Request) -> dict[str, str]:
    """Read a form's fields; raises HTTPException."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="send a form: application/x-www-form-urlencoded\n")
    body = await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT)
    try:
        fields = parse_qs(body.decode(), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise web.HTTPBadRequest(text="this is not a form\n") from None
    return {name: values[0] for name, values in fields.items()}


async def _asset(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in _ASSETS:
        raise web.HTTPNotFound
    body = (resources.files("bot.web.form") / "static" / name).read_text(encoding="utf-8")
    return web.Response(text=body, content_type=_ASSETS[name])


async def _beat_after(arrived: float) -> None:
    """Wait for the next beat since `arrived`, a time of the loop."""
    await asyncio.sleep((arrived - asyncio.get_running_loop().time()) % RESPONSE_INTERVAL)


def _go(where: str) -> web.Response:
    """Send the browser on, so that a reload posts nothing twice (RFC 9110 §15.4.4)."""
    return web.Response(status=303, headers={"Location": where})
