"""`/v1`: what an app asks over HTTP, handed to the one who knows."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.conversation.numbers import to_e164, why_not_textable
from bot.conversation.verification import Origin, RequestOutcome, Status
from bot.services.schemas import VerificationView
from bot.services.verifications import Filter, IdempotencyKey, VerificationRequest
from bot.store.api_keys import Scope
from bot.web.api import problems
from bot.web.api.invitation import InvitationView
from bot.web.api.operations import Operation, ParamSource, ParsedRequest
from bot.web.api.problems import API, DETAILS, ProblemError
from bot.web.api.schemas import (
    CheckParams,
    CreateParams,
    ListParams,
    NoParams,
    cursor_after,
    is_id,
    name_in,
)
from bot.web.http.body import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from aiohttp.typedefs import Handler

    from bot.conversation.verification import Verification
    from bot.services.clock import Clock
    from bot.services.verifications import RequestResult, Verifications
    from bot.store.api_keys import ApiKey
    from bot.web.api.authentication import Authentication

MAX_BODY_BYTES = 16 * 1024
BODY_TIMEOUT = 10.0
"""Seconds a body may take to arrive."""
IDEMPOTENCY_KEY = "Idempotency-Key"
_VISIBLE = re.compile(r"[!-~]{1,255}")
_ASK_AGAIN_IN = 30
"""Seconds to wait where nobody can say how long: an answer that is given again, for instance."""
_IN_TIME = frozenset(
    {
        RequestOutcome.TOO_SOON,
        RequestOutcome.TOO_MANY_CODES,
        RequestOutcome.TOO_MANY_REQUESTS,
        RequestOutcome.TOO_MANY_GUESSES,
        RequestOutcome.LOCKED,
        RequestOutcome.NOT_ME,
    }
)
"""Refusals that time will mend."""


class PageView(BaseModel):
    """A part of a list."""

    model_config = ConfigDict(frozen=True, title="VerificationList")

    data: list[VerificationView] = Field(description="The latest first.")
    next_cursor: str | None = Field(description="The `cursor` to go on with; null at the end.")


class CheckView(BaseModel):
    """What became of a guess."""

    model_config = ConfigDict(frozen=True, title="Check")

    valid: bool = Field(description="True for the right code: the number is verified.")
    tries_left: int = Field(description="How many more guesses may be typed.")
    verification: VerificationView


@dataclass(frozen=True, slots=True)
class NumberPolicy:
    """Which numbers can be asked for; those of `test_numbers` whatever kind they are."""

    country_code: str
    bot_numbers: Collection[str]
    test_numbers: Collection[str] = ()

    def read(self, written: str) -> str:
        """Read a number that a code may go to (E.164); raises ValueError, which says why not."""
        number = to_e164(written, self.country_code)
        if number in self.bot_numbers:
            raise ValueError("this is the bot's own number")
        what = None if number in self.test_numbers else why_not_textable(number)
        if what:
            raise ValueError(f"this is {what}; give the number of a phone that can be texted")
        return number


class Api:
    """The API's handlers: each asks what it has read, and shows what it was told."""

    def __init__(
        self,
        verifications: Verifications,
        authentication: Authentication,
        reach: NumberPolicy,
        clock: Clock,
    ) -> None:
        self._verifications = verifications
        self._authentication = authentication
        self._reach = reach
        self._clock = clock

    def routes(self) -> Sequence[web.RouteDef]:
        """Make a route of each operation: what is not described cannot be asked."""
        return [
            web.route(operation.method, operation.path, self._door(operation))
            for operation in OPERATIONS
        ]

    def _door(self, operation: Operation[Any]) -> Handler:
        async def enter(request: web.Request) -> web.StreamResponse:
            key = await self._authentication.admit(request, operation.scope)
            body = await _body(request, operation) if operation.writes else b""
            return await operation.handle(
                self,
                ParsedRequest(
                    params=_params(request, body, operation),
                    name=_name(request),
                    once=_idempotency_key(request, body, key) if operation.writes else None,
                ),
            )

        return enter

    async def begin_verification(self, call: ParsedRequest[CreateParams]) -> web.Response:
        """Begin a verification of a number, or of whoever texts the reference."""
        params = call.params
        if params.to is None and params.reference is not None:
            why = "without `to` a reference is issued; put your own into metadata"
            raise problems.for_field("reference", why)
        result = await self._verifications.begin(
            VerificationRequest(
                origin=Origin.REFERENCE if params.to is None else Origin.APP,
                phone=None if params.to is None else _number(params.to, self._reach.read),
                reference=params.reference,
                metadata=params.metadata,
            ),
            call.once,
        )
        verification, now = self._settled(result, RequestOutcome.DONE), self._clock.now()
        view = VerificationView.of(verification, now)
        if verification.origin is Origin.REFERENCE:
            # Drawing the QR code takes milliseconds; webhooks must not wait for it.
            view = await asyncio.to_thread(InvitationView.of, verification, now)
        location = f"{API}/verifications/{verification.id}"
        return _shown(view, HTTPStatus.CREATED, {"Location": location})

    async def get_verification(self, call: ParsedRequest[NoParams]) -> web.Response:
        """Show one verification."""
        verification = await self._verifications.get(call.name)
        if verification is None:
            raise _not_found()
        return _shown(VerificationView.of(verification, self._clock.now()))

    async def list_verifications(self, call: ParsedRequest[ListParams]) -> web.Response:
        """List verifications, page by page."""
        params = call.params
        found = await self._verifications.list(
            Filter(
                status=params.status,
                phone=None if params.to is None else _number(params.to, self._written),
                reference=params.reference,
                before=None if params.cursor is None else _before(params.cursor),
                # One more tells whether there are more.
                limit=params.limit + 1,
            )
        )
        page, now = found[: params.limit], self._clock.now()
        more = len(found) > params.limit
        return _shown(
            PageView(
                data=[VerificationView.of(verification, now) for verification in page],
                next_cursor=cursor_after(page[-1].id) if more else None,
            )
        )

    async def check_code(self, call: ParsedRequest[CheckParams]) -> web.Response:
        """Compare a code."""
        result = await self._verifications.check(call.name, call.params.code, call.once)
        verification = self._settled(result, RequestOutcome.RIGHT, RequestOutcome.WRONG)
        return _shown(
            CheckView(
                valid=result.outcome is RequestOutcome.RIGHT,
                tries_left=result.tries_left,
                verification=VerificationView.of(verification, self._clock.now()),
            )
        )

    async def resend_code(self, call: ParsedRequest[NoParams]) -> web.Response:
        """Send the same code again."""
        result = await self._verifications.resend(call.name, call.once)
        return self._stands(result)

    async def cancel_verification(self, call: ParsedRequest[NoParams]) -> web.Response:
        """End a verification."""
        result = await self._verifications.cancel(call.name, call.once)
        return self._stands(result)

    def _stands(self, result: RequestResult) -> web.Response:
        verification = self._settled(result, RequestOutcome.DONE)
        return _shown(VerificationView.of(verification, self._clock.now()))

    def _settled(self, result: RequestResult, *good: RequestOutcome) -> Verification:
        """Return the verification where all went well; raises ProblemError."""
        if result.outcome in good and result.verification is not None:
            return result.verification
        raise _refusal(result, self._clock.now())

    def _written(self, written: str) -> str:
        return to_e164(written, self._reach.country_code)


