"""What the API answers where a request did not succeed: application/problem+json (RFC 9457).

No problem quotes a code, a number or a key.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from bot.conversation.verification import RequestOutcome
from bot.store.engine.errors import UnavailableError
from bot.web.telnyx import RETRY_LATER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aiohttp.typedefs import Handler
    from pydantic import ValidationError

API = "/v1"
"""Below this path every problem is told in this form."""
CONTENT_TYPE = "application/problem+json"
SECURITY_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of all that the API answers: it is for the one who asked, and it is what it says."""
DETAILS: Mapping[RequestOutcome, str] = {
    RequestOutcome.TOO_SOON: "the code was sent a moment ago",
    RequestOutcome.TOO_MANY_CODES: "this number has got as many codes as it may",
    RequestOutcome.TOO_MANY_REQUESTS: "there were too many requests",
    RequestOutcome.TOO_MANY_GUESSES: "too many wrong codes were typed for this number",
    RequestOutcome.LOCKED: "this number is locked, after too many wrong codes",
    RequestOutcome.NOT_ME: "the person has said that they did not ask for a code",
    RequestOutcome.OPTED_OUT: "the person wants no texts; they can text START to the bot's number",
    RequestOutcome.NOT_PENDING: "the verification has ended, or no one has texted its reference",
    RequestOutcome.NOT_FOUND: "there is no such verification",
    RequestOutcome.KEY_REUSED: "this key has come with another request",
}
"""What the `code` of a problem means; the page at /docs lists them."""

_MAX_ERRORS = 20
_MAX_FIELD_LENGTH = 64
_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "is to be a string",
    "dict_type": "is to be an object",
    "model_type": "is to be an object",
    "model_attributes_type": "is to be an object",
    "string_too_short": "is to hold at least one character",
}
_NO_JSON = "json_invalid"

_log = structlog.get_logger(__name__)


class FieldView(BaseModel):
    """A part of the request that is wrong."""

    model_config = ConfigDict(frozen=True, title="FieldError")

    field: str = Field(description="A member of the body, a query parameter, or a header.")
    reason: str = Field(description="What is wrong with it.")


class ProblemView(BaseModel):
    """Why a request did not succeed (RFC 9457)."""

    model_config = ConfigDict(frozen=True, title="Problem")

    type: str = Field(description="`about:blank`, or where the `code` is explained.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong here, for a person to read.")
    code: RequestOutcome | None = Field(
        default=None,
        description="What went wrong, for a program to read; absent where the status says it all.",
    )
    errors: list[FieldView] | None = Field(
        default=None, description="The parts of the request that are wrong; absent without any."
    )


class ProblemError(Exception):
    """A request that is answered with a problem; `headers` go with it."""

    def __init__(  # noqa: PLR0913 - each is a part of the answer
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: RequestOutcome | None = None,
        errors: Sequence[FieldView] = (),
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

    def answer(self) -> web.Response:
        """Make the answer."""
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
    """Say that one part of the request is wrong: 422."""
    errors = [FieldView(field=field, reason=reason)]
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {reason}", code=code, errors=errors
    )


def for_validation(error: ValidationError) -> ProblemError:
    """Say what is wrong with a body (400 where it is no JSON) or a query, part by part: 422."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == _NO_JSON:
        return ProblemError(HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8")
    errors = [
        FieldView(
            field=".".join(map(str, mistake["loc"]))[:_MAX_FIELD_LENGTH] or "body",
            reason=_REASONS.get(mistake["type"], mistake["msg"].removeprefix("Value error, ")),
        )
        for mistake in found[:_MAX_ERRORS]
    ]
    detail = "; ".join(f"{wrong.field}: {wrong.reason}" for wrong in errors)
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def retry_later(
    code: RequestOutcome, retry_at: datetime | None, now: datetime, usually: int
) -> ProblemError:
    """Say that the same request may succeed later (429); without `retry_at`, in `usually` seconds.

    Retry-After is in whole seconds, at least 1 (RFC 9110 §10.2.3).
    """
    wait = usually if retry_at is None else math.ceil((retry_at - now).total_seconds())
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        DETAILS[code],
        code=code,
        headers={"Retry-After": str(max(wait, 1))},
    )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong below `API` as a problem; leave all other paths alone."""
    if request.path != API and not request.path.startswith(f"{API}/"):
        return await handler(request)
    try:
        response = await handler(request)
    except ProblemError as problem:
        response = problem.answer()
    except web.HTTPException as error:
        response = _of_http(error).answer()
    except (ConnectionError, web.RequestPayloadError):
        response = ProblemError(HTTPStatus.BAD_REQUEST, "the body broke off").answer()
    except UnavailableError:
        detail = "the database cannot be reached now; ask again, under the same Idempotency-Key"
        response = ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_LATER
        ).answer()
    except Exception:  # noqa: BLE001 - whatever it is, the app is told in the form it reads
        _log.exception("request failed", path=API)
        detail = "the fault is the bot's own; its log says more"
        response = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail).answer()
    response.headers.update(SECURITY_HEADERS)
    return response


def _of_http(error: web.HTTPException) -> ProblemError:
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /docs tells what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not know this method",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too long",
        HTTPStatus.REQUEST_TIMEOUT: "the body came too slowly",
    }
    status = HTTPStatus(error.status)
    return ProblemError(
        status,
        details.get(status, status.phrase),
        headers={"Allow": error.headers["Allow"]} if "Allow" in error.headers else None,
        close=not error.keep_alive if error.keep_alive is not None else False,
    )
