"""Publishing links to `points`: each message is a value of a point, or an array of them.

A value is checked by itself; one that is none is rejected and the others of the same read go on.
They belong to the partition that has the tenant's own name.
"""

from typing_extensions import override

from hotpath.amqp import capi
from hotpath.amqp.conditions import condition_of
from hotpath.amqp.ends import Handles, delivery_of
from hotpath.amqp.ingress import VIA, Ingress
from hotpath.model.errors import HotpathError, Unsupported
from hotpath.service.points_read import PointValue, point_of_message
from hotpath.wire.message import due_ms
from hotpath.wire.types import WireError


class PointIngress(Ingress):
    """Our end of one link that publishes values."""

    __slots__ = ()

    @override
    def submit(self) -> None:
        """Hand every value that has been read to the log."""
        taken = self.twin.take()
        if taken is None:
            return
        raws, deliveries, odd = taken
        if self.right.ended(self._host.context.clock.now_ms()):
            self._host.end_right(self.right)
            return
        unusual = frozenset(odd)
        values: list[PointValue] = []
        kept: list[object] = []
        for index, raw in enumerate(raws):
            delivery = delivery_of(deliveries[index])
            try:
                values += self._values_of(raw, delivery, is_unusual=index in unusual)
            except WireError as error:
                self._reject_malformed(delivery, error)
            except HotpathError as error:
                self._reject(delivery, condition_of(error))
                self._host.context.metrics.messages_refused.labels(VIA, "invalid").inc()
            else:
                kept.append(deliveries[index])
        self._publish(values, Handles(kept))
        self.top_up()

    def _values_of(
        self, raw: bytes, delivery: capi.DeliveryPtr, *, is_unusual: bool
    ) -> list[PointValue]:
        """The values that a delivery stands for. Raises WireError, Invalid or Unsupported."""
        stored = self._messages_of(raw, delivery) if is_unusual else [raw]
        return [self._value_of(each) for each in stored]

    def _value_of(self, stored: bytes) -> PointValue:
        if due_ms(stored) is not None:
            raise Unsupported("a value of a point cannot be scheduled")
        context = self._host.context
        return point_of_message(
            stored,
            now_ms=context.clock.now_ms(),
            chars_max=context.settings.point_value_chars_max,
        )

    def _publish(self, values: list[PointValue], taken: Handles) -> None:
        """Append what there is; `taken` get their outcome when it is durable."""
        if not values:
            taken.settle(capi.ACCEPTED)
            return
        tenant = self.topic.tenant
        self._host.earned += len(values)
        published = self._when_published(taken)
        self._host.context.points.submit(tenant, str(tenant), values, published, via=VIA)