def _number(written: str, read: Callable[[str], str]) -> str:
    try:
        return read(written)
    except ValueError as error:
        raise problems.for_field("to", str(error)) from None


def _refusal(result: RequestResult, now: datetime) -> ProblemError:
    """Say why what was asked was not done."""
    outcome, verification = result.outcome, result.verification
    if outcome in _IN_TIME:
        return problems.retry_later(outcome, result.retry_at, now, usually=_ASK_AGAIN_IN)
    if outcome is RequestOutcome.OPTED_OUT:
        return problems.for_field("to", DETAILS[outcome], outcome)
    if outcome is RequestOutcome.KEY_REUSED:
        return problems.for_field(IDEMPOTENCY_KEY, DETAILS[outcome], outcome)
    if outcome is RequestOutcome.NOT_PENDING:
        status = verification.status_at(now) if verification else Status.EXPIRED
        waits = status is Status.PENDING
        detail = "nobody has texted its reference yet" if waits else f"the verification is {status}"
        return ProblemError(HTTPStatus.CONFLICT, detail, code=outcome)
    return _not_found()


def _not_found() -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND, DETAILS[RequestOutcome.NOT_FOUND], code=RequestOutcome.NOT_FOUND
    )


def _name(request: web.Request) -> str:
    """Read the id in the path; what cannot be one is not looked up."""
    name = request.match_info.get("id", "")
    if "id" in request.match_info and not is_id(name):
        raise _not_found()
    return name


async def _body(request: web.Request, operation: Operation[Any]) -> bytes:
    wanted = operation.where is ParamSource.BODY
    if wanted and request.content_type != "application/json":
        detail = "send JSON, as Content-Type: application/json"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        detail = "send the body as it is, without a Content-Encoding"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    return await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT)


def _params(request: web.Request, body: bytes, operation: Operation[Any]) -> Any:
    try:
        if operation.where is ParamSource.BODY:
            return operation.params.model_validate_json(body)
        if operation.where is ParamSource.QUERY:
            return operation.params.model_validate(_query(request))
        return operation.params()
    except ValidationError as error:
        raise problems.for_validation(error) from None


def _query(request: web.Request) -> Mapping[str, object]:
    """Read the query; a parameter given twice is a list, which no parameter may be."""
    query: dict[str, object] = {}
    for name in request.query:
        values = request.query.getall(name)
        query[name] = values[0] if len(values) == 1 else values
    number = query.get("to")
    if isinstance(number, str) and number.startswith(" "):
        query["to"] = number.replace(" ", "+", 1)  # what "+" means in a query
    return query


