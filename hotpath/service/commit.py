"""Group commit: one commit at a time holds all appends and all progress since the last one.

Whoever changes something hands it in and goes on; while one commit is being flushed to disk, the
next one gathers. Callbacks run in the event loop, in the order of their handing in, after
everything they wait for is durable.

When a commit fails, what publishers handed in (appends, scheduled messages) is refused: their
callbacks get the failure. Everything else in it is tried again with the next one: nothing but a
refused message may be lost by a full disk, and settlements are confirmed late rather than never.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.core import usual_plain
from hotpath.core.subscription import Subscription
from hotpath.core.usual import collect_all
from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import Clock, Commit, LogFailure, MessageLog, Scheduled, TimerHandle
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics, Seldom, get_logger

#: How long after a failed commit the next one is tried when nobody publishes, milliseconds.
RETRY_MS: Final = 500
#: A disk that stays full is reported so often, milliseconds.
REPORT_MS: Final = 5_000
#: Snapshots of a checkpoint that go with one commit: thousands at once would hold it up.
SNAPSHOTS_MAX: Final = 500
#: And no further one when they have so many unsettled messages to tell of: about ten milliseconds.
SNAPSHOT_MESSAGES_MAX: Final = 5_000
#: A batch is closed when it has so many messages or bytes: it is read and released as a whole.
BATCH_COUNT: Final = 4_096
BATCH_BYTES: Final = 1_048_576

Done = Callable[[LogFailure | None], None]

_log = get_logger("hotpath.commit")


@dataclass(slots=True)
class _Gathered:
    """One commit's work, who hears of it, and what leaves the schedule only if it succeeds."""

    work: Commit
    refusable: list[Done]
    callbacks: list[Done]
    due: frozenset[tuple[TopicKey, int]]


class _Appending:
    """What one topic appends with the next commit, in the batches it will be stored in."""

    __slots__ = ("_byte_size", "batches")

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = [[]]
        self._byte_size = 0

    def extend(self, payloads: Sequence[bytes], byte_size: int) -> None:
        """Add messages that stay together in one batch."""
        batch = self.batches[-1]
        too_large = self._byte_size + byte_size > BATCH_BYTES
        if batch and (too_large or len(batch) + len(payloads) > BATCH_COUNT):
            self._byte_size = 0
            batch = []
            self.batches.append(batch)
        self._byte_size += byte_size
        batch.extend(payloads)


