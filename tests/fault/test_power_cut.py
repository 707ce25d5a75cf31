"""The power goes: what was not flushed is there, or not, or torn; what was confirmed stays.

A disk keeps what was flushed and any part, by the sector, of what was written since. From the
files as they were after each confirmed commit follows every state that a cut may leave:

- Within one generation of the write-ahead log (its header's salts), pages of the database may have
  been copied by the checkpoint or not, each for itself: they are all in the log still.
- The commit under way adds sectors to the log, of which any may be there.
- A new generation begins only after the database was flushed.
"""

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hotpath.model.names import SubscriptionId
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from tests.support.log_writer import LIMITS, make_commit, payload_of
from tests.support.logs import VARIABLES

pytestmark = pytest.mark.slow

SEED = 20261122
SECTOR = 512
PAGE = 4_096
HEADER = 32
FRAME = 24 + PAGE
COMMITS = 60
#: Small, so that checkpoints and new generations come often.
WAL_BYTES = 12_000
CUTS_A_COMMIT = 2


@dataclass
class State:
    """The files after a commit was confirmed, and what was confirmed by then."""

    database: bytes
    wal: bytes
    end_seq: int
    cursors: dict[SubscriptionId, int] = field(default_factory=dict)
    dead: set[tuple[SubscriptionId, int]] = field(default_factory=set)

    @property
    def generation(self) -> bytes:
        """The salts of the write-ahead log's header."""
        return self.wal[16:24]

    def count_frames(self) -> int:
        """Frames of this generation; others are left from the one before."""
        starts = range(HEADER, len(self.wal), FRAME)
        return sum(self.wal[at + 8 : at + 16] == self.generation for at in starts)


def open_log(path: Path) -> tuple[SqliteDatabase, SqliteLog, list[str]]:
    damage: list[str] = []
    database = SqliteDatabase(path, SqliteOptions(limits=LIMITS, wal_bytes=WAL_BYTES))
    return database, SqliteLog(database, on_damage=damage.append), damage


def read_files(path: Path) -> tuple[bytes, bytes]:
    """Both files, of one generation."""
    wal = path / "hotpath.db-wal"
    while True:
        before = wal.read_bytes()
        database = (path / "hotpath.db").read_bytes()
        if wal.read_bytes()[16:24] == before[16:24]:
            return database, before


async def record(path: Path, rng: random.Random) -> list[State]:
    """Work on a log; the files after each commit."""
    _, log, _ = open_log(path)
    await log.open()
    states = [State(*read_files(path), end_seq=1)]
    for turn in range(1, COMMITS + 1):
        work = make_commit(turn, states[-1].end_seq, rng)
        await log.commit(work)
        last = states[-1]
        state = State(*read_files(path), last.end_seq, dict(last.cursors), set(last.dead))
        state.end_seq += sum(len(payloads) for _, payloads in work.appends)
        for name, progress in (*work.progress, *work.snapshots):
            state.cursors[name] = max(state.cursors.get(name, 0), progress.cursor)
        state.dead |= {(name, letter.seq) for name, letter in work.dead}
        states.append(state)
    await log.close()
    return states


def torn(before: bytes, after: bytes, rng: random.Random) -> bytes:
    """Some sectors of what was written, and any length between; a new generation may cut the log."""
    shorter, longer = sorted((len(before), len(after)))
    length = rng.choice([shorter, longer, rng.randrange(shorter, longer + 1)])
    mixed = bytearray(before[:length].ljust(length, b"\0"))
    share = rng.choice([0.0, 0.5, 0.9, 1.0])
    for at in range(0, min(length, len(after)), SECTOR):
        if rng.random() < share:
            sector = after[at : min(at + SECTOR, length)]
            mixed[at : at + len(sector)] = sector
    return bytes(mixed)


def copied(base: bytes, now: bytes, rng: random.Random) -> bytes:
    """The database with some of the pages that a checkpoint was copying, a sector torn at times."""
    return torn(base, now.ljust(len(base), b"\0"), rng) if rng.random() < 0.8 else base


