"""One subscription against a plain model of what must become of every message.

The model knows nothing of runs, holdings or horizons: a message that the filter matched is
available, locked, deferred, or done with, and a restart brings back what the last durable commit
said. Messages that retention has taken from the log may still come out of memory, or not.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import qel
from hotpath.core.locks import LockTable
from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress, SubscriptionSpec

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
SPEC = SubscriptionSpec(
    id=SubscriptionId("s"),
    tenant=KEY.tenant,
    topic=KEY.topic,
    filter="value > 0",
    condition=None,
    ttl_ms=300_000,
    sas_ttl_ms=300_000,
    start_seq=1,
    created_ms=0,
)
FILTER = qel.compile_filter(SPEC.filter, "variables")
LOCK_MS = 1_000
DELIVERIES_MAX = 3
READY_MAX = 6
LOCKS_MAX = 8
RECEIVERS = ("a", "b")

receivers = st.sampled_from(RECEIVERS)
picks = st.integers(0, 1_000)


@dataclass
class Lock:
    receiver: str
    serial: int
    until_ms: int
    was_deferred: bool = False


@dataclass
class Model:
    """Where every matching message is; `seen` counts those settled, `perhaps` are out of reach."""

    available: set[int] = field(default_factory=set)
    locked: dict[int, Lock] = field(default_factory=dict)
    deferred: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    perhaps: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    first_seq: int = 1

    @property
    def unsettled(self) -> set[int]:
        return self.available | self.deferred | self.locked.keys()

    def put_back(self, seq: int, *, deferred: bool) -> None:
        if seq < self.first_seq:
            self.perhaps.add(seq)
        else:
            (self.deferred if deferred else self.available).add(seq)

    def settle(self, seq: int, into: set[int]) -> None:
        self.available.discard(seq)
        self.locked.pop(seq, None)
        self.deferred.discard(seq)
        self.counts.pop(seq, None)
        into.add(seq)

    def restarted(self) -> "Model":
        """What is expected after a restart from here."""
        after = deepcopy(self)
        for seq, lock in self.locked.items():
            del after.locked[seq]
            after.put_back(seq, deferred=lock.was_deferred)
        return after


class SubscriptionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.serial = 0
        self.next_seq = 1
        self.stored: dict[int, tuple[int, list[int]]] = {}
        self.in_memory: dict[int, Batch] = {}
        self.durable = Progress(0)
        self.must_snapshot = False
        self.model = Model()
        self.committed = Model()
        self.published_since: dict[int, list[int]] = {}
        self.subscription = self.build()

    def build(self) -> Subscription:
        self.serial += 1_000
        locks = LockTable(lock_ms=LOCK_MS, deliveries_max=DELIVERIES_MAX, first_serial=self.serial)
        return Subscription(SPEC, FILTER, locks=locks, ready_max=READY_MAX, locks_max=LOCKS_MAX)

    # The log

    def make_batch(self, first_seq: int, count: int) -> Batch:
        payloads = [f"{seq}".encode() for seq in range(first_seq, first_seq + count)]
        return Batch(KEY, first_seq, enqueued_ms=0, payloads=payloads)

    def read(self, seq: int) -> tuple[Batch, list[int]] | None:
        """The batch that holds `seq` or the first after it, from memory or newly made."""
        for first_seq in sorted(self.stored):
            count, matching = self.stored[first_seq]
            if first_seq + count <= seq:
                continue
            batch = self.in_memory.get(first_seq)
            if batch is None or batch.payloads is None:
                batch = self.in_memory[first_seq] = self.make_batch(first_seq, count)
            return batch, matching
        return None

    @initialize()
    def begin(self) -> None:
        assert self.subscription.joins(self.next_seq)

    @rule(matches=st.lists(st.booleans(), min_size=1, max_size=5), gap=st.integers(0, 2))
    def publish(self, matches: list[bool], gap: int) -> None:
        self.next_seq += gap
        batch = self.make_batch(self.next_seq, len(matches))
        matching = [batch.first_seq + index for index, matched in enumerate(matches) if matched]
        self.stored[batch.first_seq] = (batch.count, matching)
        self.in_memory[batch.first_seq] = batch
        self.next_seq = batch.end_seq
        if matching:
            self.subscription.offer(batch, matching)
        self.model.available.update(matching)
        self.published_since[batch.first_seq] = matching

    @precondition(lambda self: self.subscription.behind_at is not None)
    @rule()
    def read_on(self) -> None:
        behind_at = self.subscription.behind_at
        assert behind_at is not None
        if behind_at < self.next_seq and self.subscription.wants_refill():
            found = self.read(behind_at)
            if found is None:
                self.subscription.skip_to(self.next_seq)
            else:
                batch, matching = found
                self.subscription.skip_to(batch.first_seq)
                self.subscription.refill(batch, matching)
        self.subscription.caught_up(self.next_seq)

    @precondition(lambda self: self.in_memory)
    @rule(pick=picks)
    def evict(self, pick: int) -> None:
        first_seq = sorted(self.in_memory)[pick % len(self.in_memory)]
        self.in_memory.pop(first_seq).release()

    @precondition(lambda self: len(self.stored) > 1)
    @rule()
    def trim(self) -> None:
        """Retention drops the oldest batch."""
        del self.stored[min(self.stored)]
        first_seq = min(self.stored)
        self.model.first_seq = self.committed.first_seq = first_seq
        for model in (self.model, self.committed):
            lost = {seq for seq in model.available | model.deferred if seq < first_seq}
            model.available -= lost
            model.deferred -= lost
            model.perhaps |= lost
        self.subscription.lose_below(first_seq)

    # Receivers

    @rule(receiver=receivers, limit=st.integers(1, 6), lock=st.booleans())
    def take(self, receiver: str, limit: int, lock: bool) -> None:
        model, subscription = self.model, self.subscription
        room = LOCKS_MAX - len(subscription.locks)
        taken = subscription.take(limit, receiver=receiver, now_ms=self.now_ms, lock=lock)
        seqs = [seq for part in taken for seq in part.seqs]
        assert seqs == sorted(seqs)
        assert len(seqs) <= limit
        known = [seq for seq in seqs if seq not in model.perhaps]
        assert known == sorted(model.available)[: len(known)]
        left = sorted(model.available)[len(known) :]
        if len(seqs) < limit and subscription.missing is None and left:
            behind_at = subscription.behind_at
            beyond = behind_at is not None and left[0] >= behind_at
            assert beyond or (lock and len(seqs) >= room)
        for part in taken:
            assert part.batch.payloads is not None
            for index, seq in enumerate(part.seqs):
                assert part.batch.payloads[seq - part.batch.first_seq] == f"{seq}".encode()
                count = part.counts[index] if part.counts else 0
                assert seq in model.perhaps or count == model.counts.get(seq, 0)
                model.available.discard(seq)
                model.perhaps.discard(seq)
                if lock:
                    assert part.until_ms == self.now_ms + LOCK_MS
                    model.locked[seq] = Lock(receiver, part.serial, part.until_ms)
                else:
                    assert part.serial == 0
                    model.settle(seq, model.settled)

    @precondition(lambda self: self.subscription.missing is not None)
    @rule()
    def load_missing(self) -> None:
        seq = self.subscription.missing
        assert seq is not None
        self.subscription.missing = None
        found = self.read(seq)
        if found is None or found[0].first_seq > seq:
            assert seq not in self.model.unsettled
            self.subscription.lose(seq)
        else:
            self.subscription.supply(found[:1])

    def held(self, pick: int) -> tuple[int, Lock]:
        seqs = sorted(self.model.locked)
        seq = seqs[pick % len(seqs)]
        return seq, self.model.locked[seq]

    @precondition(lambda self: self.model.locked)
    @rule(pick=picks, wrong_serial=st.booleans())
    def complete(self, pick: int, wrong_serial: bool) -> None:
        seq, lock = self.held(pick)
        done, lost = self.subscription.locks.complete([(seq, lock.serial + wrong_serial)])
        assert (done, lost) == (([], [seq]) if wrong_serial else ([seq], []))
        if done:
            self.subscription.settled(done)
            self.model.settle(seq, self.model.settled)

    @precondition(lambda self: self.model.locked)
    @rule(pick=picks, failed=st.booleans())
    def abandon(self, pick: int, failed: bool) -> None:
        seq, lock = self.held(pick)
        holding = self.subscription.locks.held(seq, lock.serial)
        assert holding is not None
        kept = self.subscription.locks.give_back(seq, holding, failed=failed)
        self.gave_back(seq, kept=kept, failed=failed)

    def gave_back(self, seq: int, *, kept: bool, failed: bool) -> None:
        model = self.model
        lock = model.locked.pop(seq)
        if failed:
            model.counts[seq] = model.counts.get(seq, 0) + 1
        assert kept is (not failed or model.counts[seq] < DELIVERIES_MAX)
        if kept:
            model.put_back(seq, deferred=lock.was_deferred)
        else:
            self.bury(seq)

    def bury(self, seq: int) -> None:
        self.subscription.locks.settle(seq)
        self.subscription.settled((seq,))
        self.model.settle(seq, self.model.dead)

    @precondition(lambda self: self.model.locked)
    @rule(pick=picks)
    def dead_letter(self, pick: int) -> None:
        seq, lock = self.held(pick)
        holding = self.subscription.locks.held(seq, lock.serial)
        assert holding is not None
        self.subscription.locks.doom(seq, holding)
        self.bury(seq)

    @precondition(lambda self: self.model.locked)
    @rule(pick=picks)
    def defer(self, pick: int) -> None:
        seq, lock = self.held(pick)
        holding = self.subscription.locks.held(seq, lock.serial)
        assert holding is not None
        self.subscription.locks.defer(seq, holding)
        del self.model.locked[seq]
        self.model.put_back(seq, deferred=True)

    @precondition(lambda self: self.model.deferred)
    @rule(receiver=receivers, pick=picks)
    def take_deferred(self, receiver: str, pick: int) -> None:
        seqs = sorted(self.model.deferred)
        seq = seqs[pick % len(seqs)]
        found = self.read(seq)
        assert found is not None
        holding = self.subscription.locks.lock_deferred(
            seq, found[0], receiver=receiver, now_ms=self.now_ms
        )
        self.model.deferred.remove(seq)
        self.model.locked[seq] = Lock(receiver, holding.serial, holding.until_ms, was_deferred=True)

    @precondition(lambda self: self.model.locked)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        seq, lock = self.held(pick)
        holding = self.subscription.locks.held(seq, lock.serial)
        assert holding is not None
        renewed = self.subscription.locks.renew(seq, holding, now_ms=self.now_ms)
        lock.until_ms = self.now_ms + LOCK_MS
        assert (renewed.serial, renewed.until_ms) == (lock.serial, lock.until_ms)

    @rule(receiver=receivers)
    def lose_link(self, receiver: str) -> None:
        held = [seq for seq, lock in self.model.locked.items() if lock.receiver == receiver]
        assert self.subscription.locks.drop_receiver(receiver) == len(held)
        for seq in held:
            self.gave_back(seq, kept=True, failed=False)

    @rule(milliseconds=st.sampled_from([1, 400, 999, 1_000, 5_000]))
    def pass_time(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        ended = {seq for seq, lock in self.model.locked.items() if lock.until_ms <= self.now_ms}
        dying = self.subscription.locks.expire(self.now_ms)
        for seq in ended:
            self.gave_back(seq, kept=seq not in dying, failed=True)
        assert set(dying) <= ended
        ends = [lock.until_ms for lock in self.model.locked.values()]
        assert self.subscription.locks.next_deadline() == min(ends, default=None)

    # Commits and restarts

    @rule(checkpoint=st.booleans(), fails=st.booleans())
    def commit(self, checkpoint: bool, fails: bool) -> None:
        if checkpoint or self.must_snapshot:
            progress = self.subscription.snapshot(routed_to=self.next_seq)
            self.must_snapshot = fails
            if fails:
                return
            self.durable = progress
        else:
            delta = self.subscription.collect_delta(routed_to=self.next_seq, active_ms=self.now_ms)
            self.must_snapshot = fails
            if fails:
                return
            self.durable.apply(delta)
            once = deepcopy(self.durable)
            self.durable.apply(delta)
            assert self.durable == once
        self.committed = deepcopy(self.model)
        self.published_since = {}
        self.check_durable()

    def check_durable(self) -> None:
        model = self.committed
        for seq in model.settled | model.dead:
            assert self.durable.is_settled(seq), seq
        for seq in model.unsettled:
            assert not self.durable.is_settled(seq), seq
        for seq, count in model.counts.items():
            assert seq in model.perhaps or self.durable.counts[seq] == count
        deferred = model.deferred | {s for s, lock in model.locked.items() if lock.was_deferred}
        assert deferred <= self.durable.deferred <= deferred | model.perhaps | model.unsettled
        assert self.durable.settled_total == self.subscription.settled_total
        assert self.durable.delivered_total == self.subscription.delivered_total

    @rule()
    def restart(self) -> None:
        self.model = self.committed.restarted()
        for matching in self.published_since.values():
            for seq in matching:
                self.model.put_back(seq, deferred=False)
        for batch in self.in_memory.values():
            batch.release()
        self.in_memory = {}
        self.must_snapshot = False
        self.now_ms += 1
        self.subscription = self.build()
        self.subscription.resume(deepcopy(self.durable))
        self.subscription.joins(self.next_seq)
        self.recount()
        if self.stored:
            self.subscription.lose_below(min(self.stored))

    def recount(self) -> None:
        """What the service does in the background after a restart."""
        subscription = self.subscription
        if subscription.counted:
            return
        for _, matching in self.stored.values():
            subscription.matched_total += sum(
                subscription.counted_to <= seq < subscription.count_end for seq in matching
            )
        subscription.counted = True

    # What must always hold

    @invariant()
    def cursor_passes_nothing(self) -> None:
        cursor = self.subscription.cursor(self.next_seq)
        assert cursor <= min(self.model.unsettled, default=self.next_seq)
        assert cursor <= self.next_seq

    @invariant()
    def figures_are_right(self) -> None:
        subscription, model = self.subscription, self.model
        assert subscription.locks.locked == len(model.locked)
        backlog = subscription.backlog(self.next_seq)
        assert len(model.unsettled) <= backlog
        if subscription.behind_at is None:
            assert backlog <= len(model.unsettled | model.perhaps)
        if model.first_seq == 1:
            assert backlog == len(model.unsettled)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.subscription.ready_count <= READY_MAX + 5
        locks = self.subscription.locks
        assert len(locks._expiring) <= max(64, 2 * LOCKS_MAX) + 1

    def teardown(self) -> None:
        """Nothing is lost: in the end everything that is not deferred can be taken."""
        self.subscription.locks.drop_receiver("a")
        self.subscription.locks.drop_receiver("b")
        for seq in list(self.model.locked):
            self.gave_back(seq, kept=True, failed=False)
        for _ in range(20 * (self.next_seq + 1)):
            if not self.model.available and self.subscription.behind_at is None:
                break
            self.take("a", 6, lock=False)
            if self.subscription.missing is not None:
                self.load_missing()
            if self.subscription.behind_at is not None:
                self.read_on()
        assert not self.model.available


SubscriptionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None
)
TestSubscriptionMachine = SubscriptionMachine.TestCase
