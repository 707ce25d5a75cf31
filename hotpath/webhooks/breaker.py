"""How an endpoint fares: its status, and whether it may be asked now.

    state       asked               a success leads to   a failure leads to
    CLOSED      at full width       CLOSED               CLOSED; OPEN after `TRIP` in a row
    OPEN        nothing, until its  —                    —
                pause is over, then
    HALF_OPEN   one at a time       CLOSED               OPEN, with a longer pause

The circuit opens so that a dead endpoint costs one attempt now and then instead of one for each
event. Its pauses follow the retry schedule at its lower bound, and are no longer than `PAUSE_MAX`:
for a single event they never add to the schedule, and an endpoint that is back is found soon.

Apart from the circuit an endpoint has a *status*, which people see: `failing` after `FAILING`
failed attempts in a row until one succeeds, `disabled` when it says 410 or has been failing for
too long. An answer 429 with `Retry-After` holds all events of the stream back for that time.
"""

from enum import Enum
from typing import Final

from hotpath.model.stream import StreamStatus
from hotpath.webhooks.retry import JITTER

#: Failed attempts in a row that make an endpoint `failing`.
FAILING: Final = 3
#: Failed attempts in a row that open the circuit.
TRIP: Final = 5
#: Longest pause of an open circuit, milliseconds.
PAUSE_MAX_MS: Final = 60_000


class Circuit(Enum):
    """See the module's table."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The state of one endpoint. Times are monotonic milliseconds, but for `failing_since_ms`.

    Attributes:
        status: As people see it.
        failures: Failed attempts since the last success.
        failing_since_ms: Wall clock of the first failure since the last success, or None.
    """

    __slots__ = (
        "_disable_after_ms",
        "_held_until_ms",
        "_open_until_ms",
        "_pauses_ms",
        "_trips",
        "failing_since_ms",
        "failures",
        "status",
    )

    def __init__(
        self,
        *,
        steps_ms: tuple[int, ...],
        disable_after_ms: int,
        status: StreamStatus = StreamStatus.ACTIVE,
        since_ms: int = 0,
    ) -> None:
        """`status` and `since_ms` are those on record: a restart does not make a stream healthy."""
        self._pauses_ms = tuple(
            min(round(step * (1 - JITTER)), PAUSE_MAX_MS) for step in steps_ms
        ) or (0,)
        self._disable_after_ms = disable_after_ms
        self._trips = 0
        self._open_until_ms = 0
        self._held_until_ms = 0
        self.status = status
        self.failures = 0
        self.failing_since_ms: int | None = None
        if status is StreamStatus.FAILING:
            self.failures = FAILING
            self.failing_since_ms = since_ms

    def circuit(self, now_ms: int) -> Circuit:
        """The circuit's state."""
        if not self._trips:
            return Circuit.CLOSED
        return Circuit.OPEN if now_ms < self._open_until_ms else Circuit.HALF_OPEN

    def width(self, now_ms: int, *, full: int) -> int:
        """How many requests may be under way at once, of `full` ones at best."""
        if self.status is StreamStatus.DISABLED or now_ms < self._held_until_ms:
            return 0
        match self.circuit(now_ms):
            case Circuit.CLOSED:
                return full
            case Circuit.OPEN:
                return 0
            case Circuit.HALF_OPEN:
                return 1

    def opens_at(self, now_ms: int) -> int | None:
        """When `width` will be above 0 again; None when it is, or never will be."""
        until = max(self._held_until_ms, self._open_until_ms if self._trips else 0)
        if self.status is StreamStatus.DISABLED or until <= now_ms:
            return None
        return until

    def succeeded(self) -> bool:
        """An attempt succeeded; whether that ends a time of failing."""
        was_down = self._trips > 0 or self.status is StreamStatus.FAILING
        self.failures = self._trips = 0
        self._open_until_ms = 0
        self.failing_since_ms = None
        if self.status is StreamStatus.FAILING:
            self.status = StreamStatus.ACTIVE
        return was_down

    def failed(self, now_ms: int, *, wall_ms: int) -> None:
        """An attempt failed."""
        half_open = self.circuit(now_ms) is Circuit.HALF_OPEN
        self.failures += 1
        if self.failing_since_ms is None:
            self.failing_since_ms = wall_ms
        if self.failures >= FAILING and self.status is StreamStatus.ACTIVE:
            self.status = StreamStatus.FAILING
        if half_open or (not self._trips and self.failures >= TRIP):
            pause_ms = self._pauses_ms[min(self._trips, len(self._pauses_ms) - 1)]
            self._trips += 1
            self._open_until_ms = now_ms + pause_ms

    def hold(self, until_ms: int) -> None:
        """The endpoint asks to be left alone until then."""
        self._held_until_ms = max(self._held_until_ms, until_ms)

    def gone(self) -> None:
        """The endpoint wants no more."""
        self.status = StreamStatus.DISABLED

    def overdue(self, wall_ms: int) -> bool:
        """Whether it has been failing for so long that it is disabled; then it is."""
        since = self.failing_since_ms
        if self.status is not StreamStatus.FAILING or since is None:
            return False
        if wall_ms - since < self._disable_after_ms:
            return False
        self.status = StreamStatus.DISABLED
        return True

    def enable(self) -> None:
        """Somebody says that it is to be tried again."""
        self.status = StreamStatus.ACTIVE
        self.failures = self._trips = 0
        self._held_until_ms = self._open_until_ms = 0
        self.failing_since_ms = None
