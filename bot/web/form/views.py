"""The web form: type a number, get a code by text, type it here, or reply with it and two letters.

The paths are those of Telnyx's 2FA tutorials. The form reveals nothing about a number: whatever
the outcome of a request, the response is the same and takes equally long.
"""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

from bot.conversation.channels import FORM
from bot.conversation.intents import normalize_text
from bot.conversation.numbers import example, readable
from bot.conversation.replies import duration
from bot.conversation.state import Alphabet
from bot.conversation.verification import Origin, RequestOutcome, Status
from bot.services.intake.form_gate import FORM_WAIT, FormLevel, FormRefusal, FormVisit
from bot.services.recipients import RecipientError, Refusal
from bot.services.verifications import VerificationRequest
from bot.store.engine.errors import UnavailableError
from bot.web.form.challenges import MAX_NUMBER, Challenge, new_challenge, proof_of
from bot.web.http.body import read_body
from bot.web.http.client_ip import network_of_request, wide_network_of_request
from bot.web.http.log_throttle import LogThrottle
from bot.web.http.lookup_gate import TooManyLookupsError
from bot.web.http.retry_after import RETRY_SOON, retry_after
from bot.web.http.security_headers import NO_STORE, OWN_FILES, page_headers
from bot.web.http.static import static_handler
from bot.web.http.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from aiohttp.typedefs import Handler

    from bot.conversation.state import CodeFormat
    from bot.conversation.verification import Verification
    from bot.services.clock import Clock
    from bot.services.intake.form_gate import FormOutcome
    from bot.services.recipients import Recipients
    from bot.services.verifications import Verifications
    from bot.web.form.sessions import Sessions
    from bot.web.http.lookup_gate import LookupGate
    from bot.web.http.refusals import Refusals

MAX_BODY_BYTES = 4 * 1024
BODY_TIMEOUT = 5.0
"""Seconds a body may take to arrive."""
MAX_FIELDS = 8
RESPONSE_INTERVAL = 0.15
"""Seconds; the response to a POST leaves a multiple of this after the request arrived."""
DEFAULT_RETRY_AFTER = timedelta(hours=1)
"""When to try again after too many requests, if the time is unknown."""

# Not no-referrer: browsers would then send `Origin: null` with our own form (Fetch §3.2).
_HEADERS = page_headers(OWN_FILES, form_action="'self'", referrer="same-origin") | NO_STORE
_STATIC_FILES = ("form.css", "form.js", "icon.svg", "proof-worker.js")
_BETWEEN_SYMBOLS = re.compile(r"[\s.-]+")

_WRONG_CODE = "That code is not right, or it has expired. Please check it, or ask for a new one."
_ERRORS = {"wrong": _WRONG_CODE}
_REPLY_INSTEAD = (
    " Or reply to the text with its code and the two letters that the form shows beside it."
)
_WAIT_TITLE = "Please wait a little"
_REFUSALS = {
    FormRefusal.TOO_MANY_REQUESTS: "Many codes have been requested from your network."
    " Please wait {wait}, then ask for yours.",
    FormRefusal.SESSION_LOCKED: "Several codes that were typed here were not right."
    " Please wait {wait}, then type it again or ask for a new one." + _REPLY_INSTEAD,
    FormRefusal.NETWORK_LOCKED: "Many codes that were typed in your network were not right."
    " Please wait {wait}, then type it again or ask for a new one." + _REPLY_INSTEAD,
    FormRefusal.NO_WAITS_LEFT: "Just now the form needs JavaScript to send a code."
    " Please turn it on, use another browser, or try again in {wait}.",
}
"""What a page says; none depends on the number."""
_CHALLENGES = {
    FormRefusal.NEEDS_PROOF: "Your browser cannot do that by itself. Please press the button, and"
    f" then wait {duration(FORM_WAIT)}.",
    FormRefusal.MUST_WAIT: "Please wait {wait}, then press the button.",
    FormRefusal.NETWORK_IS_WAITING: "Another person in your network is waiting already."
    " Please wait {wait}, then press the button.",
}
_NOTES = {
    "again": "If that number can be texted, the code is on its way once more.",
    "few": "The codes that this form sends in a day are used up, and until tomorrow only numbers"
    " that were verified before get one. If none arrives, please try again tomorrow.",
    "not-yet": "No reply has arrived yet. It may take a moment: please try again.",
}


