"""Messages at rest and in memory.

A stored message is bytes: the AMQP 1.0 bare message as its publisher sent it, in rare cases with
a header or annotations section in front (`hotpath.wire.message`). The broker never re-encodes it.
"""

from collections.abc import Mapping, Sequence

from typing_extensions import override

from hotpath.model.names import TopicKey


class Batch:
    """Messages of one topic that were committed together, in sequence order.

    A log may release the payloads of an old batch to bound memory (`payloads` is then None);
    whoever needs them again reads the log at `first_seq`.

    Attributes:
        topic: Whose log.
        first_seq: Sequence number of the first message; the others follow without gaps.
        count: Number of messages.
        enqueued_ms: When the service accepted them, milliseconds since the epoch.
        payloads: The stored messages, or None when released.
        byte_size: Bytes of all payloads.
        lasting: Whether no message has a time to live; None until somebody looked.
    """

    __slots__ = (
        "byte_size",
        "count",
        "enqueued_ms",
        "first_seq",
        "lasting",
        "payloads",
        "topic",
    )

    def __init__(
        self, topic: TopicKey, first_seq: int, *, enqueued_ms: int, payloads: Sequence[bytes]
    ) -> None:
        self.topic = topic
        self.first_seq = first_seq
        self.count = len(payloads)
        self.enqueued_ms = enqueued_ms
        self.payloads: Sequence[bytes] | None = payloads
        self.byte_size = sum(map(len, payloads))
        self.lasting: bool | None = None

    @property
    def end_seq(self) -> int:
        """The sequence number after the last message."""
        return self.first_seq + self.count

    def release(self) -> None:
        """Forget the payloads; the log still has them."""
        self.payloads = None

    @override
    def __repr__(self) -> str:
        return f"Batch({self.topic}, {self.first_seq}..{self.end_seq - 1})"


class DeadLetter:
    """A message copied aside for one subscription, because the log will not keep it for ever.

    Attributes:
        seq: Its sequence number in the topic's log, unique within the dead-letter queue.
        enqueued_ms: When the log accepted it.
        payload: The stored message; reason and description are among its application properties.
        reason: Why it was set aside.
        description: More about the reason, or an empty text.
        delivery_count: Failed deliveries from the dead-letter queue itself.
    """

    __slots__ = ("delivery_count", "description", "enqueued_ms", "payload", "reason", "seq")

    def __init__(
        self, seq: int, *, enqueued_ms: int, payload: bytes, reason: str, description: str = ""
    ) -> None:
        self.seq = seq
        self.enqueued_ms = enqueued_ms
        self.payload = payload
        self.reason = reason
        self.description = description
        self.delivery_count = 0


#: What filters look at: names to values as `qel` takes them.
Properties = Mapping[str, object]
