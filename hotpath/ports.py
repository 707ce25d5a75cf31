"""What hotpath needs from outside: a message log, a record store and a clock.

Each port has a conformance suite in `tests/contract/` that every adapter passes. A port assumes
neither one process nor a local disk: sequence numbers are given by the log at the commit, and all
waiting is a future.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.model.subscription import Progress, ProgressDelta


class LogFailure(Exception):
    """A commit or read failed; nothing of it counts as done. `full`: for want of space."""

    def __init__(self, detail: str, *, full: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.full = full


@dataclass(slots=True)
class Scheduled:
    """A message that enters its topic's log at `due_ms`; `number` names it until then."""

    topic: TopicKey
    number: int
    due_ms: int
    payload: bytes


@dataclass(slots=True)
class Commit:
    """Work that becomes durable together or not at all.

    A log on several machines cannot promise the second: of a commit that fails it may leave copies,
    appends or progress, and all of it may be handed in again.
    """

    now_ms: int
    """Enqueued time of the appended messages; never before that of an earlier commit."""
    appends: list[tuple[TopicKey, Sequence[bytes]]] = field(default_factory=list)
    once: dict[int, str] = field(default_factory=dict)
    """Names of appends, by their places: what has entered the topic under a name enters no more.

    For a log that may have made an append of a commit that failed, or of somebody else's; one whose
    commits take effect as a whole has no use for it."""
    progress: list[tuple[SubscriptionId, ProgressDelta]] = field(default_factory=list)
    snapshots: list[tuple[SubscriptionId, Progress]] = field(default_factory=list)
    """Full progress, replacing all that was there for the subscription."""
    dead: list[tuple[SubscriptionId, DeadLetter]] = field(default_factory=list)
    dead_updates: list[tuple[SubscriptionId, int, int]] = field(default_factory=list)
    """Dead letters (by subscription and sequence number) with a new delivery count."""
    dead_removals: list[tuple[SubscriptionId, int]] = field(default_factory=list)
    scheduled: list[Scheduled] = field(default_factory=list)
    scheduled_removals: list[tuple[TopicKey, int]] = field(default_factory=list)
    forgotten: list[SubscriptionId] = field(default_factory=list)
    """Subscriptions whose progress and dead letters go away."""
    alive_ms: int | None = None
    """Heartbeat: the service was up at this time."""

    def __bool__(self) -> bool:
        return bool(
            self.appends
            or self.progress
            or self.snapshots
            or self.dead
            or self.dead_updates
            or self.dead_removals
            or self.scheduled
            or self.scheduled_removals
            or self.forgotten
            or self.alive_ms is not None
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sequence numbers a topic's log holds: `first_seq` up to, not including, `next_seq`."""

    first_seq: int
    next_seq: int


@dataclass(slots=True)
class Recovered:
    """What a log knows at its opening, besides the messages."""

    progress: dict[SubscriptionId, Progress] = field(default_factory=dict)
    scheduled: list[Scheduled] = field(default_factory=list)
    dead: dict[SubscriptionId, dict[int, int]] = field(default_factory=dict)
    """Delivery counts of all dead letters, by sequence number."""
    dead_sizes: dict[SubscriptionId, dict[int, int]] = field(default_factory=dict)
    """Payload bytes of all dead letters, by sequence number."""
    alive_ms: int | None = None
    """Last heartbeat before this opening."""
    damage: list[str] = field(default_factory=list)
    """What could not be read, in words; it is left out, never served."""


class MessageLog(Protocol):
    """Durable, ordered logs by topic, and the progress of their subscriptions.

    Sequence numbers are 1 or above, strictly increase within a topic and are never reused, not
    even after retention has dropped all but the newest or a commit has failed. Within a batch they
    follow each other; between two batches there may be numbers that no message ever gets.
    """

    async def open(self) -> Recovered:
        """Make ready for use. Raises LogFailure when the storage cannot be used."""
        ...

    def commit(self, work: Commit) -> Awaitable[list[Batch]]:
        """Make `work` durable; the result holds one batch an append, in their order.

        Commits take effect in the order of their calls. An append that is too large for one batch
        may get several. Raises LogFailure; then nothing of `work` has taken effect, but for what
        `Commit` says of several machines.
        """
        ...

    async def read(self, topic: TopicKey, from_seq: int, *, bytes_max: int) -> list[Batch]:
        """Batches in order from the one that holds `from_seq`, or the first after it.

        At least one batch if there is any, and no more once `bytes_max` payload bytes are
        reached. A batch whose checksum fails is left out and reported in the service's log.
        Raises LogFailure.
        """
        ...

    async def bounds(self, topic: TopicKey) -> Bounds:
        """What the topic holds. An unknown topic is an empty one: Bounds(1, 1)."""
        ...

    async def seek(self, topic: TopicKey, enqueued_ms: int) -> int:
        """The first sequence number enqueued at or after a time, or the next to be given."""
        ...

    async def trim(self, *, before_ms: int, bytes_max: int | None) -> dict[TopicKey, Bounds]:
        """Drop whole segments that are older or over the size; the topics that changed.

        `bytes_max` bounds all topics together, oldest segments go first. The newest segment of
        a topic is kept.
        """
        ...

    async def dead_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int
    ) -> list[DeadLetter]:
        """Dead letters of a subscription in sequence order, from `from_seq` on."""
        ...

    async def close(self) -> None:
        """Finish what was handed in and release everything; later calls raise LogFailure."""
        ...


class RecordStore(Protocol):
    """Definitions that outlive the process: subscriptions, publishers, keys, streams.

    A record is a flat mapping of column names to str, int, float, None or bytes under a key.
    """

    async def load(self, kind: str, *, prefix: str = "") -> list[dict[str, object]]:
        """All records of a kind whose keys begin with `prefix`, in the order of their creation."""
        ...

    async def put(self, kind: str, key: str, record: dict[str, object]) -> None:
        """Create or replace a record. Raises LogFailure; durable when it returns."""
        ...

    async def put_many(self, kind: str, records: Sequence[tuple[str, dict[str, object]]]) -> None:
        """Create or replace records, each by itself; all are durable when it returns.

        Raises LogFailure; then any of them may be as before or as wanted.
        """
        ...

    async def delete(self, kind: str, keys: Iterable[str]) -> None:
        """Remove records; keys that are not there are passed over. Raises LogFailure."""
        ...


class TimerHandle(Protocol):
    """Something that will be called, until it is cancelled."""

    def cancel(self) -> None:
        """Make sure the call never comes."""
        ...


class Clock(Protocol):
    """Time, as everything but the operating system's own time-outs sees it."""

    def now_ms(self) -> int:
        """Wall-clock milliseconds since the epoch: for what people and tokens see."""
        ...

    def ticks_ms(self) -> int:
        """Monotonic milliseconds from an arbitrary start: for durations, locks and idle time."""
        ...

    def call_at(self, ticks_ms: int, callback: Callable[[], None]) -> TimerHandle:
        """Call back once `ticks_ms()` has reached a value, in the event loop."""
        ...
