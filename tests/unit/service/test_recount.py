"""The backlog that a subscription shows: live, behind, after a restart, with a start in the past."""

import pytest

from hotpath.service import recount as recounting
from tests.support.clock import settle
from tests.unit.service.rig import KEY, PRINCIPAL
from tests.unit.service.test_deliver import evict

CHECKPOINT_MS = 45_000


def backlog(rig, subscription) -> int:
    return rig.figures(rig.again(subscription)).backlog


async def test_a_live_subscription_counts_what_is_ready_and_what_is_locked(rig):
    subscription = await rig.create("value > 2")
    reader = rig.read(subscription)
    await rig.publish(*range(10))
    assert backlog(rig, subscription) == 7
    reader.pull(3)
    assert backlog(rig, subscription) == 7
    reader.complete(4, 5)
    assert backlog(rig, subscription) == 5
    assert rig.figures(subscription).locked == 1


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
async def test_after_a_crash_the_backlog_is_right_whatever_was_checkpointed(rig, checkpoints):
    subscription = await rig.create("value > 2")
    reader = rig.read(subscription)
    for _ in range(checkpoints + 1):
        await rig.publish(*range(10))
        reader.complete(*reader.pull(2))
        await rig.core.committer.settled()
        await rig.clock.advance(CHECKPOINT_MS if checkpoints else 0)
    await rig.publish(*range(5))
    expected = backlog(rig, subscription)
    assert expected == (checkpoints + 1) * 5 + 2
    await rig.crash()
    await settle(100)
    assert backlog(rig, subscription) == expected


async def test_crash_after_crash_counts_nothing_twice(rig):
    subscription = await rig.create()
    await rig.publish(*range(10))
    for round_ in range(4):
        await rig.crash()
        await rig.publish(1)
        await rig.clock.advance(CHECKPOINT_MS * (round_ % 2))
    await settle(100)
    assert backlog(rig, subscription) == 14


async def test_messages_that_come_while_counting_are_counted_once(rig):
    subscription = await rig.create()
    for value in range(5):
        await rig.publish(value)
    await rig.abandon()
    rig.log.pause_reads()
    await rig.crash()
    await rig.publish(5, 6)
    assert not rig.again(subscription).counted
    rig.log.resume_reads()
    await settle(100)
    assert backlog(rig, subscription) == 7


async def test_a_crash_while_counting_changes_no_figure(rig):
    subscription = await rig.create()
    await rig.publish(*range(5))
    await rig.abandon()
    rig.log.pause_reads()
    await rig.crash()
    await rig.publish(5, 6)
    await rig.clock.advance(CHECKPOINT_MS)
    rig.log.resume_reads()
    await rig.crash()
    await settle(100)
    assert backlog(rig, subscription) == 7


async def test_a_failed_read_does_not_end_the_count(rig, monkeypatch):
    monkeypatch.setattr(recounting, "RETRY_S", 0)
    subscription = await rig.create()
    await rig.publish(*range(5))
    rig.log.fail_reads(2)
    await rig.crash()
    await settle(100)
    assert backlog(rig, subscription) == 5


async def test_what_the_log_has_lost_is_not_waited_for(rig):
    subscription = await rig.create()
    await rig.publish(1)
    rig.log.damage(1)
    await rig.crash()
    await settle(100)
    assert rig.again(subscription).counted


async def test_a_start_in_the_past_shows_what_it_will_replay(rig):
    for value in range(10):
        await rig.publish(value)
    subscription = await rig.create("value > 2", start_from_ms=0)
    await settle(100)
    assert backlog(rig, subscription) == 7
    await rig.publish(9)
    assert backlog(rig, subscription) == 8
    reader = rig.read(subscription)
    assert len(await reader.read_all()) == 8
    assert backlog(rig, subscription) == 8


async def test_subscriptions_that_start_in_the_past_are_counted_one_after_the_other(rig):
    for value in range(10):
        await rig.publish(value)
    evict(rig)
    rig.log.pause_reads()
    several = [await rig.create(start_from_ms=0) for _ in range(5)]
    await settle()
    assert len(rig.log.reads) == 1
    for subscription in several[1:]:
        await rig.core.admin.delete(PRINCIPAL, KEY.topic, subscription.spec.id)
    rig.log.resume_reads()
    await settle(200)
    assert backlog(rig, several[0]) == 10
    assert not any(subscription.counted for subscription in several[1:])


async def test_retention_cannot_leave_a_backlog_of_messages_that_are_gone(start):
    rig = await start(segment_bytes=100, retention_hours=0.5, ready_max=100)
    subscription = await rig.create()
    for _ in range(6):
        await rig.publish(*range(60))
        await rig.clock.advance(600_000)
    evict(rig)
    assert subscription.behind_at is not None
    bounds = await rig.log.bounds(KEY)
    left = bounds.next_seq - bounds.first_seq
    assert left < 300
    assert backlog(rig, subscription) <= left + subscription.ready_count
    await rig.crash()
    await settle(100)
    assert backlog(rig, subscription) == left


async def test_delivered_and_settled_figures_survive_a_crash(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(*range(10))
    reader.pull(6)
    reader.complete(1, 2, 3)
    await rig.core.committer.settled()
    await rig.crash()
    again = rig.again(subscription)
    assert (again.settled_total, again.delivered_total) == (3, 6)
