"""What nodes agree through, in this process, with everything that can go wrong in a test's hands."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hotpath.clusterports import Entry, Stop
from hotpath.ports import Clock, LogFailure
from hotpath.service.clock import sleep_until

#: How long a call waits for an answer that does not come, milliseconds.
TIMEOUT_MS = 1_000

Changed = Callable[[str, Entry | None], None]


@dataclass(slots=True)
class Bucket:
    """What the majority has; one for all nodes."""

    entries: dict[str, Entry] = field(default_factory=dict)
    revision: int = 0
    seats: list["MemoryCoordination"] = field(default_factory=list)
    #: Nobody can write, as while a majority is missing.
    stalled: bool = False

    def write(self, key: str, value: bytes | None) -> int:
        """Change a key, and tell everybody."""
        self.revision += 1
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = Entry(key, value, self.revision)
        for seat in self.seats:
            seat.note(key)
        return self.revision


@dataclass(slots=True, eq=False)
class _Watching:
    prefix: str
    changed: Changed
    seen: dict[str, int] = field(default_factory=dict)


class MemoryCoordination:
    """One node's access to a `Bucket`: a `hotpath.clusterports.Coordination`.

    Attributes:
        cut: Nothing gets through; calls fail when their time is over.
        frozen: The node stands still: no call is answered and no change is told until it goes on.
        delay_ms: How long a call takes each way, and a change to be told.
        unanswered: So many of the next swaps take effect, and their answers are lost.
        repeats: Every change is told twice.
    """

    def __init__(self, bucket: Bucket, clock: Clock | None = None) -> None:
        self._bucket = bucket
        self._clock = clock
        self._watching: list[_Watching] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self.cut = False
        self.frozen = False
        self.delay_ms = 0
        self.unanswered = 0
        self.repeats = False
        bucket.seats.append(self)

    # The port

    async def read(self, key: str) -> Entry | None:
        """What is there now."""
        await self._travel()
        found = self._bucket.entries.get(key)
        await self._travel()
        return found

    async def swap(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Write if nobody else has."""
        await self._travel()
        held = self._bucket.entries.get(key)
        written = None
        if (held.revision if held else 0) == revision:
            written = self._bucket.write(key, value)
        if self.unanswered > 0:
            self.unanswered -= 1
            await self._time_out()
        await self._travel()
        return written

    async def drop(self, key: str) -> None:
        """Remove a key."""
        await self._travel()
        if key in self._bucket.entries:
            self._bucket.write(key, None)
        await self._travel()

    async def watch(self, prefix: str, changed: Changed) -> Stop:
        """Tell of a prefix."""
        await self._travel()
        watching = _Watching(prefix, changed)
        self._watching.append(watching)
        self._catch_up(watching)

        async def stop() -> None:
            if watching in self._watching:
                self._watching.remove(watching)

        return stop

    # What goes wrong

    def heal(self) -> None:
        """Everything gets through again, and what changed meanwhile is told."""
        self.cut = False
        for watching in tuple(self._watching):
            self._catch_up(watching)

    def thaw(self) -> None:
        """The node goes on, with all that has gathered for it."""
        self.frozen = False
        while self._waiting:
            self._waiting.popleft()()
        self.heal() if not self.cut else None

    def gone(self) -> None:
        """The node is dead: it hears nothing any more."""
        self.cut = True
        self._watching.clear()

    def note(self, key: str) -> None:
        """A key has changed."""
        if self.cut or self.frozen:
            return
        if self.delay_ms and self._clock is not None:
            at_ms = self._clock.ticks_ms() + self.delay_ms
            self._clock.call_at(at_ms, lambda: self._tell_all(key))
        else:
            self._tell_all(key)

    def _tell_all(self, key: str) -> None:
        if self.cut or self.frozen:
            return
        for watching in tuple(self._watching):
            if key.startswith(watching.prefix):
                self._tell(watching, key)

    def _tell(self, watching: _Watching, key: str) -> None:
        entry = self._bucket.entries.get(key)
        if entry is None:
            watching.seen.pop(key, None)
        else:
            watching.seen[key] = entry.revision
        for _ in range(2 if self.repeats else 1):
            watching.changed(key, entry)

    def _catch_up(self, watching: _Watching) -> None:
        there = {key for key in self._bucket.entries if key.startswith(watching.prefix)}
        for key in sorted(there | set(watching.seen)):
            entry = self._bucket.entries.get(key)
            if entry is None or watching.seen.get(key) != entry.revision:
                self._tell(watching, key)

    async def _travel(self) -> None:
        if self.delay_ms and self._clock is not None:
            await sleep_until(self._clock, self._clock.ticks_ms() + self.delay_ms)
        if self.cut or self._bucket.stalled:
            await self._time_out()

    async def _time_out(self) -> None:
        if self._clock is not None:
            await sleep_until(self._clock, self._clock.ticks_ms() + TIMEOUT_MS)
        raise LogFailure("no answer")
