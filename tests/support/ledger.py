"""What a test has appended, and sequence numbers as if they had no gaps.

A port's log gives numbers that strictly increase, follow each other within a batch and are never
given twice; the embedded adapters give them without gaps, from 1 on. The ledger checks what is
promised, and the stronger rule where it holds, so that a test can speak of numbers 1, 2, 3.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Bounds, Commit
from tests.support.logs import LogHarness


@dataclass
class _Noted:
    """A batch that was appended."""

    first_seq: int
    count: int
    place: int
    """Number of its first message as if there were no gaps."""

    @property
    def end_seq(self) -> int:
        return self.first_seq + self.count


@dataclass
class Ledger:
    """Appends through a harness, and translates numbers."""

    harness: LogHarness
    noted: dict[TopicKey, list[_Noted]] = field(default_factory=dict)

    async def commit(self, work: Commit) -> list[Batch]:
        """Commit, and note what was appended."""
        return self.note(await self.harness.log.commit(work))

    async def wait(self, commits: Sequence[Awaitable[list[Batch]]]) -> list[list[Batch]]:
        """Wait for commits in the order in which they were handed in."""
        return [self.note(await commit) for commit in commits]

    def note(self, batches: list[Batch]) -> list[Batch]:
        """Check the numbers of new batches and remember them."""
        for batch in batches:
            if batch.count:
                self._note(batch)
        return batches

    def _note(self, batch: Batch) -> None:
        known = self.noted.setdefault(batch.topic, [])
        place = self._next_place(batch.topic)
        assert batch.first_seq >= max(1, known[-1].end_seq if known else 1)
        if self.harness.is_embedded:
            assert batch.first_seq == place
        known.append(_Noted(batch.first_seq, batch.count, place))

    def _next_place(self, topic: TopicKey) -> int:
        known = self.noted.get(topic)
        return known[-1].place + known[-1].count if known else 1

    # Translating

    def place(self, topic: TopicKey, seq: int) -> int:
        """A number as if there were no gaps; one behind all that was appended is the next."""
        for batch in self.noted.get(topic, []):
            if seq < batch.end_seq:
                assert seq >= batch.first_seq
                return batch.place + seq - batch.first_seq
        place = self._next_place(topic)
        if self.harness.is_embedded:
            assert seq == place
        return place

    def number(self, topic: TopicKey, place: int) -> int:
        """The number that the log gave for one without gaps."""
        for batch in self.noted.get(topic, []):
            if place < batch.place + batch.count:
                return batch.first_seq + place - batch.place
        known = self.noted.get(topic)
        return known[-1].end_seq if known else place

    def places(self, batches: Sequence[Batch]) -> list[tuple[int, int]]:
        """First number and count of batches."""
        return [(self.place(batch.topic, batch.first_seq), batch.count) for batch in batches]

    def bounds(self, topic: TopicKey, bounds: Bounds) -> Bounds:
        """Bounds as if there were no gaps."""
        return Bounds(self.place(topic, bounds.first_seq), self.place(topic, bounds.next_seq))

    async def bounds_of(self, topic: TopicKey) -> Bounds:
        """What the log says a topic holds."""
        return self.bounds(topic, await self.harness.log.bounds(topic))

    async def trim(self, *, before_ms: int, bytes_max: int | None) -> dict[TopicKey, Bounds]:
        """Let retention work, and what it says."""
        changed = await self.harness.log.trim(before_ms=before_ms, bytes_max=bytes_max)
        return {topic: self.bounds(topic, bounds) for topic, bounds in changed.items()}

    async def read(self, topic: TopicKey, place: int, *, bytes_max: int) -> list[Batch]:
        """Read from a number without gaps."""
        seq = self.number(topic, place)
        return await self.harness.log.read(topic, seq, bytes_max=bytes_max)

    async def seek(self, topic: TopicKey, enqueued_ms: int) -> int:
        """Search for a time."""
        return self.place(topic, await self.harness.log.seek(topic, enqueued_ms))
