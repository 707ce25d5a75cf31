"""What has become of a stream's events, over REST: a test, the attempts, the dead letters."""

from aiohttp import web

from hotpath.model.stream import StreamStatus
from hotpath.rest.calls import Call
from hotpath.rest.jsonapi import page_links, reply
from hotpath.service.points_state import iso
from hotpath.webhooks.api_reading import (
    StreamServices,
    find_stream,
    read_event,
    read_model,
    read_page,
)
from hotpath.webhooks.interface import DeadEvent, DeliveryAttempt
from hotpath.webhooks.models import (
    DeadLetterResource,
    DeliveryResource,
    RedriveRequest,
    RedriveResponse,
    TestResponse,
)


class DeliveryCalls:
    """The calls on deliveries."""

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    async def test(self, call: Call) -> web.Response:
        """`POST /streams/{streamId}/test`: a sample event now. Success enables a disabled one."""
        stream = find_stream(call, self._services, kind_required=False)
        result = await self._services.deliveries.test(stream)
        call.audit["delivered"] = result.delivered
        if result.delivered and stream.status is StreamStatus.DISABLED:
            await self._services.streams.report(stream, StreamStatus.ACTIVE, "")
        answered = TestResponse(
            delivered=result.delivered,
            httpStatus=result.http_status,
            durationMs=result.duration_ms,
            reason=result.reason or None,
        )
        return reply(call.request, answered.model_dump())

    async def history(self, call: Call) -> web.Response:
        """`GET /streams/{streamId}/deliveries`: the last attempts, newest first."""
        stream = find_stream(call, self._services, kind_required=False)
        after, limit = read_page(call)
        page = await self._services.deliveries.history(stream, after=after, limit=limit)
        links = page_links(call.request, page.next)
        return reply(
            call.request, {"data": [_attempt(each) for each in page.items], "links": links}
        )

    async def dead_letters(self, call: Call) -> web.Response:
        """`GET /streams/{streamId}/dead-letters`: what was given up, oldest first."""
        stream = find_stream(call, self._services, kind_required=False)
        after, limit = read_page(call)
        page = await self._services.deliveries.dead_letters(stream, after=after, limit=limit)
        links = page_links(call.request, page.next)
        return reply(call.request, {"data": [_letter(each) for each in page.items], "links": links})

    async def redrive(self, call: Call) -> web.Response:
        """`POST /streams/{streamId}/dead-letters/redrive`: send dead letters once more."""
        stream = find_stream(call, self._services, kind_required=False)
        wanted = await read_model(call, RedriveRequest, required=False)
        redriven = await self._services.deliveries.redrive(stream, wanted.ids)
        call.audit["redriven"] = redriven
        return reply(call.request, RedriveResponse(redriven=redriven).model_dump(), 202)


def _attempt(attempt: DeliveryAttempt) -> dict[str, object]:
    return DeliveryResource(
        id=attempt.id,
        eventId=attempt.event_id,
        pointId=attempt.point_id,
        attempt=attempt.attempt,
        status=attempt.status,
        httpStatus=attempt.http_status,
        durationMs=attempt.duration_ms,
        reason=attempt.reason or None,
        at=iso(attempt.at_ms),
    ).model_dump()


def _letter(letter: DeadEvent) -> dict[str, object]:
    return DeadLetterResource(
        id=letter.id,
        event=read_event(letter.event),
        reason=letter.reason,
        attempts=letter.attempts,
        firstAttemptAt=_moment(letter.first_attempt_ms),
        lastAttemptAt=_moment(letter.last_attempt_ms),
    ).model_dump()


def _moment(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else iso(wall_ms)
