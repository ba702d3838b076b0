"""A request's body, read within bounds."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def read(request: web.Request, largest: int, within: float) -> bytes:
    """Read the raw body, refusing one that is longer than `largest` bytes or slower than `within`.

    `within` is in seconds. Raises HTTPException, which closes the connection.
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


def _hung_up(answer: web.HTTPException) -> web.HTTPException:
    """Close the connection after the answer: the rest of the body is not waited for."""
    answer.force_close()
    return answer
