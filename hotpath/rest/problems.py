"""Errors as HTTP: the one place where a `HotpathError` becomes a status, headers and a body."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web

from hotpath.model.errors import (
    Forbidden,
    HotpathError,
    Invalid,
    LimitReached,
    LockLost,
    LogFull,
    NotFound,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unsupported,
    Violation,
)

REALM: Final = "hotpath"
#: When to come back after a refusal that time may cure, seconds.
RETRY_AFTER_S: Final = 5

#: Status of each error.
STATUSES: Final[Mapping[type[HotpathError], HTTPStatus]] = {
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Invalid: HTTPStatus.BAD_REQUEST,
    # A payload over the limit is an invalid request in this API, not a 413.
    TooLarge: HTTPStatus.BAD_REQUEST,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
    Unsupported: HTTPStatus.BAD_REQUEST,
    LockLost: HTTPStatus.GONE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    LogFull: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: status, what is wrong, and the headers that belong to it."""

    status: HTTPStatus
    violations: Sequence[Violation]
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenMissing(Unauthorized):
    """No bearer token came with the call; RFC 6750 §3.1 wants no error code then."""


def problem_of(error: HotpathError) -> Problem:
    """How a caller is told about an error."""
    violations = error.violations if isinstance(error, Invalid) else [_violation(error)]
    return Problem(_status_of(error), violations, _headers_of(error))


def _violation(error: HotpathError) -> Violation:
    if isinstance(error, TooLarge):
        return Violation(error.detail, meta={"limitBytes": error.limit_bytes})
    return Violation(error.detail)


def _headers_of(error: HotpathError) -> dict[str, str]:
    match error:
        case Unauthorized():
            return _challenge_token(error)
        case Forbidden():
            return _challenge_scope(error)
        case TooMany():
            return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        case LimitReached() | Unavailable():
            return {"Retry-After": str(RETRY_AFTER_S)}
        case _:
            return {}


def plain_problem(
    status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
) -> Problem:
    """A refusal that is no error of the domain: no such path, no such method."""
    return Problem(status, [Violation(detail)], headers or {})


class Refusal(web.Response):
    """A response that tells of a problem, which it keeps for those who tell it otherwise."""

    def __init__(self, problem: Problem, body: bytes) -> None:
        super().__init__(
            status=problem.status.value,
            body=body,
            content_type="application/json",
            headers=problem.headers,
        )
        self.problem = problem


def respond(problem: Problem, request_id: str) -> Refusal:
    """A problem as a response of the shape `ServiceErrors`."""
    title = title_of(problem.status)
    errors = [
        {
            "code": str(problem.status.value),
            "title": title,
            "status": title,
            "detail": violation.detail,
            "id": request_id,
            "meta": _meta_of(violation),
        }
        for violation in problem.violations
    ]
    return Refusal(problem, json.dumps({"errors": errors}).encode())


def title_of(status: HTTPStatus) -> str:
    """A status in words without blanks: `BadRequest`."""
    return status.phrase.replace(" ", "").replace("-", "")


def _status_of(error: HotpathError) -> HTTPStatus:
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _meta_of(violation: Violation) -> dict[str, object]:
    if violation.pointer is None:
        return violation.meta
    return {"pointer": violation.pointer, **violation.meta}


def _challenge_token(error: Unauthorized) -> dict[str, str]:
    """RFC 6750 §3: what a caller without a good token is told."""
    challenge = f'Bearer realm="{REALM}"'
    if not isinstance(error, TokenMissing):
        challenge += f', error="invalid_token", error_description="{_quotable(error.detail)}"'
    return {"WWW-Authenticate": challenge}


def _challenge_scope(error: Forbidden) -> dict[str, str]:
    challenge = (
        f'Bearer realm="{REALM}", error="insufficient_scope", '
        f'error_description="{_quotable(error.detail)}"'
    )
    if error.scope:
        challenge += f', scope="{_quotable(error.scope)}"'
    return {"WWW-Authenticate": challenge}


def _quotable(text: str) -> str:
    """Only the characters that RFC 6750 §3 allows between the quotes."""
    return "".join(char for char in text if " " <= char <= "~" and char not in '"\\')
