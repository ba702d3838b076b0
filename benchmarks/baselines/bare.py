"""What aiohttp does at best: read the body and answer 200."""

from __future__ import annotations

import os

from aiohttp import web


async def webhook(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


def application() -> web.Application:
    made = web.Application()
    made.add_routes([web.post("/webhooks/telnyx", webhook)])
    return made


if __name__ == "__main__":
    import uvloop

    web.run_app(
        application(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        loop=uvloop.new_event_loop(),
        print=None,
    )
