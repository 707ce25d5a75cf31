"""From the log to receivers: offering, waking, pulling, loading what memory has let go."""

import pytest

from hotpath.model.errors import LimitReached, NotFound
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import LogFailure
from tests.support.clock import settle
from tests.unit.service.rig import KEY, PRINCIPAL, Rig, message


def evict(rig: Rig) -> None:
    """Let the tail forget everything, as a flood of other messages does."""
    for batch in list(rig.core.topics.tail._batches.values()):
        rig.core.topics.tail._evict()
        assert batch.payloads is None


async def test_a_matching_message_wakes_the_reader_and_is_pulled_with_its_bytes(rig):
    subscription = await rig.create("value > 10")
    reader = rig.read(subscription)
    await rig.publish(5, 11, 12)
    assert reader.woken == 1
    assert reader.pull() == [2, 3]
    assert reader.payload(2) == message(11)
    assert reader.payload(3) == message(12)


async def test_a_message_of_another_tenant_or_topic_is_never_offered(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, key=TopicKey(TenantId("globex"), Topic.VARIABLES))
    await rig.publish(1, key=TopicKey(KEY.tenant, Topic.ALARMS))
    assert reader.woken == 0
    assert reader.pull() == []


async def test_nothing_is_offered_before_its_commit(rig):
    subscription = await rig.create()
    await settle()
    reader = rig.read(subscription)
    rig.log.pause()
    rig.core.publishing.submit(KEY, [message(1)], lambda _: None, via="test")
    await settle()
    assert reader.pull() == []
    rig.log.resume()
    await settle()
    assert reader.pull() == [1]


async def test_a_pull_gives_no_more_than_its_limit_lowest_first(rig):
    reader = rig.read(await rig.create())
    await rig.publish(*range(5))
    await rig.publish(*range(5))
    assert reader.pull(3) == [1, 2, 3]
    assert reader.pull(4) == [4, 5, 6, 7]
    assert reader.pull(0) == []


async def test_two_readers_compete_and_the_first_turn_changes(rig):
    subscription = await rig.create()
    first, second = rig.read(subscription), rig.read(subscription)
    order = []
    first.receiver.wake = lambda: order.append("first")
    second.receiver.wake = lambda: order.append("second")
    for _ in range(4):
        await rig.publish(1)
    assert order[::2] == ["second", "first", "second", "first"]
    assert sorted(first.pull(2) + second.pull(9)) == [1, 2, 3, 4]


async def test_a_link_whose_wake_up_breaks_keeps_nobody_from_his_messages(rig):
    broken, fine = rig.read(await rig.create()), rig.read(await rig.create())
    broken.receiver.wake = lambda: 1 / 0
    await rig.publish(1)
    assert fine.pull() == [1]
    assert fine.woken == 1
    assert broken.pull() == [1]


async def test_a_reader_that_takes_nothing_delays_no_other_subscription(rig):
    slow, quick = await rig.create(), await rig.create()
    rig.read(slow)
    reader = rig.read(quick)
    await rig.publish(1, 2)
    assert reader.pull() == [1, 2]


async def test_detaching_gives_back_what_was_held_with_counts_unchanged(rig):
    subscription = await rig.create()
    lost, other = rig.read(subscription), rig.read(subscription)
    await rig.publish(1, 2, 3)
    assert lost.pull(2) == [1, 2]
    assert other.pull() == [3]
    lost.detach()
    assert other.pull() == [1, 2]
    assert other.count(1) == 0
    assert other.complete(1, 2, 3) == []


async def test_detaching_twice_changes_nothing(rig):
    subscription = await rig.create()
    reader, other = rig.read(subscription), rig.read(subscription)
    reader.detach()
    reader.detach()
    assert subscription.receivers == 1
    other.detach()
    assert subscription.receivers == 0


async def test_a_subscription_takes_only_so_many_receivers(start):
    rig = await start(receivers_per_subscription_max=2)
    subscription = await rig.create()
    rig.read(subscription)
    second = rig.read(subscription)
    with pytest.raises(LimitReached):
        rig.read(subscription)
    second.detach()
    rig.read(subscription)


