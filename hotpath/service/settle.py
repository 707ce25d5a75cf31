"""What becomes of deliveries: outcomes, lock ends, expiry, and the way to the dead letters.

The caller names a message by its sequence number and the serial of the lock it holds; a serial
that is no longer the current one means the lock was lost. Progress is handed to the committer;
who must answer a client only when it is durable uses `Committer.then`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Final

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.feed import Taken
from hotpath.core.locks import Accepted, LockTable
from hotpath.core.subscription import Subscription
from hotpath.core.usual import complete_all
from hotpath.core.usual_plain import Submits, Twin
from hotpath.model.errors import LimitReached
from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.ports import Clock, LogFailure, TimerHandle
from hotpath.service import modified
from hotpath.service.commit import Committer
from hotpath.service.deadroom import REFUSAL, DeadRoom
from hotpath.service.lifetime import has_ended, is_lasting, without
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics, get_logger
from hotpath.wire.deadletter import with_application_properties
from hotpath.wire.values import WireError

MAX_DELIVERY_COUNT: Final = "MaxDeliveryCountExceeded"
TTL_EXPIRED: Final = "TTLExpiredException"
REASON: Final = "DeadLetterReason"
DESCRIPTION: Final = "DeadLetterErrorDescription"

#: Locks that end together and are seen to at once, less than half a millisecond, and the pause before
#: the next, milliseconds: there may be tens of thousands.
ENDED_AT_ONCE: Final = 128
ENDED_PAUSE_MS: Final = 2
#: Longest reason or description kept, characters.
TEXT_MAX: Final = 4_096

Feed = Subscription | DeadLetterQueue

_log = get_logger("hotpath.settle")


class Settling:
    """Applies outcomes to feeds and watches over their locks."""

    def __init__(
        self,
        *,
        topics: Topics,
        committer: Committer,
        clock: Clock,
        metrics: Metrics,
        lock_table: Callable[[bool], LockTable],
        dead_letter_expired: bool,
        room: DeadRoom,
    ) -> None:
        self._topics = topics
        self._committer = committer
        self._clock = clock
        self._metrics = metrics
        self._completed = metrics.settlements.labels("completed")
        self._uncounted = 0
        self._lock_table = lock_table
        self._dead_letter_expired = dead_letter_expired
        self._room = room
        self._dead: dict[SubscriptionId, DeadLetterQueue] = {}
        self._ends: list[tuple[int, int, Subscription, LockTable]] = []
        self._order = count()
        self._timer: TimerHandle | None = None
        self._timer_at = self._not_before_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.wake: Callable[[Subscription], None] = lambda _: None

    # Dead-letter queues

    def dead_letters(self, subscription: Subscription) -> DeadLetterQueue:
        """The subscription's dead-letter queue."""
        queue = self._dead.get(subscription.spec.id)
        if queue is None:
            queue = DeadLetterQueue(locks=self._lock_table(True))
            if not subscription.deleted:
                self._dead[subscription.spec.id] = queue
                queue.on_size = partial(self._room.add, subscription.spec.key.tenant)
        return queue

    def dead_count(self, subscription: Subscription) -> int:
        """How many dead letters a subscription has."""
        queue = self._dead.get(subscription.spec.id)
        return 0 if queue is None else len(queue)

    def resume_dead(
        self, subscription: Subscription, counts: dict[int, int], sizes: dict[int, int]
    ) -> None:
        """Take over the dead letters known at the opening: delivery counts, bytes by number."""
        queue = self.dead_letters(subscription)
        queue.expect(sizes)
        queue.add(sorted(counts))
        queue.locks.counts.update({seq: n for seq, n in counts.items() if n})

    def forget(self, subscription: Subscription) -> None:
        """The subscription is gone."""
        queue = self._dead.pop(subscription.spec.id, None)
        if queue is not None:
            queue.clear_sizes()

    # Outcomes

    def complete(
        self, subscription: Subscription, feed: Feed, held: Iterable[tuple[int, int]]
    ) -> list[int]:
        """Settle messages (number and lock serial) for good; those whose lock was lost."""
        done, lost = feed.locks.complete(held)
        self._completed_all(subscription, feed, done)
        self.count_completed()
        return lost

    def complete_runs(
        self, subscription: Subscription, feed: Feed, runs: Iterable[tuple[int, list[int]]]
    ) -> list[int]:
        """As `complete`, for runs of messages under one lock each: its serial and the numbers."""
        held = ((seq, serial) for serial, seqs in runs for seq in seqs)
        return self.complete(subscription, feed, held)

    def complete_accepted(
        self, subscription: Subscription, feed: Feed, accepted: Accepted, late: list[object]
    ) -> tuple[int, int]:
        """As `complete`, for what a link end has gathered.

        Deliveries that wait for an answer and whose lock was lost are added to `late`. How many
        messages are settled, and how many of these are waited for. Whoever is through with some
        of these calls `count_completed`.
        """
        done, waiting = feed.locks.complete_accepted(accepted, late)
        self._completed_all(subscription, feed, done)
        return len(done), waiting

    def complete_all(self, ends: list[Submits], waiting: list[tuple[Twin, int]]) -> int:
        """Settle what link ends have gathered, or let them; how many messages they do not know."""
        done = complete_all(ends, waiting, self._committer.touched)
        self._uncounted += done
        self._committer.touch_all()
        return done

    def count_completed(self) -> None:
        """Add to the metrics what was completed."""
        if self._uncounted:
            self._completed.inc(self._uncounted)
            self._uncounted = 0

    def _completed_all(self, subscription: Subscription, feed: Feed, done: list[int]) -> None:
        if done:
            feed.settled(done)
            self._uncounted += len(done)
            self._changed(subscription, feed)
            if subscription.full:
                self._make_room(subscription)

    def modify(
        self, feed: Feed, held: Iterable[tuple[int, int]], properties: Mapping[str, object]
    ) -> None:
        """Give messages application-properties, before the outcome that makes this durable.

        Among dead letters, whose copies stay as they are, and where a lock was lost, nothing is
        given. Raises LimitReached; then no message has changed.
        """
        if properties and isinstance(feed, Subscription):
            kept = [seq for seq, serial in held if feed.locks.held(seq, serial) is not None]
            modified.note(feed.locks, kept, properties)

    def abandon(
        self, subscription: Subscription, feed: Feed, seq: int, serial: int, *, failed: bool = True
    ) -> bool:
        """Give a message back; `failed` counts the delivery. False when the lock was lost."""
        holding = feed.locks.held(seq, serial)
        if holding is None:
            return False
        kept = feed.locks.give_back(seq, holding, failed=failed)
        self._metrics.settlements.labels("abandoned" if failed else "released").inc()
        if not kept:
            self._exhausted(subscription, seq)
        if failed:
            self._changed(subscription, feed)
        self.wake(subscription)
        return True

    def fail(self, subscription: Subscription, seq: int, serial: int) -> int | None:
        """Count a failed delivery of a message that its receiver keeps, to try again later.

        How many have failed by now, durable with the next commit; None when the lock was lost.
        """
        if subscription.locks.held(seq, serial) is None:
            return None
        count = subscription.locks.count_failure(seq)
        self._metrics.settlements.labels("failed").inc()
        self._committer.touch(subscription)
        return count

    def defer(self, subscription: Subscription, feed: Feed, seq: int, serial: int) -> bool:
        """Set a message aside; among dead letters it goes back. False when the lock was lost."""
        if feed is not subscription:
            return self.abandon(subscription, feed, seq, serial)
        holding = feed.locks.held(seq, serial)
        if holding is None:
            return False
        feed.locks.defer(seq, holding)
        self._metrics.settlements.labels("deferred").inc()
        self._changed(subscription, feed)
        return True

    def dead_letter(
        self,
        subscription: Subscription,
        feed: Feed,
        held: tuple[int, int],
        *,
        reason: str,
        description: str = "",
        properties: dict[str, object] | None = None,
    ) -> bool:
        """Copy a message to the dead letters; from there it only goes back. False: lock lost.

        Raises LimitReached when there are too many dead letters; then it stays locked.
        """
        seq, serial = held
        holding = feed.locks.held(seq, serial)
        if holding is None:
            return False
        if feed is not subscription:
            return self.abandon(subscription, feed, seq, serial)
        if not self._room.is_there(subscription, self.dead_letters(subscription)):
            raise LimitReached(REFUSAL)
        feed.locks.doom(seq, holding)
        self._bury(subscription, seq, reason, description, properties or {})
        return True

    def renew(self, feed: Feed, seq: int, serial: int) -> int | None:
        """Extend a lock; its new end in monotonic milliseconds, or None when it was lost."""
        holding = feed.locks.held(seq, serial)
        if holding is None:
            return None
        return feed.locks.renew(seq, holding, now_ms=self._clock.ticks_ms()).until_ms

    def _make_room(self, subscription: Subscription) -> None:
        """Wake whom a full lock table kept waiting."""
        if subscription.full:
            subscription.full = False
            self.wake(subscription)

    def _changed(self, subscription: Subscription, feed: Feed) -> None:
        """Hand what an outcome has changed to the next commit."""
        if feed is subscription:
            self._committer.touch(subscription)
        elif isinstance(feed, DeadLetterQueue):
            self.flush_dead(subscription, feed)

    def flush_dead(self, subscription: Subscription, feed: DeadLetterQueue) -> None:
        """Make removals and delivery counts of dead letters durable."""
        if feed.removed:
            self._committer.unbury(subscription.spec.id, feed.removed)
            feed.removed = []
        if feed.locks.changed_counts:
            self._committer.count_dead(subscription.spec.id, feed.locks.changed_counts)
            feed.locks.forget_changes()

    # To the dead letters

    def _exhausted(self, subscription: Subscription, seq: int) -> None:
        """A message has failed too often; without room for a dead letter it goes on coming."""
        if not self._room.is_there(subscription, self.dead_letters(subscription)):
            subscription.locks.revive(seq)
            return
        deliveries = subscription.locks.counts.get(seq, 0)
        description = f"Delivered {deliveries} times without success."
        self._bury(subscription, seq, MAX_DELIVERY_COUNT, description, {})

    def _bury(
        self,
        subscription: Subscription,
        seq: int,
        reason: str,
        description: str,
        properties: dict[str, object],
    ) -> None:
        """Copy a dying message aside; read it first when it is no longer in memory."""
        if subscription.deleted:
            return
        batch = subscription.locks.unsettled[seq].batch
        extra = {
            **modified.given_to(subscription.locks, seq),
            **properties,
            REASON: reason[:TEXT_MAX],
            DESCRIPTION: description[:TEXT_MAX],
        }
        if batch is not None and batch.payloads is not None:
            self._bury_loaded(subscription, seq, batch, extra)
            return
        # Nobody is told that it is settled before the copy is durable.
        release = self._committer.hold()
        task = asyncio.ensure_future(self._load_and_bury(subscription, seq, extra))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: release())

    async def _load_and_bury(
        self, subscription: Subscription, seq: int, extra: dict[str, object]
    ) -> None:
        """As `_bury`, with the log's help; a message that is gone is lost, and said so."""
        try:
            batches = await self._topics.load(subscription.spec.key, seq, bytes_max=1)
        except LogFailure as failure:
            _log.error("read failed", extra={"reason": failure.detail})
            if seq in subscription.locks.unsettled:
                subscription.locks.revive(seq)
                self.wake(subscription)
            return
        if subscription.deleted or seq not in subscription.locks.unsettled:
            return
        batch = batches[0] if batches else None
        if batch is not None and batch.first_seq <= seq < batch.end_seq:
            self._bury_loaded(subscription, seq, batch, extra)
            return
        _log.warning(
            "message gone before it could be dead-lettered",
            extra={"subscription": subscription.spec.id, "seq": seq},
        )
        subscription.lose(seq)
        self._committer.touch(subscription)

    def _bury_loaded(
        self, subscription: Subscription, seq: int, batch: Batch, extra: dict[str, object]
    ) -> None:
        """Write the copy and settle the original in one commit."""
        self._copy_aside(subscription, seq, batch, extra)
        subscription.locks.settle(seq)
        subscription.settled((seq,))
        self._make_room(subscription)

    def _copy_aside(
        self, subscription: Subscription, seq: int, batch: Batch, extra: dict[str, object]
    ) -> None:
        """Hand the copy of a message to the next commit, and queue it when that is durable."""
        stored = (batch.payloads or ())[seq - batch.first_seq]
        letter = DeadLetter(
            seq,
            enqueued_ms=batch.enqueued_ms,
            payload=_with_reason(stored, extra),
            reason=str(extra[REASON]),
            description=str(extra[DESCRIPTION]),
        )
        self._committer.bury(subscription, letter)
        self._metrics.dead_letters.labels(_reason_label(letter.reason)).inc()
        _log.info(
            "dead-lettered",
            extra={"subscription": subscription.spec.id, "seq": seq, "reason": letter.reason},
        )
        queue = self.dead_letters(subscription)
        queue.expect({seq: len(letter.payload)})

        def buried(failure: LogFailure | None) -> None:
            if failure is None:
                queue.add((seq,))
                self.wake(subscription)

        self._committer.then(buried)

    # Time to live

    def without_expired(
        self, subscription: Subscription, taken: list[Taken]
    ) -> tuple[list[Taken], int]:
        """Settle or dead-letter messages whose time to live is over; the others, and how many."""
        kept: list[Taken] = []
        dropped = 0
        for part in taken:
            batch = part.batch
            if batch.lasting is None:
                batch.lasting = is_lasting(batch)
            ended = () if batch.lasting else self._ended(part)
            if not ended:
                kept.append(part)
                continue
            dropped += len(ended)
            self._end(subscription, part, ended)
            rest = without(part, ended)
            if rest.seqs:
                kept.append(rest)
        subscription.delivered_total -= dropped
        return kept, dropped

    def _ended(self, part: Taken) -> frozenset[int]:
        """The messages of a part whose time to live is over."""
        batch, now_ms = part.batch, self._clock.now_ms()
        payloads = batch.payloads or ()
        return frozenset(
            seq
            for seq in part.seqs
            if has_ended(payloads[seq - batch.first_seq], batch.enqueued_ms, now_ms)
        )

    def _end(self, subscription: Subscription, part: Taken, ended: Iterable[int]) -> None:
        """See messages off whose time to live is over: to the dead letters, or for good.

        For good too where there is no room: they are not to be delivered.
        """
        text = "The message's time to live was over before it was received."
        queue = self.dead_letters(subscription)
        for seq in sorted(ended):
            if not (self._dead_letter_expired and self._room.is_there(subscription, queue)):
                if part.serial:
                    self.complete(subscription, subscription, ((seq, part.serial),))
            elif part.serial:
                held = (seq, part.serial)
                self.dead_letter(
                    subscription, subscription, held, reason=TTL_EXPIRED, description=text
                )
            else:
                # Taken without a lock: settled already, with the same commit as the copy.
                given = modified.read((part.modified or {}).get(seq))
                extra = {**given, REASON: TTL_EXPIRED, DESCRIPTION: text}
                self._copy_aside(subscription, seq, part.batch, extra)
        self._committer.touch(subscription)

    # Lock ends

    def watch(self, subscription: Subscription, locks: LockTable) -> None:
        """See to it that locks end; called after every taking."""
        if locks.watched:
            return
        deadline = locks.next_deadline()
        if deadline is None:
            return
        locks.watched = True
        heappush(self._ends, (deadline, next(self._order), subscription, locks))
        self._arm()

    def _arm(self) -> None:
        """Set the one timer to the earliest end."""
        if not self._ends:
            return
        deadline = max(self._ends[0][0], self._not_before_ms)
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._clock.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now_ms, left = self._clock.ticks_ms(), ENDED_AT_ONCE
        while self._ends and self._ends[0][0] <= now_ms:
            _, _, subscription, locks = heappop(self._ends)
            locks.watched = False
            if subscription.deleted:
                continue
            left -= self._end_locks(subscription, locks, now_ms, limit=left)
            if left <= 0:
                self._not_before_ms = now_ms + ENDED_PAUSE_MS
            self.watch(subscription, locks)
            if left <= 0:
                break
        self._arm()

    def _end_locks(
        self, subscription: Subscription, locks: LockTable, now_ms: int, *, limit: int
    ) -> int:
        """Give back what was held too long, about so many at the most; how many it was."""
        before = locks.locked
        dying = locks.expire(now_ms, limit=limit)
        ended = before - locks.locked
        if not ended:
            return 0
        self._metrics.locks_expired.inc(ended)
        for seq in dying:
            self._exhausted(subscription, seq)
        feed: Feed = subscription
        if locks is not subscription.locks:
            feed = self.dead_letters(subscription)
        self._changed(subscription, feed)
        self.wake(subscription)
        return ended

    async def close(self) -> None:
        """Stop the timer and wait for what is being buried."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _with_reason(stored: bytes, extra: dict[str, object]) -> bytes:
    """A message with its reason; one that cannot take it is set aside as it is."""
    reason = {name: extra[name] for name in (REASON, DESCRIPTION)}
    for properties in (extra, reason):
        try:
            return with_application_properties(stored, properties)
        except WireError:
            continue
    return stored


def _reason_label(reason: str) -> str:
    """A metric label that clients cannot multiply."""
    return reason if reason in {MAX_DELIVERY_COUNT, TTL_EXPIRED} else "receiver"
