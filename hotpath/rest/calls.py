"""A call on its way through the edge, and the table row that says how it is treated."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from hotpath.auth.rights import Permission, Principal
from hotpath.model.errors import NotFound
from hotpath.model.names import TenantId, Topic
from hotpath.rest.services import Services

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode

#: Stands for the caller of a public route.
NOBODY = Principal(TenantId(""), "", frozenset())


class Guard(Enum):
    """How a route is protected."""

    OPEN = "open"
    """No token."""
    CONTROL = "control"
    """A token, the route's permission, and the rate limit."""
    FLOW = "flow"
    """A token and the permission; messages are bounded by the log, not by the rate limit."""


@dataclass(slots=True)
class Call:
    """One request with what the edge has found out about it."""

    request: web.Request
    services: Services
    request_id: str
    principal: Principal = NOBODY
    topic: Topic | None = None
    audit: dict[str, object] = field(default_factory=dict)
    """What the audit line says besides who, when and with what result; never a token."""
    trace: str = ""
    """The trace context that goes with what the call publishes; empty when there is none."""

    def known_topic(self) -> Topic:
        """The topic of the path, which the edge has checked. Raises NotFound."""
        if self.topic is None:
            raise NotFound("there is no such type")
        return self.topic


Responder = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Document:
    """What `/openapi.json` says of an operation, and the models that it names."""

    operation: dict[str, object]
    requests: tuple[type[BaseModel], ...] = ()
    answers: tuple[type[BaseModel], ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    name: str
    """Its operation id."""
    responder: Responder
    guard: Guard
    permission: Permission | None = None
    topics: tuple[Topic, ...] = ()
    """What `{type}` in the path may be."""
    topic: Topic | None = None
    """The one topic, where the path names none; then it is also in `topics`."""
    document: Document | None = None
    """What `/openapi.json` says of it, where that is not in the table of `openapi`."""


def answer(model: BaseModel, status: int = 200, **headers: str) -> web.Response:
    """A response model as JSON; never to be cached, for many hold a token."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        status=status,
        body=_encode(model.model_dump()).encode(),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store", **named},
    )


def iso(wall_ms: int) -> str:
    """A wall-clock time as ISO 8601 text in UTC with milliseconds."""
    moment = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_ms % 1000:03d}Z"
