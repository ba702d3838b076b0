from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from bot.web.http.static import static_handler

if TYPE_CHECKING:
    from aiohttp.pytest_plugin import AiohttpClient


@pytest.mark.parametrize(
    ("name", "status", "content_type"),
    [
        ("form.css", 200, "text/css"),
        ("form.js", 200, "text/javascript"),
        ("icon.svg", 404, "text/plain"),
        ("../views.py", 404, "text/plain"),
        ("..%2fviews.py", 404, "text/plain"),
    ],
)
async def test_only_the_named_files_are_served(
    aiohttp_client: AiohttpClient, name: str, status: int, content_type: str
) -> None:
    handler = static_handler("bot.web.form", ["form.css", "form.js"], "static")
    application = web.Application()
    application.add_routes([web.get("/static/{name}", handler)])
    client = await aiohttp_client(application)
    response = await client.get(f"/static/{name}")
    assert (response.status, response.content_type) == (status, content_type)
