"""What the receiving links of one connection share while it is flushed, or has been read.

A link that sends one message at a time would else ask the clock, encode a prefix and wait for the
commit all by itself, and there may be thousands of them.
"""

from collections.abc import Callable
from functools import partial

from hotpath.amqp.ends import Outlet, confirm_all
from hotpath.ports import Clock, LogFailure
from hotpath.service.feeds import Confirms
from hotpath.wire.message import common_prefix


class Moment:
    """The time of a flush, and the prefix that was used last.

    Attributes:
        now_ms: Wall clock.
        ticks_ms: Monotonic clock.
    """

    __slots__ = ("_clock", "_for", "_opening", "_step_ms", "now_ms", "ticks_ms")

    def __init__(self, clock: Clock, *, lock_ms: int) -> None:
        self._clock = clock
        self._step_ms = max(1, lock_ms >> 8)
        self._for = (0, 0)
        self._opening = b""
        self.refresh()

    def refresh(self) -> None:
        """It is now."""
        self.now_ms = self._clock.now_ms()
        self.ticks_ms = self._clock.ticks_ms()

    def wall_ms(self, ticks_ms: int) -> int:
        """A lock's end for people, a little early, so that many deliveries share one."""
        wall_ms = ticks_ms - self.ticks_ms + self.now_ms
        return wall_ms - wall_ms % self._step_ms

    def opening(self, enqueued_ms: int, until_ms: int) -> bytes:
        """What comes before the sequence number of a plain message under a lock until then."""
        asked = (enqueued_ms, until_ms - self.ticks_ms + self.now_ms)
        if asked != self._for:
            prefix = common_prefix(enqueued_ms, self.wall_ms(until_ms), 0)
            self._for, self._opening = asked, prefix.opening
        return self._opening


class Confirmations:
    """Receivers that wait until what they have accepted is settled durably.

    Attributes:
        waiting: Link ends, each with the number of its deliveries, that are not handed in yet.
    """

    __slots__ = ("_committer", "_mark", "waiting")

    def __init__(self, committer: Confirms, mark: Callable[[], None]) -> None:
        self._committer = committer
        self._mark = mark
        self.waiting: list[tuple[Outlet, int]] = []

    def add(self, outlet: Outlet, count: int) -> None:
        """So many deliveries of a link wait."""
        self.waiting.append((outlet, count))

    def hand_in(self) -> None:
        """Confirm what has been added when the next commit is durable."""
        if self.waiting:
            self._committer.then(partial(self._confirm, self.waiting))
            self.waiting = []

    def _confirm(self, waiting: list[tuple[Outlet, int]], failure: LogFailure | None) -> None:
        if failure is None:
            confirm_all(waiting)
            self._mark()
