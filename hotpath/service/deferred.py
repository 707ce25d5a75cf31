"""Deferred messages, which are only received by their sequence numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from hotpath.core.locks import State
from hotpath.core.subscription import Subscription
from hotpath.model.errors import NotFound, Unavailable
from hotpath.model.message import Batch
from hotpath.ports import Clock, LogFailure
from hotpath.service import modified
from hotpath.service.commit import Committer
from hotpath.service.settle import Settling
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics
from hotpath.wire.message import expires_ms


class Received(NamedTuple):
    """A deferred message that was received."""

    seq: int
    enqueued_ms: int
    stored: bytes
    delivery_count: int
    serial: int
    """Names its lock; 0 when it is settled."""
    until_ms: int
    """End of its lock, monotonic."""


class Deferrals:
    """Hands out deferred messages."""

    def __init__(
        self,
        *,
        topics: Topics,
        committer: Committer,
        settling: Settling,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._topics = topics
        self._committer = committer
        self._settling = settling
        self._clock = clock
        self._metrics = metrics

    async def receive(
        self, subscription: Subscription, seqs: Sequence[int], *, lock: bool, receiver: object
    ) -> list[Received]:
        """Take deferred messages, all or none: under a lock, or settled durably by the taking.

        `receiver` names who holds the locks, for `drop`. Raises NotFound when one of them is not
        deferred now, Unavailable.
        """
        seqs = list(dict.fromkeys(seqs))
        self._check(subscription, seqs)
        try:
            batches = {seq: await self._load(subscription, seq) for seq in seqs}
        except LogFailure as failure:
            raise Unavailable("the message log cannot be read now; try again later") from failure
        # Somebody else may have come first while the log was read.
        self._check(subscription, seqs)
        self._check_expiry(batches)
        stored = {seq: _stored(subscription, seq, batch) for seq, batch in batches.items()}
        received = [
            self._lock(subscription, batches[seq], stored[seq], receiver=receiver) for seq in seqs
        ]
        self._settling.watch(subscription, subscription.locks)
        subscription.delivered_total += len(received)
        self._metrics.deliveries.labels(subscription.spec.topic.value).inc(len(received))
        if lock:
            return received
        held = [(message.seq, message.serial) for message in received]
        self._settling.complete(subscription, subscription, held)
        try:
            await self._committer.settled()
        except LogFailure as failure:
            raise Unavailable("the message log cannot be written now") from failure
        return [message._replace(serial=0, until_ms=0) for message in received]

    def drop(self, subscription: Subscription, receiver: object) -> None:
        """Who held locks is gone: the messages are deferred again, their counts unchanged."""
        subscription.locks.drop_receiver(receiver)

    def _check(self, subscription: Subscription, seqs: Sequence[int]) -> None:
        unsettled = subscription.locks.unsettled
        missing = [
            seq
            for seq in seqs
            if seq not in unsettled or unsettled[seq].state is not State.DEFERRED
        ]
        if missing or subscription.deleted:
            shown = ", ".join(map(str, missing[:10]))
            raise NotFound(f"no deferred message has the sequence number {shown}")

    async def _load(self, subscription: Subscription, seq: int) -> Batch:
        """The batch with a message, its payloads safe from release."""
        batches = await self._topics.load(subscription.spec.key, seq, bytes_max=1)
        batch = batches[0] if batches else None
        if batch is None or batch.payloads is None or not batch.first_seq <= seq < batch.end_seq:
            subscription.lose(seq)
            self._committer.touch(subscription)
            raise NotFound(f"the message with the sequence number {seq} is gone from the log")
        at = seq - batch.first_seq
        payloads = batch.payloads[at : at + 1]
        return Batch(batch.topic, seq, enqueued_ms=batch.enqueued_ms, payloads=payloads)

    def _check_expiry(self, batches: dict[int, Batch]) -> None:
        now_ms = self._clock.now_ms()
        for seq, batch in batches.items():
            end_ms = expires_ms((batch.payloads or (b"",))[0], batch.enqueued_ms)
            if end_ms is not None and end_ms <= now_ms:
                raise NotFound(f"the time to live of message {seq} is over")

    def _lock(
        self, subscription: Subscription, batch: Batch, stored: bytes, *, receiver: object
    ) -> Received:
        seq, now_ms, locks = batch.first_seq, self._clock.ticks_ms(), subscription.locks
        holding = locks.lock_deferred(seq, batch, receiver=receiver, now_ms=now_ms)
        return Received(
            seq,
            batch.enqueued_ms,
            stored,
            locks.counts.get(seq, 0),
            holding.serial,
            holding.until_ms,
        )


def _stored(subscription: Subscription, seq: int, batch: Batch) -> bytes:
    """A message of a batch of one, with what receivers have given it."""
    stored = (batch.payloads or (b"",))[0]
    return modified.lay_over(stored, subscription.locks.modified.get(seq))
