"""What a cluster of hotpath nodes needs from outside, beyond `hotpath.ports`.

Subscriptions are divided into *shards*; each shard is *owned* by one node at a time. Who owns what
is agreed on through `Coordination`; that a node which no longer owns a shard cannot change anything
of it is enforced by the log itself (`ShardedLog.claim` fences whoever had it before), so that no
clock and no time-out has to be right for the data to be safe.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import MessageLog, RecordStore, Recovered

#: Ends a following or a watching; it returns when no more calls will come.
Stop = Callable[[], Awaitable[None]]


def shard_of(subscription: SubscriptionId | str, shards: int) -> int:
    """The shard that a subscription belongs to: for good, and alike on every node."""
    digest = blake2b(subscription.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def shard_of_topic(topic: TopicKey, shards: int) -> int:
    """The shard that a topic's own state belongs to: what is scheduled for it, its points."""
    return shard_of(f"{topic.tenant}/{topic.topic.value}", shards)


class ShardedLog(MessageLog, Protocol):
    """A `MessageLog` that several nodes share.

    `open` recovers nothing but what belongs to nobody's shard; the rest comes with `claim`.
    Sequence numbers strictly increase within a topic and are never reused; between two batches
    there may be numbers that nobody gets. Within a batch there are none.

    `commit` writes what concerns a claimed shard only while nobody else has claimed it since. When
    somebody has, that part is dropped, `on_lost` is called with the shard *before* the commit's
    result is set, and the rest of the commit takes effect: a settlement of a lost shard is thus
    never confirmed by whoever stops serving it in `on_lost`.
    """

    on_lost: Callable[[int], None]

    async def claim(self, shard: int) -> Recovered:
        """Take a shard over from whoever had it, and tell what is known of it.

        From now on nothing that an earlier claimant hands in for this shard takes effect.
        Raises LogFailure; then the shard may or may not have been taken from the other.
        """
        ...

    async def release(self, shard: int) -> None:
        """Stop writing for a shard, once everything handed in is durable. Raises LogFailure."""
        ...

    async def follow(
        self,
        topic: TopicKey,
        from_seq: int,
        deliver: Callable[[Batch], None],
        *,
        passed: Callable[[int], None] | None = None,
    ) -> Stop:
        """Deliver every batch of a topic from `from_seq` on, in order, each once, as it is durable.

        `passed` hears after each, and after one that had to be left out, below which number all has
        been delivered; that is as high as `bounds` says then, though no message may have it.
        The batches of this node's own commits are among them. It goes on by itself after the
        connection was lost. Raises LogFailure when it cannot begin.
        """
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A record as another node, or this one, has left it; `record` is None when it is gone."""

    kind: str
    key: str
    record: dict[str, object] | None


class SharedRecordStore(RecordStore, Protocol):
    """A `RecordStore` that several nodes share."""

    @property
    def written(self) -> int:
        """A number for the last change that was made here; later ones have higher numbers."""
        ...

    @property
    def seen(self) -> int:
        """Up to which change, of all nodes, `watch` has told."""
        ...

    async def newest(self) -> int:
        """The number of the last change that anybody has made. Raises LogFailure."""
        ...

    async def create(self, kind: str, key: str, record: dict[str, object]) -> bool:
        """Create a record unless there is one already; whether it was created. Raises LogFailure."""
        ...

    async def watch(
        self, changed: Callable[[Change], None], *, kinds: Collection[str] = ()
    ) -> Stop:
        """Tell of every change after this returns, this node's own too, in their order by key.

        With `kinds`, of records of these alone.

        It goes on by itself after the connection was lost, and then tells of everything that has
        changed meanwhile. Raises LogFailure when it cannot begin.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A value under a key of `Coordination`, and the revision that `swap` compares with."""

    key: str
    value: bytes
    revision: int


class Coordination(Protocol):
    """Small values with compare-and-set, that all nodes see: who is there and who owns what."""

    async def read(self, key: str) -> Entry | None:
        """What is there now, as the majority has it. Raises LogFailure."""
        ...

    async def swap(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Write if the key still has this revision (0: it is not there); the new revision or None.

        An empty value is none: `drop` removes a key.
        None means that somebody else was first, and nothing has changed. Raises LogFailure when
        it cannot be known whether the value was written.
        """
        ...

    async def drop(self, key: str) -> None:
        """Remove a key, there or not. Raises LogFailure."""
        ...

    async def watch(self, prefix: str, changed: Callable[[str, Entry | None], None]) -> Stop:
        """Tell what is there under a prefix now, and then of every change; None: it is gone.

        It goes on by itself after the connection was lost, and tells of what changed meanwhile.
        Raises LogFailure when it cannot begin.
        """
        ...


class Bus(Protocol):
    """Messages between nodes: at most once, in the order of their sending while nothing breaks."""

    @property
    def payload_max(self) -> int:
        """Bytes that one message may have."""
        ...

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send to whoever listens; that it arrives is not promised. Raises LogFailure.

        With `reply`, an empty message comes there when it is known that nobody listens.
        """
        ...

    async def listen(self, subject: str, receive: Callable[[str, bytes, str], None]) -> Stop:
        """Receive messages: the subject, the payload, and where a reply is wanted.

        `*` stands for any one part of a subject. Raises LogFailure when it cannot begin.
        """
        ...
