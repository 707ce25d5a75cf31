"""Operations: is the process alive, can it work, what does it count, and reaping on demand."""

from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hotpath.model.errors import Violation
from hotpath.rest.calls import Call, answer, iso
from hotpath.rest.models import HealthResponse, ReapResponse
from hotpath.rest.problems import Problem, respond
from hotpath.telemetry import Metrics


async def show_health(call: Call) -> web.Response:
    """`GET /healthz`: the process answers."""
    del call
    return answer(HealthResponse(status="ok"))


async def show_readiness(call: Call) -> web.Response:
    """`GET /readyz`: the service can accept and deliver; else 503 with every reason."""
    reasons = call.services.readiness()
    if not reasons:
        return answer(HealthResponse(status="ready"))
    violations = [Violation(reason) for reason in reasons]
    problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, violations, {"Cache-Control": "no-store"})
    return respond(problem, call.request_id)


async def show_metrics(call: Call) -> web.Response:
    """`GET /metrics`: Prometheus text format."""
    return expose(call.services.metrics)


def expose(metrics: Metrics) -> web.Response:
    """All metrics as a response."""
    return web.Response(
        body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


async def reap(call: Call) -> web.Response:
    """`POST /admin/reap`: delete every subscription that has been idle for its time, now."""
    admin = call.services.admin
    reaped = await admin.reap()
    call.audit["reaped"] = reaped
    next_ms = admin.next_expiry_ms()
    return answer(ReapResponse(reaped=reaped, nextAt=None if next_ms is None else iso(next_ms)))
