from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bot.web.http.refusals import REFUSAL_DELAY, Refusals
from tests.kit.loop_time import advance
from tests.kit.timeouts import TEST_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = make_mocked_request("GET", "/")
BODY_LENGTH = 2**22


async def turns_of_the_loop() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_refusal_waits_for_its_delay() -> None:
    assert (Refusals().delay, REFUSAL_DELAY) == (REFUSAL_DELAY, 1.0)
    refusals = Refusals(TEST_TIMEOUT, jitter=0.0)
    refused = asyncio.create_task(refusals.wait(REQUEST))
    await turns_of_the_loop()
    assert (refused.done(), refusals.waiting) == (False, 1)
    advance(TEST_TIMEOUT)
    await refused
    assert refusals.waiting == 0


async def test_requests_that_arrive_together_are_not_refused_together() -> None:
    refusals = Refusals(TEST_TIMEOUT, jitter=1.0)
    refused = [asyncio.create_task(refusals.wait(REQUEST)) for _ in range(100)]
    await turns_of_the_loop()
    assert refusals.waiting == 100
    advance(TEST_TIMEOUT * 1.5)
    await turns_of_the_loop()
    assert 0 < refusals.waiting < 100
    refusals.stop()
    await asyncio.gather(*refused)


async def test_beyond_the_most_that_may_wait_a_request_is_refused_at_once() -> None:
    refusals = Refusals(TEST_TIMEOUT, max_waiting=2)
    waiting = [asyncio.create_task(refusals.wait(REQUEST)) for _ in range(2)]
    await turns_of_the_loop()
    third = asyncio.create_task(refusals.wait(REQUEST))
    await turns_of_the_loop()
    assert third.done()
    waiting[0].cancel()
    await turns_of_the_loop()
    fourth = asyncio.create_task(refusals.wait(REQUEST))
    await turns_of_the_loop()
    assert not fourth.done()
    refusals.stop()
    await asyncio.gather(waiting[1], fourth)


async def test_when_the_process_stops_no_refusal_waits() -> None:
    refusals = Refusals(TEST_TIMEOUT)
    before = asyncio.create_task(refusals.wait(REQUEST))
    await turns_of_the_loop()
    refusals.stop()
    after = asyncio.create_task(refusals.wait(REQUEST))
    await turns_of_the_loop()
    assert before.done()
    assert after.done()


@asynccontextmanager
async def connected(
    refusals: Refusals, requests: list[web.Request]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server that refuses and records each request."""

    async def refuse(request: web.Request) -> web.Response:
        requests.append(request)
        await refusals.wait(request)
        return web.Response(status=401)

    application = web.Application()
    application.add_routes([web.post("/", refuse)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        yield reader, writer
        writer.close()
    finally:
        await runner.cleanup()


async def test_a_refusal_that_waits_holds_nothing_of_the_body() -> None:
    refusals, requests = Refusals(TEST_TIMEOUT), list[web.Request]()
    async with connected(refusals, requests) as (reader, writer):
        head = f"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY_LENGTH}\r\n\r\n"
        writer.write(head.encode() + b"x" * BODY_LENGTH)
        await wait_until(lambda: refusals.waiting == 1)
        (request,) = requests
        received = request.content.total_bytes
        for _ in range(100):
            await asyncio.sleep(0)
        assert request.content.total_bytes == received < BODY_LENGTH
        assert request.content.read_nowait() == b""
        refusals.stop()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        await writer.drain()
        # The rest of the body is dropped, and the connection can be used again.
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")


async def test_a_client_that_leaves_while_its_refusal_waits_does_no_harm() -> None:
    refusals, requests = Refusals(TEST_TIMEOUT), list[web.Request]()
    async with connected(refusals, requests) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        await wait_until(lambda: refusals.waiting == 1)
        writer.transport.abort()
        refusals.stop()
        await wait_until(lambda: refusals.waiting == 0)
