"""Looking at a feed without taking anything: what is not settled, in sequence order.

What was delivered or is queued in memory is known by number; behind that, for a subscription that
is behind, the log is read and matched. Nothing is locked and nothing is kept in memory for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from hotpath.core.locks import State
from hotpath.core.router import matching
from hotpath.core.subscription import Subscription
from hotpath.model.errors import Unavailable
from hotpath.model.message import Batch
from hotpath.ports import LogFailure, MessageLog
from hotpath.service import modified
from hotpath.service.settle import Settling
from hotpath.service.topics import Topics
from hotpath.wire.properties import Puller

#: Payload bytes read from the log at once.
READ_BYTES: Final = 1_048_576
#: Dead letters read at once.
LETTERS: Final = 64


class Peeked(NamedTuple):
    """A message as it lies in its feed."""

    seq: int
    enqueued_ms: int
    stored: bytes
    delivery_count: int
    deferred: bool


class Peeking:
    """Reads feeds for those who only look."""

    def __init__(self, *, log: MessageLog, topics: Topics, settling: Settling) -> None:
        self._log = log
        self._topics = topics
        self._settling = settling
        # One at a time reads on in the log: each may have to read all of it.
        self._scanning = asyncio.Semaphore(1)

    async def peek(
        self, subscription: Subscription, from_seq: int, *, count: int, bytes_max: int, dead: bool
    ) -> list[Peeked]:
        """Up to `count` messages from a sequence number on, of a feed or of its dead letters.

        Fewer when they would be more than `bytes_max` together, but one if there is any. Raises
        Unavailable.
        """
        found: list[Peeked] = []
        size = 0
        source = self._dead if dead else self._live
        try:
            async with aclosing(source(subscription, from_seq, count)) as messages:
                async for message in messages:
                    size += len(message.stored)
                    if len(found) >= count or (found and size > bytes_max):
                        break
                    found.append(message)
        except LogFailure as failure:
            raise Unavailable("the message log cannot be read now; try again later") from failure
        return found

    # Dead letters

    async def _dead(
        self, subscription: Subscription, from_seq: int, count: int
    ) -> AsyncGenerator[Peeked, None]:
        queue, at = self._settling.dead_letters(subscription), max(from_seq, 0)
        limit = min(count, LETTERS)
        while letters := await self._log.dead_letters(
            subscription.spec.id, from_seq=at, limit=limit
        ):
            for letter in letters:
                if letter.seq in queue:
                    failed = queue.locks.counts.get(letter.seq, 0)
                    yield Peeked(letter.seq, letter.enqueued_ms, letter.payload, failed, False)
            at = letters[-1].seq + 1

    # The feed itself

    async def _live(
        self, subscription: Subscription, from_seq: int, count: int
    ) -> AsyncGenerator[Peeked, None]:
        batch: Batch | None = None
        for seq in subscription.unsettled_from(from_seq, limit=count):
            if (
                batch is None
                or batch.payloads is None
                or not batch.first_seq <= seq < batch.end_seq
            ):
                batch = await self._batch(subscription, seq)
            if batch is not None and batch.payloads is not None and seq >= batch.first_seq:
                yield _peeked(subscription, batch, seq)
        beyond = self._beyond(subscription, from_seq)
        async with self._scanning, aclosing(beyond) as messages:
            async for message in messages:
                yield message

    async def _batch(self, subscription: Subscription, seq: int) -> Batch | None:
        """The batch with a message, or the first after it; it stays no longer than it is used."""
        held = self._topics.tail.find(subscription.spec.key, seq)
        if held is not None and held.payloads is not None:
            return held
        batches = await self._log.read(subscription.spec.key, seq, bytes_max=1)
        return batches[0] if batches else None

    async def _beyond(
        self, subscription: Subscription, from_seq: int
    ) -> AsyncGenerator[Peeked, None]:
        """What a subscription that is behind has not looked at yet."""
        at, topic = subscription.behind_at, self._topics.get(subscription.spec.key)
        if at is None or topic is None:
            return
        at, end = max(at, from_seq), topic.routed_to
        puller = Puller(subscription.filter.properties)
        while at < end and not subscription.deleted:
            batches = await self._log.read(subscription.spec.key, at, bytes_max=READ_BYTES)
            if not batches:
                return
            for batch in batches:
                for seq in matching(subscription, batch, puller):
                    if at <= seq < end and not subscription.settled_ahead(seq):
                        yield _peeked(subscription, batch, seq)
                at = max(at, batch.end_seq)
                # One batch a turn of the loop, as everywhere.
                await asyncio.sleep(0)


def _peeked(subscription: Subscription, batch: Batch, seq: int) -> Peeked:
    locks = subscription.locks
    holding = locks.unsettled.get(seq)
    deferred = holding is not None and (holding.state is State.DEFERRED or holding.was_deferred)
    stored = (batch.payloads or ())[seq - batch.first_seq]
    if seq in locks.modified:
        stored = modified.lay_over(stored, locks.modified[seq])
    return Peeked(seq, batch.enqueued_ms, stored, locks.counts.get(seq, 0), deferred)
