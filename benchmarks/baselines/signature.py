"""The limit: what is left when nothing but the signature is checked, and nothing remembered."""

from __future__ import annotations

import base64
import os

from aiohttp import web
from nacl.signing import VerifyKey

KEY = VerifyKey(base64.b64decode(os.environ["TELNYX_PUBLIC_KEY"]))


async def webhook(request: web.Request) -> web.Response:
    body = await request.read()
    timestamp = request.headers["telnyx-timestamp"].encode()
    signature = base64.b64decode(request.headers["telnyx-signature-ed25519"])
    KEY.verify(timestamp + b"|" + body, signature)
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
