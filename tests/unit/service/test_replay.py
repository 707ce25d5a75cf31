"""Subscriptions that are behind: a start in the past, retention, and fairness among them."""

import asyncio

import pytest

from hotpath.model.message import Batch
from hotpath.service import replay
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Rig, message
from tests.unit.service.test_deliver import evict


async def read_out(reader, *, rounds: int = 200) -> list[int]:
    """Read and complete until nothing comes."""
    seqs = []
    for _ in range(rounds):
        got = await reader.read_all()
        if not got:
            break
        reader.complete(*got)
        seqs += got
    return seqs


async def test_a_start_at_the_earliest_replays_all_that_the_log_holds(rig):
    for value in range(20):
        await rig.publish(value)
    evict(rig)
    subscription = await rig.create("value >= 10", start_from_ms=0)
    reader = rig.read(subscription)
    assert await read_out(reader) == list(range(11, 21))
    assert subscription.behind_at is None


async def test_a_start_now_gets_nothing_that_was_there_before(rig):
    await rig.publish(1, 2)
    reader = rig.read(await rig.create())
    await rig.publish(3)
    assert await read_out(reader) == [3]


async def test_a_start_at_a_time_gets_what_was_enqueued_since_then(rig):
    await rig.publish(1)
    await rig.clock.advance(10_000)
    at_ms = rig.clock.now_ms()
    await rig.publish(2)
    await rig.clock.advance(10_000)
    await rig.publish(3)
    reader = rig.read(await rig.create(start_from_ms=at_ms))
    assert await read_out(reader) == [2, 3]


async def test_replay_goes_live_without_gap_or_repetition_while_others_publish(start):
    rig = await start(ready_max=100)
    for value in range(300):
        await rig.publish(value)
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    reader = rig.read(subscription, credit=37)
    seqs = []
    for value in range(300):
        rig.core.publishing.submit(KEY, [message(value)], lambda _: None, via="test")
        await settle(value % 5)
        got = reader.pull()
        reader.complete(*got)
        seqs += got
    seqs += await read_out(reader)
    assert seqs == list(range(1, 601))
    assert subscription.behind_at is None


async def test_what_is_committed_during_the_read_is_not_skipped(rig):
    """Retention has emptied the log behind a position; a message comes while that is read."""
    await rig.publish(1)
    await rig.core.committer.settled()
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    rig.log.damage(1)
    rig.log.pause_reads()
    reader = rig.read(subscription)
    reader.pull()
    await settle()
    await rig.publish(2)
    rig.log.resume_reads()
    assert await read_out(reader) == [2]


async def test_a_batch_released_between_read_and_match_is_read_again(start):
    rig = await start(tail_bytes_max=1_048_576)
    for value in range(8):
        await rig.publish(value, text="x" * 300_000)
    evict(rig)
    reader = rig.read(await rig.create(start_from_ms=0), credit=1)
    reader.pull()
    for _ in range(30):
        await settle(1)
        evict(rig)
    assert await read_out(reader) == list(range(1, 9))


async def test_damage_in_the_log_costs_only_what_it_covers(rig):
    for value in range(6):
        await rig.publish(value)
    evict(rig)
    rig.log.damage(3)
    reader = rig.read(await rig.create(start_from_ms=0))
    assert await read_out(reader) == [1, 2, 4, 5, 6]


async def test_a_failed_read_is_tried_again(rig, monkeypatch):
    monkeypatch.setattr(replay, "RETRY_S", 0)
    await rig.publish(1, 2)
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    await settle()
    rig.log.fail_reads(3)
    reader = rig.read(subscription)
    reader.pull()
    await settle()
    assert await read_out(reader) == [1, 2]


async def test_a_subscription_without_a_receiver_is_not_read_for(rig):
    for value in range(5):
        await rig.publish(value)
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    await settle()
    reads = len(rig.log.reads)
    await rig.publish(9)
    await settle()
    assert len(rig.log.reads) == reads
    assert subscription.ready_count == 0


async def test_who_begins_to_wait_as_the_task_ends_is_served(start):
    rig = await start(ready_max=100)
    for _ in range(8):
        await rig.publish(*range(60))
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    reader = rig.read(subscription, credit=20)
    seqs = []
    # Each time at another turn of the loop, the one in which the task ends among them.
    for turn in range(200):
        await settle(turn % 4)
        got = reader.pull()
        seqs += got
        reader.complete(*got)
    assert seqs == list(range(1, 481))


async def test_who_is_nearly_live_does_not_wait_for_who_is_far_behind(start, monkeypatch):
    monkeypatch.setattr(replay, "READ_BYTES", 1)
    rig = await start(ready_max=100)
    for value in range(400):
        await rig.publish(value)
    evict(rig)
    far = rig.read(await rig.create(start_from_ms=0), credit=50)
    at_ms = rig.clock.now_ms()
    await rig.clock.advance(1)
    await rig.publish(400)
    near = rig.read(await rig.create(start_from_ms=at_ms + 1), credit=50)
    far.pull()
    near.pull()
    seen_far = []
    for _ in range(100):
        await settle(1)
        got = far.pull()
        far.complete(*got)
        seen_far += got
        if near.pull():
            break
    assert near.given
    assert len(seen_far) < 100


