r"""Peek-lock: what has become of each message that was taken from a feed.

A taken message is *unsettled* until it is completed or dead-lettered, and is in one of four
states. Messages taken together share one `Holding`, so that a delivery costs no object of its own.

    LOCKED    taken by a receiver, until the lock ends
    RETURNED  free again, to be taken before any newer message
    DEFERRED  set aside by a receiver, taken only by sequence number
    DYING     on its way to the dead letters

    from \ event    complete   abandon*    lock ends*  link lost   defer      dead-letter
    LOCKED         (gone)     RETURNED    RETURNED    RETURNED    DEFERRED   DYING
    RETURNED       —          —           —           —           —          —
    DEFERRED       —          —           —           —           —          —
    DYING          —          —           —           —           —          —

    * delivery count + 1; at the maximum DYING instead of RETURNED. A message that was deferred
      before goes back to DEFERRED where others go back to RETURNED.

Only LOCKED answers to a settlement, and only with the serial of its lock: an older serial means
that the lock was lost meanwhile (`LockLost`). DYING ends with `settle` when its copy is on its way
to the log, or with `revive` (RETURNED) when the copy could not be made.

A table without a lock time (`lock_ms` None) is for receivers in this process, which hold messages
for as long as they like: their locks end only with them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from heapq import heappop, heappush
from typing import Final, Protocol

from hotpath.model.message import Batch

#: Holdings up to which nobody looks for ended ones among them.
EXPIRING_MIN: Final = 64
#: The end of a lock that has none.
FOREVER: Final = 1 << 62


class State(Enum):
    """Where an unsettled message is."""

    LOCKED = "locked"
    RETURNED = "returned"
    DEFERRED = "deferred"
    DYING = "dying"


# Reading a member off its class costs as much as the rest of a settlement.
_LOCKED: Final = State.LOCKED


class Holding:
    """Unsettled messages of one batch in one state.

    Attributes:
        batch: Where the messages are; None when not loaded since a restart.
        state: See the module's table.
        receiver: Who holds the lock (compared by identity), or None.
        serial: Names this lock among all locks of the feed.
        until_ms: When the lock ends, monotonic; FOREVER when only its receiver ends it.
        seqs: The messages that were locked together; some may be settled since.
        was_deferred: A lock on a deferred message: it goes back to being deferred.
    """

    __slots__ = ("batch", "receiver", "seqs", "serial", "state", "until_ms", "was_deferred")

    def __init__(  # one for each taking: keywords would cost as much as all the rest
        self,
        batch: Batch | None,
        state: State,
        receiver: object | None = None,
        serial: int = 0,
        until_ms: int = 0,
        seqs: Sequence[int] = (),
    ) -> None:
        self.batch = batch
        self.state = state
        self.receiver = receiver
        self.serial = serial
        self.until_ms = until_ms
        self.seqs = seqs
        self.was_deferred = False


class Accepted(Protocol):
    """Messages that receivers have accepted, each with the serial of its lock."""

    def complete(
        self,
        unsettled: dict[int, Holding],
        locked: State,
        done: list[int],
        late: list[object],
        /,
    ) -> int:
        """Take out what is still locked; see `LockTable.complete_accepted`."""
        ...


#: Nothing is ever put into this one: most tables have no lock, and an empty queue takes memory.
NO_HOLDINGS: Final[deque[Holding]] = deque()
_NO_SEQS: Final[set[int]] = set()
#: Nor into these: of most messages there is nothing to be kept but that they are locked.
_NONE_RETURNED: Final[list[int]] = []
_NO_COUNTS: Final[dict[int, int]] = {}
_NO_DEFERRAL: Final[dict[int, bool]] = {}
_NO_PROPERTIES: Final[dict[int, bytes]] = {}


class LockTable:
    """The unsettled messages of one feed.

    `counts` holds the earlier failed deliveries of a message where there were any, `modified` the
    application-properties that receivers have given it, as an encoded map; `modified_bytes` is the
    size of all of these. The changes since the last `forget_changes` are in `changed_counts`,
    `changed_deferred` and `changed_modified`. `watched` says that somebody sees to the ends of locks.
    """

    __slots__ = (
        "_deliveries_max",
        "_early",
        "_expiring",
        "_lock_ms",
        "_locked",
        "_serial",
        "changed_counts",
        "changed_deferred",
        "changed_modified",
        "counts",
        "deferred",
        "modified",
        "modified_bytes",
        "returned",
        "unsettled",
        "watched",
    )

    def __init__(
        self, *, lock_ms: int | None, deliveries_max: int | None, first_serial: int
    ) -> None:
        self._lock_ms = lock_ms
        self._deliveries_max = deliveries_max
        self._serial = first_serial
        self._expiring = NO_HOLDINGS
        self._locked = 0
        # Ascending by sequence number but for `_early`: first deliveries come in order, and a
        # message keeps its place until it is settled.
        self.unsettled: dict[int, Holding] = {}
        # Deferred before a restart and beyond what was delivered in order since: they stand in
        # front of lower ones that are taken later.
        self._early = _NO_SEQS
        self.returned = _NONE_RETURNED
        self.counts: dict[int, int] = {}
        self.deferred = _NO_SEQS
        self.changed_counts = _NO_COUNTS
        self.changed_deferred = _NO_DEFERRAL
        self.modified = _NO_PROPERTIES
        self.modified_bytes = 0
        self.changed_modified = _NO_PROPERTIES
        self.watched = False

    def __len__(self) -> int:
        return len(self.unsettled)

    @property
    def locked(self) -> int:
        """Messages under a lock now."""
        return self._locked

    def first_unsettled(self) -> int | None:
        """The lowest unsettled sequence number, or None."""
        if not self._early:
            return next(iter(self.unsettled), None)
        first_early = min(self._early)
        for seq in self.unsettled:
            if seq not in self._early:
                return min(seq, first_early)
        return first_early

    def restore(
        self,
        seqs: Iterable[int],
        *,
        deferred: set[int],
        counts: dict[int, int],
        modified: dict[int, bytes] | None = None,
    ) -> None:
        """Take over what was unsettled before a restart; locks do not survive one.

        `seqs` were delivered in order; `deferred` may name messages beyond them.
        """
        in_order = sorted(seqs)
        self.returned = [seq for seq in in_order if seq not in deferred]
        self.deferred = set(deferred)
        self._early = self.deferred.difference(in_order)
        for seq in (*in_order, *sorted(self._early)):
            state = State.DEFERRED if seq in deferred else State.RETURNED
            self.unsettled[seq] = Holding(None, state)
        self.counts.update(counts)
        self.modified = {**self.modified, **(modified or {})} or _NO_PROPERTIES
        self.modified_bytes = sum(map(len, self.modified.values()))

    # Taking

    def lock(
        self, batch: Batch | None, seqs: Sequence[int], *, receiver: object, now_ms: int
    ) -> Holding:
        """Lock messages that are taken for the first time, or were `pop_returned`."""
        holding = self._new_lock(batch, seqs, receiver=receiver, now_ms=now_ms)
        if len(seqs) == 1:
            self.unsettled[seqs[0]] = holding
        else:
            self.unsettled.update(dict.fromkeys(seqs, holding))
        return holding

    def lock_deferred(self, seq: int, batch: Batch, *, receiver: object, now_ms: int) -> Holding:
        """Lock a deferred message that was asked for by its number."""
        holding = self._new_lock(batch, (seq,), receiver=receiver, now_ms=now_ms)
        holding.was_deferred = True
        self.unsettled[seq] = holding
        return holding

    def _new_lock(
        self, batch: Batch | None, seqs: Sequence[int], *, receiver: object, now_ms: int
    ) -> Holding:
        expiring = self._expiring
        if expiring:
            self._forget_ended()
        if len(expiring) >= EXPIRING_MIN and len(expiring) >= 2 * self._locked:
            # At least half of them are settled: without this they would stay until their time.
            expiring = self._expiring = deque(filter(self._still_locked, expiring))
        elif expiring is NO_HOLDINGS:
            expiring = self._expiring = deque()
        self._serial += 1
        until_ms = FOREVER if self._lock_ms is None else now_ms + self._lock_ms
        holding = Holding(batch, _LOCKED, receiver, self._serial, until_ms, seqs)
        expiring.append(holding)
        self._locked += len(seqs)
        return holding

    def _forget_ended(self) -> None:
        """Forget the oldest holdings as far as nothing is left of them: most end in order."""
        expiring, held = self._expiring, self.unsettled.get
        while expiring:
            first = expiring[0]
            # The last message of a holding is usually the last one to be settled.
            if (first.seqs and held(first.seqs[-1]) is first) or self._still_locked(first):
                return
            expiring.popleft()

    def returned_front(self) -> int | None:
        """The lowest message that waits to be taken again, or None."""
        while self.returned:
            seq = self.returned[0]
            holding = self.unsettled.get(seq)
            if holding is not None and holding.state is State.RETURNED:
                return seq
            heappop(self.returned)
        return None

    def pop_returned(self) -> int:
        """Take the message `returned_front` named."""
        return heappop(self.returned)

    # Settling

    def held(self, seq: int, serial: int) -> Holding | None:
        """The lock on `seq` if `serial` still names it, or None: the lock was lost."""
        holding = self.unsettled.get(seq)
        if holding is None or holding.serial != serial or holding.state is not _LOCKED:
            return None
        return holding

    def complete(self, held: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Settle messages (number and lock serial) for good; these, and those that were lost."""
        done: list[int] = []
        lost: list[int] = []
        for seq, serial in held:
            if self.held(seq, serial) is None:
                lost.append(seq)
            else:
                del self.unsettled[seq]
                done.append(seq)
        self._completed(done)
        return done, lost

    def complete_accepted(self, accepted: Accepted, late: list[object]) -> tuple[list[int], int]:
        """As `complete`, for what a link end has gathered: it walks the table itself.

        Deliveries whose receivers wait for an answer and whose lock was lost are added to `late`.
        Returns the messages that are settled, and how many receivers wait for an answer to them.
        """
        done: list[int] = []
        waiting = accepted.complete(self.unsettled, _LOCKED, done, late)
        self._completed(done)
        return done, waiting

    def _completed(self, done: list[int]) -> None:
        self._locked -= len(done)
        if self.counts or self.deferred or self._early or self.modified:
            for seq in done:
                self._forget(seq)

    def settle(self, seq: int) -> None:
        """Forget a message: it is done with, whatever state it was in."""
        if self.unsettled.pop(seq).state is _LOCKED:
            self._locked -= 1
        self._forget(seq)

    def _forget(self, seq: int) -> None:
        self.forget_history(seq)
        self.deferred.discard(seq)
        self._early.discard(seq)

    def forget_history(self, seq: int) -> None:
        """Forget what earlier deliveries have left: the count, and the properties given."""
        self.counts.pop(seq, None)
        if self.modified:
            self.modified_bytes -= len(self.modified.pop(seq, b""))

    def modify(self, seq: int, properties: bytes) -> None:
        """Note the application-properties that receivers have given a message, all of them."""
        self.modified_bytes += len(properties) - len(self.modified.get(seq, b""))
        if self.modified is _NO_PROPERTIES:
            self.modified = {}
        if self.changed_modified is _NO_PROPERTIES:
            self.changed_modified = {}
        self.modified[seq] = self.changed_modified[seq] = properties

    def give_back(self, seq: int, holding: Holding, *, failed: bool) -> bool:
        """Unlock a message; `failed` counts the delivery. False when it must be dead-lettered."""
        self._locked -= 1
        if failed:
            count = self.count_failure(seq)
            if self._deliveries_max is not None and count >= self._deliveries_max:
                self.unsettled[seq] = Holding(holding.batch, State.DYING)
                return False
        self._park(seq, holding.batch, deferred=holding.was_deferred)
        return True

    def count_failure(self, seq: int) -> int:
        """Count a failed delivery of a locked message that stays locked; how many there were."""
        count = self.counts.get(seq, 0) + 1
        if self.changed_counts is _NO_COUNTS:
            self.changed_counts = {}
        self.counts[seq] = self.changed_counts[seq] = count
        return count

    def defer(self, seq: int, holding: Holding) -> None:
        """Set a locked message aside, to be taken only by its number."""
        self._locked -= 1
        self._park(seq, holding.batch, deferred=True)

    def doom(self, seq: int, holding: Holding) -> None:
        """Mark a locked message as on its way to the dead letters."""
        self._locked -= 1
        self.unsettled[seq] = Holding(holding.batch, State.DYING)

    def revive(self, seq: int) -> None:
        """Let a dying message wait again: it could not be copied aside."""
        self._park(seq, None, deferred=False)

    def _park(self, seq: int, batch: Batch | None, *, deferred: bool) -> None:
        """Put an unlocked message where it waits, and note a change of its deferral."""
        if deferred:
            # For how long nobody knows: without its batch, which is read when it is asked for.
            self.unsettled[seq] = Holding(None, State.DEFERRED)
        else:
            self.unsettled[seq] = Holding(batch, State.RETURNED)
            if self.returned is _NONE_RETURNED:
                self.returned = []
            heappush(self.returned, seq)
        if deferred != (seq in self.deferred):
            self._note_deferral(seq, deferred=deferred)

    def _note_deferral(self, seq: int, *, deferred: bool) -> None:
        if self.deferred is _NO_SEQS:
            self.deferred = set()
        (self.deferred.add if deferred else self.deferred.discard)(seq)
        if self.changed_deferred is _NO_DEFERRAL:
            self.changed_deferred = {}
        self.changed_deferred[seq] = deferred

    def renew(self, seq: int, holding: Holding, *, now_ms: int) -> Holding:
        """Extend the lock of one message; its serial stays, so its lock token does too."""
        renewed = Holding(holding.batch, _LOCKED)
        renewed.receiver = holding.receiver
        renewed.serial = holding.serial
        renewed.was_deferred = holding.was_deferred
        renewed.until_ms = FOREVER if self._lock_ms is None else now_ms + self._lock_ms
        renewed.seqs = (seq,)
        self.unsettled[seq] = renewed
        self._expiring.append(renewed)
        return renewed

    # Time and loss

    def next_deadline(self) -> int | None:
        """When the next lock ends, monotonic milliseconds; None when none does."""
        if self._lock_ms is None:
            return None
        while self._expiring:
            holding = self._expiring[0]
            if self._still_locked(holding):
                return holding.until_ms
            self._expiring.popleft()
        return None

    def expire(self, now_ms: int, *, limit: int | None = None) -> list[int]:
        """Give back what was locked for too long; the messages that must be dead-lettered.

        With a limit, no further lock once so many messages are locked no more.
        """
        dying: list[int] = []
        least = 0 if limit is None else max(self._locked - limit, 0)
        while self._locked > least and self._expiring and self._expiring[0].until_ms <= now_ms:
            holding = self._expiring.popleft()
            dying.extend(
                seq
                for seq in self._still_locked(holding)
                if not self.give_back(seq, holding, failed=True)
            )
        return dying

    def drop_receiver(self, receiver: object) -> int:
        """Give back all that a lost link held, counts unchanged; how many there were."""
        returned = 0
        others: deque[Holding] = deque()
        for holding in self._expiring:
            if holding.receiver is not receiver:
                others.append(holding)
                continue
            for seq in self._still_locked(holding):
                self.give_back(seq, holding, failed=False)
                returned += 1
        self._expiring = others
        return returned

    def _still_locked(self, holding: Holding) -> list[int]:
        """Which messages of a holding are still under it; forgets the others."""
        unsettled = self.unsettled
        left = [seq for seq in holding.seqs if unsettled.get(seq) is holding]
        holding.seqs = left
        return left

    def has_changes(self) -> bool:
        """Whether something is to be handed to a commit beside what is settled."""
        return bool(self.changed_counts or self.changed_deferred or self.changed_modified)

    def forget_changes(self) -> None:
        """The changes have been handed to a commit."""
        self.changed_counts = _NO_COUNTS
        self.changed_deferred = _NO_DEFERRAL
        self.changed_modified = _NO_PROPERTIES
