from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import ClientSession, web

from bot import app
from bot.simulator.clock import StoppedClock
from bot.web.api import authentication
from bot.web.api.known_keys import KnownKeys
from bot.web.app import build_application
from bot.web.http.refusals import Refusals
from tests.kit.apps import make_key
from tests.kit.settings import settings_for
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from sqlalchemy import URL

    from bot.store.engine.database import Database

ROUTES = {
    ("POST", "/webhooks/telnyx"),
    ("GET", "/healthz"),
    ("HEAD", "/healthz"),
    ("GET", "/readyz"),
    ("HEAD", "/readyz"),
    ("POST", "/v1/verifications"),
    ("GET", "/v1/verifications"),
    ("HEAD", "/v1/verifications"),
    ("GET", "/v1/verifications/{id}"),
    ("HEAD", "/v1/verifications/{id}"),
    ("POST", "/v1/verifications/{id}/check"),
    ("POST", "/v1/verifications/{id}/resend"),
    ("POST", "/v1/verifications/{id}/cancel"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/docs"),
    ("HEAD", "/docs"),
}
FORM_ROUTES = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("POST", "/request"),
    ("GET", "/verify"),
    ("HEAD", "/verify"),
    ("POST", "/verify"),
    ("POST", "/resend"),
    ("GET", "/status"),
    ("HEAD", "/status"),
    ("GET", "/success"),
    ("HEAD", "/success"),
    ("GET", "/static/{name}"),
    ("HEAD", "/static/{name}"),
}


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "expected"), [({}, ROUTES), ({"web_form": True}, ROUTES | FORM_ROUTES)]
)
async def test_a_bot_serves_these_routes_and_no_others(
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    expected: set[tuple[str, str]],
) -> None:
    served: list[web.Application] = []

    class Watched(web.AppRunner):
        def __init__(self, application: web.Application, **how: Any) -> None:
            served.append(application)
            super().__init__(application, **how)

    monkeypatch.setattr(web, "AppRunner", Watched)
    settings = settings_for(database_url).model_copy(update=changes)
    async with app.run_bot(settings, StoppedClock(), with_web=True, with_work=False):
        (application,) = served

    routes = {
        (route.method, route.resource.canonical if route.resource else "")
        for route in application.router.routes()
    }
    assert routes == expected


@pytest.mark.parametrize("make_database", ["sqlite"], indirect=True)
async def test_a_bot_knows_its_keys_before_the_first_request(
    database: Database, database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KnownKeys] = []

    class Watched(KnownKeys):
        def __init__(self, database: Database, interval: float) -> None:
            made.append(self)
            super().__init__(database, interval)

    monkeypatch.setattr(authentication, "KnownKeys", Watched)
    settings = settings_for(database_url)
    async with app.run_bot(settings, StoppedClock(), with_web=True, with_work=False):
        assert made[0]._hashes == {}
    key = await make_key(database, StoppedClock())
    async with app.run_bot(settings, StoppedClock(), with_web=True, with_work=False):
        assert made[1]._hashes.keys() == {key.split("_")[1]}


async def test_refusals_that_wait_do_not_delay_the_end_of_the_process() -> None:
    refusals = Refusals(TEST_TIMEOUT)

    async def refuse(request: web.Request) -> web.Response:
        await refusals.wait(request)
        return web.Response(status=401)

    application = build_application(AsyncMock(), AsyncMock(), refusals=refusals)
    application.add_routes([web.get("/refuse", refuse)])
    # Without the signal to stop, the request would be cancelled.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/refuse"
    async with ClientSession() as session:
        asking = asyncio.create_task(session.get(url))
        await wait_until(lambda: refusals.waiting == 1)
        await runner.cleanup()
        assert (await asking).status == 401
