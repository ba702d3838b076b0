"""`GET /openapi.json`, the OpenAPI 3.1 document, and `GET /docs`, the same as a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bot.web.api.problems import DETAILS
from bot.web.http.security_headers import NO_SNIFF, page_headers
from bot.web.http.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMAS = "#/components/schemas/"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of the document and of the page."""
    return [web.get("/openapi.json", get_document), web.get("/docs", get_page)]


async def get_document(_request: web.Request) -> web.Response:
    """Return the document."""
    return web.Response(
        text=document_text(), content_type="application/json", headers=dict(NO_SNIFF)
    )


async def get_page(_request: web.Request) -> web.Response:
    """Return the page."""
    page = _page()
    (style,) = _STYLE.findall(page)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    headers = page_headers(f"style-src 'sha256-{digest}'")
    return web.Response(text=page, content_type="text/html", headers=headers)


@cache
def document_text() -> str:
    """Return the document as it is checked in."""
    return (resources.files("bot.web.api") / "openapi.json").read_text(encoding="utf-8")


@cache
def _page() -> str:
    document = json.loads(document_text())
    environment = template_environment("bot.web.api")
    environment.filters["type_name"] = _type_name
    environment.filters["phrase"] = lambda status: (
        HTTPStatus(int(status)).phrase if status.isdecimal() else ""
    )
    template = environment.get_template("docs.html")
    return template.render(document=resolved(document, document["components"]), codes=DETAILS)


def resolved(value: Any, components: Mapping[str, Any]) -> Any:
    """Replace references with the shared parameters and responses; keep those to schemas.

    Members beside a reference override what it names (OpenAPI 3.1 §4.8.23).
    """
    if isinstance(value, list):
        return [resolved(item, components) for item in value]
    if not isinstance(value, dict):
        return value
    members = {name: resolved(member, components) for name, member in value.items()}
    reference = members.get("$ref")
    if reference is None or reference.startswith(SCHEMAS):
        return members
    _, _, section, name = reference.split("/")
    return components[section][name] | members


def _type_name(schema: Mapping[str, Any]) -> str:
    """Return a short name for the type of a schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(SCHEMAS)
    return str(schema.get("format") or schema.get("type") or "anything")
