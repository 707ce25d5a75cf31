"""The live state of each log: its router, its subscriptions, and its most recent batches.

Invariant: `routed_to` only grows, and every live subscription has been offered all below it.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from hotpath.core.points import PointRouter
from hotpath.core.router import Router
from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId, Topic, TopicKey
from hotpath.ports import MessageLog

#: What a batch and a message cost in memory beside the payload, bytes.
BATCH_OVERHEAD: Final = 512
MESSAGE_OVERHEAD: Final = 48


class Tail:
    """Batches in memory, all topics together, the least recently added going first.

    A batch that goes is released: whoever still points at it finds no payloads and reads the log.
    The one added last is there until the next one comes, whatever its size.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._batches: OrderedDict[tuple[TopicKey, int], Batch] = OrderedDict()
        self._firsts: dict[TopicKey, list[int]] = {}

    @property
    def byte_size(self) -> int:
        """Bytes held, with what Python adds to them."""
        return self._bytes

    def add(self, batch: Batch) -> Batch:
        """Keep a batch; the one already held for the same messages wins."""
        key = (batch.topic, batch.first_seq)
        held = self._batches.get(key)
        if held is not None:
            return held
        self._batches[key] = batch
        self._bytes += _cost(batch)
        firsts = self._firsts.setdefault(batch.topic, [])
        if not firsts or batch.first_seq > firsts[-1]:
            firsts.append(batch.first_seq)
        else:
            firsts.insert(bisect_right(firsts, batch.first_seq), batch.first_seq)
        while self._bytes > self._bytes_max and len(self._batches) > 1:
            self._evict()
        return batch

    def _evict(self) -> None:
        (topic, first_seq), batch = self._batches.popitem(last=False)
        self._bytes -= _cost(batch)
        batch.release()
        firsts = self._firsts[topic]
        # Nearly always the first one: batches come and go in order.
        index = 0 if firsts[0] == first_seq else bisect_right(firsts, first_seq) - 1
        del firsts[index]
        if not firsts:
            del self._firsts[topic]

    def find(self, topic: TopicKey, seq: int) -> Batch | None:
        """The held batch that has `seq`, or None."""
        firsts = self._firsts.get(topic)
        if not firsts:
            return None
        index = bisect_right(firsts, seq) - 1
        if index < 0:
            return None
        batch = self._batches[(topic, firsts[index])]
        return batch if seq < batch.end_seq else None


def _cost(batch: Batch) -> int:
    return batch.byte_size + BATCH_OVERHEAD + MESSAGE_OVERHEAD * batch.count


class TopicLog:
    """One tenant's topic as the service sees it.

    Attributes:
        key: Whose topic.
        router: The filters of its live and behind subscriptions.
        routed_to: Everything below has been offered.
        first_seq: The log holds nothing below.
        subscriptions: Those of this topic.
        behind: Those of them that are behind.
        published_total: Messages since start.
    """

    __slots__ = (
        "behind",
        "first_seq",
        "key",
        "published_total",
        "routed_to",
        "router",
        "subscriptions",
    )

    def __init__(self, key: TopicKey, *, first_seq: int, next_seq: int) -> None:
        self.key = key
        self.router: Router | PointRouter = PointRouter() if key.topic is Topic.POINTS else Router()
        self.first_seq = first_seq
        self.routed_to = next_seq
        self.subscriptions: dict[SubscriptionId, Subscription] = {}
        self.behind: set[Subscription] = set()
        self.published_total = 0

    def add(self, subscription: Subscription) -> None:
        """Let a subscription take part."""
        self.subscriptions[subscription.spec.id] = subscription
        subscription.key = self.key
        self.router.add(subscription)
        subscription.lose_below(self.first_seq)
        if not subscription.joins(self.routed_to):
            self.behind.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out."""
        self.subscriptions.pop(subscription.spec.id, None)
        self.behind.discard(subscription)
        self.router.remove(subscription)


class Topics:
    """All topics with messages or subscriptions, and all subscriptions by id."""

    def __init__(self, log: MessageLog, *, tail_bytes_max: int) -> None:
        self.log = log
        self._topics: dict[TopicKey, TopicLog] = {}
        self.tail = Tail(tail_bytes_max)
        self.subscriptions: dict[SubscriptionId, Subscription] = {}

    def __iter__(self) -> Iterator[TopicLog]:
        return iter(self._topics.values())

    def get(self, key: TopicKey) -> TopicLog | None:
        """The topic if anybody has used it since the start."""
        return self._topics.get(key)

    async def open(self, key: TopicKey) -> TopicLog:
        """The topic, asking the log where it stands at the first use.

        Called before the first commit that appends to the topic, so that what the log says is
        never ahead of what was routed. Raises LogFailure.
        """
        topic = self._topics.get(key)
        if topic is None:
            bounds = await self.log.bounds(key)
            topic = self._topics.get(key)
            if topic is None:
                topic = TopicLog(key, first_seq=bounds.first_seq, next_seq=bounds.next_seq)
                self._topics[key] = topic
        return topic

    async def prepare(self, key: TopicKey) -> None:
        """See to it that what a topic gets from now on will be routed. Raises LogFailure."""
        if key not in self._topics:
            await self.open(key)

    def of(self, batch: Batch) -> TopicLog:
        """The topic of a batch that was just committed."""
        topic = self._topics.get(batch.topic)
        if topic is None:
            topic = TopicLog(batch.topic, first_seq=batch.first_seq, next_seq=batch.first_seq)
            self._topics[batch.topic] = topic
        return topic

    async def load(self, key: TopicKey, seq: int, *, bytes_max: int) -> Sequence[Batch]:
        """Batches from the one with `seq` on: from memory, else from the log.

        The first one has its payloads as long as the caller does not wait; a later one may have
        been released again already, when memory is short. Raises LogFailure.
        """
        held = self.tail.find(key, seq)
        if held is not None:
            return [held]
        batches = await self.log.read(key, seq, bytes_max=bytes_max)
        # Backwards, so that the first one is the last to go.
        return [self.tail.add(batch) for batch in reversed(batches)][::-1]

    def add(self, subscription: Subscription, topic: TopicLog) -> None:
        """Register a subscription with its topic."""
        self.subscriptions[subscription.spec.id] = subscription
        topic.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self.subscriptions.pop(subscription.spec.id, None)
        topic = self._topics.get(subscription.spec.key)
        if topic is not None:
            topic.remove(subscription)
