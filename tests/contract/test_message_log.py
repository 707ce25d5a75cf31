"""What every message log must do; memory first, then SQLite, then JetStream."""

import asyncio

import pytest

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Bounds, Commit, LogFailure, Scheduled
from hotpath.storage.segments import SegmentLimits
from tests.support.ledger import Ledger
from tests.support.logs import (
    ALARMS,
    HARNESSES,
    HOUR_MS,
    OTHER_SUB,
    OTHER_TENANT,
    SUB,
    VARIABLES,
    LogHarness,
    append,
)

ALL = 1 << 40
#: One batch of 100 bytes fills a segment.
SMALL = SegmentLimits(bytes_max=100)


@pytest.fixture(params=HARNESSES)
def make(request, tmp_path):
    return lambda limits=None: HARNESSES[request.param](tmp_path, limits or SegmentLimits())


@pytest.fixture
async def harness(make):
    harness = make()
    await harness.start()
    yield harness
    await harness.stop()


@pytest.fixture
def ledger(harness):
    return Ledger(harness)


@pytest.fixture
async def small(make):
    """A log whose segments hold one batch of 100 bytes."""
    harness = make(SMALL)
    await harness.start()
    yield harness
    await harness.stop()


@pytest.fixture
def small_ledger(small):
    return Ledger(small)


def messages(batches):
    return [payload for batch in batches for payload in batch.payloads]


# Appending


async def test_numbers_increase_and_have_no_gaps_within_a_batch(ledger: Ledger):
    [first] = await ledger.commit(append(VARIABLES, b"a", b"b"))
    [second] = await ledger.commit(append(VARIABLES, b"c"))

    assert (first.count, first.end_seq) == (2, first.first_seq + 2)
    assert (second.count, second.end_seq) == (1, second.first_seq + 1)
    assert second.first_seq >= first.end_seq
    assert ledger.places([first, second]) == [(1, 2), (3, 1)]
    assert list(first.payloads) == [b"a", b"b"]


async def test_one_batch_an_append_in_their_order(ledger: Ledger):
    work = Commit(5, appends=[(VARIABLES, [b"a"]), (ALARMS, [b"b", b"c"]), (VARIABLES, [b"d"])])

    batches = await ledger.commit(work)

    assert [batch.topic for batch in batches] == [VARIABLES, ALARMS, VARIABLES]
    assert ledger.places(batches) == [(1, 1), (1, 2), (2, 1)]
    assert messages(await ledger.read(VARIABLES, 1, bytes_max=ALL)) == [b"a", b"d"]


async def test_topics_of_different_tenants_are_strangers(ledger: Ledger):
    await ledger.commit(append(VARIABLES, b"ours"))
    await ledger.commit(append(OTHER_TENANT, b"theirs"))

    assert messages(await ledger.read(VARIABLES, 1, bytes_max=ALL)) == [b"ours"]
    assert messages(await ledger.read(OTHER_TENANT, 1, bytes_max=ALL)) == [b"theirs"]
    assert await ledger.bounds_of(OTHER_TENANT) == Bounds(1, 2)


async def test_commits_take_effect_in_the_order_of_their_calls(ledger: Ledger):
    log = ledger.harness.log
    commits = [log.commit(append(VARIABLES, b"%d" % n)) for n in range(50)]

    results = await ledger.wait(commits)

    assert ledger.places([batch for [batch] in results]) == [(n, 1) for n in range(1, 51)]
    stored = messages(await ledger.read(VARIABLES, 1, bytes_max=ALL))
    assert stored == [b"%d" % n for n in range(50)]


async def test_an_abandoned_commit_takes_effect_all_the_same(harness: LogHarness, ledger: Ledger):
    """The caller's task may be cancelled while the disk is busy; the number is given."""
    harness.log.commit(append(VARIABLES, b"a")).cancel()  # type: ignore[attr-defined]

    [batch] = await harness.log.commit(append(VARIABLES, b"b"))

    stored = await harness.log.read(VARIABLES, 1, bytes_max=ALL)
    assert messages(stored) == [b"a", b"b"]
    assert stored[-1].first_seq == batch.first_seq
    assert ledger.places(ledger.note(stored)) == [(1, 1), (2, 1)]
    assert await ledger.bounds_of(VARIABLES) == Bounds(1, 3)


