"""One subscription's state, by example; every combination is in the property test."""

import pytest

from hotpath.core.locks import LockTable
from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress, SubscriptionSpec
from qel import compile_filter

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
FILTER = compile_filter("value > 0", "variables")


def make_subscription(*, start_seq: int = 1, ready_max: int = 10, locks_max: int = 20):
    spec = SubscriptionSpec(
        id=SubscriptionId("s"),
        tenant=KEY.tenant,
        topic=KEY.topic,
        filter="value > 0",
        condition=None,
        ttl_ms=1,
        sas_ttl_ms=1,
        start_seq=start_seq,
        created_ms=0,
    )
    locks = LockTable(lock_ms=1_000, deliveries_max=10, first_serial=0)
    return Subscription(spec, FILTER, locks=locks, ready_max=ready_max, locks_max=locks_max)


def live(**options) -> Subscription:
    subscription = make_subscription(**options)
    assert subscription.joins(subscription.spec.start_seq)
    return subscription


def resumed(progress: Progress, *, routed_to: int = 1_000) -> Subscription:
    subscription = make_subscription()
    subscription.resume(progress)
    subscription.joins(routed_to)
    return subscription


def batch_of(first_seq: int, count: int = 10) -> Batch:
    return Batch(KEY, first_seq, enqueued_ms=0, payloads=[b"x"] * count)


def take(subscription: Subscription, limit: int = 100, *, lock: bool = True) -> list[int]:
    taken = subscription.take(limit, receiver="a", now_ms=0, lock=lock)
    return [seq for part in taken for seq in part.seqs]


def settle(subscription: Subscription, *seqs: int) -> None:
    for seq in seqs:
        subscription.locks.settle(seq)
    subscription.settled(seqs)


def test_a_new_subscription_is_live_at_the_end_and_behind_before_it():
    assert live(start_seq=5).behind_at is None
    subscription = make_subscription(start_seq=3)
    assert not subscription.joins(5)
    assert subscription.behind_at == 3
    assert not subscription.counted


def take_run(subscription: Subscription, limit: int = 100) -> list[int] | None:
    holding = subscription.take_run(limit, receiver="a", now_ms=0)
    return None if holding is None else list(holding.seqs)


def lasting(first_seq: int) -> Batch:
    batch = batch_of(first_seq)
    batch.lasting = True
    return batch


def test_runs_are_taken_batch_by_batch_as_by_any_other_taking():
    subscription = live()
    subscription.offer(lasting(1), [2, 4, 9])
    subscription.offer(lasting(11), [11])

    assert (take_run(subscription), take_run(subscription)) == ([2, 4, 9], [11])

    assert (subscription.ready_count, subscription.delivered_total) == (0, 4)
    assert take_run(subscription) is None
    assert [subscription.locks.held(seq, 1) is not None for seq in (2, 4, 9)] == [True] * 3
    assert subscription.locks.held(11, 2) is not None
    assert subscription.cursor(21) == 2


def released(subscription: Subscription) -> None:
    subscription._ready[0].batch.release()


def mortal(subscription: Subscription) -> None:
    subscription._ready[0].batch.lasting = None


def returned(subscription: Subscription) -> None:
    subscription.offer(lasting(11), [11])
    holding = subscription.take_run(100, receiver="a", now_ms=0)
    subscription.locks.give_back(3, holding, failed=True)


def behind(subscription: Subscription) -> None:
    subscription.behind_at = 11


def crowded(subscription: Subscription) -> None:
    subscription.locks_max = 1


def with_history(subscription: Subscription) -> None:
    subscription._resumed_history_end = 3


@pytest.mark.parametrize(
    "change",
    [released, mortal, returned, behind, crowded, with_history],
    ids=lambda change: change.__name__,
)
def test_a_run_is_left_where_there_is_more_to_be_thought_of(change):
    subscription = live()
    subscription.offer(lasting(1), [2, 3])
    change(subscription)
    before = (subscription.ready_count, len(subscription.locks), subscription.delivered_total)

    assert take_run(subscription) is None

    after = (subscription.ready_count, len(subscription.locks), subscription.delivered_total)
    assert after == before


def test_of_a_run_credit_takes_its_part_and_the_rest_stays():
    subscription = live()
    subscription.offer(lasting(1), [2, 3, 5, 7])
    subscription.offer(lasting(11), [12])

    parts = [take_run(subscription, limit) for limit in (0, 1, 2, 2)]

    assert parts == [None, [2], [3, 5], [7]]
    assert (subscription.ready_count, subscription.delivered_total) == (1, 4)
    for serial, seqs in enumerate(([2], [3, 5], [7]), 1):
        assert [subscription.locks.held(seq, serial) is not None for seq in seqs] == [True] * len(
            seqs
        )
    assert take_run(subscription, 2) == [12]


