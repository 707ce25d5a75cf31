"""What a connection has sent and its peer has not taken: how much more may follow, and when.

Deliveries stop at `output_bytes_max`. Answers to what the peer itself sends go beyond; a peer that
asks for much and reads nothing is not read any more at twice that.
"""

from collections.abc import Callable
from typing import Protocol

from hotpath import native
from hotpath.amqp import pumping
from hotpath.amqp.bounds import RETRY_MS, SHARE_BYTES, Outgoing
from hotpath.amqp.ends import IN_C, pump_all
from hotpath.amqp.moment import Moment
from hotpath.amqp.pumping import Pullable
from hotpath.ports import Clock
from hotpath.service.deliver import Count


class Sink(Protocol):
    """Where the bytes of a connection go."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        ...

    def unsent(self) -> int:
        """Bytes that are kept."""
        ...

    def pause_reading(self) -> None:
        """Call `receive` no more."""
        ...

    def resume_reading(self) -> None:
        """Call `receive` again."""
        ...

    def close(self) -> None:
        """Send what is kept, then close; `lost` follows."""
        ...

    def abort(self) -> None:
        """Close at once; `lost` follows."""
        ...


class Outflow:
    """The unsent bytes of one connection."""

    __slots__ = ("_bytes_max", "_clock", "_outgoing", "_paused", "_sink", "_unsent", "_waits")

    def __init__(self, sink: Sink, outgoing: Outgoing, clock: Clock, *, bytes_max: int) -> None:
        self._sink = sink
        self._outgoing = outgoing
        self._clock = clock
        self._bytes_max = bytes_max
        self._unsent = 0
        self._waits = False
        self._paused = False

    def count(self) -> None:
        """Look how much is unsent now."""
        unsent = self._sink.unsent()
        self._outgoing.total += unsent - self._unsent
        self._unsent = unsent

    def room(self, look_again: Callable[[], None] | None) -> int:
        """How many bytes of deliveries may follow what is unsent.

        When others leave none, `look_again` is called a little later: nobody else tells of it.
        """
        self.count()
        room = self._bytes_max - self._unsent
        if not self._outgoing.is_full:
            return room
        if look_again is not None and not self._waits:
            self._waits = True
            due_ms = self._clock.ticks_ms() + RETRY_MS
            self._clock.call_at(due_ms, lambda: self._stop_waiting(look_again))
        return min(room, SHARE_BYTES - self._unsent)

    def _stop_waiting(self, look_again: Callable[[], None]) -> None:
        self._waits = False
        look_again()

    def throttle(self) -> None:
        """Do not read from a peer that asks for much and reads nothing."""
        if not self._paused and self._unsent > 2 * self._bytes_max:
            self._paused = True
            self._sink.pause_reading()

    def writable(self) -> None:
        """The sink has room again."""
        if self._paused:
            self._paused = False
            self._sink.resume_reading()

    def leave(self) -> None:
        """The sink is gone."""
        self._outgoing.total -= self._unsent
        self._unsent = 0


class Pumps:
    """Link ends of one connection that may have something to send.

    Attributes:
        is_marked: The connection is about to be flushed.
    """

    __slots__ = ("_after_read", "_due", "is_marked")

    def __init__(self) -> None:
        self.is_marked = False
        self._due: dict[Pullable, None] = {}
        self._after_read: dict[Pullable, None] = {}

    def __bool__(self) -> bool:
        return bool(self._due)

    def want(self, end: Pullable) -> None:
        """Let an end send at the next flush."""
        self._due[end] = None

    def want_after_read(self, end: Pullable) -> None:
        """Let an end try again when the peer has sent something."""
        self._after_read[end] = None

    def after_read(self) -> None:
        """The peer has sent something."""
        if self._after_read:
            self._due.update(self._after_read)
            self._after_read = {}

    def run(self, room: int, moment: Moment, tally: dict[Count, int] | None) -> int:
        """Let all that are due send; the room that is left.

        Args:
            room: Bytes that may be sent.
            moment: It is now.
            tally: See `hotpath.service.feeds.Delivers`.
        """
        due, self._due = self._due, {}
        pump = pumping.pump_all if tally is None else pump_all
        times = (moment.now_ms, moment.ticks_ms)
        counted = {} if tally is None else tally
        return pump(due, self._due, self._after_read, room, moment, *times, counted)

    def clear(self, *, for_good: bool = False) -> None:
        """Nothing is sent any more: who waits here would be asked over and over."""
        self._due.clear()
        if for_good:
            self._after_read.clear()


if IN_C:
    native.learn({"Pumps": Pumps})
