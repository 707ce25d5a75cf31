"""Log and store in memory: what the SQLite adapters must behave like, for tests and trials.

The conformance suites hold both to the same contract. Beyond the ports, these can be told to
fail (`fail_next`), to keep commits waiting (`pause`) and to lose what is not durable (`crash`);
`close` followed by `open` is a restart.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Final

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.model.subscription import Progress
from hotpath.ports import Bounds, Commit, LogFailure, Recovered, Scheduled
from hotpath.storage.numbering import Numbering
from hotpath.storage.segments import Segment, SegmentLimits, choose_expired

_CLOSED: Final = "the log is closed"


@dataclass(slots=True)
class _Part:
    """A segment and its batches."""

    segment: Segment
    batches: list[Batch] = field(default_factory=list)


@dataclass(slots=True)
class _Durable:
    """What a crash leaves."""

    parts: dict[TopicKey, list[_Part]] = field(default_factory=dict)
    progress: dict[SubscriptionId, Progress] = field(default_factory=dict)
    dead: dict[SubscriptionId, dict[int, DeadLetter]] = field(default_factory=dict)
    scheduled: dict[tuple[TopicKey, int], Scheduled] = field(default_factory=dict)
    alive_ms: int | None = None


@dataclass(slots=True)
class _Waiting:
    """A commit that has its numbers and is not durable yet."""

    work: Commit
    batches: list[Batch]
    future: asyncio.Future[list[Batch]]


class MemoryLog:
    """A message log that lives as long as this object."""

    def __init__(self, limits: SegmentLimits | None = None) -> None:
        self._limits = limits or SegmentLimits()
        self._kept = _Durable()
        self._numbering = Numbering()
        self._waiting: deque[_Waiting] = deque()
        self._failures: deque[LogFailure] = deque()
        self._segments_made = 0
        self._open = False
        self._paused = False

    # Beyond the port

    def fail_next(self, failure: LogFailure, *, times: int = 1) -> None:
        """Let the next commits fail."""
        self._failures.extend([failure] * times)

    def pause(self) -> None:
        """Keep commits waiting, as a slow disk does."""
        self._paused = True

    def resume(self) -> None:
        """Make waiting commits durable and stop delaying."""
        self._paused = False
        self._settle_waiting()

    def crash(self) -> None:
        """Lose everything that is not durable; `open` comes next."""
        self._open = self._paused = False
        self._waiting.clear()
        self._failures.clear()

    # The port

    async def open(self) -> Recovered:
        """Begin, or begin again after `close` or `crash`."""
        self._open = True
        kept = self._kept
        return Recovered(
            progress=deepcopy(kept.progress),
            scheduled=[copy(message) for _, message in sorted(kept.scheduled.items())],
            dead={
                name: {seq: letter.delivery_count for seq, letter in sorted(letters.items())}
                for name, letters in kept.dead.items()
                if letters
            },
            dead_sizes={
                name: {seq: len(letter.payload) for seq, letter in letters.items()}
                for name, letters in kept.dead.items()
                if letters
            },
            alive_ms=kept.alive_ms,
        )

    def commit(self, work: Commit) -> Awaitable[list[Batch]]:
        """Take effect at the loop's next turn, or when resumed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Batch]] = loop.create_future()
        if not self._open:
            future.set_exception(LogFailure(_CLOSED))
            return future
        self._waiting.append(_Waiting(work, self._numbering.number(work), future))
        if not self._paused:
            loop.call_soon(self._settle_waiting)
        return future

    async def read(self, topic: TopicKey, from_seq: int, *, bytes_max: int) -> list[Batch]:
        """Copies of the batches, so that releasing one leaves the log as it is."""
        self._check_open()
        found: list[Batch] = []
        size = 0
        for part in self._kept.parts.get(topic, ()):
            for batch in part.batches:
                if batch.end_seq <= from_seq:
                    continue
                if found and size >= bytes_max:
                    return found
                found.append(_fresh(batch))
                size += batch.byte_size
        return found

    async def bounds(self, topic: TopicKey) -> Bounds:
        """What the topic holds."""
        self._check_open()
        return self._numbering.bounds(topic)

    async def seek(self, topic: TopicKey, enqueued_ms: int) -> int:
        """The first sequence number at or after a time."""
        self._check_open()
        # What is being written has yet to get its place in time for whoever asks.
        end = self._numbering.oldest(topic)
        for part in self._kept.parts.get(topic, ()):
            for batch in part.batches:
                if batch.enqueued_ms >= enqueued_ms:
                    return batch.first_seq
                end = batch.end_seq
        return end

    async def trim(self, *, before_ms: int, bytes_max: int | None) -> dict[TopicKey, Bounds]:
        """Drop whole segments."""
        self._check_open()
        segments = {
            topic: [part.segment for part in parts] for topic, parts in self._kept.parts.items()
        }
        expired = choose_expired(segments, before_ms=before_ms, bytes_max=bytes_max)
        changed = {}
        for topic in {segment.topic for segment in expired}:
            gone = {segment.id for segment in expired if segment.topic == topic}
            left = [part for part in self._kept.parts[topic] if part.segment.id not in gone]
            self._kept.parts[topic] = left
            changed[topic] = self._numbering.trimmed(topic, left[0].segment.first_seq)
        return changed

    async def dead_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int
    ) -> list[DeadLetter]:
        """Copies of dead letters in sequence order."""
        self._check_open()
        letters = self._kept.dead.get(subscription, {})
        seqs = sorted(seq for seq in letters if seq >= from_seq)
        return [copy(letters[seq]) for seq in seqs[:limit]]

    async def close(self) -> None:
        """Finish what was handed in."""
        self.resume()
        self._open = False

    # Taking effect

    def _check_open(self) -> None:
        if not self._open:
            raise LogFailure(_CLOSED)

    def _settle_waiting(self) -> None:
        """Make every waiting commit durable, or let it fail, in the order of their calls."""
        while self._waiting and not self._paused:
            waiting = self._waiting.popleft()
            failure = self._failures.popleft() if self._failures else None
            if failure is None:
                self._take_effect(waiting.work, waiting.batches)
            if waiting.future.done():
                continue
            if failure is None:
                waiting.future.set_result(waiting.batches)
            else:
                waiting.future.set_exception(failure)

    def _take_effect(self, work: Commit, batches: list[Batch]) -> None:
        for batch in batches:
            self._append(batch)
        self._numbering.appended(batches)
        self._keep_progress(work)
        self._keep_dead_letters(work)
        for message in work.scheduled:
            self._kept.scheduled[message.topic, message.number] = copy(message)
        for scheduled_key in work.scheduled_removals:
            self._kept.scheduled.pop(scheduled_key, None)
        for subscription in work.forgotten:
            self._kept.progress.pop(subscription, None)
            self._kept.dead.pop(subscription, None)
        if work.alive_ms is not None:
            self._kept.alive_ms = work.alive_ms

    def _append(self, batch: Batch) -> None:
        if not batch.count:
            return
        parts = self._kept.parts.setdefault(batch.topic, [])
        if not parts or parts[-1].segment.is_full(self._limits, batch.enqueued_ms):
            self._segments_made += 1
            parts.append(_Part(_first_segment(self._segments_made, batch)))
        part = parts[-1]
        part.batches.append(_fresh(batch))
        part.segment.last_ms = batch.enqueued_ms
        part.segment.byte_size += batch.byte_size

    def _keep_progress(self, work: Commit) -> None:
        progress = self._kept.progress
        for subscription, snapshot in work.snapshots:
            progress[subscription] = deepcopy(snapshot)
        for subscription, delta in work.progress:
            progress.setdefault(subscription, Progress(0)).apply(delta)

    def _keep_dead_letters(self, work: Commit) -> None:
        dead = self._kept.dead
        for subscription, letter in work.dead:
            dead.setdefault(subscription, {})[letter.seq] = copy(letter)
        for subscription, seq, delivery_count in work.dead_updates:
            found = dead.get(subscription, {}).get(seq)
            if found is not None:
                found.delivery_count = delivery_count
        for subscription, seq in work.dead_removals:
            dead.get(subscription, {}).pop(seq, None)


