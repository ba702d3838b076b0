"""Reading a request's body, bounded in length and in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import HTTPException, Request


async def read_body(request: Request, largest: int, within: float) -> bytes:
    """Read a raw body of at most `largest` bytes that comes `within` seconds.

    Raises HTTPException for one that is too long or too slow.
    """
    _refuse_over(largest, request.content_length or 0)
    if request.content.is_eof():  # it came with the head, as what is short does
        whole = request.content.read_nowait()
        _refuse_over(largest, len(whole))
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            async for chunk in request.content.iter_any():
                body += chunk
                _refuse_over(largest, len(body))
    except TimeoutError:
        raise _hung_up(web.HTTPRequestTimeout()) from None
    return bytes(body)


def _refuse_over(largest: int, length: int) -> None:
    if length > largest:
        raise _hung_up(web.HTTPRequestEntityTooLarge(largest, length))


def _hung_up(answer: HTTPException) -> HTTPException:
    """Close the connection after the answer: the rest of the body is not waited for."""
    answer.force_close()
    return answer
