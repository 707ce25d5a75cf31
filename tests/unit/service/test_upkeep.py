"""Heartbeats, checkpoints and retention."""

from hotpath.ports import LogFailure
from hotpath.service import commit
from hotpath.service.liveness import BEAT_MS
from tests.support.clock import settle
from tests.unit.service.rig import KEY
from tests.unit.service.test_commit import count_commits


async def test_the_log_hears_that_the_service_is_up_at_every_beat(rig):
    works = count_commits(rig)
    await rig.clock.advance(3 * BEAT_MS)
    beats = [work.alive_ms for work in works]
    assert beats == [BEAT_MS, 2 * BEAT_MS, 3 * BEAT_MS]


async def test_service_time_goes_on_where_the_last_beat_was(rig):
    await rig.clock.advance(3 * BEAT_MS + 7)
    await rig.crash()
    assert rig.core.liveness.service_ms() == 3 * BEAT_MS


async def test_a_checkpoint_holds_what_changed_and_all_that_are_live(rig):
    changed = await rig.create()
    idle = await rig.create("value > 5")
    await rig.clock.advance(2 * BEAT_MS)
    works = count_commits(rig)
    await rig.publish(1)
    await rig.clock.advance(2 * BEAT_MS)
    snapshots = [dict(work.snapshots) for work in works if work.snapshots]
    assert [set(one) for one in snapshots] == [{changed.spec.id, idle.spec.id}]
    assert snapshots[0][idle.spec.id].horizon == 2
    assert snapshots[0][changed.spec.id].horizon == 1


async def test_a_subscription_that_is_behind_and_unchanged_is_not_written_again(start):
    rig = await start(ready_max=100)
    subscription = await rig.create()
    for _ in range(3):
        await rig.publish(*range(100))
    await rig.clock.advance(3 * BEAT_MS)
    works = count_commits(rig)
    await rig.clock.advance(4 * BEAT_MS)
    assert [work.snapshots for work in works if work.snapshots] == []
    await rig.publish(1)
    await rig.clock.advance(2 * BEAT_MS)
    last = [work.snapshots for work in works if work.snapshots][-1]
    assert [identity for identity, _ in last] == [subscription.spec.id]
    assert last[0][1].matched_total == 301


async def test_a_large_checkpoint_is_spread_over_commits(rig, monkeypatch):
    monkeypatch.setattr(commit, "SNAPSHOTS_MAX", 4)
    made = {(await rig.create()).spec.id for _ in range(10)}
    await rig.clock.advance(BEAT_MS)
    works = count_commits(rig)

    await rig.clock.advance(2 * BEAT_MS)

    written = [[identity for identity, _ in work.snapshots] for work in works if work.snapshots]
    assert [len(one) for one in written] == [4, 4, 2]
    assert {identity for one in written for identity in one} == made


async def test_a_checkpoint_that_has_much_to_tell_is_spread_over_commits(rig, monkeypatch):
    monkeypatch.setattr(commit, "SNAPSHOT_MESSAGES_MAX", 5)
    for reads in (0, 0, 3, 3, 3, 0):
        reader = rig.read(await rig.create())
        await rig.publish(*range(3))
        reader.pull(reads)
    await rig.clock.advance(BEAT_MS)
    works = count_commits(rig)

    await rig.clock.advance(2 * BEAT_MS)

    assert [len(work.snapshots) for work in works if work.snapshots] == [4, 2]


async def test_a_checkpoint_that_fails_is_made_good(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.complete(*reader.pull())
    await settle()
    rig.log.fail_next(LogFailure("full", full=True), times=3)
    await rig.clock.advance(4 * BEAT_MS)
    await rig.crash()
    assert await rig.read(rig.again(subscription)).read_all() == []


async def test_old_segments_go_and_a_topic_begins_behind_them(start):
    rig = await start(segment_bytes=1, retention_hours=0.5)
    for value in range(4):
        await rig.publish(value)
        await rig.clock.advance(600_000)
    await rig.clock.advance(3 * BEAT_MS)
    bounds = await rig.log.bounds(KEY)
    assert bounds.first_seq > 1
    assert rig.core.topics.get(KEY).first_seq == bounds.first_seq


async def test_retention_that_fails_is_tried_again(start):
    rig = await start(segment_bytes=1, retention_hours=0.5)
    for value in range(3):
        await rig.publish(value)
    trim = rig.log.trim

    async def fails(**_):
        rig.log.trim = trim
        raise LogFailure("the disk gave an error")

    rig.log.trim = fails
    await rig.clock.advance(1_800_001)
    await rig.clock.advance(6 * BEAT_MS)
    assert (await rig.log.bounds(KEY)).first_seq == 3


async def test_the_stop_writes_a_last_checkpoint(start):
    rig = await start()
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    reader.pull()
    reader.complete(2)
    await rig.clock.advance(5)
    await rig.core.close()
    recovered = await rig.log.open()
    progress = recovered.progress[subscription.spec.id]
    assert (progress.horizon, progress.unsettled) == (4, {1, 3})
    assert (progress.matched_total, progress.counted_to) == (3, 4)
    assert recovered.alive_ms == 5
