"""Streams over REST: create, list, show, change their points, delete, rotate their secrets."""

from typing import Final

from aiohttp import web

from hotpath.model.errors import Invalid
from hotpath.model.stream import StreamStatus
from hotpath.rest.calls import Call
from hotpath.rest.jsonapi import page_links, reply
from hotpath.service.points_state import iso
from hotpath.service.secrets import SecretValue
from hotpath.service.streams import NewStream, Stream
from hotpath.webhooks.api_reading import (
    StreamServices,
    check_kind,
    check_points,
    check_secret,
    check_target,
    find_stream,
    read_model,
    read_page,
    read_partition,
    secret_of,
)
from hotpath.webhooks.models import KIND, PointsRequest, RotateRequest, StreamRequest

BASE: Final = "/streaming/v1/partitions/{partitionId}"
#: Points that the streams of one page have together, roughly: each shows all of its own.
PAGE_POINTS: Final = 200_000


class StreamCalls:
    """The calls on streams."""

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    async def create(self, call: Call) -> web.Response:
        """`POST /streams`."""
        partition = read_partition(call)
        check_kind(call)
        wanted = await read_model(call, StreamRequest, large=True)
        faults = [
            *check_target(wanted.webhookUrl, self._services.policy),
            *check_points(wanted.pointIds),
            *check_secret(wanted.webhookSecret),
        ]
        if faults:
            raise Invalid(faults)
        stream = await self._services.streams.create(
            call.principal,
            NewStream(
                partition=partition,
                webhook_url=wanted.webhookUrl,
                points=wanted.pointIds,
                secret=secret_of(wanted.webhookSecret),
            ),
        )
        call.audit["stream"] = stream.id
        location = f"{call.request.rel_url.raw_path}/{stream.id}"
        return reply(call.request, resource(stream), 201, {"Location": location})

    async def list_own(self, call: Call) -> web.Response:
        """`GET /streams`: the caller's own in the partition, oldest first."""
        partition = read_partition(call)
        check_kind(call)
        after, limit = read_page(call)
        streams, following = self._services.streams.list_own(
            call.principal, partition, after=after, limit=limit, points=PAGE_POINTS
        )
        found = [resource(stream) for stream in streams]
        links = page_links(call.request, following)
        return reply(call.request, {"data": found, "links": links})

    async def show(self, call: Call) -> web.Response:
        """`GET /streams/{streamId}`."""
        return reply(call.request, resource(find_stream(call, self._services)))

    async def list_points(self, call: Call) -> web.Response:
        """`GET /streams/{streamId}/entities`: its points, in the order of their ids."""
        stream = find_stream(call, self._services)
        after, limit = read_page(call)
        found = stream.feed.points.page(after=after or "", limit=limit + 1)
        page, following = found[:limit], found[limit - 1] if len(found) > limit else None
        points = [{"id": point, "type": "point"} for point in page]
        links = page_links(call.request, following)
        return reply(call.request, {"data": points, "links": links})

    async def add_points(self, call: Call) -> web.Response:
        """`PUT /streams/{streamId}/entities`: the union; what is there already stays."""
        stream = find_stream(call, self._services)
        await self._services.streams.add_points(stream, await self._read_points(call))
        return reply(call.request, resource(stream))

    async def remove_points(self, call: Call) -> web.Response:
        """`DELETE /streams/{streamId}/entities`: ids that are not there are passed over."""
        stream = find_stream(call, self._services)
        await self._services.streams.remove_points(stream, await self._read_points(call))
        return reply(call.request, resource(stream))

    @staticmethod
    async def _read_points(call: Call) -> list[str]:
        wanted = await read_model(call, PointsRequest, large=True)
        faults = check_points(wanted.pointIds)
        if faults:
            raise Invalid(faults)
        call.audit["points"] = len(wanted.pointIds)
        return wanted.pointIds

    async def delete(self, call: Call) -> web.Response:
        """`DELETE /streams/{streamId}`."""
        await self._services.streams.delete(find_stream(call, self._services))
        return web.Response(status=204)

    async def rotate(self, call: Call) -> web.Response:
        """`POST /streams/{streamId}/secret/rotate`: both secrets sign for a while."""
        stream = find_stream(call, self._services, kind_required=False)
        wanted = await read_model(call, RotateRequest)
        faults = check_secret(wanted.webhookSecret)
        if faults:
            raise Invalid(faults)
        await self._services.streams.rotate(
            stream,
            SecretValue(wanted.webhookSecret),
            overlap_ms=round(wanted.overlapSeconds * 1000),
        )
        return reply(call.request, resource(stream))


def resource(stream: Stream) -> dict[str, object]:
    """A stream as callers see it."""
    spec = stream.spec
    attributes: dict[str, object] = {
        "partitionId": spec.partition,
        "webhookUrl": spec.webhook_url,
        "pointIds": list(stream.feed.points),
        "status": spec.status.value,
        "createdAt": _second(spec.created_ms),
        "updatedAt": _second(spec.updated_ms),
    }
    if spec.status is not StreamStatus.ACTIVE:
        attributes["statusReason"] = spec.reason
    return {"id": stream.id, "type": KIND, "attributes": attributes}


def _second(wall_ms: int) -> str:
    """A time as the public examples write it, without a fraction."""
    return iso(wall_ms)[:-5] + "Z"
