"""What is said of a door of the API: one table of these makes the routes and the description."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bot.web.api.schemas import RequestParams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from http import HTTPStatus

    from aiohttp import web
    from pydantic import BaseModel

    from bot.services.verifications import IdempotencyKey
    from bot.store.api_keys import Scope

W = TypeVar("W", bound=RequestParams)


class ParamSource(Enum):
    """Where in a request it is said what is wished for."""

    BODY = "body"
    QUERY = "query"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[W]):
    """A request that was let in and understood; `name` is the id in its path, or nothing."""

    params: W
    name: str
    once: IdempotencyKey | None


@dataclass(frozen=True, slots=True)
class Operation(Generic[W]):
    """One thing an app can ask.

    `answer` are the models of an answer with `status`, one of them at a time; `problems` what is
    particular to this operation, by status. The method of `Api` that carries it out is `handle`.
    """

    method: str
    path: str
    handle: Callable[[Any, ParsedRequest[W]], Awaitable[web.Response]]
    summary: str
    description: str
    scope: Scope
    params: type[W]
    where: ParamSource
    status: HTTPStatus
    says: str
    answer: tuple[type[BaseModel], ...]
    problems: Mapping[HTTPStatus, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name it as generated clients do."""
        return self.handle.__name__

    @property
    def writes(self) -> bool:
        """Tell whether it changes anything, and so takes an Idempotency-Key."""
        return self.method == "POST"
