"""What a receiver takes from: the shape that subscriptions and dead-letter queues share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hotpath.core.locks import LockTable
from hotpath.model.message import Batch


class Taken(NamedTuple):
    """Messages of one batch, handed to one receiver together.

    `counts` tells the earlier failed deliveries of each message, or is None where there were none;
    `serial` names the lock (0: settled by the taking); `until_ms` is its end, monotonic. `modified`
    holds what receivers have given messages by number; with it, `counts` is never None.
    """

    batch: Batch
    seqs: Sequence[int]
    counts: Sequence[int] | None
    serial: int
    until_ms: int
    modified: Mapping[int, bytes] | None = None


class Feed(Protocol):
    """A subscription or its dead-letter queue, as the service drives it."""

    locks: LockTable

    def take(self, limit: int, *, receiver: object, now_ms: int, lock: bool) -> list[Taken]:
        """Hand out up to `limit` messages, lowest first; without `lock` they are settled at once.

        Returns fewer when the next message's batch must be loaded first: `missing` names it.
        """
        ...

    @property
    def missing(self) -> int | None:
        """A sequence number whose batch is not in memory and stands in the way, or None."""
        ...

    def has_ready(self) -> bool:
        """Whether `take` may give something now or after loading `missing`."""
        ...

    def settled(self, seqs: Sequence[int]) -> None:
        """Messages have been settled (and removed from `locks`)."""
        ...
