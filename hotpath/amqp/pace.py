"""How fast connections are accepted: a bound on what a flood of them costs."""

from hotpath.ports import Clock


class Pace:
    """So many a second, and as many at once after a rest."""

    def __init__(self, per_second: int, clock: Clock) -> None:
        self._clock = clock
        self._per_second = per_second
        self._left = float(per_second)
        self._at_ms = clock.ticks_ms()

    def take(self) -> int:
        """One more; how many milliseconds to wait before the next."""
        now_ms = self._clock.ticks_ms()
        gained = (now_ms - self._at_ms) * self._per_second / 1000
        self._left = min(self._left + gained, float(self._per_second)) - 1
        self._at_ms = now_ms
        if self._left >= 1:
            return 0
        # A few at a time: waiting for each would take longer than the timer is exact.
        return max(round(1000 * (1 - self._left) / self._per_second), 10)
