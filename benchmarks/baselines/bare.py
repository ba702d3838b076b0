"""The fastest aiohttp server: reads the body and answers 200."""

from __future__ import annotations

from aiohttp import web

from benchmarks.running import run


async def webhook(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


if __name__ == "__main__":
    application = web.Application()
    application.add_routes([web.post("/webhooks/telnyx", webhook)])
    run(application)
