"""Damaged bytes are found, told, and cost only what they cover."""

import sqlite3

import pytest

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, LogFailure, Scheduled
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.recovery import NUMBER_GAP
from tests.support.logs import OTHER_SUB, SUB, VARIABLES, SqliteHarness, append

ALL = 1 << 40
PAGE = 4096


@pytest.fixture
async def harness(tmp_path):
    harness = SqliteHarness(tmp_path, SqliteOptions(limits=SegmentLimits(bytes_max=1 << 30)))
    await harness.start()
    yield harness
    await harness.stop()


def payload(number: int, size: int = 200) -> bytes:
    return b"<%06d>" % number * (size // 8)


async def fill(harness, count, *, size=200):
    for number in range(1, count + 1):
        await harness.log.commit(append(VARIABLES, payload(number, size), now_ms=number))


async def reopen_with(harness, damage):
    """Close, let `damage` change the file, open again."""
    await harness.log.close()
    path = harness.path / "hotpath.db"
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    harness._make()
    return await harness.log.open()


def flip(content: bytearray, found: bytes) -> None:
    """Change a bit in every copy of some bytes: pages also hold remains of what they held."""
    at = content.index(found[:64])
    while at >= 0:
        content[at + 2] ^= 0x40
        at = content.find(found[:64], at + 1)


async def read_all(log):
    found, at = [], 0
    while batches := await log.read(VARIABLES, at, bytes_max=3000):
        found += [batch.first_seq for batch in batches]
        for batch in batches:
            assert list(batch.payloads) == [payload(batch.first_seq, len(batch.payloads[0]))]
        at = batches[-1].end_seq
    return found


@pytest.mark.parametrize("size", [200, 40_000], ids=["in page", "overflow"])
async def test_a_flipped_bit_costs_one_batch_and_is_told_once(harness, size):
    await fill(harness, 20, size=size)

    recovered = await reopen_with(harness, lambda content: flip(content, payload(7, size)))

    assert recovered.damage == []
    assert await read_all(harness.log) == [n for n in range(1, 21) if n != 7]
    assert await read_all(harness.log) == [n for n in range(1, 21) if n != 7]
    assert harness.damage == ["acme/variables: messages 7 to 7: the checksum is wrong"]


async def test_reading_from_a_damaged_batch_gives_the_next(harness):
    await fill(harness, 5)
    await reopen_with(harness, lambda content: flip(content, payload(3)))

    [batch] = await harness.log.read(VARIABLES, 3, bytes_max=1)

    assert batch.first_seq == 4


async def test_a_row_in_the_wrong_place_is_not_taken_for_a_message(harness):
    """A whole row, checksum included, that has come under another number."""
    await fill(harness, 5)
    await harness.log.close()
    with sqlite3.connect(harness.path / "hotpath.db") as connection:
        connection.execute("UPDATE batches_1 SET first_seq = 50 WHERE first_seq = 3")
    connection.close()
    harness._make()
    await harness.log.open()

    assert await read_all(harness.log) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    "change",
    [
        "count = 'x'",
        "count = -1",
        "count = 1 << 40",
        "enqueued_ms = x'00'",
        "body = 7",
        "crc = 0.5",
    ],
)
async def test_columns_of_any_type_are_damage_not_an_error(harness, change):
    await fill(harness, 5)
    await harness.log.close()
    with sqlite3.connect(harness.path / "hotpath.db") as connection:
        connection.execute(f"UPDATE batches_1 SET {change} WHERE first_seq = 3")
    connection.close()
    harness._make()
    await harness.log.open()

    assert await read_all(harness.log) == [1, 2, 4, 5]
    assert len(harness.damage) == 1


def zero_page_with(found: bytes):
    """Wipe the page that holds some bytes, as a disk that lost a sector does."""

    def damage(content: bytearray) -> None:
        start = content.index(found) // PAGE * PAGE
        content[start : start + PAGE] = b"\xa5" * PAGE

    return damage


async def test_a_lost_page_costs_its_own_messages(harness):
    await fill(harness, 600)

    await reopen_with(harness, zero_page_with(payload(300)))

    left = await read_all(harness.log)
    lost = sorted(set(range(1, 601)) - set(left))
    assert 300 in lost
    assert len(lost) < 25, "a page of 4 KB holds no more of these"
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert harness.damage


async def test_a_lost_last_page_never_gives_a_number_twice(harness):
    await fill(harness, 600)

    recovered = await reopen_with(harness, zero_page_with(payload(600)))

    assert len(recovered.damage) == 1
    [batch] = await harness.log.commit(append(VARIABLES, b"next"))
    assert batch.first_seq > NUMBER_GAP
    left = await harness.log.read(VARIABLES, batch.first_seq, bytes_max=ALL)
    assert [list(found.payloads) for found in left] == [[b"next"]]


async def test_a_flipped_bit_in_the_last_batch_never_gives_a_number_twice(harness):
    await fill(harness, 5)

    recovered = await reopen_with(harness, lambda content: flip(content, payload(5)))

    assert len(recovered.damage) == 1
    [batch] = await harness.log.commit(append(VARIABLES, b"next"))
    assert batch.first_seq > NUMBER_GAP
    await harness.log.read(VARIABLES, 1, bytes_max=ALL)
    assert (await harness.restart()).damage == []