async def test_an_empty_commit_and_an_empty_append_are_harmless(harness: LogHarness):
    assert await harness.log.commit(Commit(1)) == []
    [batch] = await harness.log.commit(Commit(1, appends=[(VARIABLES, [])]))

    assert batch.count == 0
    assert await harness.log.read(VARIABLES, 1, bytes_max=ALL) == []
    assert await harness.log.bounds(VARIABLES) == Bounds(1, 1)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40], ids="{} appends".format)
async def test_a_commit_with_many_appends_keeps_each_batch(ledger: Ledger, count):
    work = Commit(
        9,
        appends=[(VARIABLES, [b"x%d" % n, b""]) for n in range(count)],
        progress=[(SUB, ProgressDelta(1))],
    )

    await ledger.commit(work)

    read = await ledger.read(VARIABLES, 1, bytes_max=ALL)
    assert ledger.places(read) == [(1 + 2 * n, 2) for n in range(count)]
    assert messages(read)[::2] == [b"x%d" % n for n in range(count)]


async def test_enqueued_times_never_decrease_within_a_topic(harness: LogHarness):
    await harness.log.commit(append(VARIABLES, b"a", now_ms=5000))

    [batch] = await harness.log.commit(append(VARIABLES, b"b", now_ms=4000))

    assert batch.enqueued_ms == 5000


async def test_releasing_a_returned_batch_leaves_the_log_as_it_is(harness: LogHarness):
    [batch] = await harness.log.commit(append(VARIABLES, b"a"))
    batch.release()

    [read] = await harness.log.read(VARIABLES, 1, bytes_max=ALL)

    assert list(read.payloads) == [b"a"]


# Reading


async def test_reading_begins_with_the_batch_that_holds_the_number(ledger: Ledger):
    for payloads in ([b"a", b"b", b"c"], [b"d"], [b"e", b"f"]):
        await ledger.commit(append(VARIABLES, *payloads))

    read = [await ledger.read(VARIABLES, n, bytes_max=ALL) for n in range(1, 8)]

    whole = [(1, 3), (4, 1), (5, 2)]
    starts = [ledger.places(batches) for batches in read]
    assert starts == [whole, whole, whole, whole[1:], whole[2:], whole[2:], []]


async def test_reading_from_below_all_numbers_begins_at_the_first(ledger: Ledger):
    await ledger.commit(append(VARIABLES, b"a"))

    read = await ledger.harness.log.read(VARIABLES, 0, bytes_max=ALL)

    assert messages(read) == [b"a"]


async def test_reading_between_two_batches_begins_at_the_second(ledger: Ledger):
    [first] = await ledger.commit(append(VARIABLES, b"a"))
    await ledger.commit(append(VARIABLES, b"b"))

    read = await ledger.harness.log.read(VARIABLES, first.end_seq, bytes_max=ALL)

    assert messages(read) == [b"b"]


@pytest.mark.parametrize(
    ("bytes_max", "count"),
    [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2), (201, 3), (ALL, 5)],
)
async def test_reading_stops_once_the_bytes_are_reached(ledger: Ledger, bytes_max, count):
    for _ in range(5):
        await ledger.commit(append(VARIABLES, b"x" * 40, b"y" * 60))

    batches = await ledger.read(VARIABLES, 1, bytes_max=bytes_max)

    assert ledger.places(batches) == [(1 + 2 * n, 2) for n in range(count)]


@pytest.mark.parametrize(("bytes_max", "count"), [(0, 1), (150, 2), (250, 3), (ALL, 5)])
async def test_reading_goes_on_across_segments(small_ledger: Ledger, bytes_max, count):
    for n in range(5):
        await small_ledger.commit(append(VARIABLES, bytes([n]) * 100))

    batches = await small_ledger.read(VARIABLES, 1, bytes_max=bytes_max)

    assert small_ledger.places(batches) == [(1 + n, 1) for n in range(count)]


async def test_every_message_can_be_reached_by_reading_on(small: LogHarness):
    """However a read is cut, the next one from its end must not skip anything."""
    for n in range(60):
        await small.log.commit(append(VARIABLES, b"%d" % n * (n % 5 + 1)))

    found, at = [], 1
    while batches := await small.log.read(VARIABLES, at, bytes_max=7):
        found += messages(batches)
        at = batches[-1].end_seq

    assert found == [b"%d" % n * (n % 5 + 1) for n in range(60)]


