"""The API without the rest of the bot, in front of any `Verifications`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from bot.services.recipients import Recipients
from bot.simulator.sandbox import BOT_NUMBER
from bot.web.api import openapi
from bot.web.api.authentication import Authentication
from bot.web.api.handlers import Api
from bot.web.api.problems import problem_middleware
from bot.web.http.lookup_gate import LookupGate
from bot.web.http.refusals import Refusals
from tests.kit.timeouts import TEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from bot.services.clock import Clock
    from bot.services.verifications import Verifications
    from bot.store.engine.database import Database


@asynccontextmanager
async def served(
    verifications: Verifications,
    database: Database,
    clock: Clock,
    test_numbers: Collection[str] = (),
) -> AsyncIterator[str]:
    """Serve the API until the block ends, and yield its address."""
    recipients = Recipients("+1", [BOT_NUMBER], test_numbers)
    api = Api(
        verifications,
        Authentication(database, clock, LookupGate(TEST_TIMEOUT), Refusals(0.0)),
        recipients,
        clock,
    )
    application = web.Application(middlewares=[problem_middleware])
    application.add_routes([*api.routes(), *openapi.routes()])
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
