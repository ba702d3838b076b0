"""Reads a request's body, limited in length and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import HTTPException, Request


async def read_body(request: Request, max_bytes: int, max_seconds: float) -> bytes:
    """Return the raw body; raise HTTPException over `max_bytes` (413) or `max_seconds` (408)."""
    _check_length(max_bytes, request.content_length or 0)
    if request.content.is_eof():  # a short body arrives together with the headers
        whole = request.content.read_nowait()
        _check_length(max_bytes, len(whole))
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(max_seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                _check_length(max_bytes, len(body))
    except TimeoutError:
        raise _closing(web.HTTPRequestTimeout()) from None
    return bytes(body)


def _check_length(max_bytes: int, length: int) -> None:
    if length > max_bytes:
        raise _closing(web.HTTPRequestEntityTooLarge(max_bytes, length))


def _closing(error: HTTPException) -> HTTPException:
    """Close the connection after the response, without reading the rest of the body."""
    error.force_close()
    return error
