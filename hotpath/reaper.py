"""The reaper: ends subscriptions that have been idle for their time.

One task sleeps until the earliest time at which a subscription can be idle for long enough. Each
subscription stands in a heap once, with a time before which it cannot have expired; activity does
not touch the heap. When that time comes, the subscription is either over, or goes back with the
time that its activity since then allows: one look per idle time, however busy it is.
"""

import asyncio
import heapq
from typing import Final

from hotpath.core.subscription import Subscription
from hotpath.model.errors import NotFound, Unavailable
from hotpath.model.names import SubscriptionId, Topic
from hotpath.ports import Clock, TimerHandle
from hotpath.service.admin import Administration
from hotpath.service.liveness import Liveness
from hotpath.telemetry import get_logger

#: How long after a failed deletion it is tried again, milliseconds.
RETRY_MS: Final = 5_000
#: Deleted subscriptions in the heap at which it is built anew, if they are over half of it.
STALE_MIN: Final = 1_024

_log = get_logger("hotpath.reaper")


class Reaper:
    """Ends idle subscriptions of one process, one after the other."""

    def __init__(self, admin: Administration, liveness: Liveness, clock: Clock) -> None:
        self._admin = admin
        self._liveness = liveness
        self._clock = clock
        # (clock ticks before which it cannot be over, tie-breaker, subscription). By its name: one
        # that is deleted must not stay in memory, with all that waits for it, until its time comes.
        self._heap: list[tuple[int, int, Topic, SubscriptionId]] = []
        self._count = 0
        self._wake = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch every subscription there is and will be."""
        if self._task is not None:
            return
        for subscription in self._admin.subscriptions():
            self._watch(subscription)
        self._admin.on_created = self.watch
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """End the task; a deletion under way is finished first."""
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def watch(self, subscription: Subscription) -> None:
        """Watch a new subscription."""
        self._watch(subscription)
        self._wake.set()

    def next_ticks_ms(self) -> int | None:
        """The clock's monotonic time of the next look, or None when there is nothing to watch."""
        return self._heap[0][0] if self._heap else None

    def _watch(self, subscription: Subscription) -> None:
        self._push(subscription, self._due_ms(subscription))
        if self._count % STALE_MIN == 0:
            self._drop_stale()

    def _due_ms(self, subscription: Subscription) -> int:
        """The earliest time, in clock ticks, at which a subscription can be over."""
        idle_ms = self._liveness.idle_since_ms(subscription)
        return self._clock.ticks_ms() + max(0, subscription.spec.ttl_ms - idle_ms)

    def _drop_stale(self) -> None:
        """Forget deleted subscriptions, so that many short-lived ones fill no memory."""
        alive = [entry for entry in self._heap if self._admin.find(*entry[2:]) is not None]
        if len(alive) * 2 < len(self._heap):
            heapq.heapify(alive)
            self._heap = alive

    async def _run(self) -> None:
        while True:
            await self._sleep()
            await self._reap_due()

    async def _sleep(self) -> None:
        """Sleep until the earliest look, or until a new subscription may come before it."""
        self._wake.clear()
        due_ms = self.next_ticks_ms()
        if due_ms is not None:
            self._timer = self._clock.call_at(due_ms, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _reap_due(self) -> None:
        """Look at every subscription whose time has come."""
        while self._heap and self._heap[0][0] <= self._clock.ticks_ms():
            subscription = self._admin.find(*heapq.heappop(self._heap)[2:])
            if subscription is None:
                continue
            try:
                ended = await self._admin.end_if_idle(subscription)
            except NotFound:
                continue
            except Unavailable as error:
                _log.warning(
                    "idle subscription not deleted, tried again later",
                    extra={"subscription": subscription.spec.id, "reason": error.detail},
                )
                self._push(subscription, self._clock.ticks_ms() + RETRY_MS)
                continue
            if not ended:
                self._push(subscription, self._due_ms(subscription))

    def _push(self, subscription: Subscription, due_ms: int) -> None:
        self._count += 1
        spec = subscription.spec
        heapq.heappush(self._heap, (due_ms, self._count, spec.topic, spec.id))
