"""Around every call: request id, error mapping, metrics, and the audit line of control calls."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from hotpath.model.chance import random_hex
from hotpath.model.errors import HotpathError, Violation
from hotpath.ports import LogFailure
from hotpath.rest.calls import Call, Guard, Route
from hotpath.rest.jsonapi import reshape
from hotpath.rest.listener import vouch
from hotpath.rest.messages import PartlyAccepted
from hotpath.rest.problems import Problem, plain_problem, problem_of, respond
from hotpath.rest.security import RateLimiter, authenticate, authorise, fingerprint
from hotpath.rest.services import Services
from hotpath.telemetry import Metrics, get_logger
from hotpath.tracecontext import is_sampled

REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID_KEY: Final = web.RequestKey("request_id", str)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UNMATCHED: Final = "unmatched"

Responding = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = get_logger("hotpath.rest")
_audit = get_logger("hotpath.audit")


def request_id_of(request: web.BaseRequest) -> str:
    """The caller's request id if it is a good one, else a fresh one."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else random_hex()


async def decorate(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response, whoever made it."""
    response.headers[REQUEST_ID_HEADER] = str(request.get(REQUEST_ID_KEY) or request_id_of(request))
    response.headers["Server"] = "hotpath"
    response.headers["X-Content-Type-Options"] = "nosniff"


def outermost(metrics: Metrics) -> Middleware:
    """What stands between aiohttp and the routes: nothing leaves but a response of ours."""
    count = _counting(metrics)

    @web.middleware
    async def around(request: web.Request, handler: Responding) -> web.StreamResponse:
        request_id = request_id_of(request)
        request[REQUEST_ID_KEY] = request_id
        began_s = asyncio.get_running_loop().time()
        response = reshape(request, await _shield(request, handler, request_id), request_id)
        took_s = asyncio.get_running_loop().time() - began_s
        count(_route_of(request), response.status, took_s)
        return response

    return around


def _counting(metrics: Metrics) -> Callable[[str, int, float], None]:
    """Counts a call: its route, its status, its seconds."""
    # Routes and statuses are few; finding the label's place each time costs more than counting.
    requests = cache(lambda route, status: metrics.requests.labels(route, str(status)))
    seconds = cache(metrics.request_seconds.labels)

    def count(route: str, status: int, took_s: float) -> None:
        requests(route, status).inc()
        seconds(route).observe(took_s)

    return count


async def _shield(
    request: web.Request, respond_to: Responding, request_id: str
) -> web.StreamResponse:
    """The response of a route, or one that says what went wrong."""
    try:
        return await respond_to(request)
    except web.HTTPException as answer:
        return _of_aiohttp(answer, request, request_id)
    except Exception:  # noqa: BLE001 -- the edge of the task: the caller gets a clean 500
        _log.exception(
            "call failed",
            extra={"request_id": request_id, "method": request.method, "path": request.path},
        )
        return _unexpected(request_id)


def guarded(route: Route, services: Services, limiter: RateLimiter) -> Responding:
    """A route's responder behind its guard, with errors as responses and an audit line."""

    async def respond_to(request: web.Request) -> web.StreamResponse:
        call = Call(request, services, request[REQUEST_ID_KEY])
        began_ms = services.clock.ticks_ms()
        response: web.StreamResponse | None = None
        problem: Problem | None = None
        try:
            await _admit(call, route, limiter)
            with _traced(call, route):
                response = await route.responder(call)
        except (HotpathError, PartlyAccepted, LogFailure) as error:
            problem = _problem_of(error)
            response = respond(problem, call.request_id)
        finally:
            if route.guard is Guard.CONTROL:
                took_ms = services.clock.ticks_ms() - began_ms
                _write_audit(call, route, response, problem, took_ms=took_ms)
        return response

    return respond_to


@contextmanager
def _traced(call: Call, route: Route) -> Iterator[None]:
    """A span around the call, when tracing is on."""
    tracing = call.services.tracing
    if tracing is None:
        yield
        return
    with tracing.call(f"{route.method} {route.path}", call.request.headers) as context:
        call.trace = context if is_sampled(context) else ""
        yield


async def _admit(call: Call, route: Route, limiter: RateLimiter) -> None:
    """Find out who calls, and whether they may. Raises HotpathError."""
    if route.guard is Guard.OPEN:
        return
    call.principal = await authenticate(call.request, call.services.verifier)
    vouch(call.request)
    if route.guard is Guard.CONTROL:
        limiter.count(call.principal)
    if route.permission is not None:
        call.topic = authorise(
            call.principal,
            route.permission,
            kind=route.topic or call.request.match_info.get("type"),
            topics=route.topics,
        )


def _problem_of(error: HotpathError | PartlyAccepted | LogFailure) -> Problem:
    if isinstance(error, LogFailure):
        _log.error("storage failed in a call", extra={"reason": error.detail})
        detail = "the storage cannot be used now; try again later"
        return plain_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"})
    if isinstance(error, HotpathError):
        return problem_of(error)
    problem = problem_of(error.cause)
    meta: dict[str, object] = {"line": error.line, "accepted": error.accepted}
    violations = [
        Violation(f"line {error.line}: {each.detail}", each.pointer, {**each.meta, **meta})
        for each in problem.violations
    ]
    return Problem(problem.status, violations, problem.headers)


def _write_audit(
    call: Call,
    route: Route,
    response: web.StreamResponse | None,
    problem: Problem | None,
    *,
    took_ms: int,
) -> None:
    """One line a control call: who, what, when (the line's own time), and with what result."""
    if not _audit.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        "request_id": call.request_id,
        "operation": route.name,
        "method": call.request.method,
        "path": call.request.path[:256],
        "remote": call.request.remote,
        "tenant": call.principal.tenant or None,
        "subject": call.principal.subject or None,
        "token_id": fingerprint(call.request),
        "topic": call.topic.value if call.topic is not None else None,
        "status": response.status if response is not None else 500,
        "took_ms": took_ms,
        **call.audit,
    }
    if problem is not None:
        fields["reason"] = "; ".join(each.detail for each in problem.violations)[:512]
    _audit.info("control call", extra=fields)


def _of_aiohttp(
    answer: web.HTTPException, request: web.Request, request_id: str
) -> web.StreamResponse:
    """Put aiohttp's own refusals into our shape: unknown path, wrong method."""
    status = HTTPStatus(answer.status)
    if isinstance(answer, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted({*answer.allowed_methods, "OPTIONS"}))
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": allowed})
        detail = f"{request.method} is not possible here; it is one of {allowed}"
        return respond(plain_problem(status, detail, {"Allow": allowed}), request_id)
    if status is HTTPStatus.NOT_FOUND:
        return respond(plain_problem(status, "there is nothing at this path"), request_id)
    if status < HTTPStatus.BAD_REQUEST:
        return answer
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        status = HTTPStatus.BAD_REQUEST
    return respond(plain_problem(status, answer.reason or "the request failed"), request_id)


def _unexpected(request_id: str) -> web.Response:
    detail = "the service has met an unexpected condition; the id finds it in the service's log"
    return respond(plain_problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail), request_id)


def _route_of(request: web.Request) -> str:
    """The path pattern of a request, for metrics: never the path itself, which has no bound."""
    resource = request.match_info.route.resource
    return _UNMATCHED if resource is None else resource.canonical
