"""What the log and store in memory can do for tests, beyond the ports."""

import pytest

from hotpath.ports import Bounds, Commit, LogFailure
from hotpath.storage.memory import MemoryLog, MemoryStore
from tests.support.logs import VARIABLES, append

FULL = LogFailure("no space", full=True)


@pytest.fixture
async def log():
    log = MemoryLog()
    await log.open()
    return log


async def test_a_failure_ordered_hits_the_next_commits_and_nothing_of_them_stays(log):
    log.fail_next(FULL, times=2)

    for _ in range(2):
        with pytest.raises(LogFailure) as caught:
            await log.commit(append(VARIABLES, b"lost"))
        assert caught.value.full
    [batch] = await log.commit(append(VARIABLES, b"kept"))

    assert batch.first_seq == 3
    [read] = await log.read(VARIABLES, 1, bytes_max=99)
    assert list(read.payloads) == [b"kept"]
    assert await log.bounds(VARIABLES) == Bounds(3, 4)


async def test_a_paused_log_answers_when_resumed_in_order(log):
    log.pause()
    first, second = log.commit(append(VARIABLES, b"a")), log.commit(append(VARIABLES, b"b"))
    assert await log.read(VARIABLES, 1, bytes_max=99) == []

    log.resume()

    assert [(await first)[0].first_seq, (await second)[0].first_seq] == [1, 2]


async def test_a_crash_loses_what_was_not_answered(log):
    await log.commit(Commit(1, alive_ms=5))
    log.pause()
    log.commit(append(VARIABLES, b"never answered"))

    log.crash()

    assert (await log.open()).alive_ms == 5
    assert await log.read(VARIABLES, 1, bytes_max=99) == []


async def test_a_failure_ordered_hits_the_next_change_of_a_record():
    store = MemoryStore()
    store.fail_next(FULL)

    with pytest.raises(LogFailure):
        await store.put("keys", "k", {"a": 1})

    assert await store.load("keys") == []
    await store.put("keys", "k", {"a": 1})
    assert await store.load("keys") == [{"a": 1}]