class Committer:
    """Gathers work for the log and answers when it is durable.

    `on_batches` gets the appended batches of a commit, before any callback of that commit.
    `give_way` is called at the end of a commit with what begins the next one: others who would
    only be in each other's way with a commit may come between, for a moment.

    Attributes:
        touched: Subscriptions whose changed progress goes with the next commit.
    """

    names_due = False
    """Whether due messages are appended one by one, under names of their own."""

    def __init__(self, log: MessageLog, topics: Topics, clock: Clock, metrics: Metrics) -> None:
        self._log = log
        self._topics = topics
        self._clock = clock
        self._metrics = metrics
        self._next = Commit(0)
        self._appends: dict[TopicKey, _Appending] = {}
        self._late: list[tuple[TopicKey, Callable[[], Sequence[bytes]]]] = []
        self._refusable: list[Done] = []
        self._callbacks: list[Done] = []
        self.touched: dict[Subscription, None] = {}
        self._in_full: dict[Subscription, None] = {}
        self._owed: dict[Subscription, None] = {}
        self._due: list[tuple[TopicKey, int]] = []
        self._apart: list[Scheduled] = []
        # Callbacks that wait for a hold, each with the last hold there was when it came.
        self._held: deque[tuple[int, Done]] = deque()
        self._holds: dict[int, None] = {}
        self._last_hold = 0
        self._retry_timer: TimerHandle | None = None
        self._last_now_ms = 0
        self._running: asyncio.Task[None] | None = None
        self._scheduled = False
        self._closed = False
        self._relief: list[Callable[[], None]] = []
        self.pending_bytes = 0
        self.failing = False
        self._reports = Seldom(REPORT_MS)
        self.on_batches: Callable[[list[Batch]], None] = lambda _: None
        self.on_beat: Callable[[], None] = lambda: None
        self.give_way: Callable[[Callable[[], None]], None] = lambda go_on: go_on()
        self.service_ms: Callable[[], int] = clock.ticks_ms

    # Handing in

    def append(self, topic: TopicKey, payloads: Sequence[bytes], done: Done) -> None:
        """Append messages to a topic's log; `done` hears when they are durable, or why not."""
        if self._closed:
            done(LogFailure("the service is shutting down"))
            return
        appending = self._appends.get(topic)
        if appending is None:
            appending = self._appends[topic] = _Appending()
        byte_size = sum(map(len, payloads))
        appending.extend(payloads, byte_size)
        self.pending_bytes += byte_size
        self._refusable.append(done)
        self._kick()

    def append_late(
        self,
        topic: TopicKey,
        compose: Callable[[], Sequence[bytes]],
        done: Done,
        *,
        byte_size: int,
    ) -> None:
        """As `append`, for messages that depend on what was committed before them.

        `compose` makes them when their commit begins: the fate of every earlier one is known
        then, and those of the same commit are composed in the order of their handing in. It must
        not raise. `byte_size` is what they take until then, roughly.
        """
        if self._closed:
            done(LogFailure("the service is shutting down"))
            return
        self._late.append((topic, compose))
        self.pending_bytes += byte_size
        self._refusable.append(done)
        self._kick()

    def touch(self, subscription: Subscription) -> None:
        """Make the subscription's changed progress durable with the next commit."""
        self.touched[subscription] = None
        self._kick()

    def touch_all(self) -> None:
        """As `touch`, of those that have been added to `touched`, if there are any."""
        if self.touched:
            self._kick()

    def then(self, done: Done) -> None:
        """Call back when everything handed in so far is durable.

        The failure is only ever that of the last commit before the stop.
        """
        if self._holds:
            self._held.append((self._last_hold, done))
            return
        self._callbacks.append(done)
        self._kick()

    def hold(self) -> Callable[[], None]:
        """Begin to hand in something that takes a while; call the result at its end.

        What is handed to `then` meanwhile waits for that.
        """
        self._last_hold += 1
        number = self._last_hold
        self._holds[number] = None
        return lambda: self._release(number)

    def _release(self, number: int) -> None:
        self._holds.pop(number, None)
        first = next(iter(self._holds), self._last_hold + 1)
        while self._held and self._held[0][0] < first:
            self._callbacks.append(self._held.popleft()[1])
        self._kick()

    def settled(self) -> asyncio.Future[None]:
        """A future for what `then` calls back."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def resolve(failure: LogFailure | None) -> None:
            if future.done():
                return
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

        self.then(resolve)
        return future

    def bury(self, subscription: Subscription, letter: DeadLetter) -> None:
        """Copy a message to the subscription's dead letters."""
        self._next.dead.append((subscription.spec.id, letter))
        self.touch(subscription)

    def unbury(self, subscription: SubscriptionId, seqs: Sequence[int]) -> None:
        """Remove settled dead letters."""
        self._next.dead_removals.extend((subscription, seq) for seq in seqs)
        self._kick()

    def count_dead(self, subscription: SubscriptionId, counts: dict[int, int]) -> None:
        """Keep changed delivery counts of dead letters."""
        self._next.dead_updates.extend((subscription, *item) for item in counts.items())
        self._kick()

    def schedule(self, message: Scheduled, done: Done) -> None:
        """Keep a message until it is due; `done` as for `append`."""
        if self._closed:
            done(LogFailure("the service is shutting down"))
            return
        self._next.scheduled.append(message)
        self.pending_bytes += len(message.payload)
        self._refusable.append(done)
        self._kick()

    def append_due(self, message: Scheduled, done: Done) -> None:
        """Move a scheduled message to its topic's log; `done` as for `append`.

        When the commit fails the message is still scheduled.
        """
        if self._closed or not self.names_due:
            if not self._closed:
                self._due.append((message.topic, message.number))
            self.append(message.topic, (message.payload,), done)
            return
        self._due.append((message.topic, message.number))
        self._apart.append(message)
        self.pending_bytes += len(message.payload)
        self._refusable.append(done)
        self._kick()

    def unschedule(self, topic: TopicKey, number: int) -> None:
        """Forget a scheduled message."""
        self._next.scheduled_removals.append((topic, number))
        self._kick()

    def forget(self, subscription: SubscriptionId) -> None:
        """Drop the progress and dead letters of a subscription that is gone."""
        self._next.forgotten.append(subscription)
        self._kick()

    def beat(self, *, checkpoint: bool, counts: bool = True) -> None:
        """Note that the service is up; with `checkpoint`, write all progress in full.

        Without `counts` somebody else notes it.
        """
        self.on_beat()
        if counts:
            self._next.alive_ms = self.service_ms()
        if checkpoint:
            for subscription in self._topics.subscriptions.values():
                if subscription.changed_since_snapshot or subscription.behind_at is None:
                    self._in_full[subscription] = None
        self._kick()

    def discard(self, subscriptions: Collection[Subscription]) -> None:
        """Write nothing more for subscriptions that are somebody else's by now."""
        gone = {subscription.spec.id for subscription in subscriptions}
        for subscription in subscriptions:
            self.touched.pop(subscription, None)
            self._in_full.pop(subscription, None)
            self._owed.pop(subscription, None)
        work = self._next
        work.dead = [item for item in work.dead if item[0] not in gone]
        work.dead_updates = [item for item in work.dead_updates if item[0] not in gone]
        work.dead_removals = [item for item in work.dead_removals if item[0] not in gone]

    # Flow control

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Call back once, after the next commit has ended."""
        self._relief.append(callback)

    # Committing

    @property
    def is_running(self) -> bool:
        """Whether a commit is on its way."""
        return self._running is not None

    def _kick(self) -> None:
        """Commit at the end of this turn of the loop, unless a commit is on its way already."""
        if not self._scheduled and self._running is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        if self._running is None and self._has_work():
            self._running = asyncio.ensure_future(self._run(self._gather()))

    def _has_work(self) -> bool:
        changed = self._appends or self.touched or self._in_full or self._owed
        return bool(changed or self._callbacks or self._refusable or self._next)

    def _gather(self) -> _Gathered:
        """Close the work gathered so far and begin a new one."""
        self._last_now_ms = max(self._last_now_ms, self._clock.now_ms())
        work, self._next = self._next, Commit(0)
        work.now_ms = self._last_now_ms
        self._compose_late()
        work.appends = [
            (topic, payloads)
            for topic, appending in self._appends.items()
            for payloads in appending.batches
            if payloads
        ]
        for message in self._apart:
            work.once[len(work.appends)] = f"due-{message.number}"
            work.appends.append((message.topic, (message.payload,)))
        work.scheduled_removals.extend(self._due)
        self._gather_progress(work)
        gathered = _Gathered(work, self._refusable, self._callbacks, frozenset(self._due))
        self._appends, self.pending_bytes = {}, 0
        self._refusable, self._callbacks = [], []
        self._due, self._apart = [], []
        return gathered

    def _compose_late(self) -> None:
        """Make the messages that had to wait for the commit before this one."""
        late, self._late = self._late, []
        for topic, compose in late:
            payloads = compose()
            appending = self._appends.setdefault(topic, _Appending())
            appending.extend(payloads, sum(map(len, payloads)))

    def _gather_progress(self, work: Commit) -> None:
        """Add what has changed of each subscription, in full where that was asked for."""
        for subscription in self._next_in_full():
            self.touched.pop(subscription, None)
            if not subscription.deleted:
                snapshot = subscription.snapshot(routed_to=self._routed_to(subscription))
                work.snapshots.append((subscription.spec.id, snapshot))
        left = collect_all(self.touched, self._routed_to, work.progress)
        if left:
            usual_plain.collect_all(dict.fromkeys(left), self._routed_to, work.progress)
        self.touched = {}

    def _next_in_full(self) -> list[Subscription]:
        """Who is written in full now: all whose last delta failed, and a slice of a checkpoint."""
        chosen, self._owed = list(self._owed), {}
        messages = 0
        while self._in_full and len(chosen) < SNAPSHOTS_MAX and messages < SNAPSHOT_MESSAGES_MAX:
            subscription = next(iter(self._in_full))
            del self._in_full[subscription]
            chosen.append(subscription)
            messages += len(subscription.locks)
        return chosen

    def _routed_to(self, subscription: Subscription) -> int:
        topic = self._topics.get(subscription.key)
        return topic.routed_to if topic is not None else subscription.spec.start_seq

    async def _run(self, gathered: _Gathered) -> None:
        began_ms = self._clock.ticks_ms()
        try:
            batches = await self._write(gathered.work)
        except LogFailure as failure:
            self._failed(gathered, failure)
        except Exception:  # noqa: BLE001 - the edge of the task
            # A bug in the log's adapter must refuse work, not stop the service.
            _log.exception("commit broke")
            self._failed(gathered, LogFailure("internal error"))
        else:
            if gathered.work:
                self.failing = False
                self._metrics.commits.inc()
                self._metrics.commit_seconds.observe((self._clock.ticks_ms() - began_ms) / 1000)
            self._succeeded(gathered, batches)
        self._running = None
        for relieve in self._take_relief():
            _call(relieve)
        if self.failing:
            self._retry_later()
        else:
            self._scheduled = True
            self.give_way(self._start)

    async def _write(self, work: Commit) -> list[Batch]:
        """Hand a commit to the log, having asked where the topics stand that it begins."""
        for topic, _ in work.appends:
            await self._topics.prepare(topic)
        return await self._log.commit(work) if work else []

    def _succeeded(self, gathered: _Gathered, batches: list[Batch]) -> None:
        """Route what was appended, then answer in the order of the asking."""
        _call(self.on_batches, batches)
        for done in gathered.refusable:
            _call(done, None)
        for done in gathered.callbacks:
            _call(done, None)

    def _take_relief(self) -> list[Callable[[], None]]:
        relief, self._relief = self._relief, []
        return relief

    def _failed(self, gathered: _Gathered, failure: LogFailure) -> None:
        """Refuse what publishers handed in; keep everything else for the next commit."""
        others = self._reports.take(self._clock.ticks_ms())
        if others is not None:
            fields = {"reason": failure.detail, "full": failure.full, "others": others}
            _log.error("commit failed", extra=fields)
        self._metrics.commit_failures.inc()
        self.failing = True
        work, again = gathered.work, self._next
        again.dead[:0] = work.dead
        again.dead_updates[:0] = work.dead_updates
        again.dead_removals[:0] = work.dead_removals
        again.scheduled_removals[:0] = [
            item for item in work.scheduled_removals if item not in gathered.due
        ]
        again.forgotten[:0] = work.forgotten
        # A delta is not made twice: the next commit says all of it in full.
        for identity, _ in (*work.progress, *work.snapshots):
            subscription = self._topics.subscriptions.get(identity)
            if subscription is not None:
                self._owed[subscription] = None
        self._callbacks[:0] = gathered.callbacks
        for done in gathered.refusable:
            _call(done, failure)

    def _retry_later(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        at_ms = self._clock.ticks_ms() + RETRY_MS
        self._retry_timer = self._clock.call_at(at_ms, self._start)

    async def close(self) -> None:
        """Commit what is there, refuse what comes later. Raises LogFailure if that fails."""
        self._closed = True
        while self._running is not None or self._has_work():
            if self._running is None:
                self._start()
            if self._running is not None:
                await self._running
            if self.failing:
                break
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        if self._has_work():
            failure = LogFailure("the last commit before the stop failed")
            for done in (*self._callbacks, *(done for _, done in self._held)):
                _call(done, failure)
            raise failure


def _call(callback: Callable[..., None], *arguments: object) -> None:
    """Call back; a fault in one edge's callback must not keep the others from hearing."""
    try:
        callback(*arguments)
    except Exception:  # noqa: BLE001 - the edge of a callback
        _log.exception("a callback broke")
