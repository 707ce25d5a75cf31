"""From the log to receivers: offer new batches, wake edges, let them pull.

An edge attaches a `Receiver` with a `wake` callback. It is woken when there may be something for
it and then calls `pull` with the credit it has; a wake-up promises nothing. Receivers of one
subscription compete: each wake-up begins with another one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Final, Protocol, cast

from hotpath import native
from hotpath.core import usual_plain
from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.feed import Taken
from hotpath.core.locks import Holding
from hotpath.core.router import Router
from hotpath.core.subscription import Subscription
from hotpath.core.usual import offer_all
from hotpath.model.errors import HotpathError, LimitReached, NotFound
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId
from hotpath.ports import Clock, LogFailure, MessageLog
from hotpath.service.commit import Committer
from hotpath.service.lifetime import is_lasting
from hotpath.service.liveness import MARK_MS, Liveness
from hotpath.service.recount import recount_one
from hotpath.service.replay import Replay
from hotpath.service.settle import Settling
from hotpath.service.topics import Topics
from hotpath.service.waking import Competing, Waking, credit_unknown
from hotpath.telemetry import Metrics, get_logger

#: Payload bytes read at once when a message is no longer in memory.
LOAD_BYTES: Final = 65_536
#: Dead letters read at once.
LOAD_LETTERS: Final = 64
#: How long after a failed read the next one is tried, milliseconds.
RETRY_MS: Final = 1_000

_log = get_logger("hotpath.deliver")


class Count(Protocol):
    """A metric that counts."""

    def inc(self, amount: float = 1) -> None:
        """Count so many more."""
        ...


class Receiver:
    """One attached reader of a subscription or of its dead letters.

    Attributes:
        subscription: Whose feed.
        feed: The subscription itself or its dead-letter queue.
        lock: Peek-lock; else what is taken is settled at once.
        wake: Called when there may be something to pull.
        credit: How many messages it would take now; None where that is not known.
        asked: It has been woken as one of many, and has not come to pull since.
        closed: Called when the subscription is gone, or is another node's; `ended` says which.
        ended: Why, if the subscription goes on elsewhere; None when it is gone for good.
        far: The feed is here.
        delivered: Counts the deliveries of its topic.
        attached: Neither detached nor closed yet.
        pending: Messages taken without a lock whose settlement is not durable yet, or that the
            receiver had no credit for when it was. They come with a later pull.
    """

    __slots__ = (
        "_durable",
        "asked",
        "attached",
        "closed",
        "credit",
        "delivered",
        "ended",
        "feed",
        "lock",
        "pending",
        "subscription",
        "wake",
    )

    far: Final = None

    def __init__(
        self,
        subscription: Subscription,
        feed: Subscription | DeadLetterQueue,
        *,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
        delivered: Count,
    ) -> None:
        self.subscription = subscription
        self.feed = feed
        self.lock = lock
        self.wake = wake
        self.credit: Callable[[], int | None] = credit_unknown
        self.closed = closed
        self.delivered = delivered
        self.ended: HotpathError | None = None
        self.attached = True
        self.asked = False
        self.pending = 0
        # With the payloads, which the batch may have lost until they are handed out.
        self._durable: deque[tuple[Taken, Sequence[bytes]]] = deque()

    def keep_until_durable(self, taken: list[Taken]) -> Callable[[LogFailure | None], None]:
        """Keep what was taken without a lock; the result is called when it is settled durably."""
        kept = [(part, part.batch.payloads or ()) for part in taken]
        self.pending += sum(len(part.seqs) for part in taken)

        def durable(failure: LogFailure | None) -> None:
            if failure is None and self.attached:
                self._durable.extend(kept)
                _call(self.wake)

        return durable

    def hand_out(self, limit: int) -> list[Taken]:
        """Up to `limit` of the messages that are durably settled."""
        given: list[Taken] = []
        while limit > 0 and self._durable:
            part, payloads = self._durable.popleft()
            if len(part.seqs) > limit:
                part, rest = _split(part, limit)
                self._durable.appendleft((rest, payloads))
            limit -= len(part.seqs)
            self.pending -= len(part.seqs)
            given.append(part if part.batch.payloads is not None else _reloaded(part, payloads))
        return given


def _call(callback: Callable[[], None]) -> None:
    """Call an edge; a fault of one link must not keep others from their messages."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - the edge of a callback
        _log.exception("a receiver's callback broke")


