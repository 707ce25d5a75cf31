"""How many dead letters there may be: by subscription in number, by tenant in bytes.

Dead letters outlive the log's retention, so somebody has to read them. Until then nothing is lost:
what cannot be set aside stays in its subscription.
"""

from typing import Final

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.subscription import Subscription
from hotpath.model.names import TenantId
from hotpath.ports import Clock
from hotpath.telemetry import Metrics, Seldom, get_logger

#: A bound that stays reached is reported so often, milliseconds.
REPORT_MS: Final = 10_000
REFUSAL: Final = "there are as many dead letters as are allowed; read some, then try again"

_log = get_logger("hotpath.deadroom")


class DeadRoom:
    """Counts what the dead letters of each tenant take."""

    def __init__(self, *, letters_max: int, bytes_max: int, clock: Clock, metrics: Metrics) -> None:
        """Args.

        letters_max: Dead letters of one subscription.
        bytes_max: Payload bytes of all dead letters of one tenant.
        clock: For reports.
        metrics: For what is refused.
        """
        self._letters_max = letters_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._metrics = metrics
        self._bytes: dict[TenantId, int] = {}
        self._reports = Seldom(REPORT_MS)

    def add(self, tenant: TenantId, change: int) -> None:
        """Dead letters have come or gone, so many bytes."""
        left = self._bytes.get(tenant, 0) + change
        if left:
            self._bytes[tenant] = left
        else:
            self._bytes.pop(tenant, None)

    def bytes_of(self, tenant: TenantId) -> int:
        """What the dead letters of a tenant take."""
        return self._bytes.get(tenant, 0)

    def is_there(self, subscription: Subscription, queue: DeadLetterQueue) -> bool:
        """Whether a subscription may have one more; a refusal is counted and reported."""
        tenant = subscription.spec.key.tenant
        if len(queue.sizes) < self._letters_max and self.bytes_of(tenant) < self._bytes_max:
            return True
        self._metrics.dead_letters_refused.inc()
        others = self._reports.take(self._clock.ticks_ms())
        if others is not None:
            where = {"subscription": subscription.spec.id, "tenant": tenant, "others": others}
            _log.warning("no room for dead letters", extra=where)
        return False
