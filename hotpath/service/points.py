"""Values of points on their way in: one tenant's are applied and logged in one order.

A value becomes an event only when its commit begins (`Committer.append_late`): what was committed
before it is known then, so `changed` is right whoever else publishes, and what is stored is what is
sent. State is durable without a write of its own: every few seconds the states that have changed
go to the store, and after a restart the log is replayed from where the store stands. A tenant's
points are read back at their first use.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import quote

from hotpath.model.errors import HotpathError, LimitReached, Unavailable
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Clock, LogFailure, MessageLog, RecordStore, TimerHandle
from hotpath.service.commit import Committer
from hotpath.service.points_read import PointValue
from hotpath.service.points_state import PointState, PointTable, Tentative, read_event
from hotpath.service.publish import Published, Publishing, Together, refusal
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics, get_logger
from hotpath.wire.body import body_bytes
from hotpath.wire.properties import Puller

STATES: Final = "points"
MARKS: Final = "point_marks"
#: How long a changed state may be ahead of the store, milliseconds.
FLUSH_MS: Final = 2_000
#: States written at once.
SLICE: Final = 500
#: Payload bytes of the log read at once when it is replayed.
READ_BYTES: Final = 1_048_576
#: What a value takes in memory until it is a message, beside its text, roughly.
VALUE_OVERHEAD: Final = 300

Values = Sequence[PointValue]

_log = get_logger("hotpath.points")


class _Tenant:
    """The points of one tenant, what is on its way, and who waits for them to be read back."""

    __slots__ = ("claimed", "key", "opening", "table", "tentative", "waiting")

    def __init__(self, tenant: TenantId) -> None:
        self.key = TopicKey(tenant, Topic.POINTS)
        self.table = PointTable(tenant)
        self.tentative = Tentative(self.table)
        # New points that some commit on its way would make.
        self.claimed: Counter[str] = Counter()
        self.opening: asyncio.Future[None] | None = None
        self.waiting: list[_Submission] = []


class _Submission:
    """Some values that are published together, and what has become of them."""

    __slots__ = ("after", "done", "fresh", "partition", "values", "via")

    def __init__(self, partition: str, values: Values, done: Published, *, via: str) -> None:
        self.partition = partition
        self.values = values
        self.done = done
        self.via = via
        self.after: dict[str, PointState] = {}
        self.fresh: list[str] = []

    @property
    def byte_size(self) -> int:
        """What it takes in memory, roughly."""
        return sum(len(value.id) + len(value.value) + VALUE_OVERHEAD for value in self.values)


class PointPublishing:
    """Takes values of points from the edges."""

    def __init__(
        self,
        *,
        log: MessageLog,
        store: RecordStore,
        topics: Topics,
        committer: Committer,
        publishing: Publishing,
        clock: Clock,
        metrics: Metrics,
        points_max: int,
    ) -> None:
        self._log = log
        self._store = store
        self._topics = topics
        self._committer = committer
        self._publishing = publishing
        self._clock = clock
        self._metrics = metrics
        self._points_max = points_max
        self._tenants: dict[TenantId, _Tenant] = {}
        self._timer: TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # In

    def submit(
        self, tenant: TenantId, partition: str, values: Values, done: Published, *, via: str
    ) -> None:
        """Log values of a partition's points; `done` hears when they are durable, or why not.

        All or none of them are taken. Called only while not `Publishing.congested`, but for what
        a granted credit still lets in.
        """
        submission = _Submission(partition, values, done, via=via)
        owner = self._tenants.get(tenant)
        if owner is None:
            owner = self._tenants[tenant] = _Tenant(tenant)
            self._open(owner)
        if owner.opening is not None:
            owner.waiting.append(submission)
        else:
            self._append(owner, submission)

    async def publish(self, tenant: TenantId, partition: str, values: Values, *, via: str) -> None:
        """As `submit`, waiting first for the log to have room.

        Raises LimitReached or Unavailable; then none of the values is stored.
        """
        await self._publishing.wait_for_room()
        waiting = Together(1)
        self.submit(tenant, partition, values, waiting.one_done, via=via)
        await waiting.all_done()

    def _append(self, owner: _Tenant, submission: _Submission) -> None:
        """Hand values to the next commit, if there is room for their points."""
        if not self._claim(owner, submission):
            text = f"a tenant has {self._points_max} points at most, and these would be more"
            self._refuse(submission, LimitReached(text), "limit")
            return

        def compose() -> list[bytes]:
            messages, submission.after = owner.tentative.compose(
                submission.partition, submission.values
            )
            return messages

        def appended(failure: LogFailure | None) -> None:
            self._settle(owner, submission, failure)

        self._committer.append_late(owner.key, compose, appended, byte_size=submission.byte_size)

    def _claim(self, owner: _Tenant, submission: _Submission) -> bool:
        """Make room for points that are new; False when there is not enough."""
        table, claimed = owner.table, owner.claimed
        keys = {table.key_of(submission.partition, value.id) for value in submission.values}
        fresh = [key for key in keys if key not in table.states]
        added = sum(key not in claimed for key in fresh)
        if added and len(table.states) + len(claimed) + added > self._points_max:
            return False
        submission.fresh = fresh
        claimed.update(fresh)
        return True

    def _settle(self, owner: _Tenant, submission: _Submission, failure: LogFailure | None) -> None:
        """The commit of some values has ended."""
        known = len(owner.table.states)
        through = None if failure is not None else self._through(owner.key)
        owner.tentative.settle(submission.after, through=through)
        self._metrics.points.inc(len(owner.table.states) - known)
        for key in submission.fresh:
            owner.claimed[key] -= 1
            if not owner.claimed[key]:
                del owner.claimed[key]
        if failure is not None:
            reason = "full" if failure.full else "unavailable"
            self._refuse(submission, refusal(failure), reason)
            return
        self._flush_later()
        published = self._metrics.messages_published
        published.labels(Topic.POINTS.value, submission.via).inc(len(submission.values))
        submission.done(None)

    def _through(self, key: TopicKey) -> int | None:
        """Behind the last value that was appended, None before the first."""
        topic = self._topics.get(key)
        return None if topic is None else topic.routed_to

    def _refuse(self, submission: _Submission, error: HotpathError, reason: str) -> None:
        refused = self._metrics.messages_refused
        refused.labels(submission.via, reason).inc(len(submission.values))
        submission.done(error)

    def forget(self, tenant: TenantId) -> None:
        """A tenant's points are somebody else's by now: who waits is refused."""
        owner = self._tenants.pop(tenant)
        if owner.opening is None:
            self._metrics.points.dec(len(owner.table.states))
        waiting, owner.waiting = owner.waiting, []
        for submission in waiting:
            error = Unavailable("the points have moved to another node; try again")
            self._refuse(submission, error, "unavailable")

    # Opening

    def _open(self, owner: _Tenant) -> None:
        """Read a tenant's points back; its values wait meanwhile."""
        task = asyncio.ensure_future(self._read_back(owner))
        owner.opening = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_back(self, owner: _Tenant) -> None:
        try:
            await self._load(owner)
            await self._replay(owner)
        except LogFailure as failure:
            _log.error("points cannot be read back", extra={"reason": failure.detail})
            # The next values try again, from nothing.
            if self._tenants.get(owner.key.tenant) is owner:
                del self._tenants[owner.key.tenant]
            text = "the points cannot be read now; try again later"
            for submission in owner.waiting:
                self._refuse(submission, Unavailable(text), "unavailable")
            return
        if self._tenants.get(owner.key.tenant) is not owner:
            return  # forgotten meanwhile
        self._metrics.points.inc(len(owner.table.states))
        owner.opening = None
        waiting, owner.waiting = owner.waiting, []
        for submission in waiting:
            self._append(owner, submission)
        if owner.table.dirty:
            self._flush_later()

    async def _load(self, owner: _Tenant) -> None:
        """What the store has. Raises LogFailure."""
        table = owner.table
        for record in await self._store.load(STATES, prefix=_prefix(owner.key.tenant)):
            key = str(record["point"])
            table.states[key] = PointState(
                cast("int", record["created_ms"]),
                cast("int", record["at_ms"]),
                str(record["value"]),
            )
            table.through[key] = cast("int", record["through"])

    async def _replay(self, owner: _Tenant) -> None:
        """What the log has beyond the store. Raises LogFailure."""
        marks = await self._store.load(MARKS, prefix=_prefix(owner.key.tenant))
        at = max((cast("int", mark["seq"]) for mark in marks), default=1)
        # Nothing is appended before this is done, so this is the end.
        end = (await self._log.bounds(owner.key)).next_seq
        puller = Puller([("partitionId",)])
        while at < end:
            batches = await self._log.read(owner.key, at, bytes_max=READ_BYTES)
            if not batches:
                return
            for batch in batches:
                for seq, stored in enumerate(batch.payloads or (), batch.first_seq):
                    event = read_event(body_bytes(stored) or b"")
                    if event is not None and seq >= at:
                        partition = puller.pull(stored).get("partitionId", owner.key.tenant)
                        owner.table.replay(str(partition), event, seq)
                await asyncio.sleep(0)
            at = batches[-1].end_seq

    # To the store

    def _flush_later(self) -> None:
        if self._timer is None and self._flushing is None:
            due_ms = self._clock.ticks_ms() + FLUSH_MS
            self._timer = self._clock.call_at(due_ms, self._begin_flush)

    def _begin_flush(self) -> None:
        self._timer = None
        self._flushing = asyncio.ensure_future(self._flush_all())
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _: asyncio.Future[None]) -> None:
        self._flushing = None
        if any(owner.table.dirty for owner in self._tenants.values()):
            self._flush_later()

    async def _flush_all(self) -> None:
        for owner in list(self._tenants.values()):
            if owner.table.dirty and owner.opening is None:
                await self._flush(owner)

    async def _flush(self, owner: _Tenant) -> None:
        """Write the states that have changed, then up to where the store holds all of them."""
        table, tenant = owner.table, owner.key.tenant
        mark = self._through(owner.key) or max(table.through[key] for key in table.dirty)
        # What is committed from now on is dirty anew.
        changed, table.dirty = list(table.dirty), {}
        try:
            for start in range(0, len(changed), SLICE):
                keys = changed[start : start + SLICE]
                rows = [(_prefix(tenant) + key, _record(table, key)) for key in keys]
                await self._store.put_many(STATES, rows)
            await self._store.put(MARKS, _prefix(tenant), {"tenant": tenant, "seq": mark})
        except LogFailure as failure:
            _log.error("points not written", extra={"reason": failure.detail})
            table.dirty = {**dict.fromkeys(changed), **table.dirty}

    async def close(self) -> None:
        """Bring the store up to date; what cannot be written is replayed at the next start."""
        self._stop_timer()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._flush_all()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _prefix(tenant: str) -> str:
    """What the keys of a tenant's records begin with; no tenant's is the beginning of another's."""
    return quote(tenant, safe="") + "/"


def _record(table: PointTable, key: str) -> dict[str, object]:
    state = table.states[key]
    return {
        "point": key,
        "created_ms": state.created_ms,
        "at_ms": state.at_ms,
        "value": state.value,
        "through": table.through[key],
    }
