"""One subscription's state: a filter, a cursor, and what is beyond the cursor.

Theory of operation. Every message of the topic is, seen from the subscription, in exactly one
place, and places are in sequence order:

    settled ... | unsettled (taken) | ready (matched, waiting) | beyond
                ^ cursor                                       ^ horizon of matching

A *live* subscription has been offered everything in the log: the router calls `offer` for each
new batch. When `ready` is full, the subscription falls *behind* instead of growing: `behind_at`
remembers where it stopped, new batches are only counted, and somebody reads the log from there
on and calls `refill`. Behind or live is all there is to catching up, to replay (`startFrom`), and
to a restart, where a subscription begins behind at its horizon.

Invariants: the cursor never passes an unsettled message; `ready` is ascending and above all that
was taken; a message is in one place only.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

from hotpath.core.feed import Taken
from hotpath.core.locks import Holding, LockTable, State
from hotpath.model.message import Batch
from hotpath.model.subscription import Progress, ProgressDelta, SubscriptionSpec
from qel import Filter


class Run:
    """Matched messages of one batch; `start` counts those already taken."""

    __slots__ = ("batch", "seqs", "start")

    def __init__(self, batch: Batch, seqs: Sequence[int]) -> None:
        self.batch = batch
        self.seqs = seqs
        self.start = 0


#: Nothing is ever put into this one: an empty queue of its own takes more than all the rest of a
#: subscription that nobody reads.
NO_RUNS: Final[deque[Run]] = deque()
_NO_SEQS: Final[set[int]] = set()


class Subscription:
    """The live state of one subscription; see the module for how it works.

    Attributes:
        spec: What it is.
        key: Whose log it reads; the very object of its topic once it takes part there.
        filter: The compiled filter, the creator's condition included.
        locks: Messages that were taken and are not settled.
        behind_at: Where to read on in the log, or None when live.
        active_ms: Last activity, service time (see `hotpath.service.liveness`).
        receivers: Number of links attached to the feed or its dead letters.
        only: Who reads it, if it is one; see `hotpath.service.deliver`.
        missing: A message that must be loaded before `take` can go on.
        full: A taking was cut short because too many messages are unsettled.
        matched_total: Messages that matched since its creation.
        counted: Whether `matched_total` is complete; after a restart, and with a start in the
            past, it lacks what was logged from `counted_to` up to `count_end`.
        settled_total: Messages settled since its creation.
        delivered_total: Deliveries handed out since its creation.
        persisted_active_ms: The last activity that is durable, or will be with the next commit.
        changed_since_snapshot: A checkpoint has something to write.
        deleted: It does not exist any more.
    """

    __slots__ = (
        "_matched_base",
        "_ready",
        "_ready_count",
        "_ready_max",
        "_resumed_deferred_end",
        "_resumed_history_end",
        "_resumed_settled",
        "_settled_since",
        "active_ms",
        "behind_at",
        "changed_since_snapshot",
        "count_end",
        "counted",
        "counted_to",
        "deleted",
        "delivered_total",
        "filter",
        "full",
        "key",
        "locks",
        "locks_max",
        "matched_total",
        "missing",
        "only",
        "persisted_active_ms",
        "receivers",
        "settled_total",
        "spec",
    )

    def __init__(
        self,
        spec: SubscriptionSpec,
        filter_: Filter,
        *,
        locks: LockTable,
        ready_max: int,
        locks_max: int,
    ) -> None:
        self.spec = spec
        self.key = spec.key
        self.filter = filter_
        self.locks = locks
        self.locks_max = locks_max
        self.missing: int | None = None
        self.full = False
        self.behind_at: int | None = spec.start_seq
        self.active_ms = 0
        self.persisted_active_ms = 0
        self.receivers = 0
        self.only: object | None = None
        self.matched_total = 0
        self.counted = True
        self.counted_to = self.count_end = spec.start_seq
        self.settled_total = 0
        self.delivered_total = 0
        self.changed_since_snapshot = True
        self.deleted = False
        self._ready = NO_RUNS
        self._ready_count = 0
        self._ready_max = ready_max
        self._settled_since: list[int] = []
        self._resumed_settled = _NO_SEQS
        self._resumed_history_end = 0
        self._resumed_deferred_end = 0
        self._matched_base = 0

    def resume(self, progress: Progress) -> None:
        """Take over what the log knew at its opening."""
        self.behind_at = max(progress.horizon, self.spec.start_seq)
        self.locks.restore(
            progress.unsettled,
            deferred=progress.deferred,
            counts=progress.counts,
            modified=progress.modified,
        )
        self._resumed_settled = {seq for seq in progress.settled if seq >= self.behind_at}
        self._resumed_history_end = max((*progress.counts, *progress.modified), default=-1) + 1
        self._resumed_deferred_end = max(progress.deferred, default=-1) + 1
        self.settled_total = progress.settled_total
        self.delivered_total = progress.delivered_total
        self.matched_total, self.counted_to = progress.matched_total, progress.counted_to
        if self.counted_to <= self.behind_at:
            # What matched below is known without the log: it was settled or is unsettled.
            in_order = len(progress.unsettled)
            self.matched_total = self.settled_total - len(self._resumed_settled) + in_order
            self.counted_to = self.behind_at
        self._matched_base = self.matched_total

    def joins(self, routed_to: int) -> bool:
        """Take part in the topic from `routed_to` on; whether it is live at once."""
        self.count_end = routed_to
        self.counted = self.counted_to >= routed_to
        return self.caught_up(routed_to)

    # New messages

    def offer(self, batch: Batch, seqs: Sequence[int]) -> None:
        """Queue the matching messages of a batch that was just committed."""
        self.matched_total += len(seqs)
        if self.behind_at is not None:
            self.changed_since_snapshot = True
            return
        if self._ready_count >= self._ready_max:
            self.behind_at = batch.first_seq
            self.changed_since_snapshot = True
            return
        if self._ready is NO_RUNS:
            self._ready = deque()
        self._ready.append(Run(batch, seqs))
        self._ready_count += len(seqs)

    def refill(self, batch: Batch, seqs: Sequence[int]) -> None:
        """Queue what matches in a batch read from the log, and go on behind it.

        `batch` must be the first at or after `behind_at`.
        """
        at = self.behind_at
        if at is not None and at > batch.first_seq:
            seqs = [seq for seq in seqs if seq >= at]
        if self._resumed_settled or self.locks.deferred:
            # What was settled or deferred before the restart is not delivered again.
            gone, deferred = self._resumed_settled, self.locks.deferred
            seqs = [seq for seq in seqs if seq not in gone and seq not in deferred]
        if seqs:
            if self._ready is NO_RUNS:
                self._ready = deque()
            self._ready.append(Run(batch, seqs))
            self._ready_count += len(seqs)
        self.behind_at = batch.end_seq

    def skip_to(self, seq: int) -> None:
        """Go on at `seq`: the log has nothing before it that was not looked at."""
        if self.behind_at is not None and self.behind_at < seq:
            self.behind_at = seq
            self.changed_since_snapshot = True

    def caught_up(self, next_seq: int) -> bool:
        """Become live if everything below `next_seq` has been looked at."""
        if self.behind_at is not None and self.behind_at >= next_seq:
            self.behind_at = None
            # Now the figure is known for certain, whatever retention has taken unread.
            self.matched_total = self.settled_total + self._known()
            self.counted = True
        return self.behind_at is None

    def wants_refill(self) -> bool:
        """Whether a behind subscription has room for more."""
        return self.behind_at is not None and self._ready_count <= self._ready_max // 2

    def lose(self, seq: int) -> None:
        """The log has no message `seq` any more (retention, damage): count it as settled.

        What was matched in the same batch and not taken yet is lost with it.
        """
        if seq in self.locks.unsettled:
            self.locks.settle(seq)
            self.settled((seq,))
            return
        for index, run in enumerate(self._ready):
            if run.batch.first_seq <= seq < run.batch.end_seq:
                del self._ready[index]
                self._lose_run(run)
                return

    def lose_below(self, first_seq: int) -> bool:
        """The log begins at `first_seq` now: settle what is neither there nor in memory.

        True when that changes the progress. What receivers hold is theirs to settle.
        """
        before = self.settled_total
        waiting = (State.RETURNED, State.DEFERRED)
        for seq, holding in list(self.locks.unsettled.items()):
            if seq < first_seq and holding.state in waiting and not _is_loaded(holding.batch):
                self.locks.settle(seq)
                self.settled((seq,))
        while self._ready and self._ready[0].batch.end_seq <= first_seq:
            if _is_loaded(self._ready[0].batch):
                break
            self._lose_run(self._ready.popleft())
        was_at = self.behind_at
        self.skip_to(first_seq)
        return self.settled_total != before or self.behind_at != was_at

    def _lose_run(self, run: Run) -> None:
        left = run.seqs[run.start :]
        self._ready_count -= len(left)
        for seq in left:
            self.locks.forget_history(seq)
        self.settled(left)

    # Taking

    def has_ready(self) -> bool:
        """Whether there is anything to take, now or after loading."""
        return self._ready_count > 0 or self.locks.returned_front() is not None

    def has_more(self) -> bool:
        """Whether another taking may give something, now, after loading or from the log."""
        return self.behind_at is not None or self.has_ready()

    @property
    def ready_count(self) -> int:
        """Matched messages queued in memory."""
        return self._ready_count

    def take(self, limit: int, *, receiver: object, now_ms: int, lock: bool) -> list[Taken]:
        """Hand out up to `limit` messages, lowest first; see `Feed.take`."""
        self.missing = None
        taken: list[Taken] = []
        while limit > 0 and self._take_returned(taken, receiver, now_ms=now_ms, lock=lock):
            limit -= 1
        room = self.locks_max - len(self.locks)
        if lock and limit > room:
            # Only what was never taken adds to the unsettled ones.
            self.full, limit = True, room
        if self.missing is None:
            self._take_ready(taken, limit, receiver=receiver, now_ms=now_ms, lock=lock)
        return taken

    def take_run(self, limit: int, *, receiver: object, now_ms: int) -> Holding | None:
        """Lock what matched in the next batch, where there is nothing else to be thought of.

        Up to `limit` messages; the others stay for the next taking. None, and nothing has changed:
        `take` finds out what there is.
        """
        if not self._ready:
            return None
        run, locks = self._ready[0], self.locks
        seqs, batch, start = run.seqs, run.batch, run.start
        left = len(seqs) - start
        count = min(left, limit)
        if (
            count <= 0
            or locks.returned
            or self.missing is not None
            or self.behind_at is not None
            or batch.payloads is None
            or not batch.lasting
            or len(locks.unsettled) + count > self.locks_max
            or seqs[start] < self._resumed_history_end
        ):
            return None
        if count == left:
            self._ready.popleft()
        else:
            run.start = start + count
        if count < len(seqs):
            seqs = seqs[start : start + count]
        self._ready_count -= count
        self.delivered_total += count
        return locks.lock(batch, seqs, receiver=receiver, now_ms=now_ms)

    def _take_returned(
        self, taken: list[Taken], receiver: object, *, now_ms: int, lock: bool
    ) -> bool:
        """Hand out the lowest returned message; False when there is none to hand out."""
        seq = self.locks.returned_front()
        if seq is None:
            return False
        batch = self.locks.unsettled[seq].batch
        if batch is None or batch.payloads is None:
            self.missing = seq
            return False
        self.locks.pop_returned()
        counts, modified = self._history((seq,))
        if lock:
            holding = self.locks.lock(batch, (seq,), receiver=receiver, now_ms=now_ms)
            serial, until_ms = holding.serial, holding.until_ms
        else:
            self.locks.settle(seq)
            self.settled((seq,))
            serial = until_ms = 0
        taken.append(Taken(batch, (seq,), counts, serial, until_ms, modified))
        self.delivered_total += 1
        return True

    def _history(self, seqs: Sequence[int]) -> tuple[list[int], dict[int, bytes] | None]:
        """What earlier deliveries of messages have left: counts, and properties given."""
        counts, modified = self.locks.counts, self.locks.modified
        given = {seq: modified[seq] for seq in seqs if seq in modified} if modified else None
        return [counts.get(seq, 0) for seq in seqs], given or None

    def _take_ready(
        self, taken: list[Taken], limit: int, *, receiver: object, now_ms: int, lock: bool
    ) -> None:
        """Hand out matched messages that nobody had yet."""
        while limit > 0 and self._ready:
            run = self._ready[0]
            batch, left = run.batch, len(run.seqs) - run.start
            if left and batch.payloads is None:
                self.missing = run.seqs[run.start]
                return
            if left <= limit:
                seqs = run.seqs if run.start == 0 else run.seqs[run.start :]
                self._ready.popleft()
            else:
                seqs = run.seqs[run.start : run.start + limit]
                run.start += limit
            if seqs:
                limit -= len(seqs)
                self._hand_out(taken, batch, seqs, receiver=receiver, now_ms=now_ms, lock=lock)

    def _hand_out(
        self,
        taken: list[Taken],
        batch: Batch,
        seqs: Sequence[int],
        *,
        receiver: object,
        now_ms: int,
        lock: bool,
    ) -> None:
        """Move matched messages from ready to locked, or (without a lock) to settled."""
        self._ready_count -= len(seqs)
        self.delivered_total += len(seqs)
        counts = modified = None
        if seqs[0] < self._resumed_history_end:
            counts, modified = self._history(seqs)
        if lock:
            holding = self.locks.lock(batch, seqs, receiver=receiver, now_ms=now_ms)
            serial, until_ms = holding.serial, holding.until_ms
            taken.append(Taken(batch, seqs, counts, serial, until_ms, modified))
            return
        self.settled(seqs)
        for seq in seqs if counts else ():
            self.locks.forget_history(seq)
        taken.append(Taken(batch, seqs, counts, 0, 0, modified))

    def supply(self, batches: Iterable[Batch]) -> None:
        """Give back batches, in order, that were read again because `missing` named a message."""
        unsettled = self.locks.unsettled
        # Once through both: there may be ten thousands that are ready, and hundreds were read.
        runs = iter(self._ready)
        run = next(runs, None)
        for batch in batches:
            for seq in range(batch.first_seq, batch.end_seq) if unsettled else ():
                holding = unsettled.get(seq)
                if holding is not None and not _is_loaded(holding.batch):
                    holding.batch = batch
            while run is not None and run.batch.first_seq < batch.first_seq:
                run = next(runs, None)
            is_its = run is not None and run.batch.first_seq == batch.first_seq
            if run is not None and is_its and not _is_loaded(run.batch):
                run.batch = batch

    # Looking

    def unsettled_from(self, seq: int, *, limit: int) -> list[int]:
        """The lowest unsettled messages at or after `seq` that have been looked at, in order."""
        end = self.behind_at
        known = (
            each
            for each, holding in self.locks.unsettled.items()
            if each >= seq and (end is None or each < end) and holding.state is not State.DYING
        )
        queued = (
            each for run in self._ready for each in islice(run.seqs, run.start, None) if each >= seq
        )
        return nsmallest(limit, chain(known, queued))

    def settled_ahead(self, seq: int) -> bool:
        """Whether a message not looked at yet was settled before the restart, or is dying."""
        holding = self.locks.unsettled.get(seq)
        dying = holding is not None and holding.state is State.DYING
        return dying or seq in self._resumed_settled

    # Settling

    def settled(self, seqs: Sequence[int]) -> None:
        """Note that messages are done with; `locks` has forgotten them already."""
        self._settled_since.extend(seqs)
        self.settled_total += len(seqs)
        if self._resumed_deferred_end:
            # Perhaps ahead of what is taken in order, which would pass it as not settled.
            end = self._resumed_deferred_end
            if self._resumed_settled is _NO_SEQS:
                self._resumed_settled = set()
            self._resumed_settled.update(seq for seq in seqs if seq < end)

    def cursor(self, routed_to: int) -> int:
        """Everything below this is settled; `routed_to` is where the topic's routing stands."""
        first = self.locks.first_unsettled()
        horizon = self._horizon(routed_to)
        return horizon if first is None else min(first, horizon)

    def _horizon(self, routed_to: int) -> int:
        """First sequence number that was never taken."""
        for run in self._ready:
            if run.start < len(run.seqs):
                return run.seqs[run.start]
        return routed_to if self.behind_at is None else self.behind_at

    def backlog(self, routed_to: int) -> int:
        """Matching messages that are not settled."""
        known = self._known()
        if self.behind_at is None:
            return known
        # Retention may have taken matches unread: no more can be left than there are messages.
        beyond = min(self.matched_total - self.settled_total - known, routed_to - self.behind_at)
        return known + max(0, beyond)

    def _known(self) -> int:
        """Matching messages that are not settled and have been looked at."""
        return self._ready_count + len(self.locks)

    # Commits

    def collect_delta(self, *, routed_to: int, active_ms: int | None) -> ProgressDelta:
        """What has changed since the last commit; the next one starts afresh."""
        cursor, since, locks = self.cursor(routed_to), self._settled_since, self.locks
        beyond: tuple[int, ...] = ()
        if since:
            # In order is usual: then the cursor says it all.
            if max(since) >= cursor:
                beyond = tuple(seq for seq in since if seq >= cursor)
            self._settled_since = []
        self.changed_since_snapshot = True
        if not locks.has_changes():
            return ProgressDelta(
                cursor, beyond, (), (), active_ms, self.settled_total, self.delivered_total
            )
        delta = ProgressDelta(
            cursor,
            beyond,
            tuple(locks.changed_counts.items()),
            tuple(locks.changed_deferred.items()),
            active_ms,
            self.settled_total,
            self.delivered_total,
            tuple(locks.changed_modified.items()),
        )
        locks.forget_changes()
        return delta

    def snapshot(self, *, routed_to: int) -> Progress:
        """The whole progress, for the log's checkpoint; takes the place of a delta."""
        horizon = self._horizon(routed_to)
        if self._resumed_settled:
            self._resumed_settled = {seq for seq in self._resumed_settled if seq >= horizon}
        progress = Progress(
            horizon,
            {seq for seq in self.locks.unsettled if seq < horizon},
            set(self._resumed_settled),
            dict(self.locks.counts),
            set(self.locks.deferred),
            self.persisted_active_ms,
            self.settled_total,
            self.delivered_total,
            self.matched_total if self.counted else self._matched_base,
            routed_to if self.counted else self.counted_to,
            dict(self.locks.modified),
        )
        self._settled_since = []
        self.locks.forget_changes()
        self.changed_since_snapshot = False
        return progress


def _is_loaded(batch: Batch | None) -> bool:
    return batch is not None and batch.payloads is not None