def checkpointed(base: bytes, state: State) -> bytes:
    """The database with all that the write-ahead log has of this generation.

    Made here, not read: whoever reads the file while the checkpoint works may find pages in it that
    this log does not have yet.
    """
    database, pages = bytearray(base), 0
    for at in range(HEADER, HEADER + state.count_frames() * FRAME, FRAME):
        number, size = struct.unpack(">II", state.wal[at : at + 8])
        pages = size or pages  # Only a commit's last frame tells the size.
        end = number * PAGE
        database.extend(bytes(max(0, end - len(database))))
        database[end - PAGE : end] = state.wal[at + 24 : at + FRAME]
    return bytes(database[: pages * PAGE]) if pages else base


def cut(states: list[State], index: int, rng: random.Random) -> tuple[bytes, bytes]:
    """What may be on the disk when the power goes after a commit, before the next is confirmed."""
    state, following = states[index], states[index + 1]
    base = next(each for each in states if each.generation == state.generation).database
    whole = checkpointed(base, state)
    if following.generation == state.generation:
        return copied(base, whole, rng), torn(state.wal, following.wal, rng)
    if rng.random() < 0.5:
        # The checkpoint had not come to its end.
        return copied(base, whole, rng), state.wal
    # The new header is flushed before anything that follows it is written.
    mixed = torn(state.wal, following.wal, rng)
    return whole, following.wal[:HEADER] + mixed[HEADER:]


async def check(path: Path, state: State) -> int:
    """Everything confirmed is there, and the log goes on; where it stands."""
    _, log, damage = open_log(path)
    recovered = await log.open()
    at = 1
    while batches := await log.read(VARIABLES, at, bytes_max=100_000):
        for batch in batches:
            assert batch.first_seq == at
            for seq, payload in enumerate(batch.payloads or (), start=at):
                assert payload == payload_of(seq)
            at = batch.end_seq
    assert at >= state.end_seq, "a confirmed message is lost"
    for name, cursor in state.cursors.items():
        assert recovered.progress[name].cursor >= cursor, "a settlement is undone"
    for name, seq in state.dead:
        assert seq in recovered.dead[name], "a dead letter is lost"
    assert (recovered.damage, damage) == ([], [])
    next_seq = (await log.bounds(VARIABLES)).next_seq
    assert next_seq >= at
    [batch] = await log.commit(make_commit(99_999, next_seq, random.Random(7))) or [None]
    assert batch is None or batch.first_seq >= at
    await log.close()
    return at


@pytest.mark.timeout(120)
async def test_a_power_cut_at_any_commit_loses_nothing_confirmed(tmp_path):
    rng = random.Random(SEED)
    states = await record(tmp_path / "first", rng)
    generations = {state.generation for state in states}
    further = 0

    for index in range(COMMITS):
        for number in range(CUTS_A_COMMIT):
            path = tmp_path / f"cut-{index}-{number}"
            path.mkdir(mode=0o700)
            database, wal = cut(states, index, rng)
            (path / "hotpath.db").write_bytes(database)
            (path / "hotpath.db-wal").write_bytes(wal)
            further += await check(path, states[index]) > states[index].end_seq

    # The states were of all kinds: several generations, commits cut off and commits complete.
    assert len(generations) >= 3
    assert 0 < further < COMMITS * CUTS_A_COMMIT


async def test_a_disk_that_lost_flushed_pages_is_told_and_its_messages_are_not_served(tmp_path):
    """Zeroed pages in the middle of what was flushed: damage, not an end that was torn."""
    rng = random.Random(SEED)
    states = await record(tmp_path / "first", rng)
    first = states[0].generation
    later = [state for state in states if state.generation != first]
    last = max(later, key=State.count_frames)
    path = tmp_path / "cut"
    path.mkdir(mode=0o700)
    wal = bytearray(last.wal)
    at = HEADER + 2 * FRAME
    wal[at : at + 2 * FRAME] = bytes(2 * FRAME)
    (path / "hotpath.db").write_bytes(
        next(each for each in states if each.generation == last.generation).database
    )
    (path / "hotpath.db-wal").write_bytes(wal)

    _, log, _ = open_log(path)
    recovered = await log.open()

    assert len(recovered.damage) == 1
    assert "commits are lost" in recovered.damage[0]
    seqs = []
    while batches := await log.read(VARIABLES, seqs[-1] + 1 if seqs else 1, bytes_max=100_000):
        for batch in batches:
            for seq, payload in enumerate(batch.payloads or (), start=batch.first_seq):
                assert payload == payload_of(seq)
                seqs.append(seq)
    assert (await log.bounds(VARIABLES)).next_seq > last.end_seq
    await log.close()
