"""Receive app events: EVENTS_SECRET=whsec_… python receive_events.py."""

import os

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["EVENTS_SECRET"])
processed = set()  # in your app a table, written in the transaction that handles the event


async def receive(request: web.Request) -> web.Response:
    """Answer 204 once the event is handled; after any answer but 2xx it is posted again."""
    try:
        event = webhook.verify(await request.read(), dict(request.headers))
    except WebhookVerificationError:
        return web.Response(status=400)
    if request.headers["webhook-id"] not in processed:
        print(event["type"], event["data"].get("reference"), flush=True)
        processed.add(request.headers["webhook-id"])
    return web.Response(status=204)


app = web.Application()
app.router.add_post("/textproof", receive)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8090")), print=None)