async def test_a_damaged_segment_can_still_be_dropped(tmp_path):
    harness = SqliteHarness(tmp_path, SqliteOptions(limits=SegmentLimits(bytes_max=100_000)))
    await harness.start()
    await fill(harness, 600)
    await reopen_with(harness, zero_page_with(payload(300)))

    changed = await harness.log.trim(before_ms=600, bytes_max=None)

    assert changed[VARIABLES].first_seq > 500
    assert (await read_all(harness.log))[0] == changed[VARIABLES].first_seq
    await harness.stop()


async def test_damage_in_the_journal_costs_one_row(harness):
    names = [SubscriptionId(f"subscription-{n:04d}") for n in range(9)]
    for n, name in enumerate(names):
        await harness.log.commit(Commit(1, progress=[(name, ProgressDelta(n + 5))]))

    recovered = await reopen_with(harness, lambda content: flip(content, names[4].encode()))

    assert recovered.damage == ["progress journal, row 5: the checksum is wrong"]
    assert recovered.progress == {name: Progress(n + 5) for n, name in enumerate(names) if n != 4}
    await harness.log.commit(Commit(2, progress=[(names[4], ProgressDelta(50))]))
    assert (await harness.restart()).progress[names[4]] == Progress(50)


async def test_a_lost_page_of_the_journal_costs_its_own_rows(harness):
    names = [SubscriptionId(f"subscription-{n:04d}-" + "x" * 200) for n in range(100)]
    for name in names:
        await harness.log.commit(Commit(1, progress=[(name, ProgressDelta(5))]))

    recovered = await reopen_with(harness, zero_page_with(names[50].encode()))

    assert recovered.damage
    assert 70 < len(recovered.progress) < 100
    assert names[0] in recovered.progress
    assert names[99] in recovered.progress


async def test_damage_in_a_snapshot_costs_that_snapshot(harness):
    for name, horizon in ((SUB, 1234567), (OTHER_SUB, 7654321)):
        await harness.log.commit(Commit(1, snapshots=[(name, Progress(horizon))]))

    recovered = await reopen_with(harness, lambda content: flip(content, b"[1234567,"))

    assert recovered.damage == [f"progress of {SUB}: the checksum is wrong"]
    assert recovered.progress == {OTHER_SUB: Progress(7654321)}


async def test_damage_in_copied_messages_costs_those(harness):
    letters = [DeadLetter(n, enqueued_ms=1, payload=payload(n), reason="r") for n in (1, 2)]
    await harness.log.commit(
        Commit(
            1,
            dead=[(SUB, letter) for letter in letters],
            scheduled=[Scheduled(VARIABLES, n, 5, payload(n)) for n in (3, 4)],
        )
    )

    def damage(content):
        flip(content, payload(1))
        flip(content, payload(3))

    recovered = await reopen_with(harness, damage)

    assert [message.number for message in recovered.scheduled] == [4]
    assert len(recovered.damage) == 1
    found = await harness.log.dead_letters(SUB, from_seq=1, limit=9)
    assert [letter.seq for letter in found] == [2]
    assert harness.damage == [f"dead letter 1 of {SUB}: the checksum is wrong"]


# The write-ahead log


async def crash_with_wal(harness, change):
    """Leave the files of a killed process, change its write-ahead log, open again."""
    before = harness.path
    harness.generation += 1
    harness._dead.append(harness.log)
    harness.path.mkdir()
    for name in ("hotpath.db", "hotpath.db-wal"):
        (harness.path / name).write_bytes((before / name).read_bytes())
    wal = harness.path / "hotpath.db-wal"
    content = bytearray(wal.read_bytes())
    change(content)
    wal.write_bytes(content)
    harness._make()
    return await harness.log.open()


async def test_a_rotten_write_ahead_log_is_told_and_gives_no_number_twice(harness):
    await fill(harness, 20)

    def rot(content):
        content[content.index(payload(10)) + 2] ^= 0x40

    recovered = await crash_with_wal(harness, rot)

    assert len(recovered.damage) == 1
    assert "write-ahead log" in recovered.damage[0]
    assert await read_all(harness.log) == list(range(1, 10))
    [batch] = await harness.log.commit(append(VARIABLES, b"next"))
    assert batch.first_seq > NUMBER_GAP


async def test_a_torn_end_of_the_write_ahead_log_is_no_damage(harness):
    """What a power cut leaves of a commit that was never answered."""
    await fill(harness, 20)

    def tear(content):
        del content[-3000:]

    recovered = await crash_with_wal(harness, tear)

    assert recovered.damage == []
    assert await read_all(harness.log) == list(range(1, 20))


async def test_a_damaged_header_of_the_write_ahead_log_is_told(harness):
    await fill(harness, 5)

    def damage(content):
        content[17] ^= 1

    recovered = await crash_with_wal(harness, damage)

    assert "header" in recovered.damage[0]


# More than can be helped


@pytest.mark.parametrize("content", [b"not a database at all " * 500, b"SQLite format 3\0" * 600])
async def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    harness = SqliteHarness(tmp_path, SqliteOptions())
    harness.path.mkdir()
    (harness.path / "hotpath.db").write_bytes(content)

    with pytest.raises(LogFailure, match=r"damaged|failed"):
        await harness.start()
    assert (harness.path / "hotpath.db").read_bytes() == content