def test_what_was_taken_of_a_run_otherwise_is_not_taken_again():
    subscription = live()
    subscription.offer(lasting(1), [2, 3, 5])
    assert take(subscription, 1) == [2]

    assert take_run(subscription) == [3, 5]


def test_the_history_of_a_part_is_looked_at_where_it_begins():
    subscription = live()
    subscription.offer(lasting(1), [2, 3, 5])
    subscription._resumed_history_end = 3
    assert take_run(subscription, 1) is None
    assert take(subscription, 1) == [2]

    assert take_run(subscription, 1) == [3]


def test_takings_follow_the_order_across_batches():
    subscription = live()
    subscription.offer(batch_of(1), [2, 4, 9])
    subscription.offer(batch_of(11), [11, 20])
    assert take(subscription, 2) == [2, 4]
    assert subscription.ready_count == 3
    assert take(subscription, 2) == [9, 11]
    assert subscription.has_ready()
    assert take(subscription) == [20]
    assert not subscription.has_ready()
    assert take(subscription) == []


@pytest.mark.parametrize("lock", [True, False])
def test_the_cursor_stands_at_the_first_unsettled(lock):
    subscription = live()
    assert subscription.cursor(1) == 1
    subscription.offer(batch_of(1), [3, 5, 7])
    assert subscription.cursor(11) == 3
    take(subscription, 2, lock=lock)
    assert subscription.cursor(11) == (3 if lock else 7)
    if lock:
        settle(subscription, 5)
        assert subscription.cursor(11) == 3
        settle(subscription, 3)
    assert subscription.cursor(11) == 7
    take(subscription, lock=False)
    assert subscription.cursor(11) == 11


def test_a_delta_tells_only_what_the_cursor_does_not():
    subscription = live()
    subscription.offer(batch_of(1), [1, 2, 3, 4])
    take(subscription)
    settle(subscription, 1, 3)
    delta = subscription.collect_delta(routed_to=11, active_ms=5)
    assert (delta.cursor, delta.settled, delta.settled_total) == (2, (3,), 2)
    settle(subscription, 2)
    delta = subscription.collect_delta(routed_to=11, active_ms=None)
    assert (delta.cursor, delta.settled, delta.settled_total) == (4, (), 3)


def test_a_full_queue_falls_behind_instead_of_growing():
    subscription = live(ready_max=3)
    subscription.offer(batch_of(1), [1, 2, 3])
    subscription.offer(batch_of(11), [11])
    subscription.offer(batch_of(21), [21])
    assert subscription.behind_at == 11
    assert subscription.ready_count == 3
    assert subscription.backlog(31) == 5
    assert not subscription.wants_refill()
    take(subscription, 2)
    assert subscription.wants_refill()
    subscription.refill(batch_of(11), [11])
    subscription.refill(batch_of(21), [21])
    assert subscription.caught_up(31)
    assert take(subscription) == [3, 11, 21]


def test_a_refill_begins_where_the_subscription_stands_in_the_batch():
    subscription = make_subscription(start_seq=4)
    subscription.joins(11)
    subscription.refill(batch_of(1), [2, 3, 4, 6])
    assert take(subscription) == [4, 6]
    assert subscription.behind_at == 11


def test_an_empty_batch_is_passed():
    subscription = make_subscription()
    subscription.joins(11)
    subscription.refill(batch_of(1), [])
    assert subscription.caught_up(11)


def test_skipping_only_goes_forward():
    subscription = make_subscription(start_seq=5)
    subscription.joins(11)
    subscription.skip_to(3)
    assert subscription.behind_at == 5
    subscription.skip_to(9)
    assert subscription.behind_at == 9
    subscription.skip_to(11)
    assert subscription.caught_up(11)
    subscription.skip_to(99)
    assert subscription.behind_at is None


# Released batches


def test_a_released_batch_is_named_and_comes_back():
    subscription = live()
    batch = batch_of(1)
    subscription.offer(batch, [2, 3])
    subscription.offer(batch_of(11), [11])
    batch.release()
    assert take(subscription) == []
    assert subscription.missing == 2
    subscription.supply([batch_of(11)])
    assert take(subscription) == []
    subscription.supply([batch_of(1)])
    assert take(subscription) == [2, 3, 11]
    assert subscription.missing is None