async def test_many_at_one_position_share_the_reads_and_the_index(start):
    rig = await start()
    for value in range(10):
        await rig.publish(value)
    evict(rig)
    subscriptions = [
        await rig.create(f"value >= {number}", start_from_ms=0)
        for number in range(replay.GROUP_MIN + 3)
    ]
    await settle(100)
    rig.log.reads.clear()
    evict(rig)
    readers = [rig.read(subscription) for subscription in subscriptions]
    for reader in readers:
        reader.pull()
    await settle(60)
    for number, reader in enumerate(readers):
        assert await read_out(reader) == list(range(number + 1, 11))
    assert len(rig.log.reads) < 5


def batches_of(count: int, payload: bytes) -> list[Batch]:
    return [Batch(KEY, 1 + each, enqueued_ms=1, payloads=[payload]) for each in range(count)]


async def test_of_small_batches_less_is_read_at_once_and_of_large_ones_more_again(rig):
    replaying = rig.core.delivering.replay
    replaying._fit(batches_of(4 * replay.READ_BATCHES, b"small"))
    assert replaying._read_bytes == replay.READ_BYTES // 4
    replaying._fit(batches_of(1, b"few"))
    assert replaying._read_bytes == replay.READ_BYTES // 4
    replaying._fit(batches_of(500 * replay.READ_BATCHES, b""))
    assert replaying._read_bytes == replay.READ_BYTES // replay.READ_BATCHES

    large = bytes(replay.READ_BYTES)
    for _ in range(20):
        replaying._fit(batches_of(1, large))
    assert replaying._read_bytes == replay.READ_BYTES


async def test_a_long_catch_up_gives_way_to_others_from_the_first_batch_on(rig):
    gone = []

    async def give_way() -> None:
        gone.append(subscription.behind_at)
        await asyncio.sleep(0)

    for value in range(50):
        await rig.publish(value)
    evict(rig)
    rig.core.delivering.replay.give_way = give_way
    subscription = await rig.create(start_from_ms=0)
    assert await read_out(rig.read(subscription)) == list(range(1, 51))
    assert gone


async def test_a_subscription_deleted_during_its_replay_ends_it(rig):
    for value in range(5):
        await rig.publish(value)
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    await settle()
    rig.log.pause_reads()
    evict(rig)
    reader = rig.read(subscription)
    reader.pull()
    await settle()
    await rig.core.admin.end(subscription, cause="deleted")
    rig.log.resume_reads()
    await settle()
    assert reader.pull() == []
    assert rig.core.delivering.replay._tasks == {}
    assert rig.core.topics.get(KEY).behind == set()


async def test_closing_ends_a_replay_that_waits_for_the_disk(start):
    rig = await start()
    await rig.publish(1)
    evict(rig)
    subscription = await rig.create(start_from_ms=0)
    rig.log.pause_reads()
    reader = rig.read(subscription)
    reader.pull()
    await settle()
    async with asyncio.timeout(5):
        await rig.core.close()


@pytest.mark.parametrize("checkpoint", [True, False])
async def test_after_a_crash_each_unsettled_message_comes_once_in_order(rig, checkpoint):
    subscription = await rig.create()
    reader = rig.read(subscription)
    for value in range(10):
        await rig.publish(value)
    reader.pull(8)
    reader.complete(1, 2, 5, 7)
    reader.abandon(4)
    await rig.core.committer.settled()
    if checkpoint:
        await rig.clock.advance(45_000)
    await rig.publish(10)
    await rig.crash()
    again = rig.read(rig.again(subscription))
    assert await again.read_all() == [3, 4, 6, 8, 9, 10, 11]
    assert again.count(4) == 1
    assert again.count(3) == 0


async def test_two_crashes_with_a_checkpoint_in_between_bring_nothing_back(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(*range(10))
    reader.pull()
    reader.complete(3, 4, 8)
    await rig.core.committer.settled()
    await rig.crash()
    second = rig.read(rig.again(subscription))
    assert (await second.read_all(rounds=3))[:1] == [1]
    await rig.clock.advance(45_000)
    await rig.crash()
    third = rig.read(rig.again(subscription))
    assert await third.read_all() == [1, 2, 5, 6, 7, 9, 10]


async def test_retention_settles_what_nobody_has_read(start):
    rig: Rig = await start(segment_bytes=100, retention_hours=1)
    subscription = await rig.create()
    for value in range(5):
        await rig.publish(value)
        await rig.clock.advance(600_000)
    reader = rig.read(subscription)
    assert reader.pull(2) == [1, 2]
    reader.defer(1)
    reader.detach()
    evict(rig)
    await rig.clock.advance(3_600_000)
    first_seq = (await rig.log.bounds(KEY)).first_seq
    assert first_seq == 5
    again = rig.read(subscription)
    assert await read_out(again) == [5]
    assert rig.figures(subscription).backlog == 0
    assert subscription.cursor(6) == 6


async def test_where_numbers_end_in_a_gap_a_reader_hears_that_there_is_nothing_more(rig):
    await rig.create()
    await rig.publish(1, 2, 3)
    subscription = await rig.create(start_from_ms=0)
    # As where a batch has room for more numbers than it has messages.
    rig.core.topics.get(KEY).routed_to += 1_000
    reader = rig.read(subscription)

    assert await reader.read_all() == [1, 2, 3]

    assert subscription.behind_at is None
    assert not subscription.has_more(), "a drain that waits for it is answered with this pull"
    assert reader.woken > 1
