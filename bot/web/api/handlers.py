"""`/v1`: handlers of the API, and the table of its routes."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiohttp import web
from pydantic import ValidationError

from bot.conversation import channels
from bot.conversation.verification import Origin, RequestOutcome, Status
from bot.services.recipients import RecipientError
from bot.services.schemas import VerificationView
from bot.services.verifications import Filter, IdempotencyKey, VerificationRequest
from bot.store.api_keys import Scope
from bot.web.api import problems
from bot.web.api.invitation import InvitationView
from bot.web.api.problems import API, DETAILS, ProblemError
from bot.web.api.schemas import (
    CheckParams,
    CheckView,
    CreatedView,
    CreateParams,
    ListParams,
    NoParams,
    RequestParams,
    VerificationListView,
    cursor_after,
    id_in_cursor,
    is_id,
)
from bot.web.http.body import read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from aiohttp.typedefs import Handler
    from pydantic import BaseModel

    from bot.conversation.channels import Channel
    from bot.conversation.verification import Verification
    from bot.services.clock import Clock
    from bot.services.recipients import Recipients
    from bot.services.verifications import RequestResult, Verifications
    from bot.store.api_keys import ApiKey
    from bot.web.api.authentication import Authentication

MAX_BODY_BYTES = 16 * 1024
BODY_TIMEOUT = 10.0
"""Seconds a body may take to arrive."""
IDEMPOTENCY_KEY = "Idempotency-Key"
_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")
_DEFAULT_RETRY_AFTER = 30
"""Seconds to wait if the time is unknown, as in a repeated response."""
_TEMPORARY_REFUSALS = frozenset(
    {
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.TOO_MANY_REQUESTS,
        RequestOutcome.TOO_MANY_GUESSES,
        RequestOutcome.LOCKED,
        RequestOutcome.NOT_ME,
    }
)

P = TypeVar("P", bound=RequestParams)


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[P]):
    """An authorized, valid request; `verification_id` is the id in its path, or "".

    `channel` is that of its API key.
    """

    params: P
    verification_id: str
    channel: Channel
    idempotency_key: IdempotencyKey | None


@dataclass(frozen=True, slots=True)
class Route(Generic[P]):
    """An endpoint; a POST takes its parameters from the body, a GET from the query."""

    method: str
    path: str
    handler: Callable[[Api, ApiRequest[P]], Awaitable[web.Response]]
    scope: Scope
    params: type[P]


class Api:
    """Handlers of the API."""

    def __init__(
        self,
        verifications: Verifications,
        authentication: Authentication,
        recipients: Recipients,
        clock: Clock,
    ) -> None:
        self._verifications = verifications
        self._authentication = authentication
        self._recipients = recipients
        self._clock = clock

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes of ROUTES."""
        return [web.route(route.method, route.path, self._handler(route)) for route in ROUTES]

    def _handler(self, route: Route[Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            api_key = await self._authentication.authenticate(request, route.scope)
            writes = route.method == "POST"
            body = await _read_body(request, route) if writes else b""
            return await route.handler(
                self,
                ApiRequest(
                    params=_parse_params(request, body, route),
                    verification_id=_verification_id(request),
                    channel=channels.of_key(api_key.public_id),
                    idempotency_key=_idempotency_key(request, body, api_key) if writes else None,
                ),
            )

        return handle

    async def begin_verification(self, request: ApiRequest[CreateParams]) -> web.Response:
        """Begin a verification of a number, or of the person who texts the reference."""
        params = request.params
        if params.to is None and params.reference is not None:
            reason = "is allowed only with `to`; put your own reference into `metadata`"
            raise problems.for_field("reference", reason)
        if params.to is not None and params.label is not None:
            reason = "is allowed only without `to`: it is shown in the code text of a reference"
            raise problems.for_field("label", reason)
        result = await self._verifications.begin(
            VerificationRequest(
                origin=Origin.REFERENCE if params.to is None else Origin.APP,
                channel=request.channel,
                phone=None if params.to is None else _phone(self._recipients.accept, params.to),
                complete=params.complete,
                reference=params.reference,
                label=params.label,
                metadata=params.metadata,
            ),
            request.idempotency_key,
        )
        verification, now = self._verification_of(result, RequestOutcome.DONE), self._clock.now()
        view: BaseModel = VerificationView.of(verification, now)
        if verification.origin is Origin.REFERENCE:
            # Drawing the QR code takes milliseconds; webhooks must not wait for it.
            view = await asyncio.to_thread(InvitationView.of, verification, now)
        elif letters := self._verifications.letters(verification):
            view = CreatedView(**view.model_dump(), reply_with=letters)
        location = f"{API}/verifications/{verification.id}"
        return _response(view, HTTPStatus.CREATED, {"Location": location})

    async def get_verification(self, request: ApiRequest[NoParams]) -> web.Response:
        """Return one verification."""
        verification = await self._verifications.get(request.verification_id)
        if verification is None:
            raise _not_found()
        return self._verification_response(verification)

    async def list_verifications(self, request: ApiRequest[ListParams]) -> web.Response:
        """Return a page of verifications."""
        params = request.params
        found = await self._verifications.list(
            Filter(
                status=params.status,
                phone=None if params.to is None else _phone(self._recipients.parse, params.to),
                reference=params.reference,
                before=None if params.cursor is None else _id_in_cursor(params.cursor),
                limit=params.limit + 1,  # one more, to see whether there is a next page
            )
        )
        page, now = found[: params.limit], self._clock.now()
        is_last = len(found) <= params.limit
        return _response(
            VerificationListView(
                data=[VerificationView.of(verification, now) for verification in page],
                next_cursor=None if is_last else cursor_after(page[-1].id),
            )
        )

    async def check_code(self, request: ApiRequest[CheckParams]) -> web.Response:
        """Check a code that the person typed in the app."""
        result = await self._verifications.check(
            request.verification_id,
            request.params.code,
            request.idempotency_key,
            channel=request.channel,
        )
        verification = self._verification_of(result, RequestOutcome.RIGHT, RequestOutcome.WRONG)
        return _response(
            CheckView(
                valid=result.outcome is RequestOutcome.RIGHT,
                tries_left=result.tries_left,
                verification=VerificationView.of(verification, self._clock.now()),
            )
        )

    async def resend_code(self, request: ApiRequest[NoParams]) -> web.Response:
        """Send the same code again."""
        result = await self._verifications.resend(
            request.verification_id, request.idempotency_key, channel=request.channel
        )
        return self._verification_response(self._verification_of(result, RequestOutcome.DONE))

    async def cancel_verification(self, request: ApiRequest[NoParams]) -> web.Response:
        """End a verification."""
        result = await self._verifications.cancel(request.verification_id, request.idempotency_key)
        return self._verification_response(self._verification_of(result, RequestOutcome.DONE))

    def _verification_response(self, verification: Verification) -> web.Response:
        return _response(VerificationView.of(verification, self._clock.now()))

    def _verification_of(self, result: RequestResult, *expected: RequestOutcome) -> Verification:
        """Return the verification of a result with an expected outcome; else raise ProblemError."""
        if result.outcome in expected and result.verification is not None:
            return result.verification
        raise _problem(result, self._clock.now())


def _problem(result: RequestResult, now: datetime) -> ProblemError:
    """Return the problem of a request that was refused."""
    outcome, verification = result.outcome, result.verification
    if outcome in _TEMPORARY_REFUSALS:
        return problems.retry_later(outcome, result.retry_at, now, default=_DEFAULT_RETRY_AFTER)
    if outcome is RequestOutcome.OPTED_OUT:
        return problems.for_field("to", DETAILS[outcome], outcome)
    if outcome is RequestOutcome.KEY_REUSED:
        return problems.for_field(IDEMPOTENCY_KEY, DETAILS[outcome], outcome)
    if outcome is RequestOutcome.NOT_PENDING:
        status = verification.status_at(now) if verification else Status.EXPIRED
        detail = (
            "nobody has texted its reference yet"
            if status is Status.PENDING
            else f"the verification is {status}"
        )
        return ProblemError(HTTPStatus.CONFLICT, detail, code=outcome)
    return _not_found()


def _not_found() -> ProblemError:
    code = RequestOutcome.NOT_FOUND
    return ProblemError(HTTPStatus.NOT_FOUND, DETAILS[code], code=code)


def _phone(parse: Callable[[str], str], text: str) -> str:
    """Return the parsed value of `to` (E.164); raise ProblemError."""
    try:
        return parse(text)
    except RecipientError as error:
        raise problems.for_field("to", str(error)) from None


def _id_in_cursor(cursor: str) -> str:
    try:
        return id_in_cursor(cursor)
    except ValueError as error:
        raise problems.for_field("cursor", str(error)) from None


def _verification_id(request: web.Request) -> str:
    """Return the id in the path; raise ProblemError for a malformed one."""
    verification_id = request.match_info.get("id", "")
    if "id" in request.match_info and not is_id(verification_id):
        raise _not_found()
    return verification_id


async def _read_body(request: web.Request, route: Route[Any]) -> bytes:
    if route.params is not NoParams and request.content_type != "application/json":
        detail = "send JSON, as Content-Type: application/json"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        detail = "send the body without a Content-Encoding"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    return await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT)


def _parse_params(request: web.Request, body: bytes, route: Route[Any]) -> Any:
    if route.params is NoParams:
        return NoParams()
    try:
        if route.method == "POST":
            return route.params.model_validate_json(body)
        return route.params.model_validate(_query(request))
    except ValidationError as error:
        raise problems.for_validation(error) from None


def _query(request: web.Request) -> Mapping[str, object]:
    """Return the query; a parameter that is repeated is a list, which no model accepts."""
    query: dict[str, object] = {}
    for name in request.query:
        values = request.query.getall(name)
        query[name] = values[0] if len(values) == 1 else values
    number = query.get("to")
    if isinstance(number, str) and number.startswith(" "):
        query["to"] = number.replace(" ", "+", 1)  # an unescaped "+" means a space in a query
    return query


def _idempotency_key(request: web.Request, body: bytes, api_key: ApiKey) -> IdempotencyKey | None:
    """Return the request's Idempotency-Key, made unique across API keys."""
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return None
    if len(given) > 1 or not _VISIBLE_ASCII.fullmatch(given[0]):
        raise problems.for_field(IDEMPOTENCY_KEY, "must be 1 to 255 visible ASCII characters")
    content = b"\0".join([request.method.encode(), request.rel_url.raw_path.encode(), body])
    return IdempotencyKey(
        key=hashlib.sha256(f"{api_key.public_id}\0{given[0]}".encode()).hexdigest(),
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def _response(
    view: BaseModel, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        text=view.model_dump_json(),
        status=status,
        content_type="application/json",
        headers=headers,
    )


_VERIFICATIONS = f"{API}/verifications"
_VERIFICATION = f"{_VERIFICATIONS}/{{id}}"

ROUTES: Sequence[Route[Any]] = (
    Route("POST", _VERIFICATIONS, Api.begin_verification, Scope.WRITE, CreateParams),
    Route("GET", _VERIFICATIONS, Api.list_verifications, Scope.READ, ListParams),
    Route("GET", _VERIFICATION, Api.get_verification, Scope.READ, NoParams),
    Route("POST", f"{_VERIFICATION}/check", Api.check_code, Scope.WRITE, CheckParams),
    Route("POST", f"{_VERIFICATION}/resend", Api.resend_code, Scope.WRITE, NoParams),
    Route("POST", f"{_VERIFICATION}/cancel", Api.cancel_verification, Scope.WRITE, NoParams),
)
"""All endpoints; a test compares them with openapi.json."""