def _nobody() -> None:
    """Who hears of a receiver that is detached."""


def _taken(holding: Holding) -> Taken:
    """What is under one lock, as one who takes is told of it."""
    batch = cast("Batch", holding.batch)
    return Taken(batch, holding.seqs, None, holding.serial, holding.until_ms)


if native.ENABLED:
    native.learn({"Receiver": Receiver})


def _split(part: Taken, count: int) -> tuple[Taken, Taken]:
    """The first `count` messages, and the others."""
    counts = part.counts
    head = part._replace(seqs=part.seqs[:count], counts=counts[:count] if counts else None)
    tail = part._replace(seqs=part.seqs[count:], counts=counts[count:] if counts else None)
    return head, tail


def _reloaded(part: Taken, payloads: Sequence[bytes]) -> Taken:
    """The same messages in a batch that has its payloads."""
    old = part.batch
    batch = Batch(old.topic, old.first_seq, enqueued_ms=old.enqueued_ms, payloads=payloads)
    return part._replace(batch=batch)


class Delivering:
    """Keeps the receivers of all subscriptions and hands out what they pull."""

    def __init__(
        self,
        *,
        log: MessageLog,
        topics: Topics,
        committer: Committer,
        settling: Settling,
        liveness: Liveness,
        clock: Clock,
        metrics: Metrics,
        receivers_max: int,
    ) -> None:
        self._log = log
        self._topics = topics
        self._committer = committer
        self._settling = settling
        self._liveness = liveness
        self._clock = clock
        self._metrics = metrics
        self._receivers_max = receivers_max
        self._receivers: dict[SubscriptionId, Competing[Receiver]] = {}
        self._waking: Waking[Receiver] = Waking(clock, _call)
        self._loading: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulled: dict[Count, int] = {}
        self.replay = Replay(topics, self._has_receiver, self.wake)
        self._counting = asyncio.Semaphore(1)
        #: Hears of all that is handed out; for tracing.
        self.on_taken: Callable[[Subscription, Sequence[Taken]], None] | None = None
        committer.on_batches = self.on_batches
        committer.on_beat = self._note_attached
        settling.wake = self.wake

    # Attaching

    def attach(
        self,
        subscription: Subscription,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> Receiver:
        """Add a receiver.

        Raises LimitReached when the subscription has too many, NotFound when it is gone.
        """
        if subscription.deleted:
            raise NotFound(f"there is no subscription {subscription.spec.id}")
        receivers = self._receivers.setdefault(subscription.spec.id, Competing())
        if len(receivers) >= self._receivers_max:
            raise LimitReached(f"a subscription takes {self._receivers_max} receivers at most")
        feed = self._settling.dead_letters(subscription) if dead else subscription
        delivered = self._metrics.deliveries.labels(subscription.spec.topic.value)
        receiver = Receiver(
            subscription, feed, lock=lock, wake=wake, closed=closed, delivered=delivered
        )
        receivers.add(receiver)
        subscription.only = receiver if len(receivers) == 1 else None
        subscription.receivers += 1
        self._metrics.receivers.inc()
        self._liveness.touch(subscription, now_ms=self._clock.ticks_ms())
        return receiver

    def detach(self, receiver: Receiver) -> None:
        """Remove a receiver; what it holds under lock goes back, delivery counts unchanged."""
        subscription = receiver.subscription
        receiver.wake = receiver.closed = _nobody
        receiver.credit = credit_unknown
        receiver.asked = False
        receivers = self._receivers.get(subscription.spec.id)
        if receivers is None or receiver not in receivers:
            return
        receivers.remove(receiver)
        subscription.only = next(iter(receivers)) if len(receivers) == 1 else None
        receiver.attached = False
        if not receivers:
            del self._receivers[subscription.spec.id]
        self._liveness.touch(subscription, now_ms=self._clock.ticks_ms())
        subscription.receivers -= 1
        self._metrics.receivers.dec()
        returned = receiver.feed.locks.drop_receiver(receiver)
        if isinstance(receiver.feed, DeadLetterQueue):
            receiver.feed.release()
        if returned:
            self.wake(subscription)

    def close_all(self, subscription: Subscription, error: HotpathError | None = None) -> None:
        """Tell every receiver that its subscription is gone, or with an error why only from here."""
        subscription.only = None
        for receiver in self._receivers.pop(subscription.spec.id, Competing()):
            self._metrics.receivers.dec()
            receiver.attached = False
            receiver.ended = error
            _call(receiver.closed)
        subscription.receivers = 0

    def _note_attached(self) -> None:
        """An attached client is activity up to now; keep that durable."""
        for receivers in self._receivers.values():
            self._liveness.attached(next(iter(receivers)).subscription)

    def count_past(self, subscription: Subscription) -> None:
        """See to it that a subscription that starts in the past knows its backlog.

        One after the other: each reads all of the log from its start on.
        """

        async def count() -> None:
            async with self._counting:
                await recount_one(self._topics, subscription)

        self._spawn(count())

    def _has_receiver(self, subscription: Subscription) -> bool:
        return subscription.spec.id in self._receivers

    # Offering

    def on_batches(self, batches: list[Batch]) -> None:
        """Route what a commit has appended, and wake whom it concerns."""
        now_ms = self._clock.ticks_ms()
        for batch in batches:
            self._offer(self._topics.tail.add(batch), now_ms)
        self._metrics.tail_bytes.set(self._topics.tail.byte_size)

    def _offer(self, batch: Batch, now_ms: int) -> None:
        topic = self._topics.of(batch)
        hits = topic.router.route(batch)
        topic.routed_to = batch.end_seq
        topic.published_total += batch.count
        if hits and batch.lasting is None:
            batch.lasting = is_lasting(batch)
        offer = offer_all if isinstance(topic.router, Router) else usual_plain.offer_all
        touch = partial(self._liveness.touch, now_ms=now_ms)
        active_ms = self._liveness.active_ms(now_ms)
        offer(hits, batch, topic.behind, active_ms, MARK_MS, touch, self.wake)

    def wake(self, subscription: Subscription) -> None:
        """Let the receivers of a subscription come and pull, another one first each time."""
        receivers = self._receivers.get(subscription.spec.id)
        if receivers:
            if len(receivers) == 1:
                _call(receivers.next().wake)
            else:
                self._waking.wake(receivers)

    # Pulling

    def pull(self, receiver: Receiver, limit: int) -> list[Taken]:
        """Take up to `limit` messages for a receiver.

        Fewer, or none, when there are no more, or when the next one must be read from disk first:
        the receiver is woken again when it has been.
        """
        if receiver.asked:
            self._come(receiver)
        if receiver.lock:
            return self._take(receiver, limit)
        # At most once: a message goes out only when nothing can bring it back.
        taken = self._take(receiver, limit - receiver.pending)
        if taken:
            self._committer.then(receiver.keep_until_durable(taken))
        return receiver.hand_out(limit)

    def pull_run(self, receiver: Receiver, limit: int, *, now_ms: int) -> Holding | None:
        """Lock the next messages, all of one batch, where that is all that there is to do.

        For receivers of a subscription that lock. None: there is nothing, or `pull` is to look at
        it. Whoever is through with some of these calls `count_pulled`.

        Args:
            receiver: Who pulls.
            limit: Its credit.
            now_ms: Monotonic milliseconds.
        """
        subscription = receiver.subscription
        if receiver.asked:
            self._come(receiver)
        if subscription.deleted:
            return None
        holding = subscription.take_run(limit, receiver=receiver, now_ms=now_ms)
        if holding is None:
            return None
        counted = receiver.delivered
        self._pulled[counted] = self._pulled.get(counted, 0) + len(holding.seqs)
        if self.on_taken is not None:
            self.on_taken(subscription, (_taken(holding),))
        self._settling.watch(subscription, subscription.locks)
        return holding

    def _come(self, receiver: Receiver) -> None:
        """One that was woken is here."""
        receivers = self._receivers.get(receiver.subscription.spec.id)
        if receivers is not None:
            receivers.back(receiver)

    @property
    def tally(self) -> dict[Count, int] | None:
        """Where an edge that takes what `pull_run` would give counts it; None: it has to ask."""
        return self._pulled if self.on_taken is None else None

    def count_pulled(self) -> None:
        """Add to the metrics what `pull_run` has given, and what was counted in the tally."""
        for counted, count in self._pulled.items():
            counted.inc(count)
        self._pulled.clear()

    def _take(self, receiver: Receiver, limit: int) -> list[Taken]:
        """Take messages, and more for those whose time to live was over."""
        feed, subscription = receiver.feed, receiver.subscription
        if subscription.deleted:
            return []
        now_ms = self._clock.ticks_ms()
        kept: list[Taken] = []
        while limit > 0:
            taken = feed.take(limit, receiver=receiver, now_ms=now_ms, lock=receiver.lock)
            if not taken:
                break
            if feed is subscription:
                taken, dropped = self._settling.without_expired(subscription, taken)
            else:
                dropped = 0
            kept += taken
            limit = dropped
        self._follow_up(receiver, kept)
        return kept

    def _follow_up(self, receiver: Receiver, taken: list[Taken]) -> None:
        """Count what was taken; see to lock ends, progress, and what is not in memory."""
        feed, subscription = receiver.feed, receiver.subscription
        if taken:
            count = sum(len(part.seqs) for part in taken)
            receiver.delivered.inc(count)
            if self.on_taken is not None:
                self.on_taken(subscription, taken)
        if receiver.lock:
            self._settling.watch(subscription, feed.locks)
        elif isinstance(feed, DeadLetterQueue):
            self._settling.flush_dead(subscription, feed)
        elif taken:
            self._committer.touch(subscription)
        if feed.missing is not None:
            self._load(receiver, feed.missing)
        if subscription.behind_at is not None and feed is subscription:
            self.replay.start(subscription)

    def _load(self, receiver: Receiver, seq: int) -> None:
        """Read what stands in the way, once however many ask."""
        feed = receiver.feed
        if id(feed) in self._loading:
            return
        self._loading.add(id(feed))
        self._spawn(self._read_missing(receiver, seq))

    async def _read_missing(self, receiver: Receiver, seq: int) -> None:
        """Read, then let the receivers of the feed come again; after a failure a little later."""
        feed, subscription = receiver.feed, receiver.subscription

        def loaded() -> None:
            self._loading.discard(id(feed))
            self.wake(subscription)

        try:
            if isinstance(feed, DeadLetterQueue):
                await self._load_dead(subscription, feed, seq)
            else:
                await self._load_message(feed, seq)
        except LogFailure as failure:
            _log.error("read failed", extra={"reason": failure.detail})
            self._clock.call_at(self._clock.ticks_ms() + RETRY_MS, loaded)
        else:
            loaded()

    async def _load_message(self, subscription: Subscription, seq: int) -> None:
        batches = await self._topics.load(subscription.spec.key, seq, bytes_max=LOAD_BYTES)
        if not batches or batches[0].first_seq > seq:
            subscription.lose(seq)
            self._committer.touch(subscription)
        subscription.supply(batches)

    async def _load_dead(self, subscription: Subscription, feed: DeadLetterQueue, seq: int) -> None:
        key = subscription.spec.key
        letters = await self._log.dead_letters(
            subscription.spec.id, from_seq=seq, limit=LOAD_LETTERS
        )
        if not letters or letters[0].seq != seq:
            feed.lose(seq)
        for letter in letters:
            batch = Batch(
                key, letter.seq, enqueued_ms=letter.enqueued_ms, payloads=[letter.payload]
            )
            feed.supply(letter.seq, batch)

    # Tasks

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all loading and replaying."""
        tasks: Sequence[asyncio.Task[None]] = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.replay.close()
