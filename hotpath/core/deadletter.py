"""A subscription's dead-letter queue: a feed over copied messages, in sequence order.

Nothing is dead-lettered a second time: whatever a receiver does but complete puts the message
back, and only its delivery count grows. Only the sequence numbers and delivery counts live in
memory; the messages are read from the log when they are asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush

from hotpath.core.feed import Taken
from hotpath.core.locks import LockTable, State
from hotpath.model.message import Batch


class DeadLetterQueue:
    """Dead letters of one subscription.

    Attributes:
        locks: Messages that were taken and are not settled.
        missing: A message that must be loaded before `take` can go on.
        removed: Completed since the last commit.
        sizes: Bytes of each letter there is, and of those whose copy is under way.
        on_size: Hears by how many bytes they have become more or less.
    """

    __slots__ = (
        "_batches",
        "_ready",
        "_waiting",
        "locks",
        "missing",
        "on_size",
        "removed",
        "sizes",
    )

    def __init__(self, *, locks: LockTable) -> None:
        self.locks = locks
        self.missing: int | None = None
        self.removed: list[int] = []
        self.sizes: dict[int, int] = {}
        self.on_size: Callable[[int], None] = lambda _: None
        # A heap, because messages are set aside in any order, and what is in it.
        self._ready: list[int] = []
        self._waiting: set[int] = set()
        self._batches: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self.locks)

    def __contains__(self, seq: int) -> bool:
        return seq in self._waiting or seq in self.locks.unsettled

    def add(self, seqs: Iterable[int]) -> None:
        """Queue messages whose copies are durable."""
        for seq in seqs:
            if seq not in self._waiting:
                self._waiting.add(seq)
                heappush(self._ready, seq)

    def expect(self, sizes: Mapping[int, int]) -> None:
        """Letters are being copied, or there since before a restart: what they take counts."""
        self.on_size(sum(sizes.values()) - sum(self.sizes.get(seq, 0) for seq in sizes))
        self.sizes.update(sizes)

    def clear_sizes(self) -> None:
        """The queue is given up: what its letters took is free."""
        self.on_size(-sum(self.sizes.values()))
        self.sizes = {}

    def _gone(self, seqs: Iterable[int]) -> None:
        self.on_size(-sum(self.sizes.pop(seq, 0) for seq in seqs))

    def has_ready(self) -> bool:
        """Whether there is anything to take, now or after loading."""
        return bool(self._waiting) or self.locks.returned_front() is not None

    def supply(self, seq: int, batch: Batch) -> None:
        """Give a message that was read, as a batch of one; kept only while it waits."""
        holding = self.locks.unsettled.get(seq)
        returned = holding is not None and holding.state is State.RETURNED
        if returned or seq in self._waiting:
            self._batches[seq] = batch

    def lose(self, seq: int) -> None:
        """The copy of `seq` cannot be read any more: forget it."""
        if seq in self.locks.unsettled:
            self.locks.settle(seq)
        self._waiting.discard(seq)
        self._batches.pop(seq, None)
        self.locks.counts.pop(seq, None)
        self._gone((seq,))

    def release(self) -> None:
        """Forget what was loaded: nobody is there to take it."""
        self._batches.clear()

    def take(self, limit: int, *, receiver: object, now_ms: int, lock: bool) -> list[Taken]:
        """Hand out up to `limit` messages, lowest first; see `Feed.take`."""
        self.missing = None
        taken: list[Taken] = []
        while len(taken) < limit:
            returned = self.locks.returned_front()
            seq = returned if returned is not None else self._ready_front()
            if seq is None:
                break
            batch = self._batches.pop(seq, None)
            if batch is None:
                self.missing = seq
                break
            if returned is not None:
                self.locks.pop_returned()
            else:
                self._waiting.discard(heappop(self._ready))
            taken.append(self._hand_out(seq, batch, receiver=receiver, now_ms=now_ms, lock=lock))
        return taken

    def _ready_front(self) -> int | None:
        """The lowest message that nobody had yet, or None."""
        while self._ready and self._ready[0] not in self._waiting:
            heappop(self._ready)
        return self._ready[0] if self._ready else None

    def _hand_out(
        self, seq: int, batch: Batch, *, receiver: object, now_ms: int, lock: bool
    ) -> Taken:
        """Lock or settle one message."""
        counts = [self.locks.counts.get(seq, 0)]
        if lock:
            # Without its batch: what comes back is read again, so that no pile of dead letters
            # stays in memory.
            holding = self.locks.lock(None, (seq,), receiver=receiver, now_ms=now_ms)
            return Taken(batch, (seq,), counts, holding.serial, holding.until_ms)
        if seq in self.locks.unsettled:
            self.locks.settle(seq)
        else:
            self.locks.counts.pop(seq, None)
        self.settled((seq,))
        return Taken(batch, (seq,), counts, 0, 0)

    def settled(self, seqs: Sequence[int]) -> None:
        """Note that messages are done with."""
        self.removed.extend(seqs)
        self._gone(seqs)
