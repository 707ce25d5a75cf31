"""The memory log with the faults that a disk has: slow and failing reads, damaged batches."""

import asyncio

from typing_extensions import override

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import LogFailure
from hotpath.storage.memory import MemoryLog
from hotpath.storage.segments import SegmentLimits


class FaultyLog(MemoryLog):
    """A `MemoryLog` whose reads a test can delay, fail and damage, and that counts them."""

    def __init__(self, limits: SegmentLimits | None = None) -> None:
        super().__init__(limits)
        self.reads: list[int] = []
        self.damaged: set[int] = set()
        self._read_failures = 0
        self._gate: asyncio.Event | None = None

    def fail_reads(self, times: int = 1) -> None:
        """Let the next reads fail."""
        self._read_failures += times

    def damage(self, seq: int) -> None:
        """Leave the batch that holds `seq` out of every answer."""
        self.damaged.add(seq)

    def pause_reads(self) -> None:
        """Keep answers back once they have been read."""
        self._gate = asyncio.Event()

    def resume_reads(self) -> None:
        """Give the answers."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    @override
    async def read(self, topic: TopicKey, from_seq: int, *, bytes_max: int) -> list[Batch]:
        self.reads.append(from_seq)
        found = await super().read(topic, from_seq, bytes_max=bytes_max)
        await self._answer()
        return [
            batch
            for batch in found
            if not any(batch.first_seq <= seq < batch.end_seq for seq in self.damaged)
        ]

    @override
    async def dead_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int
    ) -> list[DeadLetter]:
        letters = await super().dead_letters(subscription, from_seq=from_seq, limit=limit)
        await self._answer()
        return [letter for letter in letters if letter.seq not in self.damaged]

    async def _answer(self) -> None:
        if self._read_failures:
            self._read_failures -= 1
            raise LogFailure("the disk gave an error")
        if self._gate is not None:
            await self._gate.wait()
