"""When was a subscription last active? Service time, and what of it is durable.

*Service time* is milliseconds during which the service was up; it stands still while the service
is down, so downtime is never idle time, and no jump of the wall clock shows in it. Every
`BEAT_MS` the log notes how far it has come. A subscription's activity is made durable when the
durable mark is `MARK_MS` old; after a restart the mark counts as `MARK_MS` younger than it is.
So a kill never shortens an idle time, and lengthens it by at most MARK_MS + BEAT_MS < 60 s.
"""

from collections.abc import Callable
from typing import Final

from hotpath.core.subscription import Subscription
from hotpath.ports import Clock

MARK_MS: Final = 25_000
BEAT_MS: Final = 20_000
#: How far wall clock and service time may drift apart before times are told by the new distance.
#: Both are whole milliseconds that begin at different moments, so the distance as it is just now
#: swings by one; what has not changed is told the same each time, and on every node.
_ADRIFT_MS: Final = 100


class Liveness:
    """Activity of subscriptions: a matching message, or a client that is attached."""

    def __init__(self, clock: Clock, *, base_ms: int | None) -> None:
        self._clock = clock
        self._base_ms = base_ms or 0
        self._offset_ms = self._base_ms - clock.ticks_ms()
        self._wall_offset_ms = clock.now_ms() - self._base_ms
        self.on_mark: Callable[[Subscription], None] = lambda _: None

    def service_ms(self) -> int:
        """Service time now."""
        return self._clock.ticks_ms() + self._offset_ms

    def begin(self, subscription: Subscription) -> None:
        """A new subscription is active at its creation."""
        subscription.active_ms = subscription.persisted_active_ms = self.service_ms()

    def resume(self, subscription: Subscription, durable_ms: int) -> None:
        """Take over a durable mark after a restart."""
        subscription.active_ms = min(self.service_ms(), durable_ms + MARK_MS)
        subscription.persisted_active_ms = durable_ms

    def resume_active(self, subscription: Subscription) -> None:
        """After a restart: the subscription turns out to have been active until the stop."""
        subscription.active_ms = max(subscription.active_ms, self._base_ms)

    def active_ms(self, now_ms: int) -> int:
        """Service time of a moment, given in the clock's monotonic milliseconds."""
        return now_ms + self._offset_ms

    def matched(self, subscription: Subscription, *, now_ms: int) -> None:
        """A message matched; `now_ms` in the clock's monotonic milliseconds."""
        self.touch(subscription, now_ms=now_ms)

    def touch(self, subscription: Subscription, *, now_ms: int) -> None:
        """The subscription is active now."""
        active_ms = now_ms + self._offset_ms
        subscription.active_ms = active_ms
        if active_ms - subscription.persisted_active_ms >= MARK_MS:
            subscription.persisted_active_ms = active_ms
            self.on_mark(subscription)

    def attached(self, subscription: Subscription) -> None:
        """A client is attached: active now, and durably so at every heartbeat.

        The mark must never be older than MARK_MS, or a kill would shorten an idle time; it is
        renewed when it would be at the next heartbeat.
        """
        self.touch(subscription, now_ms=self._clock.ticks_ms())
        if subscription.active_ms - subscription.persisted_active_ms >= MARK_MS - BEAT_MS:
            subscription.persisted_active_ms = subscription.active_ms
            self.on_mark(subscription)

    def last_active_ms(self, subscription: Subscription) -> int:
        """Service time of the last activity; an attached client is activity up to now."""
        if subscription.receivers:
            self.touch(subscription, now_ms=self._clock.ticks_ms())
        return subscription.active_ms

    def idle_since_ms(self, subscription: Subscription) -> int:
        """Milliseconds since the last activity."""
        return self.service_ms() - self.last_active_ms(subscription)

    def wall_ms(self, service_ms: int) -> int:
        """A service time of this run as wall-clock milliseconds, for people."""
        offset_ms = self._clock.now_ms() - self.service_ms()
        if abs(offset_ms - self._wall_offset_ms) > _ADRIFT_MS:
            self._wall_offset_ms = offset_ms
        return service_ms + self._wall_offset_ms
