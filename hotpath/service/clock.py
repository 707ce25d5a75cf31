"""The clock of a running service."""

import asyncio
import time
from collections.abc import Callable

from hotpath.core.keeping import KEEPING
from hotpath.ports import Clock, TimerHandle


class SystemClock:
    """Wall clock and monotonic clock of the machine, timers of the running event loop."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def ticks_ms(self) -> int:
        """Milliseconds of the event loop's monotonic clock."""
        return time.monotonic_ns() // 1_000_000

    def call_at(self, ticks_ms: int, callback: Callable[[], None]) -> TimerHandle:
        """Call back at or after `ticks_ms`."""
        delay_s = max(0, ticks_ms - self.ticks_ms()) / 1000
        return asyncio.get_running_loop().call_later(delay_s, callback)


async def sleep_until(clock: Clock, ticks_ms: int) -> None:
    """Wait on `clock`; cancelling the wait cancels its timer."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_at(ticks_ms, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        timer.cancel()


def stopwatch(clock: Clock) -> Callable[[], float]:
    """Seconds that the thread has worked; of a clock that is not the machine's own, its time.

    So that a machine which is busy with something else does not make work look dear; nor does a
    pass of the cycle collector, which falls on whoever comes when it is due.
    """
    if isinstance(clock, SystemClock):
        return lambda: time.thread_time() - KEEPING.spent_s
    return lambda: clock.ticks_ms() / 1000
