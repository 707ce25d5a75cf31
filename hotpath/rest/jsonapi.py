"""Answers of the Streaming API: JSON, and JSON:API where the caller asks for that.

Its errors have the shape of JSON:API 1.1 in both, whoever refused the call.
"""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web

from hotpath.model.errors import Violation
from hotpath.rest.bodies import JSON_API_TYPE, JSON_TYPE, STREAMING
from hotpath.rest.problems import Refusal, title_of


def media_type(request: web.BaseRequest) -> str:
    """What a caller wants: JSON:API when its Accept or its own body says so."""
    wanted = request.headers.get("Accept", "")
    if JSON_API_TYPE in wanted.lower():
        return JSON_API_TYPE
    sent = request.headers.get("Content-Type", "").lower()
    takes_any = not wanted.strip() or "*/*" in wanted
    return JSON_API_TYPE if takes_any and sent.startswith(JSON_API_TYPE) else JSON_TYPE


def reply(
    request: web.BaseRequest,
    document: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A document as the answer; never to be cached."""
    return web.Response(
        status=status,
        body=json.dumps(document, separators=(",", ":")).encode(),
        content_type=media_type(request),
        headers={"Cache-Control": "no-store", "Vary": "Accept", **(headers or {})},
    )


def page_links(request: web.BaseRequest, following: str | None) -> dict[str, str | None]:
    """Where this page is, and the next one; null behind the last."""
    query = {**request.query, "page[cursor]": following or ""}
    behind = None if following is None else f"{request.path}?{urlencode(query)}"
    return {"self": request.path_qs, "next": behind}


def reshape(
    request: web.BaseRequest, response: web.StreamResponse, request_id: str
) -> web.StreamResponse:
    """A refusal in this API's shape, if the call was one of this API's; else as it is."""
    if not isinstance(response, Refusal) or not request.path.startswith(STREAMING):
        return response
    problem = response.problem
    status, title = problem.status, title_of(problem.status)
    errors = [
        {
            "id": request_id,
            "status": str(status.value),
            "code": title,
            "title": status.phrase,
            "detail": violation.detail,
            **_source(violation),
            **({"meta": violation.meta} if violation.meta else {}),
        }
        for violation in problem.violations
    ]
    return web.Response(
        status=status.value,
        body=json.dumps({"errors": errors}).encode(),
        content_type=media_type(request),
        headers=problem.headers,
    )


def _source(violation: Violation) -> dict[str, object]:
    """Where it is wrong (JSON:API 1.1, error objects): in the body, or (`?name`) the query."""
    pointer = violation.pointer
    if pointer is None:
        return {}
    if pointer.startswith("?"):
        return {"source": {"parameter": pointer[1:]}}
    return {"source": {"pointer": pointer}}
