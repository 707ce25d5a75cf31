"""Feeding subscriptions that are behind, from the log, a slice at a time.

One task a topic goes round the positions that somebody waits at, lowest first, reads a slice at
each and matches its batches for everyone who stands in them. Who is far behind gets one slice a
round like everybody else, so that nobody who is nearly live waits for him. A subscription without
a receiver is left alone: it costs a cursor.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import LogFailure
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import get_logger

#: Payload bytes read from the log at once, and how many batches that may be, about: small ones take
#: their time each, some microseconds, before the first can be matched.
READ_BYTES: Final = 1_048_576
READ_BATCHES: Final = 256
#: After so long others have a turn of the loop, seconds; a batch is matched in one go.
TURN_S: Final = 0.000_5
#: From this many subscriptions at one position, the topic's index is cheaper than each filter.
GROUP_MIN: Final = 12
RETRY_S: Final = 1.0

_log = get_logger("hotpath.replay")


async def _one_turn() -> None:
    """Where nobody says otherwise."""
    await asyncio.sleep(0)


class Replay:
    """Reads on for subscriptions that are behind and have a receiver.

    Attributes:
        give_way: Lets others have their turn; longer when there is more to do than time.
    """

    def __init__(
        self,
        topics: Topics,
        wanted: Callable[[Subscription], bool],
        wake: Callable[[Subscription], None],
    ) -> None:
        self._topics = topics
        self._wanted = wanted
        self._wake = wake
        self._tasks: dict[TopicKey, asyncio.Task[None]] = {}
        self._read_bytes = READ_BYTES
        self._turn_until_s = 0.0
        self.give_way: Callable[[], Awaitable[None]] = _one_turn

    def start(self, subscription: Subscription) -> None:
        """See to it that a subscription that is behind gets on."""
        key = subscription.spec.key
        if not subscription.wants_refill() or key in self._tasks:
            return
        topic = self._topics.get(key)
        if topic is None:
            return
        self._tasks[key] = asyncio.ensure_future(self._run(topic))

    async def _run(self, topic: TopicLog) -> None:
        """Round after round until nobody waits."""
        try:
            while waiting := self._waiting(topic):
                for at in sorted({subscription.behind_at or 0 for subscription in waiting}):
                    await self._serve(topic, at)
        finally:
            # Without a turn of the loop in between: whoever begins to wait now starts anew.
            del self._tasks[topic.key]

    def _waiting(self, topic: TopicLog) -> list[Subscription]:
        return [
            subscription
            for subscription in topic.behind
            if subscription.wants_refill() and self._wanted(subscription)
        ]

    async def _serve(self, topic: TopicLog, at: int) -> None:
        """One slice for those who wait at a position, if the slice before has left any there."""
        waiting = self._waiting(topic)
        if not any(subscription.behind_at == at for subscription in waiting):
            return
        try:
            await self._slice(topic, at, waiting)
        except LogFailure as failure:
            _log.error("read failed", extra={"reason": failure.detail})
            await asyncio.sleep(RETRY_S)

    async def _slice(self, topic: TopicLog, at: int, waiting: list[Subscription]) -> None:
        """Read and match from a position on, for everyone whose position it reaches."""
        # What is committed while the log is read may be missing in the answer.
        routed_to = topic.routed_to
        if at < routed_to:
            batches = await self._topics.load(topic.key, at, bytes_max=self._read_bytes)
            self._fit(batches)
            batches = [batch for batch in batches if batch.first_seq < routed_to]
            if not batches:
                self._skip(waiting, at, routed_to)
            for batch in batches:
                if batch.payloads is None:
                    return  # Memory is short; the next slice reads it again.
                self._skip(waiting, at, batch.first_seq)
                self._refill(topic, batch, waiting)
                at = batch.end_seq
                await self._let_others()
        self._all_caught_up(topic, waiting)

    async def _let_others(self) -> None:
        """A long catch-up delays nobody by more than a batch."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._turn_until_s:
            await self.give_way()
            self._turn_until_s = loop.time() + TURN_S

    def _fit(self, batches: Sequence[Batch]) -> None:
        """This was read: the next reading is to bring fewer, or may bring more."""
        if len(batches) > READ_BATCHES:
            fewer = self._read_bytes * READ_BATCHES // len(batches)
            self._read_bytes = max(fewer, READ_BYTES // READ_BATCHES)
        elif sum(batch.byte_size for batch in batches) > self._read_bytes // 2:
            self._read_bytes = min(2 * self._read_bytes, READ_BYTES)

    def _skip(self, waiting: list[Subscription], from_seq: int, to_seq: int) -> None:
        """The log has nothing between two numbers any more: retention, or damage."""
        for subscription in waiting:
            if subscription.behind_at is not None and from_seq <= subscription.behind_at:
                subscription.skip_to(to_seq)

    def _refill(self, topic: TopicLog, batch: Batch, waiting: list[Subscription]) -> None:
        """Match one batch for all who stand in it."""
        group = [
            subscription
            for subscription in waiting
            if subscription.behind_at is not None
            and batch.first_seq <= subscription.behind_at < batch.end_seq
            and subscription.wants_refill()
            and not subscription.deleted
        ]
        hits: dict[Subscription, list[int]] = {}
        if len(group) >= GROUP_MIN:
            hits = topic.router.route(batch)
        for subscription in group:
            seqs: Sequence[int] = hits.get(subscription, ())
            if len(group) < GROUP_MIN:
                seqs = topic.router.matching(subscription, batch)
            subscription.refill(batch, seqs)
            if subscription.has_ready():
                self._wake(subscription)

    def _all_caught_up(self, topic: TopicLog, waiting: list[Subscription]) -> None:
        """Let those who have seen everything go live."""
        for subscription in waiting:
            if subscription.behind_at is not None and subscription.caught_up(topic.routed_to):
                topic.behind.discard(subscription)
                # Where numbers have gaps that is known only now, and somebody may wait for it.
                self._wake(subscription)

    async def close(self) -> None:
        """End all reading."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
