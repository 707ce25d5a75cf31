"""Time that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

#: 2024-01-02T03:04:05.000Z
START_MS = 1_704_164_645_000

#: Turns of the loop after which whatever a timer has set off is taken to be done.
SETTLE_TURNS = 25


class _Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make sure the call never comes."""
        self.callback = None


class ManualClock:
    """A `hotpath.ports.Clock` that tests advance.

    Wall clock and monotonic clock move together; `jump_wall` moves the wall clock alone, as a
    correction of the machine's time does.
    """

    def __init__(self, *, wall_ms: int = START_MS, ticks_ms: int = 5_000_000) -> None:
        self._wall_ms = wall_ms
        self._ticks_ms = ticks_ms
        self._order = itertools.count()
        self._timers: list[tuple[int, int, _Timer]] = []

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        return self._wall_ms

    def ticks_ms(self) -> int:
        """Monotonic milliseconds."""
        return self._ticks_ms

    def call_at(self, ticks_ms: int, callback: Callable[[], None]) -> _Timer:
        """Call back when the clock is advanced to or past `ticks_ms`; now, if it is there already."""
        timer = _Timer(callback)
        if ticks_ms <= self._ticks_ms:
            asyncio.get_running_loop().call_soon(_run, timer)
        else:
            heapq.heappush(self._timers, (ticks_ms, next(self._order), timer))
        return timer

    async def advance(self, milliseconds: int) -> None:
        """Move on, running each timer at its time and letting the loop settle after it."""
        target_ms = self._ticks_ms + milliseconds
        while self._timers and self._timers[0][0] <= target_ms:
            due_ms, _, timer = heapq.heappop(self._timers)
            self._move_to(max(due_ms, self._ticks_ms))
            _run(timer)
            await settle()
        self._move_to(target_ms)
        await settle()

    def jump_wall(self, milliseconds: int) -> None:
        """Set the wall clock forward, or back."""
        self._wall_ms += milliseconds

    def pending(self) -> int:
        """Timers that are set."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def _move_to(self, ticks_ms: int) -> None:
        self._wall_ms += ticks_ms - self._ticks_ms
        self._ticks_ms = ticks_ms


async def settle(turns: int = SETTLE_TURNS) -> None:
    """Let the loop do everything that is ready."""
    for _ in range(turns):
        await asyncio.sleep(0)


def _run(timer: _Timer) -> None:
    callback, timer.callback = timer.callback, None
    if callback is not None:
        callback()
