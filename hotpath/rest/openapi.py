"""The OpenAPI 3.1 document, built from the route table and the models that validate.

Everything the public Subscription APIs do not have is marked `x-hotpath-addition`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import qel
from hotpath import __version__
from hotpath.auth.rights import SCOPE_PREFIX
from hotpath.rest.calls import Guard, Route
from hotpath.rest.look_models import (
    ExplainRequest,
    ExplainResponse,
    FeedPage,
    LastQuery,
    MessageList,
    SessionResponse,
    TailQuery,
    TopicList,
    WhyResponse,
)
from hotpath.rest.messages import NDJSON_TYPE
from hotpath.rest.models import (
    CURSOR_PATTERN,
    PAGE_DEFAULT,
    PAGE_MAX,
    AcceptedResponse,
    CheckRequest,
    CheckResponse,
    HealthResponse,
    KeyDetails,
    KeyList,
    KeyRequest,
    NewKeyResponse,
    PublisherRequest,
    PublisherResponse,
    ReapResponse,
    ServiceErrors,
    SubscriptionDetails,
    SubscriptionPage,
    SubscriptionRequest,
    SubscriptionResponse,
    SubscriptionUpdatedResponse,
    TokenRequest,
)
from hotpath.rest.shapes import SHAPES, Shape

Json = dict[str, object]

_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"
_ADDITION: Final = "x-hotpath-addition"

_ERRORS: Final[Mapping[int, str]] = {
    400: "Invalid request: malformed JSON, a wrong value, a payload over the limit.",
    401: "Not authorized: the access token is missing or its validation failed.",
    403: "Forbidden: the token does not allow this.",
    404: "There is nothing of that name, or no such type.",
    405: "The path has no such method.",
    429: "Too many requests, or a bound of the service is reached.",
    500: "The service has met an unexpected condition.",
    503: "The service cannot do this now; try again later.",
}


@dataclass(frozen=True, slots=True)
class _Text:
    """What the document says of an operation besides what its route says."""

    summary: str
    status: int
    answer: type[BaseModel] | str | None
    """Model of the response, a media type that is no JSON, or None for no body."""
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    not_found: bool = False
    addition: bool = True


_TEXTS: Final[Mapping[str, _Text]] = {
    "createSubscription": _Text(
        "Create a subscription",
        201,
        SubscriptionResponse,
        SubscriptionRequest,
        not_found=True,
        addition=False,
    ),
    "renewToken": _Text(
        "Generate a new token for a subscription",
        200,
        SubscriptionUpdatedResponse,
        TokenRequest,
        body_required=False,
        not_found=True,
        addition=False,
    ),
    "deleteSubscription": _Text("Delete a subscription", 204, None, not_found=True, addition=False),
    "showSubscription": _Text("Show a subscription", 200, SubscriptionDetails, not_found=True),
    "listSubscriptions": _Text("List own subscriptions", 200, SubscriptionPage),
    "listFeed": _Text(
        "Look at the messages of a subscription without taking any",
        200,
        FeedPage,
        query=TailQuery,
        not_found=True,
    ),
    "showFate": _Text(
        "Why a message matched or not, and what became of it", 200, WhyResponse, not_found=True
    ),
    "showSession": _Text("Who calls", 200, SessionResponse),
    "listTopics": _Text("List topics with what they hold and their rates", 200, TopicList),
    "listMessages": _Text(
        "Show the last messages of a topic", 200, MessageList, query=LastQuery, not_found=True
    ),
    "explainFilter": _Text(
        "Try a filter on the last messages of a topic",
        200,
        ExplainResponse,
        ExplainRequest,
        not_found=True,
    ),
    "openPublisher": _Text(
        "Create a publisher",
        201,
        PublisherResponse,
        PublisherRequest,
        body_required=False,
        not_found=True,
    ),
    "publishMessages": _Text("Publish messages", 202, AcceptedResponse, not_found=True),
    "checkFilter": _Text("Check a filter and try it", 200, CheckResponse, CheckRequest),
    "revokeTokens": _Text("Revoke the tokens of a subscription", 204, None, not_found=True),
    "deletePublisher": _Text("Delete a publisher and its token", 204, None, not_found=True),
    "listKeys": _Text("List signing keys", 200, KeyList),
    "addKey": _Text("Make a signing key", 201, NewKeyResponse, KeyRequest, body_required=False),
    "retireKey": _Text("Let a signing key count no longer", 200, KeyDetails, not_found=True),
    "removeKey": _Text("Forget a retired signing key", 204, None, not_found=True),
    "reap": _Text("Delete idle subscriptions now", 200, ReapResponse),
    "showHealth": _Text("Is the process alive?", 200, HealthResponse),
    "showReadiness": _Text("Can the service accept and deliver?", 200, HealthResponse),
    "showMetrics": _Text("Metrics in Prometheus text format", 200, "text/plain"),
    "showOpenApi": _Text("This document", 200, _JSON),
}


def build_document(routes: Sequence[Route]) -> Json:
    """The document of all operations in a route table."""
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hotpath",
            "version": __version__,
            "summary": "Filtered, live feeds of industrial data.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _operation(route: Route) -> Json:
    if route.document is not None:
        return route.document.operation
    text = _TEXTS[route.name]
    operation: Json = {
        "operationId": route.name,
        "summary": text.summary,
        "responses": _responses(route, text),
    }
    parameters = _parameters(route)
    if parameters:
        operation["parameters"] = parameters
    body = _request_body(route, text)
    if body is not None:
        operation["requestBody"] = body
    if route.guard is not Guard.OPEN:
        # The scope is narrowed to one type as `<scope>:<type>`.
        operation["security"] = [{"bearer": []}]
        if route.permission is not None:
            operation["x-required-scope"] = SCOPE_PREFIX + route.permission.value
    if text.addition:
        operation[_ADDITION] = True
    return operation


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = []
    if "{type}" in route.path:
        kinds = [topic.value for topic in route.topics]
        found.append(_in_path("type", {"type": "string", "enum": kinds}))
    found += [
        _in_path(name, {"type": "string", "minLength": 1})
        for name in ("subscriptionId", "publisherId", "name")
        if f"{{{name}}}" in route.path
    ]
    if "{sequenceNumber}" in route.path:
        found.append(_in_path("sequenceNumber", {"type": "integer", "minimum": 1}))
    query = _TEXTS[route.name].query
    if query is not None:
        found += _in_query(query)
    if route.name == "listSubscriptions":
        limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}
        cursor = {"type": "string", "pattern": CURSOR_PATTERN}
        found.append({"name": "limit", "in": "query", "required": False, "schema": limit})
        found.append(
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "`next` of the page before.",
                "schema": cursor,
            }
        )
    return found


def _in_query(model: type[BaseModel]) -> list[Json]:
    """The parameters that a query model reads; those that may be left out have a default."""
    schema = model.model_json_schema()
    found: list[Json] = []
    for name, shown in schema["properties"].items():
        told = {key: value for key, value in shown.items() if key not in {"title", "description"}}
        # One that is not there is not null.
        variants = [each for each in told.pop("anyOf", ()) if each != {"type": "null"}]
        told.update(variants[0] if variants else {})
        if told.get("default", 0) is None:
            del told["default"]
        description = shown.get("description", "")
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": description,
                "schema": told,
            }
        )
    return found


def _in_path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _request_body(route: Route, text: _Text) -> Json | None:
    if route.name == "publishMessages":
        return {"required": True, "content": _message_content()}
    if text.body is None:
        return None
    return {"required": text.body_required, "content": {_JSON: {"schema": _ref(text.body)}}}


def _message_content() -> Json:
    one: Json = {"anyOf": [{"$ref": _REF.format(model=_shape_name(shape))} for shape in _shapes()]}
    many: Json = {"type": "array", "items": one}
    return {
        _JSON: {"schema": {"anyOf": [one, many]}},
        NDJSON_TYPE: {"schema": {"type": "string", "description": "One JSON object a line."}},
    }


def _responses(route: Route, text: _Text) -> Json:
    success: Json = {"description": text.summary + ": done."}
    if isinstance(text.answer, str):
        success["content"] = {text.answer: {"schema": {}}}
    elif text.answer is not None:
        success["content"] = {_JSON: {"schema": _ref(text.answer)}}
    success["headers"] = {"X-Request-Id": _REQUEST_ID}
    if route.name == "createSubscription":
        success["headers"] = {"X-Request-Id": _REQUEST_ID, "Location": _LOCATION}
    answers: Json = {str(text.status): success}
    for status in _error_statuses(route, text):
        answers[str(status)] = _error(status)
    return answers


_REQUEST_ID: Final[Json] = {
    "description": "The caller's X-Request-Id, or a fresh one.",
    "schema": {"type": "string"},
}
_LOCATION: Final[Json] = {"description": "Path of the subscription.", "schema": {"type": "string"}}
_CHALLENGE: Final[Json] = {"description": "RFC 6750 challenge.", "schema": {"type": "string"}}
_RETRY: Final[Json] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}


def _error_statuses(route: Route, text: _Text) -> list[int]:
    if route.guard is Guard.OPEN:
        return [400, 405, 500, 503] if route.name == "showReadiness" else [400, 405, 500]
    statuses = [400, 401, 403, 405, 429, 500, 503]
    return sorted([*statuses, 404]) if text.not_found else statuses


def _error(status: int) -> Json:
    headers: Json = {"X-Request-Id": _REQUEST_ID}
    if status in {401, 403}:
        headers["WWW-Authenticate"] = _CHALLENGE
    if status == 429:
        headers["Retry-After"] = _RETRY
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {_JSON: {"schema": _ref(ServiceErrors)}},
    }


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(routes: Sequence[Route]) -> Json:
    """All models, and the messages of each topic."""
    requests = {text.body for text in _TEXTS.values() if text.body is not None}
    answers = {text.answer for text in _TEXTS.values() if isinstance(text.answer, type)}
    for document in (route.document for route in routes if route.document is not None):
        requests |= set(document.requests)
        answers |= set(document.answers)
    ordered = sorted(requests | answers | {ServiceErrors}, key=lambda model: model.__name__)
    # Requests in the form that validates, responses in the form that is sent.
    _, schema = models_json_schema(
        [(model, "validation" if model in requests else "serialization") for model in ordered],
        ref_template=_REF,
    )
    schemas: Json = dict(schema["$defs"])
    for shape in _shapes():
        schemas[_shape_name(shape)] = _message_schema(shape)
    return schemas


def _shapes() -> list[Shape]:
    return list(SHAPES.values())


def _shape_name(shape: Shape) -> str:
    return shape.message_type[0].upper() + shape.message_type[1:] + "Message"


_PROPERTY_SCHEMAS: Final[Mapping[qel.Type, Json]] = {
    qel.Type.STRING: {"type": "string"},
    qel.Type.NUMBER: {"type": "number"},
    qel.Type.BOOLEAN: {"type": "boolean"},
    qel.Type.DATETIME: {"type": "string", "format": "date-time"},
}


def _message_schema(shape: Shape) -> Json:
    properties: dict[str, Json] = {
        name: dict(_PROPERTY_SCHEMAS.get(kind, {}))
        for name, kind in shape.schema.properties.items()
    }
    properties[shape.time]["description"] = "Set to now when it is missing."
    return {"type": "object", "properties": properties, "required": list(shape.required)}