@dataclass(frozen=True, slots=True)
class FormSettings:
    """The operator's settings for the form."""

    app_name: str
    code_format: CodeFormat
    code_lifetime: timedelta
    recipients: Recipients
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    terms_url: str = ""
    privacy_url: str = ""


class Form:
    """Handlers of the web form."""

    def __init__(  # noqa: PLR0913 - the parts that the handlers use
        self,
        verifications: Verifications,
        settings: FormSettings,
        sessions: Sessions,
        clock: Clock,
        *,
        lookups: LookupGate,
        refusals: Refusals,
    ) -> None:
        self._verifications = verifications
        self._settings = settings
        self._sessions = sessions
        self._clock = clock
        self._warnings = LogThrottle()
        self._lookups = lookups
        self._refusals = refusals
        self._templates = template_environment("bot.web.form", "templates")
        self._example = example(settings.recipients.country_code)

    def routes(self) -> list[web.RouteDef]:
        """Return the form's routes."""
        static = static_handler("bot.web.form", _STATIC_FILES, "static")
        return [
            web.get("/", self._guarded(self.number_form)),
            web.post("/request", self._guarded(self.request_code)),
            web.get("/verify", self._guarded(self.code_form)),
            web.post("/verify", self._guarded(self.check_code)),
            web.post("/resend", self._guarded(self.resend_code)),
            web.get("/status", self._guarded(self.status)),
            web.get("/success", self._guarded(self.success)),
            web.get("/static/{name}", self._guarded(static)),
        ]

    async def number_form(self, request: web.Request) -> web.Response:
        """Show the form for the number."""
        session_id = self._sessions.read_id(request) or self._sessions.new_id()
        response = self._number_page(session_id)
        self._sessions.set_cookie(response, session_id)
        return response

    async def request_code(self, request: web.Request) -> web.Response:
        """Send a code and redirect to the form for it; raise HTTPException for a malformed body.

        A new session begins here, which makes a session id that an attacker planted useless.
        """
        session_id = await self._session_id(request)
        if session_id is None:
            return self._begin_again_page()
        fields = await _read_fields(request)
        if not self._is_own_form(request, session_id, fields):
            return self._begin_again_page()
        typed = fields.get("phone", "")
        try:
            phone = self._settings.recipients.accept(typed)
        except RecipientError as error:
            message = self._refusal_message(typed, error)
            return self._number_page(session_id, typed=typed, error=message, status=422)
        new_id = self._sessions.new_id()
        params = VerificationRequest(
            Origin.FORM,
            phone,
            session=self._sessions.hashed_id(new_id),
            channel=FORM,
            visit=self._visit(request, session_id, fields),
        )
        result = (await self._verifications.begin(params)).form
        if result.refusal:
            return self._refused_page(result, session_id, "/request", typed)
        few = result.level is FormLevel.CLOSED
        response = _redirect("/verify?message=few" if few else "/verify")
        self._sessions.set_cookie(response, new_id)
        return response

    async def code_form(self, request: web.Request) -> web.Response:
        """Show the form for the code."""
        session_id = await self._session_id(request)
        if session_id is None:
            return _redirect("/")
        verification = await self._find_verification(request, session_id)
        if verification is None:
            return _redirect("/")
        if verification.status is Status.VERIFIED:
            return _redirect("/success")
        if verification.status is Status.REVOKED:
            return self._revoked_page()
        message = request.query.get("message", "")
        expires_at = verification.created_at + self._settings.code_lifetime
        seconds_left = math.ceil((expires_at - self._clock.now()).total_seconds())
        return self._page(
            "code.html",
            number=readable(verification.phone or ""),
            lifetime=duration(self._settings.code_lifetime),
            seconds_left=max(0, seconds_left),
            length=verification.code_length or self._settings.code_format.length,
            hexadecimal=self._settings.code_format.alphabet is Alphabet.HEX,
            letters=self._verifications.letters(verification) or "",
            csrf=self._sessions.csrf_token(session_id),
            error=_ERRORS.get(message, ""),
            note=_NOTES.get(message, ""),
        )

    async def check_code(self, request: web.Request) -> web.Response:
        """Check the code, with one message for every failure; raise HTTPException."""
        session_id = await self._session_id(request)
        if session_id is None:
            return self._begin_again_page()
        fields = await _read_fields(request)
        if not self._is_own_form(request, session_id, fields):
            return self._begin_again_page()
        verification = await self._find_verification(request, session_id)
        code = _BETWEEN_SYMBOLS.sub("", normalize_text(fields.get("code", ""))).upper()
        if verification is not None and code:
            visit = self._visit(request, session_id, fields)
            result = await self._verifications.check(
                verification.id, code, channel=FORM, visit=visit
            )
            if result.form.refusal:
                return self._refused_page(result.form, session_id)
            if result.outcome is RequestOutcome.RIGHT:
                return _redirect("/success")
        return _redirect("/verify?message=wrong")

    async def resend_code(self, request: web.Request) -> web.Response:
        """Send the same code again if that is allowed; raise HTTPException."""
        session_id = await self._session_id(request)
        if session_id is None:
            return self._begin_again_page()
        fields = await _read_fields(request)
        if not self._is_own_form(request, session_id, fields):
            return self._begin_again_page()
        verification = await self._find_verification(request, session_id)
        if verification is not None:
            visit = self._visit(request, session_id, fields)
            resent = await self._verifications.resend(verification.id, channel=FORM, visit=visit)
            result = resent.form
            if result.refusal:
                return self._refused_page(result, session_id, "/resend")
        return _redirect("/verify?message=again")

    async def status(self, request: web.Request) -> web.Response:
        """Return whether the number is verified, as JSON for the page's script."""
        session_id = await self._session_id(request)
        if session_id is None:
            return web.json_response({"verified": False})
        verification = await self._find_verification(request, session_id)
        verified = verification is not None and verification.status is Status.VERIFIED
        return web.json_response({"verified": verified})

    async def success(self, request: web.Request) -> web.Response:
        """Show that the number is verified, only to the session that verified it."""
        session_id = await self._session_id(request)
        if session_id is None:
            return _redirect("/")
        verification = await self._find_verification(request, session_id)
        if verification is not None and verification.status is Status.REVOKED:
            return self._revoked_page()
        if verification is None or verification.status is not Status.VERIFIED:
            return _redirect("/verify?message=not-yet")
        return self._page("success.html", number=readable(verification.phone or ""))

    def _guarded(self, handler: Handler) -> Handler:
        """Add security headers to every response, and make all POSTs take equally long."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            arrived_at = asyncio.get_running_loop().time()
            try:
                response = await handler(request)
            except UnavailableError:
                response = self._unavailable_page()
            except TooManyLookupsError:
                response = self._busy_network_page()
            except web.HTTPException as error:
                error.headers.update(_HEADERS)
                raise
            response.headers.update(_HEADERS)
            if request.method == "POST":
                await _wait_for_interval(arrived_at)
            return response

        return guarded

    async def _session_id(self, request: web.Request) -> str | None:
        """Return the browser's session id; None, after the delay of a refusal, if it has none."""
        session_id = self._sessions.read_id(request)
        if session_id is None:
            await self._refusals.wait(request)
        return session_id

    async def _find_verification(
        self, request: web.Request, session_id: str
    ) -> Verification | None:
        """Return a session's verification; raise TooManyLookupsError, UnavailableError."""
        hashed_id = self._sessions.hashed_id(session_id)
        async with self._lookups.enter(self._network(request), of_session=True):
            return await self._verifications.of_session(hashed_id)

    def _is_own_form(
        self, request: web.Request, session_id: str, fields: Mapping[str, str]
    ) -> bool:
        """Return whether a form was sent from a page that this session was shown."""
        if not self._sessions.is_same_origin(request):
            self._warnings.log(
                "form refused",
                reason="it was sent from a page of another origin",
                advice='check PUBLIC_URL if people see "Please begin again"',
            )
            return False
        return self._sessions.is_csrf_token(fields.get("csrf", ""), session_id)

    def _refusal_message(self, typed: str, error: RecipientError) -> str:
        """Return the message to the person about a number that is refused."""
        if not typed.strip():
            return "Please type your phone number."
        if error.refusal is Refusal.NOT_A_NUMBER:
            like = f", like {self._example}" if self._example else ""
            return (
                f"This is not a phone number. Please type all of it{like},"
                " or begin with + and the country code."
            )
        if error.refusal is Refusal.BOT_NUMBER:
            return "This is our own number. Please type yours."
        if error.refusal is Refusal.NOT_TEXTABLE:
            return f"This is {error.kind}. Please type the number of a mobile phone."
        countries = ", ".join(self._settings.recipients.countries or ())
        return (
            "No code can be texted to that country. Please type a number of one of these:"
            f" {countries}."
        )

    def _network(self, request: web.Request) -> str:
        return network_of_request(request, self._settings.trusted_proxies)

    def _visit(self, request: web.Request, session_id: str, fields: Mapping[str, str]) -> FormVisit:
        """Return where a form comes from, and the proof of work that came with it."""
        sessions, trusted = self._sessions, self._settings.trusted_proxies
        challenge, number = fields.get("challenge", ""), fields.get("number", "")
        return FormVisit(
            session=sessions.hashed_id(session_id),
            network=sessions.hashed_network(self._network(request)),
            wide_network=sessions.hashed_network(wide_network_of_request(request, trusted)),
            proof=proof_of(sessions, session_id, challenge, number, self._clock.now()),
            waits="waits" in fields,
        )

    def _number_page(
        self, session_id: str, *, typed: str = "", error: str = "", status: int = 200
    ) -> web.Response:
        return self._page(
            "number.html",
            status=status,
            typed=typed,
            error=error,
            example=self._example,
            terms_url=self._settings.terms_url,
            privacy_url=self._settings.privacy_url,
            csrf=self._sessions.csrf_token(session_id),
        )

    def _refused_page(
        self, outcome: FormOutcome, session_id: str, action: str = "", typed: str = ""
    ) -> web.Response:
        """Return the page of a refusal; `action` is the path to which it may be sent again."""
        refusal = outcome.refusal
        now = self._clock.now()
        wait = max(timedelta(seconds=1), (outcome.retry_at or now + DEFAULT_RETRY_AFTER) - now)
        if refusal in _CHALLENGES:
            challenge = None
            if refusal is FormRefusal.NEEDS_PROOF:
                challenge = new_challenge(self._sessions, session_id, now)
            return self._page(
                "challenge.html",
                title="One moment, please",
                text=_CHALLENGES[refusal].format(wait=duration(wait)),
                action=action,
                typed=typed,
                csrf=self._sessions.csrf_token(session_id),
                challenge=challenge,
                max_number=MAX_NUMBER,
            )
        return self._page(
            "error.html",
            status=429,
            headers=retry_after(wait),
            title=_WAIT_TITLE,
            text=_REFUSALS[refusal or FormRefusal.TOO_MANY_REQUESTS].format(wait=duration(wait)),
        )

    def _busy_network_page(self) -> web.Response:
        return self._page(
            "error.html",
            status=429,
            headers=RETRY_SOON,
            title=_WAIT_TITLE,
            text="Many requests came from your network at once. Please try again in a minute.",
        )

    def _revoked_page(self) -> web.Response:
        return self._page(
            "error.html",
            title="No longer verified",
            text="The phone with this number has replied NOT ME, so your verification was revoked."
            " If it is your number, text VERIFY from your phone.",
        )

    def _begin_again_page(self) -> web.Response:
        return self._page(
            "error.html",
            status=403,
            title="Please begin again",
            text="That page was too old, or your browser keeps no cookies."
            " The form needs one to know that it is you.",
        )

    def _unavailable_page(self) -> web.Response:
        return self._page(
            "error.html",
            status=503,
            headers=RETRY_SOON,
            title="Please try again",
            text="Something does not work here at the moment, and it is not your fault."
            " Please try again in a minute.",
        )

    def _page(
        self,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: str | int | Challenge | None,
    ) -> web.Response:
        page = self._templates.get_template(template)
        text = page.render(app_name=self._settings.app_name, **values)
        return web.Response(text=text, content_type="text/html", status=status, headers=headers)


async def _read_fields(request: web.Request) -> dict[str, str]:
    """Return the first value of each form field; raise HTTPException for a malformed body."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="send a form: application/x-www-form-urlencoded\n")
    body = await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT)
    try:
        fields = parse_qs(body.decode(), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise web.HTTPBadRequest(text="the body is not a form\n") from None
    return {name: values[0] for name, values in fields.items()}


async def _wait_for_interval(arrived_at: float) -> None:
    """Wait for the next multiple of RESPONSE_INTERVAL since `arrived_at`, a time of the loop."""
    await asyncio.sleep((arrived_at - asyncio.get_running_loop().time()) % RESPONSE_INTERVAL)


def _redirect(path: str) -> web.Response:
    """Redirect with 303, so that a reload posts nothing twice (RFC 9110 §15.4.4)."""
    return web.Response(status=303, headers={"Location": path})
