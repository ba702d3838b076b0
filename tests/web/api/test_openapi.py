from __future__ import annotations

import base64
import hashlib
import html
import re
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from bot import __version__
from bot.conversation.verification import RequestOutcome, Status
from bot.services.schemas import AppEventView, VerificationView
from bot.store.api_keys import Scope
from bot.web.api.handlers import OPERATIONS, CheckView
from bot.web.api.openapi import Description, document
from bot.web.api.problems import DETAILS, ProblemView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp.pytest_plugin import AiohttpClient
    from aiohttp.test_utils import TestClient

OPERATION_IDS = {
    "begin_verification": ("POST", "/v1/verifications", "verifications:write"),
    "list_verifications": ("GET", "/v1/verifications", "verifications:read"),
    "get_verification": ("GET", "/v1/verifications/{id}", "verifications:read"),
    "check_code": ("POST", "/v1/verifications/{id}/check", "verifications:write"),
    "resend_code": ("POST", "/v1/verifications/{id}/resend", "verifications:write"),
    "cancel_verification": ("POST", "/v1/verifications/{id}/cancel", "verifications:write"),
}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> TestClient[Any, Any]:
    application = web.Application()
    application.add_routes(Description(OPERATIONS).routes())
    return await aiohttp_client(application)


@pytest.fixture
def described() -> dict[str, Any]:
    return document(OPERATIONS)


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def values(of: Any, name: str) -> Iterator[Any]:
    """Find all that stands under a name, at any depth."""
    if isinstance(of, list):
        for each in of:
            yield from values(each, name)
    elif isinstance(of, dict):
        for key, each in of.items():
            if key == name:
                yield each
            yield from values(each, name)


async def test_the_document_is_served_as_it_is_made(
    client: TestClient[Any, Any], described: dict[str, Any]
) -> None:
    answer = await client.get("/openapi.json")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert await answer.json() == described
    assert described["openapi"] == "3.1.0"
    assert described["info"]["version"] == __version__


def test_every_operation_is_described_with_its_scope(described: dict[str, Any]) -> None:
    told = {
        operation["operationId"]: (method, path, operation["security"][0]["key"][0])
        for method, path, operation in operations(described)
    }
    assert told == OPERATION_IDS
    assert {scope for _, _, scope in told.values()} == {scope.value for scope in Scope}


def test_what_is_sent_and_answered_is_described_by_the_models_themselves(
    described: dict[str, Any],
) -> None:
    schemas = described["components"]["schemas"]
    for model in (VerificationView, AppEventView, CheckView, ProblemView):
        schema = schemas[model.model_config["title"]]
        assert schema["properties"].keys() == model.model_fields.keys()
        assert schema["description"] == model.__doc__
    assert schemas["Status"]["enum"] == [status.value for status in Status]
    assert schemas["NewVerification"]["additionalProperties"] is False
    assert all(
        member.keys() & {"description", "$ref", "anyOf"}
        for schema in schemas.values()
        for member in schema.get("properties", {}).values()
    )


def test_no_reference_leads_nowhere_and_no_schema_is_left_over(described: dict[str, Any]) -> None:
    prefix = "#/components/schemas/"
    known = {f"{prefix}{name}" for name in described["components"]["schemas"]}
    assert set(values(described, "$ref")) == known


def test_every_operation_tells_of_its_problems(described: dict[str, Any]) -> None:
    for method, path, operation in operations(described):
        responses = operation["responses"]
        assert {"401", "403", "429", "503"} <= responses.keys()
        assert ("404" in responses) is ("{id}" in path)
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert ("Idempotency-Key" in named) is (method == "POST")
        for status, response in responses.items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]
        for status in ("429", "503"):
            assert "Retry-After" in responses[status]["headers"]


def test_the_codes_that_are_named_are_those_there_are(described: dict[str, Any]) -> None:
    outcomes = {outcome.value for outcome in RequestOutcome}
    for description in values(described["paths"], "description"):
        if isinstance(description, str):
            for code in re.findall(r"`((?:too|not|opted|key)_\w+)`", description):
                assert code in outcomes


def test_events_are_described_as_webhooks(described: dict[str, Any]) -> None:
    event = described["webhooks"]["event"]["post"]
    assert event["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Event"
    }
    assert [parameter["name"] for parameter in event["parameters"]] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]


class Page(HTMLParser):
    """What matters of a page: its elements, names and links."""

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


async def test_the_page_needs_nothing_but_itself(client: TestClient[Any, Any]) -> None:
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


async def test_the_page_can_be_found_ones_way_in(client: TestClient[Any, Any]) -> None:
    page = Page(await (await client.get("/docs")).text())
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.named_by) <= set(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert (page.tags["h1"], page.tags["main"], page.headings[0]) == (1, 1, 1)
    assert all(
        after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False)
    )


async def test_the_page_explains_every_code_where_a_problem_says_it_does(
    client: TestClient[Any, Any],
) -> None:
    text = html.unescape(await (await client.get("/docs")).text())
    for outcome, meaning in DETAILS.items():
        assert f'<tr id="{outcome}">' in text
        assert meaning in text
    for name in OPERATION_IDS:
        assert f'id="{name}"' in text