def _first_segment(number: int, batch: Batch) -> Segment:
    """An empty segment that begins with `batch`."""
    at_ms = batch.enqueued_ms
    return Segment(number, batch.topic, batch.first_seq, first_ms=at_ms, last_ms=at_ms)


def _fresh(batch: Batch) -> Batch:
    """A batch of its own with the same messages."""
    payloads = batch.payloads or ()
    return Batch(
        batch.topic, batch.first_seq, enqueued_ms=batch.enqueued_ms, payloads=tuple(payloads)
    )


class MemoryStore:
    """A record store that lives as long as this object."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, dict[str, object]]] = {}
        self._columns: dict[str, dict[str, None]] = {}
        self._failures: deque[LogFailure | None] = deque()

    def fail_next(self, failure: LogFailure, *, times: int = 1, after: int = 0) -> None:
        """Let the next changes fail, but for so many before them."""
        self._failures.extend([None] * after + [failure] * times)

    async def load(self, kind: str, *, prefix: str = "") -> list[dict[str, object]]:
        """Records in the order of their creation, None in columns that a record left out."""
        columns = self._columns.get(kind, {})
        return [
            {column: record.get(column) for column in columns}
            for key, record in self._kinds.get(kind, {}).items()
            if key.startswith(prefix)
        ]

    async def put(self, kind: str, key: str, record: dict[str, object]) -> None:
        """Create or replace a record."""
        await self._change(lambda: self._put(kind, key, dict(record)))

    async def put_many(self, kind: str, records: Sequence[tuple[str, dict[str, object]]]) -> None:
        """Create or replace records."""
        copies = [(key, dict(record)) for key, record in records]

        def put_all() -> None:
            for key, record in copies:
                self._put(kind, key, record)

        await self._change(put_all)

    async def delete(self, kind: str, keys: Iterable[str]) -> None:
        """Remove records."""
        gone = list(keys)
        await self._change(lambda: self._delete(kind, gone))

    async def _change(self, change: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        failure = self._failures.popleft() if self._failures else None
        if failure is not None:
            raise failure
        change()

    def _put(self, kind: str, key: str, record: dict[str, object]) -> None:
        self._columns.setdefault(kind, {}).update(dict.fromkeys(record))
        self._kinds.setdefault(kind, {})[key] = record

    def _delete(self, kind: str, keys: list[str]) -> None:
        records = self._kinds.get(kind, {})
        for key in keys:
            records.pop(key, None)
