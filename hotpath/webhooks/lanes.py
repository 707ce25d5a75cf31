"""The events of one stream that are on their way, and which of them may be sent now.

Each point has a lane: its values in the order of the log. Only the first of a lane, its *head*, is
ever sent; it stays the head until it is delivered or given up, so a later value of a point never
overtakes an earlier one, and no point waits for another. A head is in one of three places:

    ready     may be sent now, in the order of becoming so
    waiting   may be sent at a time, `due_ms`
    out       handed to the sender by `take`, which gives it back by `again` or `finish`
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from hotpath.model.message import Batch


class Event:
    """One value on its way to one endpoint; while it waits it holds no payload of its own.

    Attributes:
        seq: Its sequence number in the points log.
        serial: Its lock; 0 for a dead letter that is sent once more.
        point: Whose value.
        batch: Where it was read from; its payloads may be gone.
        enqueued_ms: When the service accepted it, wall clock.
        attempts: Failed ones so far.
        first_ms: Wall clock of the first attempt, None before it.
        last_ms: Wall clock of the last attempt.
        due_ms: Not to be sent before, monotonic.
        asked: `due_ms` is what the endpoint asked for.
        out: Handed out by `take`.
        parked: There was no room for it among the dead letters; tried again when it is due.
    """

    __slots__ = (
        "asked",
        "attempts",
        "batch",
        "due_ms",
        "enqueued_ms",
        "first_ms",
        "last_ms",
        "out",
        "parked",
        "point",
        "seq",
        "serial",
    )

    def __init__(
        self, seq: int, serial: int, *, point: str, batch: Batch | None, enqueued_ms: int
    ) -> None:
        self.seq = seq
        self.serial = serial
        self.point = point
        self.batch = batch
        self.enqueued_ms = enqueued_ms
        self.attempts = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.due_ms = 0
        self.asked = False
        self.out = False
        self.parked = False

    @property
    def redriven(self) -> bool:
        """Whether it comes from the dead letters."""
        return self.serial == 0


class Lanes:
    """See the module."""

    __slots__ = ("_count", "_lanes", "_ready", "_waiting")

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Event]] = {}
        self._ready: deque[Event] = deque()
        self._waiting: list[tuple[int, int, bool, Event]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Event]:
        """All events, those of one point in order."""
        for lane in self._lanes.values():
            yield from lane

    @property
    def ready(self) -> int:
        """How many may be sent now, as of the last `take` or `next_due`."""
        return len(self._ready)

    def add(self, event: Event) -> None:
        """Put an event behind those of its point."""
        self._count += 1
        lane = self._lanes.get(event.point)
        if lane is not None:
            lane.append(event)
            return
        self._lanes[event.point] = deque((event,))
        self._place(event)

    def insert(self, event: Event) -> None:
        """Put an event among those of its point by its number, but behind one that is out."""
        lane = self._lanes.get(event.point)
        if lane is None:
            self.add(event)
            return
        self._count += 1
        at = int(lane[0].out)
        while at < len(lane) and lane[at].seq < event.seq:
            at += 1
        if at == 0:
            self._withdraw(lane[0])
            self._place(event)
        lane.insert(at, event)

    def take(self, now_ms: int) -> Event | None:
        """Hand out the next event that may be sent, or None."""
        self._wake(now_ms)
        if not self._ready:
            return None
        event = self._ready.popleft()
        event.out = True
        return event

    def again(self, event: Event, *, due_ms: int) -> None:
        """An event that was out is to be sent again at a time."""
        event.out = False
        event.due_ms = due_ms
        self._place(event)

    def finish(self, event: Event) -> None:
        """An event that was out is done with; the next of its point takes its place."""
        lane = self._lanes[event.point]
        lane.popleft()
        self._count -= 1
        if lane:
            self._place(lane[0])
        else:
            del self._lanes[event.point]

    def remove(self, chosen: Callable[[Event], bool]) -> list[Event]:
        """Take out all events that are chosen and not out; which they were."""
        gone = {event for event in self if not event.out and chosen(event)}
        if not gone:
            return []
        for point in {event.point for event in gone}:
            lane = self._lanes[point]
            kept = deque(event for event in lane if event not in gone)
            if not kept:
                del self._lanes[point]
                continue
            self._lanes[point] = kept
            if lane[0] in gone:
                self._place(kept[0])
        self._ready = deque(event for event in self._ready if event not in gone)
        self._waiting = sorted(entry for entry in self._waiting if entry[3] not in gone)
        self._count -= len(gone)
        return sorted(gone, key=lambda event: event.seq)

    def hasten(self, now_ms: int) -> None:
        """What waits may be sent now, but for what the endpoint asked to have later."""
        for event in self:
            if not event.asked and event.due_ms > now_ms:
                event.due_ms = now_ms
        waiting, self._waiting = self._waiting, []
        for _, _, _, event in sorted(waiting):
            self._place(event)

    def next_due(self, now_ms: int) -> int | None:
        """When the next waiting event may be sent; None when none waits."""
        self._wake(now_ms)
        return self._waiting[0][0] if self._waiting else None

    def _place(self, event: Event) -> None:
        if event.due_ms:
            heappush(self._waiting, (event.due_ms, event.seq, event.redriven, event))
        else:
            self._ready.append(event)

    def _wake(self, now_ms: int) -> None:
        while self._waiting and self._waiting[0][0] <= now_ms:
            event = heappop(self._waiting)[3]
            event.due_ms = 0
            self._ready.append(event)

    def _withdraw(self, event: Event) -> None:
        """Take a head out of where it waits."""
        try:
            self._ready.remove(event)
        except ValueError:
            self._waiting = sorted(entry for entry in self._waiting if entry[3] is not event)
