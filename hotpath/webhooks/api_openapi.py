"""What `/openapi.json` says of the Streaming API, from the models that validate."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from hotpath.auth.rights import SCOPE_PREFIX, Permission
from hotpath.rest.bodies import JSON_API_TYPE, JSON_TYPE
from hotpath.rest.calls import Document
from hotpath.rest.messages import NDJSON_TYPE
from hotpath.webhooks.api_reading import CURSOR_CHARS_MAX
from hotpath.webhooks.models import (
    KINDS,
    PAGE_DEFAULT,
    PAGE_MAX,
    PointValueRequest,
    StreamErrors,
)

Json = dict[str, object]

_ERRORS: Final = {
    400: "The call is wrong: `source` says where.",
    401: "Not authorized: the access token is missing or its validation failed.",
    403: "Forbidden: the token does not grant the partition, or lacks the scope.",
    404: "There is no such stream or partition.",
    405: "The path has no such method.",
    429: "Too many requests, or a bound of the service is reached.",
    500: "The service has met an unexpected condition.",
    503: "The service cannot do this now; try again later.",
}
_REQUEST_ID: Final[Json] = {
    "description": "The caller's X-Request-Id, or a fresh one.",
    "schema": {"type": "string"},
}


@dataclass(frozen=True, slots=True)
class Text:
    """What the document says of one operation."""

    summary: str
    status: int
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    body_required: bool = True
    paged: bool = False
    kind_required: bool | None = None
    """Whether the query needs `type`; None: it has none."""
    addition: bool = True
    """Not in the public Streaming API."""


def describe(name: str, path: str, text: Text, permission: Permission) -> Document:
    """The document of one operation."""
    operation: Json = {
        "operationId": name,
        "summary": text.summary,
        "parameters": _parameters(path, text),
        "responses": _responses(path, text),
        "security": [{"bearer": []}],
        "x-required-scope": SCOPE_PREFIX + permission.value,
    }
    if path.endswith("/points/values"):
        operation["requestBody"] = {"required": True, "content": _value_content()}
        requests: tuple[type[BaseModel], ...] = (PointValueRequest,)
    else:
        requests = () if text.body is None else (text.body,)
        if text.body is not None:
            content = {kind: {"schema": _ref(text.body)} for kind in (JSON_TYPE, JSON_API_TYPE)}
            operation["requestBody"] = {"required": text.body_required, "content": content}
    if text.addition:
        operation["x-hotpath-addition"] = True
    answers = (StreamErrors,) if text.answer is None else (text.answer, StreamErrors)
    return Document(operation, requests, answers)


def _parameters(path: str, text: Text) -> list[Json]:
    found: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        for name in ("partitionId", "streamId")
        if f"{{{name}}}" in path
    ]
    if text.kind_required is not None:
        schema: Json = {"type": "string", "enum": list(KINDS)}
        found.append(_in_query("type", schema, required=text.kind_required))
    if text.paged:
        limit: Json = {
            "type": "integer",
            "minimum": 1,
            "maximum": PAGE_MAX,
            "default": PAGE_DEFAULT,
        }
        cursor: Json = {"type": "string", "maxLength": CURSOR_CHARS_MAX, "format": "cursor"}
        found += [_in_query("page[limit]", limit), _in_query("page[cursor]", cursor)]
    return found


def _in_query(name: str, schema: Json, *, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _value_content() -> Json:
    one = _ref(PointValueRequest)
    either: Json = {"schema": {"anyOf": [one, {"type": "array", "items": one}]}}
    return {
        JSON_TYPE: either,
        JSON_API_TYPE: either,
        NDJSON_TYPE: {"schema": {"type": "string", "description": "One JSON object a line."}},
    }


def _responses(path: str, text: Text) -> Json:
    success: Json = {
        "description": text.summary + ": done.",
        "headers": {"X-Request-Id": _REQUEST_ID},
    }
    if text.answer is not None:
        # Values are answered like messages, in one way.
        kinds = (JSON_TYPE,) if path.endswith("/points/values") else (JSON_TYPE, JSON_API_TYPE)
        success["content"] = {kind: {"schema": _ref(text.answer)} for kind in kinds}
    if text.status == 201:
        success["headers"] = {
            "X-Request-Id": _REQUEST_ID,
            "Location": {"description": "Path of the stream.", "schema": {"type": "string"}},
        }
    return {str(text.status): success, **{str(status): _error(status) for status in _ERRORS}}


def _error(status: int) -> Json:
    headers: Json = {"X-Request-Id": _REQUEST_ID}
    if status in {401, 403}:
        challenge = {"description": "RFC 6750 challenge.", "schema": {"type": "string"}}
        headers["WWW-Authenticate"] = challenge
    if status == 429:
        wait = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        headers["Retry-After"] = wait
    content = {kind: {"schema": _ref(StreamErrors)} for kind in (JSON_TYPE, JSON_API_TYPE)}
    return {"description": _ERRORS[status], "headers": headers, "content": content}


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
