"""Looking into a topic's log, for people: nothing is taken, locked or kept for it.

Every look is bounded in messages, bytes and reads. It tells how far it has come, so that whoever
wants more asks again from there.
"""

import asyncio
from collections.abc import Callable
from itertools import pairwise
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
#: Payload bytes read at once where numbers leave gaps.
WINDOW_BYTES: Final = 262_144
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
    messages: int
    """How many there are; an estimate where numbers leave gaps and there are very many."""
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

    def __init__(
        self, *, log: MessageLog, topics: Topics, clock: Clock, shared: bool = False
    ) -> None:
        """`shared`: others append to the log, too, and leave gaps between the numbers."""
        self._log = log
        self._topics = topics
        self._clock = clock
        self._shared = shared
        self._looking = asyncio.Semaphore(LOOKS_MAX)

    # Figures

    async def figures(self, key: TopicKey) -> TopicFigures:
        """What a topic holds, and how fast it grows. Raises LogFailure."""
        first, end = await self._held_bounds(key)
        if end <= first:
            return TopicFigures(first, end, 0, 0.0, None)
        since_ms = self._clock.now_ms() - RATE_SECONDS * 1000
        recent = await self._count(key, max(await self._log.seek(key, since_ms), first), end)
        newest = _Finds(1, all_pass)
        await self._backwards(key, newest, first, at=end - 1)
        last_ms = newest.messages[0].enqueued_ms if newest.messages else None
        messages = await self._count(key, first, end)
        return TopicFigures(first, end, messages, recent / RATE_SECONDS, last_ms)

    async def _count(self, key: TopicKey, low: int, end: int) -> int:
        """How many messages there are among some numbers; of many the first ones tell of all."""
        if not self._shared or low >= end:
            return max(0, end - low)
        batches = await self._log.read(key, low, bytes_max=WINDOW_BYTES)
        counted = sum(batch.count for batch in batches if batch.first_seq < end)
        if sum(batch.byte_size for batch in batches) < WINDOW_BYTES or batches[-1].end_seq >= end:
            return counted
        # The gap behind the last one belongs to it.
        spans = [later.first_seq - each.first_seq for each, later in pairwise(batches)]
        span = sum(spans) / len(spans) if spans else batches[-1].count
        return round(counted * (end - low) / (len(batches) * span))

    async def _held_bounds(self, key: TopicKey) -> tuple[int, int]:
        """The first number the log holds, and the one behind the last."""
        if not self._shared:
            return await self.bounds(key)
        held = await self._log.bounds(key)
        return held.first_seq, held.next_seq

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

    async def latest(
        self,
        key: TopicKey,
        count: int,
        *,
        passes: Passes,
        from_seq: int = 1,
        routed: bool = False,
    ) -> Look:
        """The last `count` messages that pass, none of them below `from_seq`.

        `routed`: of those that subscriptions have been offered here. Raises Unavailable.
        """
        finds = _Finds(count, passes)
        try:
            async with self._looking:
                first, end = await (self.bounds(key) if routed else self._held_bounds(key))
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
        """Look from a number downwards.

        Where numbers have gaps the steps grow, so that each reads some batches.
        """
        step = 1
        while at >= floor and not finds.is_full():
            low = max(floor, at - step + 1)
            batches = await self._between(key, low, at, finds)
            if batches is None:
                step = max(1, step // 4)
                continue
            for batch in reversed(batches):
                await _look_down(finds, batch, floor, at=at)
            if batches:
                at, step = batches[0].first_seq - 1, step if step == 1 else 2 * step
            else:
                at, step = low - 1, 8 * step

    async def _between(self, key: TopicKey, low: int, at: int, finds: _Finds) -> list[Batch] | None:
        """The batches that have any of these numbers; None when they are too many for one read."""
        held = self._held(key, at)
        if held is not None:
            return [held]
        bytes_max = 1 if low == at else WINDOW_BYTES
        batches = await self._log.read(key, low, bytes_max=bytes_max)
        finds.reads += max(1, len(batches))
        kept = [batch for batch in batches if batch.first_seq <= at]
        is_short = sum(batch.byte_size for batch in batches) < bytes_max
        if low == at or is_short or len(kept) < len(batches) or kept[-1].end_seq > at:
            return kept
        return None

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


async def _look_down(finds: _Finds, batch: Batch, floor: int, *, at: int) -> None:
    """Look at the messages of a batch from a number downwards."""
    payloads = batch.payloads or ()
    for seq in range(min(at, batch.end_seq - 1), max(floor, batch.first_seq) - 1, -1):
        if finds.is_full():
            return
        await finds.look_at(seq, batch.enqueued_ms, payloads[seq - batch.first_seq])


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
