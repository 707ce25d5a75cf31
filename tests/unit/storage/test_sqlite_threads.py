"""How the SQLite adapters use threads: groups, barriers, checkpoints, nothing on the loop."""

import asyncio
import threading

import pytest

from hotpath.model.subscription import ProgressDelta
from hotpath.ports import Commit, LogFailure
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from tests.support.logs import ALARMS, SUB, VARIABLES, append

ALL = 1 << 40


class Probe:
    """Counts the points passed; can hold the writer at one of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        self.gate.wait(5)


@pytest.fixture
def probe():
    return Probe()


@pytest.fixture
async def database(tmp_path, probe):
    options = SqliteOptions(synchronous="off", probe=probe, wal_bytes=300_000)
    database = SqliteDatabase(tmp_path, options)
    log = SqliteLog(database)
    await log.open()
    await log.commit(append(VARIABLES, b"first"))
    database.test_log = log  # type: ignore[attr-defined]
    yield database
    probe.gate.set()
    await log.close()


@pytest.fixture
def log(database):
    return database.test_log


async def test_commits_that_wait_together_become_durable_together(log, probe):
    probe.gate.clear()
    first = log.commit(append(VARIABLES, b"a"))
    probe.seen.clear()
    waiting = [log.commit(append(topic, b"b")) for topic in (VARIABLES, ALARMS) * 10]

    probe.gate.set()
    await asyncio.gather(first, *waiting)

    # The first alone, perhaps some with it; the others in one transaction.
    assert probe.seen.count("after-commit") <= 3
    assert (await log.bounds(VARIABLES)).next_seq == 13
    assert (await log.bounds(ALARMS)).next_seq == 11


async def test_the_usual_commit_opens_no_transaction(log, probe):
    """It is one statement; the points inside an explicit transaction are not passed."""
    probe.seen.clear()

    await log.commit(append(VARIABLES, b"a"))
    await log.commit(Commit(1, progress=[(SUB, ProgressDelta(1))]))
    await log.commit(Commit(1, appends=[(VARIABLES, [b"a"])], progress=[(SUB, ProgressDelta(2))]))

    assert probe.seen == ["after-commit"] * 3


@pytest.mark.parametrize(("topic", "found"), [(VARIABLES, 2), (ALARMS, 1)], ids=["older", "none"])
async def test_a_batch_that_is_being_written_is_not_before_any_time(log, probe, topic, found):
    probe.gate.clear()
    pending = log.commit(append(topic, b"a", b"b", now_ms=3000))

    # It has numbers already, and whoever starts at its time must get it.
    assert await log.seek(topic, 2500) == found

    probe.gate.set()
    await pending
    assert await log.seek(topic, 2500) == found
    assert await log.seek(topic, 3001) == found + 2


async def test_what_is_committed_while_a_time_is_searched_is_not_passed_over(log, monkeypatch):
    database = log._database
    query = database.query

    async def query_then_commit(read):
        answer = await query(read)
        await log.commit(append(ALARMS, b"a", now_ms=3000))
        return answer

    monkeypatch.setattr(database, "query", query_then_commit)
    assert await log.seek(ALARMS, 2500) == 1


async def test_the_loop_is_never_blocked_by_a_slow_disk(log, probe):
    probe.gate.clear()
    pending = log.commit(append(VARIABLES, b"a"))

    batches = await log.read(VARIABLES, 1, bytes_max=ALL)
    bounds = await log.bounds(VARIABLES)

    assert len(batches) >= 1
    assert bounds.next_seq == 3
    assert not pending.done()
    probe.gate.set()
    await pending


async def test_records_and_commits_share_the_writer_in_order(database, log):
    store = SqliteStore(database)
    await store.put("keys", "k", {"a": 0})

    await asyncio.gather(
        log.commit(append(VARIABLES, b"a")),
        store.put("keys", "k", {"a": 1}),
        log.commit(append(VARIABLES, b"b")),
        store.put("keys", "k", {"a": 2}),
    )

    assert await store.load("keys") == [{"a": 2}]
    assert (await log.bounds(VARIABLES)).next_seq == 4


async def test_the_write_ahead_log_stays_bounded_and_nothing_is_lost(database, log, tmp_path):
    """Checkpoints run beside the commits; 6 MB go through a log that wants 300 KB."""
    wal = tmp_path / "hotpath.db-wal"
    largest = 0
    for n in range(600):
        await log.commit(append(VARIABLES, b"%06d" % n * 1700))
        largest = max(largest, wal.stat().st_size)

    assert largest < 3_000_000
    assert database.checkpoint_failures == 0
    found, at = [], 2
    while batches := await log.read(VARIABLES, at, bytes_max=1 << 20):
        found += [payload[:6] for batch in batches for payload in batch.payloads]
        at = batches[-1].end_seq
    assert found == [b"%06d" % n for n in range(600)]


async def test_work_that_cannot_be_written_is_refused_and_the_next_goes_on(log):
    """A number beyond 64 bits is our own mistake; it must not take the writer along."""
    with pytest.raises(LogFailure):
        await log.commit(Commit(1, progress=[(SUB, ProgressDelta(1 << 70))]))

    [batch] = await log.commit(append(VARIABLES, b"next"))
    assert batch.first_seq == 2


@pytest.mark.parametrize("kind", ["Keys", "keys; DROP TABLE topic", "", "k" * 64, "record key"])
async def test_names_of_kinds_and_columns_are_checked(database, kind):
    store = SqliteStore(database)

    with pytest.raises(LogFailure):
        await store.put(kind, "k", {"a": 1})
    with pytest.raises(LogFailure):
        await store.put("keys", "k", {kind: 1})
    with pytest.raises(LogFailure):
        await store.put("keys", "k", {"record_key": 1})


async def test_an_open_log_cannot_be_opened_again(log):
    with pytest.raises(LogFailure, match="open already"):
        await log.open()
    assert (await log.commit(append(VARIABLES, b"still here")))[0].first_seq == 2


async def test_a_growing_segment_knows_its_size_after_a_restart(tmp_path):
    options = SqliteOptions(synchronous="off", limits=SegmentLimits(bytes_max=100))
    for _ in range(4):
        log = SqliteLog(SqliteDatabase(tmp_path, options))
        await log.open()
        await log.commit(append(VARIABLES, b"x" * 60))
        await log.close()
    await log.open()

    changed = await log.trim(before_ms=0, bytes_max=120)

    # 60 + 60 fill a segment, so two segments of two batches.
    assert changed[VARIABLES].first_seq == 3
    await log.close()
