"""Reading a request's body, bounded in length and in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import HTTPException, Request


async def read(request: Request, largest: int, within: float) -> bytes:
    """Read a raw body of at most `largest` bytes that comes `within` seconds.

    Raises HTTPException for one that is too long or too slow.
    """
    if (request.content_length or 0) > largest:
        raise _hung_up(web.HTTPRequestEntityTooLarge(largest, request.content_length or 0))
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > largest:
                    raise _hung_up(web.HTTPRequestEntityTooLarge(largest, len(body)))
    except TimeoutError:
        raise _hung_up(web.HTTPRequestTimeout()) from None
    return bytes(body)


def _hung_up(answer: HTTPException) -> HTTPException:
    """Close the connection after the answer: the rest of the body is not waited for."""
    answer.force_close()
    return answer