def _idempotency_key(request: web.Request, body: bytes, key: ApiKey) -> IdempotencyKey | None:
    """Make of the app's Idempotency-Key one that no other app can have."""
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return None
    if len(given) > 1 or not _VISIBLE.fullmatch(given[0]):
        raise problems.for_field(IDEMPOTENCY_KEY, "is to be 1 to 255 visible ASCII characters")
    asked = b"\0".join([request.method.encode(), request.rel_url.raw_path.encode(), body])
    return IdempotencyKey(
        key=hashlib.sha256(f"{key.public_id}\0{given[0]}".encode()).hexdigest(),
        fingerprint=hashlib.sha256(asked).hexdigest(),
    )


def _before(cursor: str) -> str:
    try:
        return name_in(cursor)
    except ValueError as error:
        raise problems.for_field("cursor", str(error)) from None


def _shown(
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
_ENDED = "The verification has ended; `detail` names its status."
_UNKNOWN = "There is no such verification."

OPERATIONS: Sequence[Operation[Any]] = (
    Operation(
        method="POST",
        path=_VERIFICATIONS,
        handle=Api.begin_verification,
        summary="Begin a verification",
        description="With `to`, a code is texted to that number; the person types it in your app"
        " (check it), or replies with it. Without `to`, a reference is issued: ask the person to"
        " text it, and the code goes to the number they text it from.",
        scope=Scope.WRITE,
        params=CreateParams,
        where=ParamSource.BODY,
        status=HTTPStatus.CREATED,
        says="It has begun. Without `to`, the answer also says how to ask the person.",
        answer=(InvitationView, VerificationView),
        problems={
            HTTPStatus.UNPROCESSABLE_ENTITY: "A part of the request is wrong, a number that cannot"
            " be texted or wants no texts, for instance; `errors` names it.",
            HTTPStatus.TOO_MANY_REQUESTS: "This number gets no code now (`too_many_codes`,"
            " `locked`, `not_me`), or there were too many requests (`too_many_requests`).",
        },
    ),
    Operation(
        method="GET",
        path=_VERIFICATIONS,
        handle=Api.list_verifications,
        summary="List verifications",
        description="The latest first, page by page.",
        scope=Scope.READ,
        params=ListParams,
        where=ParamSource.QUERY,
        status=HTTPStatus.OK,
        says="A page of them.",
        answer=(PageView,),
        problems={HTTPStatus.UNPROCESSABLE_ENTITY: "A parameter is wrong; `errors` names it."},
    ),
    Operation(
        method="GET",
        path=_VERIFICATION,
        handle=Api.get_verification,
        summary="Look at a verification",
        description="Where it stands now.",
        scope=Scope.READ,
        params=NoParams,
        where=ParamSource.NOWHERE,
        status=HTTPStatus.OK,
        says="The verification.",
        answer=(VerificationView,),
        problems={HTTPStatus.NOT_FOUND: _UNKNOWN},
    ),
    Operation(
        method="POST",
        path=f"{_VERIFICATION}/check",
        handle=Api.check_code,
        summary="Check a code",
        description="Compares what the person typed in your app with the code. Each wrong guess"
        " counts, and too many lock the number for a while.",
        scope=Scope.WRITE,
        params=CheckParams,
        where=ParamSource.BODY,
        status=HTTPStatus.OK,
        says="Whether it was the right code.",
        answer=(CheckView,),
        problems={
            HTTPStatus.NOT_FOUND: _UNKNOWN,
            HTTPStatus.CONFLICT: f"{_ENDED} Or nobody has texted its reference yet.",
            HTTPStatus.TOO_MANY_REQUESTS: "Too many wrong codes were typed for this number"
            " (`too_many_guesses`), or there were too many requests (`too_many_requests`).",
        },
    ),
    Operation(
        method="POST",
        path=f"{_VERIFICATION}/resend",
        handle=Api.resend_code,
        summary="Send the code again",
        description="The same code, in a new text.",
        scope=Scope.WRITE,
        params=NoParams,
        where=ParamSource.NOWHERE,
        status=HTTPStatus.OK,
        says="It is on its way.",
        answer=(VerificationView,),
        problems={
            HTTPStatus.NOT_FOUND: _UNKNOWN,
            HTTPStatus.CONFLICT: f"{_ENDED} Or nobody has texted its reference yet.",
            HTTPStatus.UNPROCESSABLE_ENTITY: "The person wants no texts (`opted_out`), or a part of"
            " the request is wrong; `errors` names it.",
            HTTPStatus.TOO_MANY_REQUESTS: "It was sent a moment ago (`too_soon`), or this number"
            " gets no code now (`too_many_codes`, `locked`, `not_me`), or there were too many"
            " requests (`too_many_requests`).",
        },
    ),
    Operation(
        method="POST",
        path=f"{_VERIFICATION}/cancel",
        handle=Api.cancel_verification,
        summary="Cancel a verification",
        description="Its code, or its reference, then works no more.",
        scope=Scope.WRITE,
        params=NoParams,
        where=ParamSource.NOWHERE,
        status=HTTPStatus.OK,
        says="It is canceled.",
        answer=(VerificationView,),
        problems={HTTPStatus.NOT_FOUND: _UNKNOWN, HTTPStatus.CONFLICT: _ENDED},
    ),
)
"""All that an app can ask. The routes and the description are made of it."""