def test_batches_that_were_read_together_come_back_together():
    subscription = live()
    batches = [batch_of(first) for first in range(1, 101, 10)]
    for batch in batches:
        subscription.offer(batch, [batch.first_seq])
    held = take(subscription, 2)
    subscription.locks.drop_receiver("a")
    for batch in batches:
        batch.release()
    assert take(subscription) == []

    # Of some the log has more than matched, and of one it has nothing any more.
    subscription.supply([batch_of(first) for first in range(1, 121, 10) if first != 41])

    assert take(subscription) == [*held, 21, 31]
    assert subscription.missing == 41
    subscription.lose(41)
    assert take(subscription) == [51, 61, 71, 81, 91]


def test_a_returned_message_of_a_released_batch_keeps_its_place():
    subscription = live()
    batch = batch_of(1)
    subscription.offer(batch, [1, 2])
    subscription.offer(batch_of(11), [11])
    take(subscription, 2)
    subscription.locks.drop_receiver("a")
    batch.release()
    assert take(subscription) == []
    assert subscription.missing == 1
    fresh = batch_of(1)
    subscription.supply([fresh])
    assert subscription.locks.unsettled[2].batch is fresh
    assert take(subscription) == [1, 2, 11]


def test_a_batch_that_is_there_is_not_replaced():
    subscription = live()
    batch = batch_of(1)
    subscription.offer(batch, [1, 2])
    take(subscription, 1)
    subscription.supply([batch_of(1)])
    assert subscription.locks.unsettled[1].batch is batch
    (part,) = subscription.take(1, receiver="a", now_ms=0, lock=True)
    assert part.batch is batch


# Losing


def test_losing_a_message_that_was_not_taken_loses_its_batch():
    subscription = live()
    subscription.offer(batch_of(1), [2, 3])
    subscription.offer(batch_of(11), [11])
    subscription.lose(2)
    assert take(subscription) == [11]
    assert subscription.settled_total == 2
    assert subscription.cursor(21) == 11


def test_losing_a_message_that_is_known_no_more_changes_nothing():
    subscription = live()
    subscription.offer(batch_of(11), [11])
    subscription.lose(5)
    subscription.lose(99)
    assert take(subscription) == [11]


def test_retention_takes_what_is_neither_in_the_log_nor_in_memory():
    subscription = live()
    gone, there = batch_of(1), batch_of(11)
    subscription.offer(gone, [1, 2, 3, 4])
    subscription.offer(there, [11])
    first, second = (
        subscription.take(2, receiver=name, now_ms=0, lock=True)[0] for name in ("a", "b")
    )
    subscription.locks.drop_receiver("a")
    gone.release()
    assert subscription.lose_below(11)
    assert subscription.locks.unsettled.keys() == {3, 4}
    assert subscription.ready_count == 1
    assert subscription.locks.complete([(3, second.serial)]) == ([3], [])
    assert first.seqs == [1, 2]
    assert not subscription.lose_below(11)


def test_retention_leaves_what_is_in_memory():
    subscription = live()
    subscription.offer(batch_of(1), [1, 2])
    take(subscription, 1)
    subscription.locks.drop_receiver("a")
    assert not subscription.lose_below(11)
    assert take(subscription) == [1, 2]


def test_retention_moves_on_who_is_behind():
    subscription = make_subscription()
    subscription.joins(100)
    assert subscription.lose_below(50)
    assert subscription.behind_at == 50
    assert not subscription.lose_below(50)


def test_retention_takes_unread_runs_whose_batches_are_released():
    subscription = live()
    gone = batch_of(1)
    subscription.offer(gone, [1, 2])
    subscription.offer(batch_of(11), [11])
    gone.release()
    assert subscription.lose_below(11)
    assert take(subscription) == [11]


# Looking


def test_looking_shows_what_is_unsettled_in_order_and_takes_nothing():
    subscription = live()
    subscription.offer(batch_of(1), [1, 2, 3, 4])
    subscription.offer(batch_of(11), [12])
    (part,) = subscription.take(2, receiver="a", now_ms=0, lock=True)
    subscription.locks.doom(1, subscription.locks.held(1, part.serial))
    assert subscription.unsettled_from(1, limit=9) == [2, 3, 4, 12]
    assert subscription.unsettled_from(3, limit=2) == [3, 4]
    assert subscription.unsettled_from(13, limit=2) == []
    assert take(subscription) == [3, 4, 12]