async def test_a_deleted_subscription_closes_its_receivers_and_takes_no_more(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    await rig.core.admin.delete(PRINCIPAL, Topic.VARIABLES, subscription.spec.id)
    assert reader.closed == 1
    assert reader.pull() == []
    reader.detach()
    with pytest.raises(NotFound):
        rig.read(subscription)
    rig.core.settling.dead_letters(subscription)
    assert rig.core.settling._dead == {}


async def test_outcomes_on_a_deleted_subscription_write_nothing(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    reader.pull()
    await rig.core.admin.delete(PRINCIPAL, Topic.VARIABLES, subscription.spec.id)
    reader.dead_letter(1)
    reader.abandon(2)
    reader.complete(3)
    await rig.core.committer.settled()
    await rig.clock.advance(120_000)
    recovered = await rig.log.open()
    assert subscription.spec.id not in recovered.progress
    assert subscription.spec.id not in recovered.dead


# What memory has let go


async def test_a_message_that_left_memory_is_read_from_the_log(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1, 2, 3)
    evict(rig)
    assert reader.pull() == []
    await settle()
    assert reader.woken == 2
    assert reader.pull() == [1, 2, 3]
    assert reader.payload(2) == message(2)


async def test_one_read_serves_all_who_wait_for_the_same_message(rig):
    subscription = await rig.create()
    first, second = rig.read(subscription), rig.read(subscription)
    await rig.publish(1, 2)
    evict(rig)
    assert first.pull(1) == second.pull(1) == []
    await settle()
    assert first.pull(1) + second.pull(1) == [1, 2]
    assert rig.log.reads == [1]


async def test_returned_messages_of_one_batch_are_loaded_together(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(*range(20))
    reader.pull()
    reader.detach()
    evict(rig)
    again = rig.read(subscription)
    assert await again.read_all() == list(range(1, 21))
    assert rig.log.reads == [1]


async def test_returned_messages_of_several_batches_keep_their_own_bytes(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    for value in range(6):
        await rig.publish(value)
    reader.pull()
    reader.detach()
    evict(rig)
    again = rig.read(subscription)
    assert await again.read_all() == [1, 2, 3, 4, 5, 6]
    assert [again.payload(seq) for seq in range(1, 7)] == [message(v) for v in range(6)]


async def test_a_failed_read_is_tried_again(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1)
    evict(rig)
    rig.log.fail_reads(2)
    for _ in range(2):
        assert await reader.read_all() == []
        await rig.clock.advance(1_000)
    assert await reader.read_all() == [1]


async def test_a_message_that_the_log_has_lost_is_passed_over(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    await rig.publish(2)
    evict(rig)
    rig.log.damage(1)
    assert await reader.read_all() == [2]
    reader.complete(2)
    assert subscription.cursor(3) == 3
    assert rig.figures(subscription).backlog == 0


async def test_memory_for_less_than_a_batch_still_delivers_everything(start):
    rig = await start(tail_bytes_max=1_048_576)
    reader = rig.read(await rig.create(), credit=1)
    text = "x" * 700_000
    for value in range(4):
        await rig.publish(value, text=text)
    seen = []
    for _ in range(12):
        seen += await reader.read_all()
        if seen:
            reader.complete(seen[-1])
    assert seen == [1, 2, 3, 4]


async def test_a_full_lock_table_wakes_the_reader_when_there_is_room(start):
    rig = await start(locks_max=2)
    reader = rig.read(await rig.create())
    await rig.publish(1, 2, 3, 4)
    assert reader.pull() == [1, 2]
    assert reader.pull() == []
    woken = reader.woken
    reader.complete(1)
    assert reader.woken == woken + 1
    assert reader.pull() == [3]


async def test_a_lock_table_full_of_returned_messages_gives_them_out_again(start):
    rig = await start(locks_max=2)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    assert reader.pull() == [1, 2]
    reader.detach()
    again = rig.read(subscription)
    assert again.pull() == [1, 2]
    again.complete(1, 2)
    assert again.pull() == [3]


# Receive and delete


async def test_without_a_lock_a_message_goes_out_once_its_settlement_is_durable(rig):
    subscription = await rig.create()
    await rig.core.committer.settled()
    reader = rig.read(subscription, lock=False)
    await rig.publish(1, 2, 3)
    rig.log.pause()
    assert reader.pull(2) == []
    assert reader.receiver.pending == 2
    await settle()
    assert reader.pull(2) == []
    rig.log.resume()
    await settle()
    assert reader.pull(2) == [1, 2]
    assert [part.serial for part in reader.given] == [0]
    assert rig.figures(subscription).backlog == 1


async def test_without_a_lock_no_message_comes_twice_over_a_crash(rig):
    subscription = await rig.create()
    reader = rig.read(subscription, lock=False)
    await rig.publish(*range(6))
    seen = await reader.read_all()
    rig.log.pause()
    await rig.abandon()
    await rig.crash()
    again = rig.read(rig.again(subscription), lock=False)
    seen += await again.read_all()
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_less_credit_than_was_taken_leaves_the_rest_for_later(rig):
    reader = rig.read(await rig.create(), lock=False)
    await rig.publish(*range(6))
    assert reader.pull(6) == []
    await settle()
    assert reader.pull(2) == [1, 2]
    assert reader.receiver.pending == 4
    assert reader.pull(3) == [3, 4, 5]
    await rig.publish(9)
    assert reader.pull(1) == [6]
    assert reader.receiver.pending == 0
    assert await reader.read_all() == [7]


async def test_a_message_that_waits_for_credit_keeps_its_bytes(rig):
    reader = rig.read(await rig.create(), lock=False)
    await rig.publish(1, 2)
    reader.pull(2)
    await settle()
    evict(rig)
    assert reader.pull(1) == [1]
    assert reader.pull(1) == [2]
    assert reader.payload(2) == message(2)


async def test_a_detached_receiver_is_not_woken_by_what_was_under_way(rig):
    reader = rig.read(await rig.create(), lock=False)
    await rig.publish(1)
    reader.pull()
    woken = reader.woken
    reader.detach()
    await settle()
    assert reader.woken == woken


# Falling behind


async def test_a_full_queue_falls_behind_and_catches_up_without_gap_or_repetition(start):
    rig = await start(ready_max=100)
    subscription = await rig.create()
    reader = rig.read(subscription, credit=30)
    for start_at in range(0, 600, 50):
        await rig.publish(*range(start_at, start_at + 50))
    assert subscription.behind_at is not None
    assert subscription.ready_count <= 150
    assert rig.figures(subscription).backlog == 600
    seen = []
    for _ in range(40):
        seqs = await reader.read_all()
        seen += seqs
        reader.complete(*seqs)
    assert seen == list(range(1, 601))
    assert subscription.behind_at is None
    assert rig.figures(subscription).backlog == 0


async def test_two_readers_each_with_its_commit_failure_lose_nothing(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    rig.log.fail_next(LogFailure("full", full=True))
    reader.complete(1)
    await settle()
    await rig.clock.advance(500)
    await rig.crash()
    again = rig.read(rig.again(subscription))
    assert await again.read_all() == [2]
