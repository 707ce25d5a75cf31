"""What every record store must do; memory first, then SQLite."""

import asyncio

import pytest

from hotpath.storage.segments import SegmentLimits
from tests.support.logs import HARNESSES, LogHarness


@pytest.fixture(params=HARNESSES)
async def harness(request, tmp_path):
    harness = HARNESSES[request.param](tmp_path, SegmentLimits())
    await harness.start()
    yield harness
    await harness.stop()


async def test_nothing_is_there_at_first(harness: LogHarness):
    assert await harness.store.load("subscriptions") == []


VALUES = {
    "text": "x",
    "digits": "007",
    "integer": 7,
    "large": 1 << 62,
    "whole_float": 2.0,
    "float": 0.1,
    "nothing": None,
    "blob": b"\x00\xff",
    "empty": "",
    "unicode": "Ölpumpe ✓",
}


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_values_come_back_as_they_were_put(harness: LogHarness, how):
    await harness.store.put("keys", "k", VALUES)

    await getattr(harness, how)()

    [record] = await harness.store.load("keys")
    assert record == VALUES
    assert {name: type(value) for name, value in record.items()} == {
        name: type(value) for name, value in VALUES.items()
    }


async def test_records_come_in_the_order_of_their_creation(harness: LogHarness):
    for key in ("c", "a", "b"):
        await harness.store.put("keys", key, {"name": key, "n": 1})
    await harness.store.put("keys", "c", {"name": "c", "n": 2})

    loaded = await harness.store.load("keys")

    assert loaded == [{"name": "c", "n": 2}, {"name": "a", "n": 1}, {"name": "b", "n": 1}]


async def test_a_column_that_comes_later_is_none_in_older_records(harness: LogHarness):
    await harness.store.put("keys", "old", {"a": 1})
    await harness.store.put("keys", "new", {"a": 2, "b": "x"})

    assert await harness.store.load("keys") == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


async def test_replacing_a_record_leaves_nothing_of_the_old_one(harness: LogHarness):
    await harness.store.put("keys", "k", {"a": 1, "b": 2})
    await harness.store.put("keys", "k", {"a": 3})

    assert await harness.store.load("keys") == [{"a": 3, "b": None}]


async def test_kinds_are_apart(harness: LogHarness):
    await harness.store.put("keys", "k", {"a": 1})
    await harness.store.put("publishers", "k", {"a": 2})
    await harness.store.delete("publishers", ["k"])

    assert await harness.store.load("keys") == [{"a": 1}]
    assert await harness.store.load("publishers") == []


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_deleted_records_stay_away(harness: LogHarness, how):
    for key in ("a", "b", "c"):
        await harness.store.put("keys", key, {"name": key})

    await harness.store.delete("keys", ["a", "c", "never was"])

    await getattr(harness, how)()
    assert await harness.store.load("keys") == [{"name": "b"}]


async def test_deleting_of_a_kind_without_records_is_harmless(harness: LogHarness):
    await harness.store.delete("keys", ["a"])

    assert await harness.store.load("keys") == []


async def test_changes_at_the_same_time_are_all_kept(harness: LogHarness):
    await asyncio.gather(
        *(harness.store.put("keys", str(n), {"n": n, f"c{n % 3}": n}) for n in range(100))
    )

    loaded = await harness.store.load("keys")

    assert sorted(record["n"] for record in loaded) == list(range(100))


async def test_the_record_handed_in_may_change_afterwards(harness: LogHarness):
    record: dict[str, object] = {"a": 1}
    await harness.store.put("keys", "k", record)
    record["a"] = 2

    assert await harness.store.load("keys") == [{"a": 1}]


async def test_keys_and_values_are_never_taken_for_statements(harness: LogHarness):
    nasty = "'; DROP TABLE record_keys; --"
    await harness.store.put("keys", nasty, {"a": nasty})

    assert await harness.store.load("keys") == [{"a": nasty}]
    await harness.store.delete("keys", [nasty])
    assert await harness.store.load("keys") == []


@pytest.mark.parametrize("how", ["restart", "kill_and_restart"])
async def test_many_records_are_put_at_once(harness: LogHarness, how):
    await harness.store.put("keys", "b", {"name": "b", "n": 1})

    await harness.store.put_many(
        "keys", [("a", {"name": "a"}), ("b", {"name": "b", "n": 2}), ("c", {"m": b"\x00"})]
    )
    await harness.store.put_many("keys", [])

    await getattr(harness, how)()
    assert await harness.store.load("keys") == [
        {"name": "b", "n": 2, "m": None},
        {"name": "a", "n": None, "m": None},
        {"name": None, "n": None, "m": b"\x00"},
    ]


async def test_of_records_put_at_once_the_last_of_a_key_counts(harness: LogHarness):
    await harness.store.put_many("keys", [("k", {"n": 1}), ("k", {"n": 2})])

    assert await harness.store.load("keys") == [{"n": 2}]


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("", ["a/1", "a/2", "a", "b/1", "a\U0010ffff/1", "\U0010ffff/1", "\ud7ff/1", "%_/1"]),
        ("a/", ["a/1", "a/2"]),
        ("a", ["a/1", "a/2", "a", "a\U0010ffff/1"]),
        ("b/1", ["b/1"]),
        ("a\U0010ffff", ["a\U0010ffff/1"]),
        ("\U0010ffff", ["\U0010ffff/1"]),
        ("\ud7ff", ["\ud7ff/1"]),
        ("%_/", ["%_/1"]),
        ("c", []),
    ],
)
async def test_records_are_loaded_by_the_beginning_of_their_keys(
    harness: LogHarness, prefix, names
):
    keys = ["a/1", "a/2", "a", "b/1", "a\U0010ffff/1", "\U0010ffff/1", "\ud7ff/1", "%_/1"]
    await harness.store.put_many("keys", [(key, {"name": key}) for key in keys])

    assert [record["name"] for record in await harness.store.load("keys", prefix=prefix)] == names


async def test_nothing_is_loaded_of_a_kind_that_is_not_there(harness: LogHarness):
    assert await harness.store.load("keys", prefix="a") == []
