"""Static files of a page: a fixed list of them, read into memory once."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler

_CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def static_handler(package: str, names: Collection[str], folder: str = ".") -> Handler:
    """Return a handler for the path parameter `name` that serves these files of a package."""
    root = resources.files(package) / folder
    files = {name: (root / name).read_text(encoding="utf-8") for name in names}

    async def serve(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in files:
            raise web.HTTPNotFound
        content_type = _CONTENT_TYPES[PurePosixPath(name).suffix]
        return web.Response(text=files[name], content_type=content_type)

    return serve
