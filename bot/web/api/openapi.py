"""The API described by itself: an OpenAPI 3.1 document, and a page that shows it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic.json_schema import models_json_schema

from bot import __version__
from bot.services.schemas import AppEventView
from bot.web.api.operations import ParamSource
from bot.web.api.problems import CONTENT_TYPE, DETAILS, ProblemView
from bot.web.api.schemas import ListParams

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

    from bot.web.api.operations import Operation

_SCHEMAS = "#/components/schemas/"
_JSON = "application/json"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_ABOUT = (
    "Your app asks; a phone proves itself by text. Times are UTC (RFC 3339), numbers E.164."
    " Every answer of an error is a problem (RFC 9457)."
)
_KEYS = "A key made by `bot keys create`, as `Authorization: Bearer tp_…`."
_EVENT = (
    "Posted to EVENTS_URL when something happens to a verification or a number, signed as Standard"
    " Webhooks has it. The same event may come more than once, always with the same `webhook-id`."
)
_ALWAYS: Mapping[HTTPStatus, str] = {
    HTTPStatus.UNAUTHORIZED: "There is no API key that holds.",
    HTTPStatus.FORBIDDEN: "The key does not have the scope.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many requests (`too_many_requests`).",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database cannot be reached now; ask again, under the same"
    " Idempotency-Key.",
}
_WITH_A_BODY: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON.",
    HTTPStatus.REQUEST_TIMEOUT: "The body came too slowly.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not sent as JSON.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A part of the request is wrong; `errors` names it.",
}
_HEADERS: Mapping[HTTPStatus, tuple[str, str, str]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "string", "What is wanted (RFC 6750)."),
    HTTPStatus.FORBIDDEN: ("WWW-Authenticate", "string", "The scope that is missing (RFC 6750)."),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "integer", "Seconds to wait, at least 1."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", "integer", "Seconds to wait, at least 1."),
    HTTPStatus.CREATED: ("Location", "string", "Where the verification can be looked at."),
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A word of your own for this request, 1 to 255 visible ASCII characters: a"
    " request that comes again with it is answered again, and carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The verification's `id`.",
    "schema": {"type": "string", "minLength": 1},
}


def document(operations: Sequence[Operation[Any]]) -> dict[str, Any]:
    """Describe the operations, and the events that an app is told of."""
    names, schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, names, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Textproof",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {"event": {"post": _event(names)}},
        "components": {
            "schemas": {
                name: schema
                for name, schema in sorted(schemas.items())
                if name != names[ListParams, "validation"]
            },
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": _KEYS},
            },
        },
    }


_Names = dict[tuple[Any, "JsonSchemaMode"], str]


def _schemas(operations: Iterable[Operation[Any]]) -> tuple[_Names, dict[str, Any]]:
    """Make the schemas of all models, each under its title."""
    shown: set[type[BaseModel]] = {ProblemView, AppEventView}
    wished: set[type[BaseModel]] = set()
    for operation in operations:
        shown.update(operation.answer)
        if operation.where is not ParamSource.NOWHERE:
            wished.add(operation.params)
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in sorted(shown, key=lambda model: model.__name__)),
        *((model, "validation") for model in sorted(wished, key=lambda model: model.__name__)),
    ]
    found, definitions = models_json_schema(wanted, ref_template=f"{_SCHEMAS}{{model}}")
    titles = {
        f"{_SCHEMAS}{name}": f"{_SCHEMAS}{schema['title']}"
        for name, schema in definitions["$defs"].items()
    }
    schemas: dict[str, Any] = {
        schema["title"]: _renamed(schema, titles) for schema in definitions["$defs"].values()
    }
    names = {key: _named(schema["$ref"], titles) for key, schema in found.items()}
    return names, schemas


def _named(reference: str, titles: Mapping[str, str]) -> str:
    return titles[reference].removeprefix(_SCHEMAS)


def _renamed(schema: Any, titles: Mapping[str, str]) -> Any:
    """Have all references say a schema's title; a member needs none, its name says as much."""
    if isinstance(schema, list):
        return [_renamed(each, titles) for each in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {name: _renamed(each, titles) for name, each in schema.items()}
    if isinstance(renamed.get("$ref"), str):
        renamed["$ref"] = titles[renamed["$ref"]]
    for each in renamed.get("properties", {}).values():
        each.pop("title", None)
    return renamed


def _operation(
    operation: Operation[Any], names: _Names, schemas: Mapping[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{operation.description} Scope: `{operation.scope}`.",
        "security": [{"key": [operation.scope]}],
        "parameters": _parameters(operation, names, schemas),
        "responses": _responses(operation, names),
    }
    if operation.where is ParamSource.BODY:
        params = _reference(names[operation.params, "validation"])
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": params}}}
    return described


def _parameters(
    operation: Operation[Any], names: _Names, schemas: Mapping[str, Any]
) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{id}" in operation.path:
        parameters.append(_ID)
    if operation.where is ParamSource.QUERY:
        members = schemas[names[operation.params, "validation"]]["properties"]
        parameters += [_parameter(name, member) for name, member in members.items()]
    if operation.writes:
        parameters.append(_IDEMPOTENCY_KEY)
    return parameters


def _parameter(name: str, member: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a query parameter: it is absent rather than null."""
    schema = dict(member)
    description = schema.pop("description")
    if "anyOf" in schema:
        (kind,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
        schema |= kind
        schema.pop("default", None)
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }


def _responses(operation: Operation[Any], names: _Names) -> dict[str, Any]:
    answers = [_reference(names[model, "serialization"]) for model in operation.answer]
    problems = dict(_ALWAYS)
    if operation.writes:
        problems |= _WITH_A_BODY
    problems |= operation.problems
    responses = {operation.status: _response(operation.status, operation.says, _JSON, answers)}
    problem = [_reference(names[ProblemView, "serialization"])]
    for status, says in problems.items():
        responses[status] = _response(status, says, CONTENT_TYPE, problem)
    return {str(int(status)): responses[status] for status in sorted(responses)}


def _response(
    status: HTTPStatus, says: str, content_type: str, schemas: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    response: dict[str, Any] = {"description": says, "content": {content_type: {"schema": schema}}}
    if status in _HEADERS:
        name, kind, meaning = _HEADERS[status]
        header = {"description": meaning, "required": True, "schema": {"type": kind}}
        response["headers"] = {name: header}
    return response


def _event(names: _Names) -> dict[str, Any]:
    headers = {
        "webhook-id": "The event's id, the same at every try.",
        "webhook-timestamp": "When this try was made, in seconds since 1970.",
        "webhook-signature": "`v1,` and the base64 of the HMAC-SHA256, for each of your secrets.",
    }
    return {
        "operationId": "receive_event",
        "summary": "Hear of what happens",
        "description": _EVENT,
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": meaning,
                "schema": {"type": "string"},
            }
            for name, meaning in headers.items()
        ],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _reference(names[AppEventView, "serialization"])}},
        },
        "responses": {
            "2XX": {"description": "The app has it."},
            "410": {"description": "The app wants no more events."},
            "default": {"description": "It comes again later."},
        },
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"{_SCHEMAS}{name}"}


class Description:
    """`GET /openapi.json`, and `GET /docs` for people."""

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        described = document(operations)
        self._document = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
        self._page = _page(described)
        (style,) = _STYLE.findall(self._page)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._headers = {
            "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}';"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def routes(self) -> Sequence[web.RouteDef]:
        """Make the routes."""
        return [web.get("/openapi.json", self.tell), web.get("/docs", self.show)]

    async def tell(self, _request: web.Request) -> web.Response:
        """Answer the document."""
        headers = {"X-Content-Type-Options": "nosniff"}
        return web.Response(text=self._document, content_type=_JSON, headers=headers)

    async def show(self, _request: web.Request) -> web.Response:
        """Show the page."""
        return web.Response(text=self._page, content_type="text/html", headers=self._headers)


def _page(described: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("bot.web.api", "."),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    environment.filters["reason"] = lambda status: (
        HTTPStatus(int(status)).phrase if status.isdecimal() else ""
    )
    return environment.get_template("docs.html").render(document=described, meanings=DETAILS)


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema expects."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_SCHEMAS)
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "anything")
