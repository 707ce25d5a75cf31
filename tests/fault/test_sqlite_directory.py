"""Who may use a data directory: one process, no older release, nobody else's eyes."""

import asyncio
import sqlite3
import stat
import subprocess
import sys

import pytest

from hotpath.model.subscription import Progress
from hotpath.ports import Bounds, Commit, LogFailure
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.migrations import MIGRATIONS, Migration, migrate
from hotpath.storage.sqlite.store import SqliteStore
from tests.support.logs import SUB, VARIABLES, append

ALL = 1 << 40


def make_log(directory) -> SqliteLog:
    return SqliteLog(SqliteDatabase(directory, SqliteOptions(synchronous="off")))


async def test_a_directory_in_use_is_refused_and_free_again_after(tmp_path):
    first, second = make_log(tmp_path), make_log(tmp_path)
    await first.open()

    with pytest.raises(LogFailure, match="in use by another process"):
        await second.open()

    await first.close()
    await second.open()
    await second.close()


HOLD = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the directory."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "hotpath.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder
        holder.kill()


async def test_a_directory_held_by_another_process_is_refused_until_it_dies(tmp_path, holder):
    log = make_log(tmp_path)
    with pytest.raises(LogFailure, match="in use"):
        await log.open()

    holder.kill()
    holder.wait()

    await log.open()
    await log.close()


async def test_files_are_for_their_owner_only(tmp_path):
    directory = tmp_path / "new" / "data"
    log = make_log(directory)
    await log.open()
    await log.commit(append(VARIABLES, b"secret"))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert set(modes) >= {"hotpath.db", "hotpath.db-wal"}
    assert set(modes.values()) == {0o600}
    await log.close()


async def test_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(LogFailure, match="cannot be used"):
        await make_log(tmp_path / "file" / "data").open()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    log = make_log(tmp_path)
    await log.open()
    await log.commit(append(VARIABLES, b"a"))
    await log.close()
    with sqlite3.connect(tmp_path / "hotpath.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()

    with pytest.raises(LogFailure, match="newer release"):
        await log.open()

    with sqlite3.connect(tmp_path / "hotpath.db") as connection:
        assert connection.execute("SELECT count(*) FROM batches_1").fetchone() == (1,)
        connection.execute(f"PRAGMA user_version = {MIGRATIONS[-1].number}")
    connection.close()
    await log.open()
    await log.close()


def test_migrations_are_numbered_without_gaps():
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_a_failing_migration_leaves_nothing_and_can_be_tried_again(tmp_path):
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    migrate(connection, lambda _: None)

    def half(database):
        database.execute("CREATE TABLE half (a)")
        raise OSError("no power")

    second = Migration(2, "second", half)
    with pytest.raises(OSError, match="no power"):
        migrate(connection, lambda _: None, migrations=(*MIGRATIONS, second))
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)

    whole = Migration(2, "second", lambda database: database.execute("CREATE TABLE half (a)"))
    migrate(connection, lambda _: None, migrations=(*MIGRATIONS, whole))
    applied = connection.execute("SELECT number, name FROM migration").fetchall()
    assert applied == [(1, "log"), (2, "second")]
    connection.close()


# Backup


async def test_a_backup_taken_while_running_holds_everything_answered(tmp_path):
    database = SqliteDatabase(tmp_path / "data")
    log, store = SqliteLog(database), SqliteStore(database)
    await log.open()
    await log.commit(append(VARIABLES, b"a", b"b"))
    await log.commit(Commit(1, snapshots=[(SUB, Progress(2))]))
    await store.put("keys", "k", {"a": 1})

    (tmp_path / "restored").mkdir()
    await log.backup(tmp_path / "restored" / "hotpath.db")
    await log.commit(append(VARIABLES, b"later"))

    database = SqliteDatabase(tmp_path / "restored")
    copy, records = SqliteLog(database), SqliteStore(database)
    recovered = await copy.open()
    assert recovered.progress == {SUB: Progress(2)}
    assert await copy.bounds(VARIABLES) == Bounds(1, 3)
    [batch] = await copy.read(VARIABLES, 1, bytes_max=ALL)
    assert list(batch.payloads) == [b"a", b"b"]
    assert await records.load("keys") == [{"a": 1}]
    await copy.close()
    await log.close()


async def test_commits_go_on_during_a_backup(tmp_path):
    log = make_log(tmp_path / "data")
    await log.open()
    await log.commit(append(VARIABLES, *[b"x" * 10_000] * 500))

    backup = asyncio.ensure_future(log.backup(tmp_path / "copy.db"))
    during = 0
    while not backup.done():
        await log.commit(append(VARIABLES, b"y"))
        during += 1

    await backup
    assert during >= 1
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    await log.close()


@pytest.mark.parametrize("target", ["exists.db", "missing/copy.db"])
async def test_a_backup_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, target):
    log = make_log(tmp_path / "data")
    await log.open()
    (tmp_path / "exists.db").write_text("precious")
    before = sorted(tmp_path.iterdir())

    with pytest.raises(LogFailure):
        await log.backup(tmp_path / target)

    assert (tmp_path / "exists.db").read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == before
    await log.close()
