"""Looking into a topic's log, for people: nothing is taken, locked or kept for it.

Every look is bounded in messages, bytes and reads. It tells how far it has come, so that whoever
wants more asks again from there.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from hotpath.core.subscription import Subscription
from hotpath.model.errors import Unavailable
from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Clock, LogFailure, MessageLog
from hotpath.service.topics import Topics
from hotpath.wire.properties import Puller

#: Messages that one call looks at.
SCAN_MAX: Final = 5_000
#: Batches that one call reads from the log; those in memory do not count.
READS_MAX: Final = 200
#: Messages looked at in one turn of the event loop.
TURN: Final = 200
#: Payload bytes of the messages that one call finds, but for the first.
FOUND_BYTES: Final = 1_048_576
#: How many calls look at the same time; the others wait.
LOOKS_MAX: Final = 4
#: Over how long a topic's rate is averaged, seconds.
RATE_SECONDS: Final = 10

#: Whether a stored message is one that is looked for.
Passes = Callable[[bytes], bool]


class Seen(NamedTuple):
    """A message as it lies in the log."""

    seq: int
    enqueued_ms: int
    stored: bytes


class Look(NamedTuple):
    """What one look has found."""

    messages: list[Seen]
    """In sequence order."""
    looked: int
    """How many messages were looked at."""
    upto: int
    """Everything up to this sequence number has been looked at, or lies before what was asked."""


class TopicFigures(NamedTuple):
    """One topic now. Times are wall-clock milliseconds."""

    first_seq: int
    next_seq: int
    per_second: float
    """Messages a second, averaged over `RATE_SECONDS`."""
    last_ms: int | None
    """When the last message came, None when the log holds none."""


class _Finds:
    """Messages found so far, and whether there may be more."""

    def __init__(self, count: int, passes: Passes) -> None:
        self.messages: list[Seen] = []
        self.looked = 0
        self.reads = 0
        self._count = count
        self._passes = passes
        self._size = 0

    def is_full(self) -> bool:
        """Whether this look has come to one of its bounds."""
        return (
            len(self.messages) >= self._count
            or self.looked >= SCAN_MAX
            or self.reads >= READS_MAX
            or self._size >= FOUND_BYTES
        )

    async def look_at(self, seq: int, enqueued_ms: int, stored: bytes) -> None:
        """Look at one message; now and then others have their turn."""
        self.looked += 1
        if self._passes(stored):
            self.messages.append(Seen(seq, enqueued_ms, stored))
            self._size += len(stored)
        if self.looked % TURN == 0:
            await asyncio.sleep(0)


class Looking:
    """Reads topics for those who only look."""

    def __init__(self, *, log: MessageLog, topics: Topics, clock: Clock) -> None:
        self._log = log
        self._topics = topics
        self._clock = clock
        self._looking = asyncio.Semaphore(LOOKS_MAX)

    # Figures

    async def figures(self, key: TopicKey) -> TopicFigures:
        """What a topic holds, and how fast it grows. Raises LogFailure."""
        first, end = await self.bounds(key)
        since_ms = self._clock.now_ms() - RATE_SECONDS * 1000
        recent = end - max(await self._log.seek(key, since_ms), first) if end > first else 0
        last = None
        if end > first:
            batches = await self._topics.load(key, end - 1, bytes_max=1)
            last = batches[0].enqueued_ms if batches else None
        return TopicFigures(first, end, max(0, recent) / RATE_SECONDS, last)

    async def bounds(self, key: TopicKey) -> tuple[int, int]:
        """The first number the log holds, and the one behind the last that was routed."""
        topic = self._topics.get(key)
        if topic is not None:
            return topic.first_seq, topic.routed_to
        held = await self._log.bounds(key)
        return held.first_seq, held.next_seq

    # Messages

    async def one(self, key: TopicKey, seq: int) -> Seen | None:
        """One message, None when the log does not hold it. Raises Unavailable."""
        try:
            batch = await self._from(key, seq)
        except LogFailure as failure:
            raise _unavailable() from failure
        if batch is None or batch.payloads is None or not batch.first_seq <= seq < batch.end_seq:
            return None
        return Seen(seq, batch.enqueued_ms, batch.payloads[seq - batch.first_seq])

    async def latest(self, key: TopicKey, count: int, *, passes: Passes, from_seq: int = 1) -> Look:
        """The last `count` messages that pass, none of them below `from_seq`.

        Raises Unavailable.
        """
        finds = _Finds(count, passes)
        try:
            async with self._looking:
                first, end = await self.bounds(key)
                await self._backwards(key, finds, max(first, from_seq), at=end - 1)
        except LogFailure as failure:
            raise _unavailable() from failure
        return Look(finds.messages[::-1], finds.looked, max(end - 1, 0))

    async def following(self, key: TopicKey, count: int, *, passes: Passes, after: int) -> Look:
        """Up to `count` messages that pass, the first ones after a number. Raises Unavailable."""
        finds = _Finds(count, passes)
        try:
            async with self._looking:
                upto = await self._forwards(key, finds, after)
        except LogFailure as failure:
            raise _unavailable() from failure
        return Look(finds.messages, finds.looked, upto)

    async def _forwards(self, key: TopicKey, finds: _Finds, after: int) -> int:
        """Look from a number on; up to which number that was."""
        first, end = await self.bounds(key)
        at = max(after + 1, first)
        while at < end and not finds.is_full():
            batch = await self._next(key, at, finds)
            if batch is None or batch.payloads is None:
                return end - 1
            payloads = batch.payloads
            for seq in range(max(at, batch.first_seq), min(batch.end_seq, end)):
                if finds.is_full():
                    return seq - 1
                await finds.look_at(seq, batch.enqueued_ms, payloads[seq - batch.first_seq])
            at = batch.end_seq
        return max(min(at, end) - 1, 0)

    async def _backwards(self, key: TopicKey, finds: _Finds, floor: int, *, at: int) -> None:
        """Look from a number downwards."""
        while at >= floor and not finds.is_full():
            batch = await self._last(key, floor, at, finds)
            if batch is None or batch.payloads is None:
                return
            payloads = batch.payloads
            for seq in range(min(at, batch.end_seq - 1), max(floor, batch.first_seq) - 1, -1):
                if finds.is_full():
                    return
                await finds.look_at(seq, batch.enqueued_ms, payloads[seq - batch.first_seq])
            at = batch.first_seq - 1

    async def _last(self, key: TopicKey, floor: int, at: int, finds: _Finds) -> Batch | None:
        """The batch that holds a number, or the last one before it."""
        batch = await self._next(key, at, finds)
        if batch is not None and batch.first_seq <= at:
            return batch
        # Numbers of a failed commit are never given: halve the way to the batch before them.
        low, high, best = floor, at - 1, None
        while low <= high and not finds.is_full():
            middle = (low + high + 1) // 2
            batch = await self._next(key, middle, finds)
            if batch is not None and batch.first_seq <= at:
                best, low = batch, batch.end_seq
            else:
                high = middle - 1
        return best

    async def _next(self, key: TopicKey, seq: int, finds: _Finds) -> Batch | None:
        """The batch that holds a number, or the first after it; a read from the log counts."""
        if self._held(key, seq) is None:
            finds.reads += 1
        return await self._from(key, seq)

    async def _from(self, key: TopicKey, seq: int) -> Batch | None:
        held = self._held(key, seq)
        if held is not None:
            return held
        batches = await self._log.read(key, seq, bytes_max=1)
        return batches[0] if batches else None

    def _held(self, key: TopicKey, seq: int) -> Batch | None:
        held = self._topics.tail.find(key, seq)
        return held if held is not None and held.payloads is not None else None


def all_pass(stored: bytes) -> bool:
    """Passes every message."""
    del stored
    return True


def matching(subscription: Subscription) -> Passes:
    """Passes what a subscription's filter lets through, its creator's condition included."""
    pull, matches = Puller(subscription.filter.properties).pull, subscription.filter.matches
    return lambda stored: matches(pull(stored))


def _unavailable() -> Unavailable:
    return Unavailable("the message log cannot be read now; try again later")