def test_looking_ahead_leaves_out_what_was_settled_before_the_restart():
    subscription = resumed(Progress(4, settled={6}, deferred={8}))
    assert subscription.settled_ahead(6)
    assert not subscription.settled_ahead(5)
    assert subscription.unsettled_from(0, limit=9) == []
    holding = subscription.locks.lock_deferred(8, batch_of(1), receiver="a", now_ms=0)
    assert not subscription.settled_ahead(8)
    subscription.locks.doom(8, holding)
    assert subscription.settled_ahead(8)


# Bounds


def test_the_lock_table_bounds_what_is_taken_for_the_first_time():
    subscription = live(locks_max=3)
    subscription.offer(batch_of(1), [1, 2, 3, 4, 5])
    assert take(subscription) == [1, 2, 3]
    assert subscription.full
    assert take(subscription) == []
    assert take(subscription, 2, lock=False) == [4, 5]
    subscription.locks.drop_receiver("a")
    assert take(subscription) == [1, 2, 3]


# Restarts


def test_a_restart_brings_back_the_unsettled_first_and_skips_the_settled():
    subscription = resumed(
        Progress(5, unsettled={2}, settled={6, 8}, counts={2: 1, 7: 3}, deferred={9})
    )
    assert subscription.behind_at == 5
    subscription.refill(batch_of(1, 12), [2, 5, 6, 7, 8, 9, 10])
    subscription.supply([batch_of(1, 12)])
    taken = subscription.take(100, receiver="a", now_ms=0, lock=True)
    assert [tuple(part.seqs) for part in taken] == [(2,), (5, 7, 10)]
    assert [part.counts for part in taken] == [[1], [0, 3, 0]]
    assert subscription.cursor(1_000) == 2
    settle(subscription, 2, 5, 7)
    assert subscription.cursor(1_000) == 9


def test_counts_of_a_message_end_with_its_taking_without_a_lock():
    subscription = resumed(Progress(5, counts={5: 2}))
    subscription.refill(batch_of(1), [5, 6])
    (part,) = subscription.take(9, receiver="a", now_ms=0, lock=False)
    assert part.counts == [2, 0]
    assert subscription.locks.counts == {}


def test_a_snapshot_keeps_what_was_settled_ahead_before_the_restart():
    subscription = resumed(Progress(4, settled={5, 8}))
    subscription.refill(batch_of(1), [4, 5, 6, 8])
    progress = subscription.snapshot(routed_to=1_000)
    assert (progress.horizon, progress.settled) == (4, {5, 8})
    take(subscription, 1)
    progress = subscription.snapshot(routed_to=1_000)
    assert (progress.horizon, progress.unsettled, progress.settled) == (6, {4}, {8})


def test_a_deferred_message_settled_ahead_of_the_others_stays_settled():
    subscription = resumed(Progress(4, deferred={8}))
    holding = subscription.locks.lock_deferred(8, batch_of(1), receiver="a", now_ms=0)
    done, _ = subscription.locks.complete([(8, holding.serial)])
    subscription.settled(done)
    assert subscription.cursor(1_000) == 4
    progress = subscription.snapshot(routed_to=1_000)
    assert (progress.horizon, progress.settled) == (4, {8})
    subscription.refill(batch_of(1), [5, 8, 9])
    assert take(subscription) == [5, 9]


def test_a_restart_before_the_start_begins_at_the_start():
    subscription = make_subscription(start_seq=50)
    subscription.resume(Progress(0))
    assert subscription.behind_at == 50


def test_figures_follow_from_progress_where_no_checkpoint_told_them():
    subscription = resumed(
        Progress(10, unsettled={4}, settled={12}, settled_total=6, delivered_total=9)
    )
    assert (subscription.matched_total, subscription.counted_to) == (6, 10)
    assert subscription.delivered_total == 9
    known = resumed(Progress(10, matched_total=50, counted_to=400, settled_total=6))
    assert (known.matched_total, known.counted_to, known.count_end) == (50, 400, 1_000)


def test_a_snapshot_tells_no_figure_that_is_still_being_counted():
    subscription = resumed(Progress(10, matched_total=50, counted_to=400, settled_total=6))
    subscription.offer(batch_of(1_000), [1_000, 1_001])
    progress = subscription.snapshot(routed_to=1_010)
    assert (progress.matched_total, progress.counted_to) == (50, 400)
    subscription.counted = True
    progress = subscription.snapshot(routed_to=1_010)
    assert (progress.matched_total, progress.counted_to) == (52, 1_010)
