"""One timer for many deadlines."""

from collections.abc import Callable

from hotpath.ports import Clock, TimerHandle


class Alarm:
    """Rings once, at the earliest deadline that it was set to since it last rang.

    Deadlines that move on need not be told: whoever hears it looks what is due, and sets it anew.
    """

    __slots__ = ("_clock", "_deadline_ms", "_ring", "_timer")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: TimerHandle | None = None
        self._deadline_ms = 0

    def set_by(self, ticks_ms: int) -> None:
        """Ring no later than `ticks_ms`, monotonic."""
        if self._timer is not None:
            if self._deadline_ms <= ticks_ms:
                return
            self._timer.cancel()
        self._deadline_ms = ticks_ms
        self._timer = self._clock.call_at(ticks_ms, self._on_timer)

    def set_by_wall(self, wall_ms: int) -> None:
        """Ring no later than a wall-clock time, as the clocks stand now."""
        self.set_by(self._clock.ticks_ms() + max(0, wall_ms - self._clock.now_ms()))

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def silence(self) -> None:
        """Never ring again, and let go of who would have heard it."""
        self.cancel()
        self._ring = _nobody

    def _on_timer(self) -> None:
        self._timer = None
        self._ring()


def _nobody() -> None:
    """Who hears an alarm that is silenced."""
