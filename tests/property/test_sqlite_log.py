"""SQLite behaves like memory: random commits, retention and restarts give the same answers."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, Scheduled
from hotpath.storage.segments import SegmentLimits
from tests.support.logs import ALARMS, OTHER_TENANT, VARIABLES, memory_harness, sqlite_harness

LIMITS = SegmentLimits(bytes_max=60, age_ms_max=500)
TOPICS = (VARIABLES, ALARMS, OTHER_TENANT)
SUBS = tuple(SubscriptionId(f"s{n}") for n in range(3))

seqs = st.integers(1, 30)
topics = st.sampled_from(TOPICS)
subs = st.sampled_from(SUBS)
deltas = st.builds(
    ProgressDelta,
    cursor=seqs,
    settled=st.lists(seqs, max_size=3).map(tuple),
    counts=st.lists(st.tuples(seqs, st.integers(1, 9)), max_size=3).map(tuple),
    deferred=st.lists(st.tuples(seqs, st.booleans()), max_size=3).map(tuple),
    active_ms=st.none() | st.integers(0, 1000),
    settled_total=st.integers(0, 50),
    delivered_total=st.integers(0, 50),
    modified=st.lists(st.tuples(seqs, st.binary(max_size=5)), max_size=2).map(tuple),
)
progresses = st.builds(
    Progress,
    horizon=seqs,
    unsettled=st.sets(seqs, max_size=3),
    settled=st.sets(seqs, max_size=3),
    counts=st.dictionaries(seqs, st.integers(1, 9), max_size=3),
    deferred=st.sets(seqs, max_size=3),
    active_ms=st.integers(0, 1000),
    matched_total=st.integers(0, 50),
)
letters = st.builds(
    DeadLetter,
    seqs,
    enqueued_ms=st.integers(0, 99),
    payload=st.binary(max_size=9),
    reason=st.text(st.characters(codec="utf-8"), max_size=5),
)


def some(strategy):
    return st.lists(strategy, max_size=2)


commits = st.builds(
    Commit,
    now_ms=st.integers(0, 2000),
    appends=some(st.tuples(topics, st.lists(st.binary(max_size=40), min_size=1, max_size=4))),
    progress=some(st.tuples(subs, deltas)),
    snapshots=some(st.tuples(subs, progresses)),
    dead=some(st.tuples(subs, letters)),
    dead_updates=some(st.tuples(subs, seqs, st.integers(1, 9))),
    dead_removals=some(st.tuples(subs, seqs)),
    scheduled=some(
        st.builds(Scheduled, topics, st.integers(1, 4), st.integers(0, 99), st.binary(max_size=5))
    ),
    scheduled_removals=some(st.tuples(topics, st.integers(1, 4))),
    forgotten=some(subs),
    alive_ms=st.none() | st.integers(0, 99),
)
everything_in_full = st.builds(
    lambda found: Commit(0, snapshots=list(zip(SUBS, found, strict=True))),
    st.tuples(*[progresses] * len(SUBS)),
)
steps = st.one_of(
    st.tuples(st.just("commit"), commits | everything_in_full),
    # Several handed in at once may share a transaction.
    st.tuples(st.just("together"), st.lists(commits | everything_in_full, max_size=4)),
    st.tuples(st.just("trim"), st.tuples(st.integers(0, 2500), st.none() | st.integers(0, 300))),
    st.tuples(st.sampled_from(["restart", "kill_and_restart"]), st.none()),
)


def shown(batches):
    return [(b.topic, b.first_seq, b.enqueued_ms, tuple(b.payloads)) for b in batches]


def told(letters):
    return [(x.seq, x.enqueued_ms, x.payload, x.reason, x.delivery_count) for x in letters]


async def observe(log):
    """Everything a caller can see."""
    seen = {}
    for topic in TOPICS:
        for start in (0, 1, 5, 9):
            batches = await log.read(topic, start, bytes_max=50)
            seen[topic, "read", start] = shown(batches)
        seen[topic, "all"] = shown(await log.read(topic, 0, bytes_max=1 << 30))
        seen[topic, "bounds"] = await log.bounds(topic)
        for at_ms in (0, 500, 1500):
            seen[topic, "seek", at_ms] = await log.seek(topic, at_ms)
    for sub in SUBS:
        seen[sub] = told(await log.dead_letters(sub, from_seq=3, limit=4))
    return seen


async def run_step(harness, kind, argument):
    match kind:
        case "commit":
            return shown(await harness.log.commit(argument))
        case "together":
            found = await asyncio.gather(*map(harness.log.commit, argument))
            return [shown(batches) for batches in found]
        case "trim":
            return await harness.log.trim(before_ms=argument[0], bytes_max=argument[1])
        case _:
            recovered = await getattr(harness, kind)()
            assert recovered.damage == []
            scheduled = sorted(recovered.scheduled, key=lambda m: (m.topic, m.number))
            return recovered.progress, recovered.dead, recovered.alive_ms, scheduled


def rolls_alike(steps):
    """Whether segments end at the same batches: those of one transaction share a segment.

    Whether commits that are handed in at once share a transaction is a matter of time.
    """
    for kind, argument in steps:
        if kind == "together":
            topics = [topic for work in argument for topic, _ in work.appends]
            if len(topics) > len(set(topics)):
                return False
    return True


async def compare(steps):
    if not rolls_alike(steps):
        steps = [step for step in steps if step[0] != "trim"]
    with tempfile.TemporaryDirectory() as directory:
        memory = memory_harness(Path(directory), LIMITS)
        sqlite = sqlite_harness(Path(directory), LIMITS)
        await memory.start()
        await sqlite.start()
        try:
            for kind, argument in steps:
                expected = await run_step(memory, kind, argument)
                assert await run_step(sqlite, kind, argument) == expected
            assert await observe(sqlite.log) == await observe(memory.log)
            expected = await run_step(memory, "kill_and_restart", None)
            assert await run_step(sqlite, "kill_and_restart", None) == expected
        finally:
            await sqlite.stop()
            await memory.stop()


@given(st.lists(steps, min_size=1, max_size=12))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
def test_sqlite_answers_like_memory(steps):
    asyncio.run(compare(steps))
