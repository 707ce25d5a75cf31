"""Sequence numbers and enqueued times, given in the event loop in the order of the commits.

A number is given once: a commit that fails leaves its numbers unused. Enqueued times never
decrease within a topic, whatever the clock does, so that a time can be searched for.
"""

from collections.abc import Iterable

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Bounds, Commit


class Numbering:
    """The next sequence number of every topic, and the first that its log still holds."""

    def __init__(self) -> None:
        self._next: dict[TopicKey, int] = {}
        self._first: dict[TopicKey, int] = {}
        self._last_ms: dict[TopicKey, int] = {}

    def restore(self, topic: TopicKey, bounds: Bounds, *, last_ms: int) -> None:
        """Go on from what an earlier run has left."""
        self._next[topic] = bounds.next_seq
        self._first[topic] = bounds.first_seq
        self._last_ms[topic] = last_ms

    def number(self, work: Commit) -> list[Batch]:
        """Give the messages of a commit their numbers; one batch an append."""
        return [self._batch(topic, payloads, work.now_ms) for topic, payloads in work.appends]

    def _batch(self, topic: TopicKey, payloads: Iterable[bytes], now_ms: int) -> Batch:
        enqueued_ms = max(now_ms, self._last_ms.get(topic, now_ms))
        first_seq = self._next.get(topic, 1)
        batch = Batch(topic, first_seq, enqueued_ms=enqueued_ms, payloads=tuple(payloads))
        self._next[topic] = batch.end_seq
        self._last_ms[topic] = enqueued_ms
        return batch

    def appended(self, batches: Iterable[Batch]) -> None:
        """Note that batches have become durable."""
        for batch in batches:
            self._first.setdefault(batch.topic, batch.first_seq)

    def trimmed(self, topic: TopicKey, first_seq: int) -> Bounds:
        """Note that retention has moved the first sequence number."""
        self._first[topic] = first_seq
        return self.bounds(topic)

    def bounds(self, topic: TopicKey) -> Bounds:
        """What the topic holds; `next_seq` is the next number to be given."""
        next_seq = self._next.get(topic, 1)
        return Bounds(self._first.get(topic, next_seq), next_seq)

    def oldest(self, topic: TopicKey) -> int:
        """No number below it is in the log, or is being written to it."""
        return self._first.get(topic, 1)

    def next_seqs(self) -> dict[TopicKey, int]:
        """The next number of every topic that has given one."""
        return dict(self._next)
