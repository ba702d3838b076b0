"""The limit: a server that only checks the signature and stores nothing."""

from __future__ import annotations

import base64
import os

from aiohttp import web
from nacl.signing import VerifyKey

from benchmarks.running import run

KEY = VerifyKey(base64.b64decode(os.environ["TELNYX_PUBLIC_KEY"]))


async def webhook(request: web.Request) -> web.Response:
    body = await request.read()
    timestamp = request.headers["telnyx-timestamp"].encode()
    signature = base64.b64decode(request.headers["telnyx-signature-ed25519"])
    KEY.verify(timestamp + b"|" + body, signature)
    return web.Response()


if __name__ == "__main__":
    application = web.Application()
    application.add_routes([web.post("/webhooks/telnyx", webhook)])
    run(application)