async def test_more_small_batches_than_one_read_returns_are_all_reached(harness: LogHarness):
    appends = [(VARIABLES, [b"%d" % n]) for n in range(2500)]
    await harness.log.commit(Commit(1, appends=appends))

    found, at = [], 1
    while batches := await harness.log.read(VARIABLES, at, bytes_max=ALL):
        found += messages(batches)
        at = batches[-1].end_seq

    assert found == [b"%d" % n for n in range(2500)]


async def test_an_unknown_topic_is_an_empty_one(harness: LogHarness):
    nowhere = TopicKey(TenantId("nobody"), Topic.EVENTS)

    assert await harness.log.read(nowhere, 1, bytes_max=ALL) == []
    assert await harness.log.bounds(nowhere) == Bounds(1, 1)
    assert await harness.log.seek(nowhere, 0) == 1


@pytest.mark.parametrize("size", [0, 1, 323, 4096, 70_000, 1_048_576], ids="{} B".format)
async def test_payloads_of_any_size_come_back_as_they_were(harness: LogHarness, size):
    payload = bytes(range(256)) * (size // 256) + b"\xff\x00" * (size % 256 // 2)

    await harness.log.commit(append(VARIABLES, b"before", payload, b"\x00"))

    assert messages(await harness.log.read(VARIABLES, 1, bytes_max=ALL)) == [
        b"before",
        payload,
        b"\x00",
    ]


# Times


@pytest.mark.parametrize(
    ("enqueued_ms", "expected"),
    [(0, 1), (1000, 1), (1001, 3), (2000, 3), (2001, 4), (3000, 4), (3001, 6), (9999, 6)],
)
async def test_a_time_is_found_across_segments(small_ledger: Ledger, enqueued_ms, expected):
    await small_ledger.commit(append(VARIABLES, b"a" * 100, b"b", now_ms=1000))
    await small_ledger.commit(append(VARIABLES, b"c", now_ms=2000))
    await small_ledger.commit(append(VARIABLES, b"d" * 100, b"e", now_ms=3000))

    assert await small_ledger.seek(VARIABLES, enqueued_ms) == expected


@pytest.mark.parametrize("before", [0, 2], ids=["an empty topic", "one with messages"])
async def test_a_batch_that_is_being_written_is_not_before_a_time_that_it_has_not(
    ledger: Ledger, before
):
    for _ in range(before):
        await ledger.commit(append(VARIABLES, b"x", now_ms=1000))
    pending = asyncio.ensure_future(ledger.commit(append(VARIABLES, b"y", now_ms=3000)))
    await asyncio.sleep(0)

    # Durable or not: who starts at its time gets it.
    assert await ledger.seek(VARIABLES, 2500) == before + 1
    await pending
    assert await ledger.seek(VARIABLES, 2500) == before + 1


async def test_the_first_of_several_batches_of_one_time_is_found(ledger: Ledger):
    for now_ms in (10, 20, 20, 20, 30):
        await ledger.commit(append(VARIABLES, b"x", b"y", now_ms=now_ms))

    assert await ledger.seek(VARIABLES, 20) == 3


@pytest.mark.parametrize("count", [1, 2, 7, 20], ids="{} batches".format)
async def test_every_time_is_found_in_a_log_of_any_length(ledger: Ledger, count):
    for n in range(1, count + 1):
        await ledger.commit(append(VARIABLES, b"x", now_ms=10 * n))

    found = [await ledger.seek(VARIABLES, 10 * n - 5) for n in range(1, count + 2)]

    assert found == list(range(1, count + 2))


# Retention


async def test_whole_segments_that_are_too_old_go(small_ledger: Ledger):
    for now_ms in (1000, 2000, 3000):
        await small_ledger.commit(append(VARIABLES, b"x" * 100, now_ms=now_ms))

    changed = await small_ledger.trim(before_ms=2500, bytes_max=None)

    assert changed == {VARIABLES: Bounds(3, 4)}
    read = await small_ledger.harness.log.read(VARIABLES, 1, bytes_max=ALL)
    assert small_ledger.places(read) == [(3, 1)]
    assert await small_ledger.bounds_of(VARIABLES) == Bounds(3, 4)
    assert await small_ledger.seek(VARIABLES, 0) == 3


async def test_a_segment_goes_only_when_all_of_it_is_too_old(make):
    harness = make(SegmentLimits(bytes_max=150))
    await harness.start()
    ledger = Ledger(harness)
    for now_ms in (1000, 2000, 3000):
        await ledger.commit(append(VARIABLES, b"x" * 100, now_ms=now_ms))

    # Where every batch goes by itself, the first one is old enough.
    early = {} if harness.is_embedded else {VARIABLES: Bounds(2, 4)}
    assert await ledger.trim(before_ms=2000, bytes_max=None) == early
    assert await ledger.trim(before_ms=2001, bytes_max=None) == {VARIABLES: Bounds(3, 4)}
    await harness.stop()


async def test_the_newest_segment_stays_however_old(small_ledger: Ledger):
    await small_ledger.commit(append(VARIABLES, b"x" * 100, now_ms=1000))

    assert await small_ledger.trim(before_ms=1 << 50, bytes_max=0) == {}
    assert await small_ledger.bounds_of(VARIABLES) == Bounds(1, 2)


async def test_over_the_size_the_oldest_segments_of_all_topics_go(small_ledger: Ledger):
    for n, topic in enumerate([VARIABLES, ALARMS, VARIABLES, ALARMS, VARIABLES]):
        await small_ledger.commit(append(topic, b"x" * 20_000, now_ms=1000 + n))

    # An adapter may count what it stores beside the payloads.
    changed = await small_ledger.trim(before_ms=0, bytes_max=62_000)

    assert changed == {VARIABLES: Bounds(2, 4), ALARMS: Bounds(2, 3)}
    assert await small_ledger.trim(before_ms=0, bytes_max=62_000) == {}


async def test_a_segment_is_closed_by_its_age(ledger: Ledger):
    await ledger.commit(append(VARIABLES, b"a", now_ms=0))
    await ledger.commit(append(VARIABLES, b"b", now_ms=HOUR_MS - 1))
    await ledger.commit(append(VARIABLES, b"c", now_ms=HOUR_MS))

    changed = await ledger.trim(before_ms=HOUR_MS, bytes_max=None)

    assert changed == {VARIABLES: Bounds(3, 4)}


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_retention_survives(small: LogHarness, small_ledger: Ledger, how):
    for now_ms in (1000, 2000, 3000):
        await small_ledger.commit(append(VARIABLES, b"x" * 100, now_ms=now_ms))
    await small_ledger.trim(before_ms=2500, bytes_max=None)

    await getattr(small, how)()

    assert await small_ledger.bounds_of(VARIABLES) == Bounds(3, 4)
    batches = await small_ledger.commit(append(VARIABLES, b"y", now_ms=4000))
    assert small_ledger.places(batches) == [(4, 1)]


async def test_no_number_is_given_twice_after_retention(small_ledger: Ledger):
    """However little is left in the topic."""
    given = []
    for turn in range(1, 5):
        for _ in range(3):
            given += await small_ledger.commit(append(VARIABLES, b"x" * 100, now_ms=turn * 1000))
        await small_ledger.trim(before_ms=turn * 1000 + 1, bytes_max=0)

    assert small_ledger.places(given) == [(n, 1) for n in range(1, 13)]


# Restart


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_everything_answered_is_there_after(harness: LogHarness, ledger: Ledger, how):
    await ledger.commit(append(VARIABLES, b"a", b"b", now_ms=7000))
    await ledger.commit(append(ALARMS, b"c", now_ms=8000))

    await getattr(harness, how)()

    [batch] = await ledger.read(VARIABLES, 1, bytes_max=ALL)
    assert list(batch.payloads) == [b"a", b"b"]
    assert (batch.enqueued_ms, batch.topic) == (7000, VARIABLES)
    assert await ledger.bounds_of(ALARMS) == Bounds(1, 2)
    batches = await ledger.commit(append(VARIABLES, b"d", now_ms=1))
    assert ledger.places(batches) == [(3, 1)]
    assert batches[0].enqueued_ms == 7000


async def test_after_close_everything_is_refused(harness: LogHarness):
    pending = harness.log.commit(append(VARIABLES, b"a"))
    await harness.log.close()

    [batch] = await pending
    assert batch.count == 1
    for refused in (
        harness.log.commit(append(VARIABLES, b"b")),
        harness.log.read(VARIABLES, 1, bytes_max=1),
        harness.log.bounds(VARIABLES),
        harness.log.seek(VARIABLES, 1),
        harness.log.trim(before_ms=1, bytes_max=None),
        harness.log.dead_letters(SUB, from_seq=1, limit=1),
    ):
        with pytest.raises(LogFailure):
            await refused
    await harness.log.close()


# Progress


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_deltas_come_on_top_of_the_snapshot(harness: LogHarness, how):
    given = {4: b"\x00\xff"}
    snapshot = Progress(
        10, unsettled={4}, counts={4: 2}, active_ms=50, matched_total=7, modified=given
    )
    delta = ProgressDelta(
        12,
        settled=(15, 17),
        counts=((13, 1), (14, 3)),
        deferred=((13, True),),
        active_ms=90,
        settled_total=8,
        delivered_total=9,
        modified=((13, b"a"), (14, b""), (15, b"settled")),
    )
    await harness.log.commit(Commit(1, snapshots=[(SUB, snapshot)]))
    await harness.log.commit(Commit(2, progress=[(SUB, delta)]))
    await harness.log.commit(Commit(3, progress=[(SUB, ProgressDelta(13, active_ms=None))]))

    recovered = await getattr(harness, how)()

    expected = Progress(
        10, unsettled={4}, counts={4: 2}, active_ms=50, matched_total=7, modified=given
    )
    expected.apply(delta)
    expected.apply(ProgressDelta(13))
    assert recovered.progress == {SUB: expected}
    assert recovered.damage == []


async def test_a_snapshot_replaces_all_that_was_there(harness: LogHarness):
    await harness.log.commit(Commit(1, progress=[(SUB, ProgressDelta(20, counts=((25, 3),)))]))
    await harness.log.commit(Commit(2, snapshots=[(SUB, Progress(5, settled={7}))]))

    recovered = await harness.restart()

    assert recovered.progress == {SUB: Progress(5, settled={7})}


async def test_a_snapshot_replaces_also_what_is_handed_in_at_once(harness: LogHarness):
    """Commits that become durable together must not change what each of them means."""
    commits = [
        Commit(1, progress=[(SUB, ProgressDelta(20))]),
        Commit(2, snapshots=[(SUB, Progress(5))]),
        Commit(3, progress=[(OTHER_SUB, ProgressDelta(3))]),
    ]

    await asyncio.gather(*map(harness.log.commit, commits))

    recovered = await harness.kill_and_restart()
    assert recovered.progress[SUB] == Progress(5)
    assert recovered.progress[OTHER_SUB] == Progress(3)


async def test_a_delta_beside_a_snapshot_comes_on_top_of_it(harness: LogHarness):
    work = Commit(1, progress=[(SUB, ProgressDelta(8))], snapshots=[(SUB, Progress(5))])

    await harness.log.commit(work)

    assert (await harness.restart()).progress == {SUB: Progress(8)}


async def test_complete_snapshots_make_earlier_deltas_needless(harness: LogHarness):
    await harness.log.commit(
        Commit(1, progress=[(SUB, ProgressDelta(20)), (OTHER_SUB, ProgressDelta(9))])
    )
    snapshots = [(SUB, Progress(21)), (OTHER_SUB, Progress(9))]
    await harness.log.commit(Commit(2, snapshots=snapshots))
    await harness.log.commit(Commit(3, progress=[(SUB, ProgressDelta(22))]))

    recovered = await harness.kill_and_restart()

    assert recovered.progress == {SUB: Progress(22), OTHER_SUB: Progress(9)}


async def test_many_snapshots_in_one_commit_are_all_kept(harness: LogHarness):
    snapshots = [
        (SubscriptionId(f"sub-{n}-é"), Progress(n, settled={n + 2}, counts={n + 1: 4}))
        for n in range(1000)
    ]

    await harness.log.commit(Commit(1, snapshots=snapshots))

    assert (await harness.restart()).progress == dict(snapshots)


async def test_the_snapshot_handed_in_may_change_afterwards(harness: LogHarness):
    progress = Progress(5, counts={6: 1})
    await harness.log.commit(Commit(1, snapshots=[(SUB, progress)]))
    progress.counts[6] = 99

    assert (await harness.restart()).progress == {SUB: Progress(5, counts={6: 1})}


async def test_forgotten_subscriptions_leave_nothing(harness: LogHarness):
    for identity in (SUB, OTHER_SUB):
        letter = DeadLetter(3, enqueued_ms=1, payload=b"p", reason="r")
        work = Commit(1, snapshots=[(identity, Progress(4))], dead=[(identity, letter)])
        await harness.log.commit(work)
        await harness.log.commit(Commit(2, progress=[(identity, ProgressDelta(5))]))

    await harness.log.commit(Commit(3, forgotten=[SUB]))

    assert await harness.log.dead_letters(SUB, from_seq=1, limit=9) == []
    recovered = await harness.kill_and_restart()
    assert recovered.progress == {OTHER_SUB: Progress(5)}
    assert recovered.dead == {OTHER_SUB: {3: 0}}


async def test_progress_after_forgetting_begins_anew(harness: LogHarness):
    await harness.log.commit(Commit(1, progress=[(SUB, ProgressDelta(9, counts=((10, 2),)))]))
    await asyncio.gather(
        harness.log.commit(Commit(2, forgotten=[SUB])),
        harness.log.commit(Commit(3, progress=[(SUB, ProgressDelta(4))])),
    )

    assert (await harness.restart()).progress == {SUB: Progress(4)}


# Dead letters


async def test_dead_letters_come_in_order_and_by_the_page(harness: LogHarness):
    for seq in (30, 10, 20):
        letter = DeadLetter(
            seq, enqueued_ms=seq, payload=b"%d" % seq, reason="why", description="so"
        )
        await harness.log.commit(Commit(1, dead=[(SUB, letter)]))

    first = await harness.log.dead_letters(SUB, from_seq=0, limit=2)
    second = await harness.log.dead_letters(SUB, from_seq=21, limit=2)

    assert [letter.seq for letter in first] == [10, 20]
    [last] = second
    assert (last.payload, last.reason, last.description) == (b"30", "why", "so")
    assert (last.enqueued_ms, last.delivery_count) == (30, 0)
    assert await harness.log.dead_letters(OTHER_SUB, from_seq=0, limit=9) == []


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_delivery_counts_of_dead_letters_are_kept(harness: LogHarness, how):
    letters = [DeadLetter(n, enqueued_ms=1, payload=b"p" * n, reason="r") for n in (1, 2, 3)]
    await harness.log.commit(Commit(1, dead=[(SUB, letter) for letter in letters]))
    await harness.log.commit(
        Commit(2, dead_updates=[(SUB, 2, 5), (SUB, 77, 1)], dead_removals=[(SUB, 1), (SUB, 88)])
    )

    recovered = await getattr(harness, how)()

    assert recovered.dead == {SUB: {2: 5, 3: 0}}
    assert recovered.dead_sizes == {SUB: {2: 2, 3: 3}}
    kept = await harness.log.dead_letters(SUB, from_seq=1, limit=9)
    assert [(letter.seq, letter.delivery_count) for letter in kept] == [(2, 5), (3, 0)]


# Scheduled messages and the heartbeat


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_scheduled_messages_stay_until_they_are_removed(harness: LogHarness, how):
    one = Scheduled(VARIABLES, 1, 5000, b"one")
    two = Scheduled(VARIABLES, 2, 6000, b"two")
    other = Scheduled(ALARMS, 1, 7000, b"other")
    await harness.log.commit(Commit(1, scheduled=[one, two, other]))
    await harness.log.commit(
        Commit(2, appends=[(VARIABLES, [b"one"])], scheduled_removals=[(VARIABLES, 1)])
    )

    recovered = await getattr(harness, how)()

    left = sorted(recovered.scheduled, key=lambda message: message.due_ms)
    assert left == [two, other]


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_the_last_heartbeat_is_known(make, how):
    harness = make()
    assert (await harness.start()).alive_ms is None
    await harness.log.commit(Commit(1, alive_ms=100))
    await harness.log.commit(Commit(2, alive_ms=200))

    assert (await getattr(harness, how)()).alive_ms == 200
    await harness.stop()


async def test_snapshots_by_and_by_keep_every_delta_that_is_still_needed(harness: LogHarness):
    """A service may write snapshots a few at a time, with deltas in between."""
    names = [SubscriptionId(f"sub-{n}") for n in range(6)]
    expected = {}
    for turn in range(1, 30):
        work = Commit(turn, progress=[(names[turn % 6], ProgressDelta(turn))])
        if turn % 2:
            name = names[turn // 2 % 6]
            work.snapshots = [(name, expected.get(name, Progress(0)))]
        await harness.log.commit(work)
        for name, snapshot in work.snapshots:
            expected[name] = Progress(snapshot.horizon)
        for name, delta in work.progress:
            expected[name] = Progress(delta.cursor)

    assert (await harness.kill_and_restart()).progress == expected
