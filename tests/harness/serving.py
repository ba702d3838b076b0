"""The API served alone, in front of whatever answers it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from bot.simulator.stage import BOT_NUMBER
from bot.web.api import OPERATIONS, Api, Reach
from bot.web.authentication import Authentication
from bot.web.openapi import Description
from bot.web.problems import told_as_problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from bot.services.clock import Clock
    from bot.services.verifications import Verifications
    from bot.store.database import Database


@asynccontextmanager
async def served(
    verifications: Verifications,
    database: Database,
    clock: Clock,
    test_numbers: Collection[str] = (),
) -> AsyncIterator[str]:
    """Serve until the block ends, and give the address."""
    reach = Reach("+1", [BOT_NUMBER], test_numbers)
    api = Api(verifications, Authentication(database, clock), reach, clock)
    application = web.Application(middlewares=[told_as_problems])
    application.add_routes([*api.routes(), *Description(OPERATIONS).routes()])
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
