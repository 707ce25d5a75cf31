"""Records that several nodes change and watch."""

import asyncio
from dataclasses import replace

import pytest

from hotpath.clusterports import Change
from hotpath.ports import LogFailure
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from hotpath.storage.jetstream.records import JetStreamStore
from tests.support.logs import next_prefix, shared_server
from tests.support.nats import Proxy
from tests.support.nodes import needs_server, until

pytestmark = needs_server


class Stores:
    """Stores of several nodes on one stream."""

    def __init__(self) -> None:
        self.options = LogOptions(prefix=next_prefix())
        self.links: list[Link] = []

    async def add(self, url: str = "", **changed: object) -> JetStreamStore:
        url = url or shared_server().url
        link = Link(LinkOptions((url,), request_seconds=1.0, silence_seconds=0.3))
        self.links.append(link)
        await link.open()
        store = JetStreamStore(link, replace(self.options, **changed))
        await store.open()
        return store


@pytest.fixture
async def stores():
    stores = Stores()
    yield stores
    for link in stores.links:
        await link.close()


async def test_what_one_node_puts_all_others_load(stores):
    one, other = await stores.add(), await stores.add()
    await one.put("keys", "a", {"n": 1})
    await other.put("keys", "b", {"n": 2, "m": "x"})

    for store in (one, other, await stores.add()):
        assert await store.load("keys") == [{"n": 1, "m": None}, {"n": 2, "m": "x"}]


async def test_a_record_keeps_its_place_whoever_replaces_it(stores):
    one, other = await stores.add(), await stores.add()
    for key in ("c", "a", "b"):
        await one.put("keys", key, {"key": key, "n": 1})

    await other.put("keys", "c", {"key": "c", "n": 2})
    await one.put("keys", "c", {"key": "c", "n": 3})

    for store in (one, other):
        found = [(record["key"], record["n"]) for record in await store.load("keys")]
        assert found == [("c", 3), ("a", 1), ("b", 1)]


async def test_a_record_that_is_made_again_comes_last(stores):
    one, other = await stores.add(), await stores.add()
    for key in ("a", "b"):
        await one.put("keys", key, {"key": key})
    await other.delete("keys", ["a"])
    assert await one.load("keys") == [{"key": "b"}]

    await one.put("keys", "a", {"key": "a"})

    assert await other.load("keys") == [{"key": "b"}, {"key": "a"}]


async def test_nodes_that_change_one_record_at_once_all_succeed(stores):
    members = [await stores.add() for _ in range(3)]

    await asyncio.gather(
        *(store.put("keys", "k", {"n": n}) for n in range(10) for store in members)
    )

    [record] = await members[0].load("keys")
    for store in members:
        assert await store.load("keys") == [record]


async def test_a_watcher_hears_of_every_nodes_changes(stores):
    one, other = await stores.add(), await stores.add()
    await one.put("keys", "before", {"n": 0})
    heard: list[Change] = []
    stop = await other.watch(heard.append)

    await one.put("keys", "a", {"n": 1})
    await other.put("keys", "a", {"n": 2})
    await one.put("publishers", "a", {"x": b"\x00"})
    await one.delete("keys", ["a", "never was"])
    await until(lambda: len(heard) == 4)
    await stop()
    await one.put("keys", "unheard", {"n": 1})
    await one.load("keys")

    assert heard == [
        Change("keys", "a", {"n": 1}),
        Change("keys", "a", {"n": 2}),
        Change("publishers", "a", {"x": b"\x00"}),
        Change("keys", "a", None),
    ]


@pytest.fixture
async def proxy():
    proxy = await Proxy(shared_server().port).start()
    yield proxy
    await proxy.stop()


@pytest.mark.slow
@pytest.mark.parametrize("tombstone_seconds", [3600, 1], ids=["marks are there", "marks are gone"])
async def test_a_watcher_hears_of_what_changed_while_it_was_cut_off(
    stores, proxy, tombstone_seconds
):
    one = await stores.add(tombstone_seconds=tombstone_seconds)
    watcher = await stores.add(proxy.url, tombstone_seconds=tombstone_seconds)
    for key in ("kept", "removed", "made again"):
        await one.put("keys", key, {"n": 1})
    await watcher.load("keys")
    heard: list[Change] = []
    stop = await watcher.watch(heard.append)

    proxy.cut()
    await one.delete("keys", ["removed", "made again"])
    await one.put("keys", "made again", {"n": 2})
    await one.put("keys", "new", {"n": 3})
    if tombstone_seconds == 1:
        await until(lambda: _gone(one), seconds=10)
    proxy.mend()
    wanted = {"removed": None, "made again": {"n": 2}, "new": {"n": 3}}
    await until(lambda: {change.key: change.record for change in heard} == wanted)
    await stop()

    assert len([change for change in heard if change.key == "removed"]) == 1


_asked: dict[int, asyncio.Task[bool]] = {}


def _gone(store: JetStreamStore) -> bool:
    """Whether the mark of the removed record has vanished, as the last asking found."""
    task = _asked.get(id(store))
    if task is None or task.done():
        found = task is not None and task.result()
        _asked[id(store)] = asyncio.ensure_future(_is_gone(store))
        return found
    return False


async def _is_gone(store: JetStreamStore) -> bool:
    subject = store._names.record("keys", "removed")
    return await store._server.last(store._names.records, subject, store._until()) is None


async def test_a_damaged_record_is_left_out_and_can_be_replaced(stores, caplog):
    store = await stores.add()
    await store.put("keys", "good", {"n": 1})
    await store.put("keys", "bad", {"n": 2})
    await stores.links[0].request(store._names.record("keys", "bad"), b"rubbish")

    other = await stores.add()
    assert await other.load("keys") == [{"n": 1}]
    assert "record damaged" in caplog.text
    await other.put("keys", "bad", {"n": 3})

    assert [record["n"] for record in await store.load("keys")] == [1, 3]


@pytest.mark.parametrize("value", [object(), {"a": 1}, [b"x"]], ids=["object", "dict", "list"])
async def test_a_value_that_no_record_may_hold_is_refused(stores, value):
    store = await stores.add()
    with pytest.raises(LogFailure, match="a record cannot hold"):
        await store.put("keys", "k", {"n": value})
    assert await store.load("keys") == []


@pytest.mark.parametrize("kind", ["", "a.b", "a b", "*", "ü"])
async def test_a_kind_that_is_no_name_is_refused(stores, kind):
    store = await stores.add()
    with pytest.raises(LogFailure, match="no kind of record"):
        await store.load(kind)


async def test_thousands_of_records_are_loaded(stores):
    store = await stores.add()
    records = [(f"s/{n}", {"n": n, "text": "x" * 300}) for n in range(3000)]
    await store.put_many("points", records)

    loaded = await (await stores.add()).load("points", prefix="s/")

    assert [record["n"] for record in loaded] == list(range(3000))
