"""Error responses of the API: application/problem+json (RFC 9457).

No problem quotes a code, a number or a key.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from bot.conversation.verification import RequestOutcome
from bot.store.engine.errors import UnavailableError
from bot.web.http.retry_after import RETRY_SOON, retry_after
from bot.web.http.security_headers import NO_STORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aiohttp.typedefs import Handler
    from pydantic import ValidationError

API = "/v1"
"""Every error below this path is a problem."""
CONTENT_TYPE = "application/problem+json"
DETAILS: Mapping[RequestOutcome, str] = {
    RequestOutcome.TOO_SOON: "the code was sent a moment ago",
    RequestOutcome.TOO_MANY_CODES: "too many codes were sent to this number",
    RequestOutcome.TOO_MANY_REQUESTS: "too many requests",
    RequestOutcome.TOO_MANY_GUESSES: "too many wrong codes were typed for this number",
    RequestOutcome.LOCKED: "this key is closed for this number after too many wrong codes",
    RequestOutcome.NOT_ME: "the person replied that they did not ask for a code",
    RequestOutcome.OPTED_OUT: "the person has opted out; they can text START to the bot's number",
    RequestOutcome.NOT_PENDING: "the verification has ended, or nobody has texted its reference",
    RequestOutcome.NOT_FOUND: "no such verification",
    RequestOutcome.KEY_REUSED: "this key was already used for another request",
}
"""The meaning of each problem's `code`; the page at /docs lists them."""

_MAX_ERRORS = 20
_MAX_FIELD_LENGTH = 64
_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_too_short": "must not be empty",
}
_INVALID_JSON = "json_invalid"

_log = structlog.get_logger(__name__)


class FieldErrorView(BaseModel):
    """An invalid part of a request."""

    model_config = ConfigDict(frozen=True)

    field: str
    reason: str


class ProblemView(BaseModel):
    """Why a request failed (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    code: RequestOutcome | None = None
    errors: list[FieldErrorView] | None = None


class ProblemError(Exception):
    """A request that failed; `headers` are added to the response."""

    def __init__(  # noqa: PLR0913 - each is a part of the response
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: RequestOutcome | None = None,
        errors: Sequence[FieldErrorView] = (),
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.view = ProblemView(
            type=f"/docs#{code}" if code else "about:blank",
            title=status.phrase,
            status=status,
            detail=detail,
            code=code,
            errors=list(errors) or None,
        )
        self.headers = headers or {}
        self.close = close

    def response(self) -> web.Response:
        """Return the problem as a response."""
        response = web.Response(
            text=self.view.model_dump_json(exclude_none=True),
            status=self.view.status,
            content_type=CONTENT_TYPE,
            headers=self.headers,
        )
        if self.close:
            response.force_close()
        return response


def for_field(field: str, reason: str, code: RequestOutcome | None = None) -> ProblemError:
    """Return the problem (422) of one invalid part of a request."""
    errors = [FieldErrorView(field=field, reason=reason)]
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {reason}", code=code, errors=errors
    )


def for_validation(error: ValidationError) -> ProblemError:
    """Return the problem of an invalid body or query (422), or of a body that is not JSON (400)."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == _INVALID_JSON:
        return ProblemError(HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8")
    errors = [
        FieldErrorView(
            field=".".join(map(str, details["loc"]))[:_MAX_FIELD_LENGTH] or "body",
            reason=_REASONS.get(details["type"], details["msg"].removeprefix("Value error, ")),
        )
        for details in found[:_MAX_ERRORS]
    ]
    detail = "; ".join(f"{each.field}: {each.reason}" for each in errors)
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def retry_later(
    code: RequestOutcome, retry_at: datetime | None, now: datetime, default: int
) -> ProblemError:
    """Return the problem (429) of a request that may succeed at `retry_at` (UTC).

    If that time is unknown, Retry-After is `default` seconds.
    """
    wait = timedelta(seconds=default) if retry_at is None else retry_at - now
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS, DETAILS[code], code=code, headers=retry_after(wait)
    )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error below `API` into a problem; leave other paths alone."""
    if request.path != API and not request.path.startswith(f"{API}/"):
        return await handler(request)
    try:
        response = await handler(request)
    except ProblemError as problem:
        response = problem.response()
    except web.HTTPException as error:
        response = _for_http_error(error).response()
    except (ConnectionError, web.RequestPayloadError):
        response = ProblemError(HTTPStatus.BAD_REQUEST, "the body is incomplete").response()
    except UnavailableError:
        detail = "the database cannot be reached; try again with the same Idempotency-Key"
        response = ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_SOON
        ).response()
    except Exception:  # noqa: BLE001 - apps expect a problem for every error
        _log.exception("request failed", path=API)
        detail = "internal error; see the bot's log"
        response = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response()
    response.headers.update(NO_STORE)
    return response


def _for_http_error(error: web.HTTPException) -> ProblemError:
    details = {
        HTTPStatus.NOT_FOUND: "no such path; see /docs",
        HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed for this path",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too long",
        HTTPStatus.REQUEST_TIMEOUT: "the body took too long to arrive",
    }
    status = HTTPStatus(error.status)
    return ProblemError(
        status,
        details.get(status, status.phrase),
        headers={"Allow": error.headers["Allow"]} if "Allow" in error.headers else None,
        close=error.keep_alive is False,
    )
