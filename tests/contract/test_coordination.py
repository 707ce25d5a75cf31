"""What nodes agree through, held to one contract: in memory, and on a real nats-server."""

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from hotpath.clusterports import Entry
from hotpath.storage.jetstream.coordination import KvCoordination
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.options import LinkOptions
from tests.support.clock import ManualClock, settle
from tests.support.coordination import Bucket, MemoryCoordination
from tests.support.nats import MISSING, nats_server

ADAPTERS = ("memory", "jetstream")


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory):
    if MISSING:
        pytest.skip(MISSING)
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@asynccontextmanager
async def _memory():
    bucket = Bucket()
    yield MemoryCoordination(bucket), MemoryCoordination(bucket)


@asynccontextmanager
async def _jetstream(url):
    name = f"test-{uuid4().hex}"
    first, second = Link(LinkOptions((url,))), Link(LinkOptions((url,)))
    await first.open()
    await second.open()
    try:
        one = KvCoordination(first, bucket=name)
        await one.open(replicas=1)
        other = KvCoordination(second, bucket=name)
        await other.open(replicas=1)
        yield one, other
    finally:
        await first.close()
        await second.close()


@pytest.fixture(params=ADAPTERS)
async def seats(request):
    """The same values, as two nodes see them."""
    if request.param == "memory":
        opened = _memory()
    else:
        opened = _jetstream(request.getfixturevalue("nats_url"))
    async with opened as pair:
        yield pair


class Heard(dict):
    """What a watch has told: the latest of each key, and everything in its order."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, Entry | None]] = []

    def changed(self, key, entry):
        self.calls.append((key, entry))
        if entry is None:
            self.pop(key, None)
        else:
            self[key] = entry.value

    async def until(self, **wanted):
        wanted = {key.replace("_", "."): value for key, value in wanted.items()}
        for _ in range(500):
            if self == wanted:
                return
            await asyncio.sleep(0.01)
        assert self == wanted


async def test_nothing_is_there_at_first(seats):
    assert await seats[0].read("shards.1") is None


async def test_what_one_writes_the_other_reads(seats):
    one, other = seats

    revision = await one.swap("shards.1", b"mine", revision=0)

    assert revision
    assert await other.read("shards.1") == Entry("shards.1", b"mine", revision)


async def test_of_two_who_create_a_key_one_is_first(seats):
    one, other = seats

    written = await asyncio.gather(
        one.swap("k", b"one", revision=0), other.swap("k", b"other", revision=0)
    )

    assert sorted(each is None for each in written) == [False, True]
    entry = await one.read("k")
    assert entry.value == (b"other" if written[0] is None else b"one")


async def test_a_swap_that_names_an_old_revision_changes_nothing(seats):
    one, other = seats
    first = await one.swap("k", b"1", revision=0)
    second = await other.swap("k", b"2", revision=first)

    assert await one.swap("k", b"3", revision=first) is None

    assert second > first
    assert await one.read("k") == Entry("k", b"2", second)


async def test_a_swap_of_a_key_that_is_not_there_changes_nothing(seats):
    assert await seats[0].swap("k", b"1", revision=7) is None
    assert await seats[0].read("k") is None


async def test_a_key_that_was_removed_can_be_created_again_with_a_higher_revision(seats):
    one, other = seats
    first = await one.swap("k", b"1", revision=0)
    await other.drop("k")

    assert await one.read("k") is None
    assert await one.swap("k", b"2", revision=first) is None
    again = await one.swap("k", b"3", revision=0)

    assert again > first
    assert await other.read("k") == Entry("k", b"3", again)


async def test_removing_what_is_not_there_is_no_fault(seats):
    await seats[0].drop("nothing")
    assert await seats[0].read("nothing") is None


async def test_a_watch_tells_what_is_there_and_then_every_change(seats):
    one, other = seats
    heard = Heard()
    await one.swap("nodes.a", b"1", revision=0)
    await one.swap("shards.1", b"unrelated", revision=0)

    stop = await other.watch("nodes.", heard.changed)
    await heard.until(nodes_a=b"1")
    revision = await one.swap("nodes.b", b"2", revision=0)
    await heard.until(nodes_a=b"1", nodes_b=b"2")
    await one.swap("nodes.b", b"3", revision=revision)
    await heard.until(nodes_a=b"1", nodes_b=b"3")
    await one.drop("nodes.a")
    await heard.until(nodes_b=b"3")

    assert heard.calls[-1] == ("nodes.a", None)
    await stop()


async def test_a_watch_tells_of_what_this_node_writes_too(seats):
    heard = Heard()
    stop = await seats[0].watch("nodes.", heard.changed)

    await seats[0].swap("nodes.a", b"1", revision=0)

    await heard.until(nodes_a=b"1")
    await stop()


async def test_a_watch_of_a_part_of_a_name_tells_of_no_other(seats):
    one, other = seats
    heard = Heard()
    stop = await other.watch("nodes.a", heard.changed)

    await one.swap("nodes.b", b"1", revision=0)
    await one.swap("nodes.ab", b"2", revision=0)

    await heard.until(nodes_ab=b"2")
    await stop()


async def test_a_key_that_was_removed_before_the_watch_is_not_told_of(seats):
    one, other = seats
    await one.swap("nodes.a", b"1", revision=0)
    await one.drop("nodes.a")
    heard = Heard()

    stop = await other.watch("nodes.", heard.changed)
    await one.swap("nodes.b", b"2", revision=0)

    await heard.until(nodes_b=b"2")
    assert [key for key, _ in heard.calls] == ["nodes.b"]
    await stop()


async def test_after_its_stop_a_watch_tells_nothing(seats):
    one, other = seats
    heard, still = Heard(), Heard()
    stop = await other.watch("nodes.", heard.changed)
    stop_still = await other.watch("nodes.", still.changed)

    await stop()
    await one.swap("nodes.a", b"1", revision=0)

    await still.until(nodes_a=b"1")
    assert heard.calls == []
    await stop_still()


async def test_the_changes_of_a_key_are_told_in_their_order(seats):
    one, other = seats
    heard = Heard()
    stop = await other.watch("nodes.", heard.changed)
    revision = 0
    for number in range(50):
        revision = await one.swap("nodes.a", b"%d" % number, revision=revision)

    await heard.until(nodes_a=b"49")

    told = [int(entry.value) for _, entry in heard.calls]
    assert told == sorted(told)
    await stop()


# The one in memory can do what no server does at will.


async def test_in_memory_a_cut_node_fails_and_hears_afterwards_what_it_missed():
    clock, bucket = ManualClock(), Bucket()
    one, other = MemoryCoordination(bucket, clock), MemoryCoordination(bucket, clock)
    heard = Heard()
    await other.watch("nodes.", heard.changed)
    await one.swap("nodes.a", b"1", revision=0)
    other.cut = True

    reading = asyncio.ensure_future(other.read("nodes.a"))
    await settle()
    await one.swap("nodes.b", b"2", revision=0)
    await one.drop("nodes.a")
    await clock.advance(2_000)
    assert "no answer" in str(reading.exception())
    assert heard == {"nodes.a": b"1"}

    other.heal()
    assert heard == {"nodes.b": b"2"}
