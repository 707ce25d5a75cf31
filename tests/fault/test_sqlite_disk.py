"""Full disks and failing disks: a clear refusal, nothing half done, and on it goes afterwards."""

import asyncio
import resource
import shutil
import subprocess

import pytest

from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Bounds, Commit, LogFailure
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from tests.support.logs import SUB, VARIABLES, append

ALL = 1 << 40
BIG = b"x" * 100_000


@pytest.fixture
async def database(tmp_path):
    """A database with room for some 200 KB."""
    database = SqliteDatabase(tmp_path, SqliteOptions(pages_max=70))
    log = SqliteLog(database)
    await log.open()
    database.test_log = log  # type: ignore[attr-defined]
    yield database
    await log.close()


@pytest.fixture
def log(database):
    return database.test_log


async def give_space(database, pages):
    await database.call(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    )


async def fill(log):
    """Append until it is refused for want of space; how many went in."""
    for stored in range(100):
        [result] = await asyncio.gather(log.commit(append(VARIABLES, BIG)), return_exceptions=True)
        if isinstance(result, LogFailure):
            assert result.full
            return stored
    raise AssertionError("never full")


async def test_a_full_disk_refuses_the_commit_and_keeps_what_was_there(log):
    stored = await fill(log)

    assert stored >= 1
    batches = await log.read(VARIABLES, 1, bytes_max=ALL)
    assert [batch.first_seq for batch in batches] == list(range(1, stored + 1))


async def test_nothing_of_a_refused_commit_takes_effect(tmp_path, log):
    await fill(log)
    work = append(VARIABLES, BIG)
    work.progress = [(SUB, ProgressDelta(99))]
    work.alive_ms = 5

    with pytest.raises(LogFailure) as caught:
        await log.commit(work)

    assert caught.value.full
    await log.close()
    recovered = await log.open()
    assert recovered.progress == {}
    assert recovered.alive_ms is None


async def test_commits_work_again_when_space_is_back(database, log):
    stored = await fill(log)
    await give_space(database, 1000)

    [batch] = await log.commit(append(VARIABLES, b"again"))

    assert batch.first_seq == stored + 2, "the refused number stays unused"
    [read] = await log.read(VARIABLES, stored + 1, bytes_max=ALL)
    assert list(read.payloads) == [b"again"]
    await log.close()
    await log.open()
    assert await log.bounds(VARIABLES) == Bounds(1, stored + 3)


async def test_numbers_of_refused_commits_stay_unused_after_a_restart(log):
    stored = await fill(log)

    await log.close()
    await log.open()

    assert (await log.bounds(VARIABLES)).next_seq == stored + 2


async def test_one_commit_that_does_not_fit_fails_alone(log):
    """Commits that are written together do not share each other's failure."""
    await fill(log)
    small = Commit(1, progress=[(SUB, ProgressDelta(3))])

    results = await asyncio.gather(
        log.commit(small),
        log.commit(append(VARIABLES, BIG)),
        log.commit(small),
        return_exceptions=True,
    )

    assert [isinstance(result, LogFailure) for result in results] == [False, True, False]


async def test_snapshots_and_retention_make_room(tmp_path):
    """What a full log needs to recover must itself be possible when it is full."""
    log = SqliteLog(SqliteDatabase(tmp_path, SqliteOptions(pages_max=140)))
    await log.open()
    for now_ms in (0, 4_000_000):
        await log.commit(append(VARIABLES, BIG, BIG, now_ms=now_ms))
    with pytest.raises(LogFailure):
        await log.commit(append(VARIABLES, BIG, BIG, now_ms=4_000_001))

    await log.trim(before_ms=1, bytes_max=None)

    await log.commit(append(VARIABLES, BIG, now_ms=4_000_001))
    await log.close()


async def test_a_full_disk_refuses_records_too(tmp_path, database, log):
    store = SqliteStore(database)
    await store.put("keys", "k", {"a": 1})
    await fill(log)

    with pytest.raises(LogFailure) as caught:
        await store.put("keys", "large", {"a": BIG})

    assert caught.value.full
    assert await store.load("keys") == [{"a": 1}]


async def test_a_write_error_of_the_disk_fails_the_commit_only(tmp_path):
    """A limit on file sizes makes the kernel refuse writes, as a broken disk does."""
    log = SqliteLog(SqliteDatabase(tmp_path))
    await log.open()
    await log.commit(append(VARIABLES, b"before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(LogFailure):
            await log.commit(append(VARIABLES, BIG, BIG, BIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    await log.commit(append(VARIABLES, b"after"))

    payloads = [list(b.payloads) for b in await log.read(VARIABLES, 1, bytes_max=ALL)]
    assert payloads == [[b"before"], [b"after"]]
    await log.close()


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB of its own, where the system lets us make one."""
    mount = shutil.which("mount")
    place = tmp_path / "disk"
    place.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights this run does not have")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_file_system_that_is_really_full(tiny_disk):
    log = SqliteLog(SqliteDatabase(tiny_disk / "log"))
    await log.open()
    await log.commit(Commit(1, snapshots=[(SUB, Progress(3))]))
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 400_000)
    stored = await fill(log)

    ballast.unlink()

    [batch] = await log.commit(append(VARIABLES, b"again"))
    assert batch.first_seq == stored + 2
    assert len(await log.read(VARIABLES, 1, bytes_max=ALL)) == stored + 1
    await log.close()
    assert (await log.open()).progress == {SUB: Progress(3)}
    await log.close()
