"""Records as all nodes see them: loaded once, then watched, nothing missed in between."""

import asyncio

import pytest

from hotpath.cluster.service import definitions as module
from hotpath.cluster.service.definitions import Definitions
from hotpath.clusterports import Change


class FakeStore:
    """A store whose watch and numbers a test moves."""

    def __init__(self):
        self.seen = 0
        self.tell = None
        self.kinds = None

    async def watch(self, changed, *, kinds=()):
        self.tell, self.kinds = changed, kinds

        async def stop():
            self.tell = None

        return stop

    async def newest(self):
        return 7

    def change(self, number, kind, key, record):
        self.seen = number
        self.tell(Change(kind, key, record))


@pytest.fixture
async def world():
    store, heard = FakeStore(), []
    definitions = Definitions(store)
    definitions.on("things", lambda key, record: heard.append((key, record)))
    await definitions.watch()
    yield store, definitions, heard
    await definitions.stop()


async def test_what_changes_while_the_records_are_loaded_is_told_afterwards_in_order(world):
    store, definitions, heard = world
    store.change(1, "things", "a", {"n": 1})
    store.change(2, "things", "a", None)
    assert heard == []

    definitions.loaded()
    store.change(3, "things", "b", {"n": 2})

    assert heard == [("a", {"n": 1}), ("a", None), ("b", {"n": 2})]
    assert store.kinds == ["things"]


async def test_kinds_that_nobody_asked_for_are_passed_over(world):
    store, definitions, heard = world
    definitions.loaded()
    store.change(1, "others", "a", {})
    assert heard == []


async def test_a_record_that_breaks_its_receiver_does_not_end_the_watch(world):
    store, definitions, heard = world
    definitions.on("bad", lambda key, record: 1 / 0)
    definitions.loaded()

    store.change(1, "bad", "a", {})
    store.change(2, "things", "b", {})

    assert heard == [("b", {})]


async def test_a_change_is_in_sight_once_it_has_come_and_taken_effect(world):
    store, definitions, _ = world
    effect = asyncio.Event()
    definitions.settle.append(effect.wait)
    definitions.loaded()
    waiting = asyncio.ensure_future(definitions.is_up_to_date())

    store.change(6, "things", "a", {})
    await asyncio.sleep(0)
    store.change(7, "things", "a", {})
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done(), "it has been seen and not taken effect"

    effect.set()
    assert await asyncio.wait_for(waiting, 5)


async def test_records_that_do_not_come_are_waited_for_a_while(world, monkeypatch):
    _, definitions, _ = world
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    definitions.loaded()
    assert not await definitions.is_up_to_date()


async def test_many_who_take_over_at_once_do_not_wait_one_after_the_other(world, monkeypatch):
    store, definitions, _ = world
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    definitions.loaded()
    assert not await definitions.is_up_to_date()

    monkeypatch.setattr(module, "_WAIT_S", 3_600)
    assert not await asyncio.wait_for(definitions.is_up_to_date(), 5)
    monkeypatch.setattr(module, "_FAILED_S", 0)
    again = asyncio.ensure_future(definitions.is_up_to_date())
    await asyncio.sleep(0)
    store.change(7, "things", "a", {})
    assert await asyncio.wait_for(again, 5)
