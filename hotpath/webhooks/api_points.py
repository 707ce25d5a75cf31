"""Values of points over HTTP: one object, an array (all or nothing), or NDJSON as a stream."""

from dataclasses import dataclass
from typing import cast

from aiohttp import web

from hotpath.model.names import TenantId
from hotpath.rest.bodies import refuse
from hotpath.rest.calls import Call
from hotpath.rest.messages import VIA, take_body
from hotpath.service.points import PointPublishing
from hotpath.service.points_read import PointValue, read_point
from hotpath.webhooks.api_reading import StreamServices, read_partition


@dataclass(frozen=True, slots=True)
class _ValueTaker:
    """Makes values of points of parsed JSON."""

    points: PointPublishing
    tenant: TenantId
    partition: str
    now_ms: int
    bytes_max: int
    chars_max: int

    def take(self, value: object, text: str) -> PointValue:
        """One value. Raises Invalid."""
        del text
        if not isinstance(value, dict):
            raise refuse("a value must be a JSON object with id and value", "")
        found = cast("dict[str, object]", value)
        return read_point(found, now_ms=self.now_ms, chars_max=self.chars_max)

    async def publish(self, taken: list[PointValue]) -> None:
        """Make values durable, all or none. Raises LimitReached or Unavailable."""
        await self.points.publish(self.tenant, self.partition, taken, via=VIA)


class ValueCalls:
    """The call on values."""

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    async def publish(self, call: Call) -> web.Response:
        """`POST /points/values`."""
        partition = read_partition(call)
        settings, clock = call.services.settings, call.services.clock

        def make() -> _ValueTaker:
            return _ValueTaker(
                points=self._services.points,
                tenant=call.principal.tenant,
                partition=partition,
                now_ms=clock.now_ms(),
                bytes_max=settings.max_message_bytes,
                chars_max=settings.point_value_chars_max,
            )

        return await take_body(call, make)
