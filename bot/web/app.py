"""The web application: its routes and middlewares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from bot.web.api import openapi
from bot.web.api.problems import problem_middleware
from bot.web.health import healthz
from bot.web.http.retry_after import RETRY_SOON

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from bot.web.api.handlers import Api
    from bot.web.form.views import Form
    from bot.web.health import Readiness
    from bot.web.http.refusals import Refusals
    from bot.web.telnyx import TelnyxWebhook

WEBHOOK_PATH = "/webhooks/telnyx"

_log = structlog.get_logger(__name__)


def build_application(
    webhook: TelnyxWebhook,
    readiness: Readiness,
    api: Api | None = None,
    form: Form | None = None,
    refusals: Refusals | None = None,
) -> web.Application:
    """Return the web application, with the API and its documentation and the web form if given.

    `refusals` are those of the API and the form; they end their wait when the application stops.
    """
    application = web.Application(middlewares=[error_middleware, problem_middleware])
    application.add_routes(
        [
            web.post(WEBHOOK_PATH, webhook.handle),
            web.get("/healthz", healthz),
            web.get("/readyz", readiness.handle),
        ]
    )
    if api:
        application.add_routes([*api.routes(), *openapi.routes()])
    if form:
        application.add_routes(form.routes())
    if refusals:

        async def stop(_application: web.Application) -> None:
            refusals.stop()

        application.on_shutdown.append(stop)
    return application


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return 503 for an unexpected error: Telnyx then sends the webhook again."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except (ConnectionError, web.RequestPayloadError):
        return web.Response(status=400)
    except Exception:  # noqa: BLE001 - whatever the error, Telnyx must send the webhook again
        _log.exception("request failed", path=request.path)
        return web.Response(status=503, headers=RETRY_SOON)
