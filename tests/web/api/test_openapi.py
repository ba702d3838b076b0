from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import os
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from pydantic.json_schema import models_json_schema

from bot import __version__
from bot.conversation.app_events import EventType
from bot.conversation.verification import Complete, Origin, Reason, Status
from bot.services.schemas import (
    AlertView,
    AppEventView,
    NumberLockView,
    NumberView,
    VerificationView,
)
from bot.web.api import openapi
from bot.web.api.handlers import ROUTES
from bot.web.api.invitation import InvitationView
from bot.web.api.openapi import SCHEMAS, resolved
from bot.web.api.problems import CONTENT_TYPE, DETAILS, FieldErrorView, ProblemView
from bot.web.api.schemas import (
    CheckParams,
    CheckView,
    CreatedView,
    CreateParams,
    ListParams,
    NoParams,
    VerificationListView,
)
from tests.kit.apps import make_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from enum import StrEnum

    from aiohttp.pytest_plugin import AiohttpClient
    from aiohttp.test_utils import TestClient
    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

    from bot.simulator.sandbox import Sandbox

DOCUMENT: dict[str, Any] = json.loads(openapi.document_text())
RESOLVED: dict[str, Any] = resolved(DOCUMENT, DOCUMENT["components"])
RESPONSES: dict[str, type[BaseModel]] = {
    "Alert": AlertView,
    "Check": CheckView,
    "Event": AppEventView,
    "CreatedVerification": CreatedView,
    "FieldError": FieldErrorView,
    "Invitation": InvitationView,
    "Number": NumberView,
    "NumberLock": NumberLockView,
    "Problem": ProblemView,
    "Verification": VerificationView,
    "VerificationList": VerificationListView,
}
BODIES: dict[str, type[BaseModel]] = {"Guess": CheckParams, "NewVerification": CreateParams}
ENUMS: Mapping[str, type[StrEnum]] = {
    "Complete": Complete,
    "EventType": EventType,
    "Origin": Origin,
    "Reason": Reason,
    "Status": Status,
}
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
MAX_EXAMPLES = 25
"""Requests of each operation and kind of test."""


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> TestClient[Any, Any]:
    application = web.Application()
    application.add_routes(openapi.routes())
    return await aiohttp_client(application)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in RESOLVED["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def values(of: Any, name: str) -> Iterator[Any]:
    """Yield the values of all members with a name, at any depth."""
    for key, value in of.items() if isinstance(of, dict) else ():
        if key == name:
            yield value
    for value in of.values() if isinstance(of, dict) else of if isinstance(of, list) else ():
        yield from values(value, name)


def model_schemas() -> dict[str, Any]:
    """Return the schemas that pydantic makes of the models, by the names of the document."""
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    modes += ((model, "serialization") for model in RESPONSES.values())
    modes += ((model, "validation") for model in BODIES.values())
    modes.append((ListParams, "validation"))
    names = {model.__name__: name for name, model in (RESPONSES | BODIES).items()}
    names |= {"RequestOutcome": "ProblemCode"}
    _, definitions = models_json_schema(modes, ref_template=f"{SCHEMAS}{{model}}")
    text = json.dumps(definitions["$defs"])
    for model_name, name in names.items():
        text = text.replace(f'"{SCHEMAS}{model_name}"', f'"{SCHEMAS}{name}"')
    return {names.get(name, name): schema for name, schema in json.loads(text).items()}


def structure(schema: Any) -> Any:
    """Return a schema without its descriptions, with `allOf` and nulls by default spelled out."""
    if isinstance(schema, list):
        return [structure(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "allOf" in schema:
        parts = [part_structure(part) for part in schema["allOf"]]
        return {
            "type": "object",
            "properties": parts[0]["properties"] | parts[1]["properties"],
            "required": parts[0]["required"] + parts[1]["required"],
        }
    kept = {
        name: value
        for name, value in schema.items()
        if name not in {"description", "title", "examples"} and (name, value) != ("default", None)
    }
    if "properties" in kept:
        kept["properties"] = {name: structure(each) for name, each in kept["properties"].items()}
        return kept
    return {name: structure(value) for name, value in kept.items()}


def part_structure(part: dict[str, Any]) -> Any:
    """Return the structure of a schema, or of what it refers to."""
    if "$ref" in part:
        part = DOCUMENT["components"]["schemas"][part["$ref"].removeprefix(SCHEMAS)]
    return structure(part)


# The document and the code.


async def test_the_document_is_served_as_it_is_checked_in(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/openapi.json")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert await answer.json() == DOCUMENT
    assert DOCUMENT["info"]["version"] == __version__


def test_the_document_has_the_routes_and_their_scopes() -> None:
    documented = {
        (method, path, operation["operationId"], *operation["security"][0]["key"])
        for method, path, operation in operations()
    }
    assert documented == {
        (route.method, route.path, route.handler.__name__, route.scope) for route in ROUTES
    }


def test_the_document_has_the_parameters_of_each_route() -> None:
    bodies = {model: f"{SCHEMAS}{name}" for name, model in BODIES.items()}
    documented = {(method, path): operation for method, path, operation in operations()}
    for route in ROUTES:
        operation = documented[route.method, route.path]
        parameters = {
            (parameter["in"], parameter["name"]): structure(parameter["schema"])
            for parameter in operation.get("parameters", [])
        }
        assert (("path", "id") in parameters) is ("{id}" in route.path)
        assert (("header", "Idempotency-Key") in parameters) is (route.method == "POST")
        query = {name: schema for (where, name), schema in parameters.items() if where == "query"}
        assert query == (query_of(route.params) if route.params is ListParams else {})
        body = operation.get("requestBody", {"content": {"application/json": {"schema": {}}}})
        schema = body["content"]["application/json"]["schema"]
        assert schema.get("$ref") == (
            None if route.params in (NoParams, ListParams) else bodies[route.params]
        )


def query_of(params: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of a query's parameters, which are absent rather than null."""
    schemas = {}
    for name, schema in structure(model_schemas()[params.__name__])["properties"].items():
        kinds = [kind for kind in schema.pop("anyOf", [{}]) if kind != {"type": "null"}]
        schemas[name] = schema | kinds[0]
    return schemas


@pytest.mark.parametrize("name", [*RESPONSES, *BODIES])
def test_each_schema_is_that_of_the_model(name: str) -> None:
    documented = DOCUMENT["components"]["schemas"][name]
    assert structure(documented) == structure(model_schemas()[name])


def test_the_enums_have_all_values() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name, enum in ENUMS.items():
        assert schemas[name]["enum"] == [member.value for member in enum]
    assert schemas["ProblemCode"]["enum"] == [code.value for code in DETAILS]
    assert schemas.keys() == {*RESPONSES, *BODIES, *ENUMS, "ProblemCode"}


def test_every_property_is_described() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        assert schema["description"]
        for properties in values(schema, "properties"):
            assert all(
                each.keys() & {"description", "$ref", "anyOf"} for each in properties.values()
            )


def test_every_shared_part_is_used_and_exists() -> None:
    parts = {
        f"#/components/{section}/{name}"
        for section in ("schemas", "parameters", "responses")
        for name in DOCUMENT["components"][section]
    }
    assert set(values(DOCUMENT, "$ref")) == parts


def test_every_operation_has_its_problems() -> None:
    for _, path, operation in operations():
        responses = operation["responses"]
        assert {"401", "403", "429", "503"} <= responses.keys()
        assert ("404" in responses) is ("{id}" in path)
        for status, response in responses.items():
            if status >= "400":
                assert list(response["content"]) == [CONTENT_TYPE]
        for status in ("429", "503"):
            assert "Retry-After" in responses[status]["headers"]


def test_the_codes_in_descriptions_exist() -> None:
    for description in values(RESOLVED["paths"], "description"):
        for code in re.findall(r"`((?:too|not|opted|key)_\w+)`", description):
            assert code in DETAILS


def test_the_event_has_the_headers_of_standard_webhooks() -> None:
    event = DOCUMENT["webhooks"]["event"]["post"]
    assert event["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": f"{SCHEMAS}Event"
    }
    assert [parameter["name"] for parameter in event["parameters"]] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]


async def test_schemathesis_finds_no_response_that_the_document_does_not_allow(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    key = await make_key(sandbox.bot.database, sandbox.clock)
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        *("run", f"{sandbox.bot.url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
        # A schema cannot say which numbers are in use, so what it allows may be refused.
        *("--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", str(MAX_EXAMPLES), "--continue-on-failure"),
        *("--no-color", "--warnings", "off"),
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    report = out.decode()
    assert process.returncode == 0, report
    assert "6 selected / 6 total" in report
    assert "No issues found" in report


# The page.


class Page(HTMLParser):
    """The elements, ids and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.named_by: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.named_by += [given["aria-labelledby"] or ""] if "aria-labelledby" in given else []
        self.links += [given["href"] or ""] if "href" in given else []


async def test_the_page_loads_nothing(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/docs")
    text = await answer.text()
    page = Page(text)
    assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
    assert page.tags.keys() & {"script", "link", "img", "iframe", "form"} == set()
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    assert "prefers-color-scheme: dark" in style


async def test_the_page_has_consistent_headings_ids_and_links(client: TestClient[Any, Any]) -> None:
    page = Page(await (await client.get("/docs")).text())
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.named_by) <= set(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert (page.tags["h1"], page.tags["main"], page.headings[0]) == (1, 1, 1)
    assert all(
        after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False)
    )


async def test_the_page_explains_every_code_at_the_type_of_the_problem(
    client: TestClient[Any, Any],
) -> None:
    text = html.unescape(await (await client.get("/docs")).text())
    for code, detail in DETAILS.items():
        assert f'<tr id="{code}">' in text
        assert detail in text
    for route in ROUTES:
        assert f'id="{route.handler.__name__}"' in text
