"""Membership and ownership over a real nats-server, with the clock of the machine."""

import asyncio
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest

from hotpath.cluster.cards import NodeCard, new_run
from hotpath.cluster.membership import Membership
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.serving import Phase
from hotpath.cluster.sharding import assign
from hotpath.clusterports import shard_of
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import ProgressDelta
from hotpath.ports import Commit, LogFailure
from hotpath.service.clock import SystemClock
from hotpath.storage.jetstream.coordination import KvCoordination
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from tests.cluster.world import FakeLog, FakeServing, Journals
from tests.support.nats import MISSING, Proxy, nats_server

SHARDS = 16


@pytest.fixture
def server(tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    with nats_server(tmp_path) as started:
        yield started


class RealNode:
    def __init__(self, name, journals, client, bucket):
        clock = SystemClock()
        self.name = name
        self.client = client
        self.seat = KvCoordination(client, bucket=bucket)
        self.log = FakeLog(journals, clock, name)
        self.serving = FakeServing()
        self.membership = Membership(self.seat, clock, NodeCard(name, new_run()))
        self.ownership = Ownership(
            membership=self.membership,
            coordination=self.seat,
            log=self.log,
            serving=self.serving,
            clock=clock,
            shards=SHARDS,
        )

    async def start(self):
        await self.seat.open(replicas=1)
        await self.membership.join()
        await self.ownership.start()

    def held(self):
        return {shard for shard in range(SHARDS) if self.ownership.serves(shard)}


class Cluster:
    def __init__(self, url):
        self.url = url
        self.bucket = f"test-{uuid4().hex}"
        self.journals = Journals()
        self.nodes = {}

    async def start(self, *names):
        for name in names:
            client = Link(LinkOptions((self.url,)))
            await client.open()
            node = self.nodes[name] = RealNode(name, self.journals, client, self.bucket)
            await node.start()

    async def kill(self, name):
        node = self.nodes.pop(name)
        await node.ownership.abandon()
        await node.client.close()

    def is_placed(self):
        wanted = assign(SHARDS, list(self.nodes))
        return all(
            node.held() == {shard for shard, owner in enumerate(wanted) if owner == name}
            for name, node in self.nodes.items()
        )

    async def until_placed(self, within_s):
        """How long it took, seconds; at no moment does anybody serve what another one serves."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self.is_placed():
            held = [shard for node in self.nodes.values() for shard in node.held()]
            assert len(held) == len(set(held))
            assert loop.time() - began < within_s, "not placed in time"
            await asyncio.sleep(0.01)
        return loop.time() - began


@asynccontextmanager
async def running(url):
    cluster = Cluster(url)
    try:
        yield cluster
    finally:
        for name in list(cluster.nodes):
            with suppress(LogFailure):
                await cluster.kill(name)


@pytest.mark.slow
async def test_three_nodes_share_the_shards_and_take_over_after_a_kill_within_five_seconds(server):
    async with running(server.url) as cluster:
        await cluster.start("a", "b", "c")
        await cluster.until_placed(5)

        await cluster.kill("b")
        assert await cluster.until_placed(5) > 1.0, "silence, not a word, told of it"


@pytest.mark.slow
async def test_a_clean_stop_hands_over_within_a_second(server):
    async with running(server.url) as cluster:
        await cluster.start("a", "b")
        await cluster.until_placed(5)

        node = cluster.nodes.pop("a")
        await node.ownership.stop(within_ms=5_000)
        await node.client.close()

        assert await cluster.until_placed(1) < 1
        assert not any(call == "drop" for call, _ in node.serving.calls)


@pytest.mark.slow
async def test_after_the_server_was_killed_and_is_back_everybody_goes_on_with_what_it_had(server):
    async with running(server.url) as cluster:
        await cluster.start("a", "b")
        await cluster.until_placed(5)
        epochs = [node.ownership.epoch(s) for node in cluster.nodes.values() for s in node.held()]

        server.kill()
        await asyncio.sleep(2.2)
        assert not any(node.held() for node in cluster.nodes.values()), "fenced"
        server.start()

        await cluster.until_placed(8)
        again = [node.ownership.epoch(s) for node in cluster.nodes.values() for s in node.held()]
        assert again == epochs


@pytest.mark.slow
async def test_after_the_server_stood_still_everybody_goes_on_with_what_it_had(server):
    async with running(server.url) as cluster:
        await cluster.start("a", "b")
        await cluster.until_placed(5)
        epochs = [node.ownership.epoch(s) for node in cluster.nodes.values() for s in node.held()]

        server.pause()
        await asyncio.sleep(3.5)
        server.go_on()

        await cluster.until_placed(8)
        again = [node.ownership.epoch(s) for node in cluster.nodes.values() for s in node.held()]
        assert again == epochs


@pytest.mark.slow
async def test_a_watch_tells_what_changed_while_the_server_was_away(server):
    async with running(server.url) as cluster:
        await cluster.start("a", "b")
        watching, writing = cluster.nodes["a"].seat, cluster.nodes["b"].seat
        heard = {}
        stop = await watching.watch("other.", heard.__setitem__)
        first = await writing.swap("other.1", b"1", revision=0)
        await writing.swap("other.2", b"2", revision=0)
        # Of a key that it never told of, a watch does not tell that it is gone.
        for _ in range(500):
            if heard.keys() == {"other.1", "other.2"}:
                break
            await asyncio.sleep(0.01)
        assert heard.keys() == {"other.1", "other.2"}

        server.kill()
        server.start()
        for _ in range(100):
            with suppress(LogFailure):
                if await writing.swap("other.1", b"3", revision=first):
                    break
            await asyncio.sleep(0.05)
        for _ in range(100):
            with suppress(LogFailure):
                await writing.drop("other.2")
                break
            await asyncio.sleep(0.05)

        for _ in range(500):
            if heard["other.2"] is None and heard["other.1"].value == b"3":
                break
            await asyncio.sleep(0.01)
        assert heard["other.2"] is None
        assert heard["other.1"].value == b"3"
        await stop()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "stall"])
async def test_who_is_cut_off_stops_before_the_other_takes_over_and_comes_back(server, how):
    proxy = await Proxy(server.port).start()
    async with running(server.url) as cluster:
        await cluster.start("b")
        cluster.url = proxy.url
        await cluster.start("a")
        await cluster.until_placed(5)
        cut_off, other = cluster.nodes["a"], cluster.nodes["b"]

        getattr(proxy, how)()
        for _ in range(600):
            held = cut_off.held(), other.held()
            assert not held[0] & held[1]
            if len(held[1]) == SHARDS:
                break
            await asyncio.sleep(0.01)
        assert cut_off.held() == set()
        assert len(other.held()) == SHARDS

        proxy.mend()
        await cluster.until_placed(12)
    await proxy.stop()


# With the real log under it


class Keeper(FakeServing):
    """Serves by noting what was recovered, and settles on demand."""

    def __init__(self):
        super().__init__()
        self.recovered = {}

    async def begin(self, shard, recovered):
        await super().begin(shard, recovered)
        self.recovered.update(recovered.progress)


class LoggedNode:
    def __init__(self, name, url, prefix):
        clock = SystemClock()
        self.link = Link(LinkOptions((url,)))
        self.log = JetStreamLog(self.link, LogOptions(prefix=prefix, shards=SHARDS), node=name)
        self.seat = KvCoordination(self.link, bucket=f"{prefix}-NODES")
        self.serving = Keeper()
        self.membership = Membership(self.seat, clock, NodeCard(name, new_run()))
        self.ownership = Ownership(
            membership=self.membership,
            coordination=self.seat,
            log=self.log,
            serving=self.serving,
            clock=clock,
            shards=SHARDS,
        )

    async def start(self):
        await self.link.open()
        await self.log.open()
        await self.seat.open(replicas=1)
        await self.membership.join()
        await self.ownership.start()

    async def close(self):
        await self.ownership.abandon()
        await self.log.close()
        await self.link.close()

    def serves(self, subscription):
        return self.ownership.serves(shard_of(subscription, SHARDS))

    async def settle(self, subscription, cursor):
        """Make a cursor durable; whether that may be confirmed to a client."""
        shard = shard_of(subscription, SHARDS)
        epoch = self.ownership.epoch(shard)
        delta = ProgressDelta(cursor, (), (), (), None, cursor, cursor)
        await self.log.commit(Commit(1, progress=[(subscription, delta)]))
        held = self.ownership.phase(shard) is Phase.HELD
        return held and self.ownership.epoch(shard) == epoch


async def _until(check, within_s=8.0):
    for _ in range(int(within_s * 100)):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not come true")


@pytest.mark.slow
async def test_who_takes_over_goes_on_from_what_was_confirmed_and_shuts_the_other_out(server):
    prefix = f"t{uuid4().hex[:12]}"
    names = [SubscriptionId(f"subscription-{number}") for number in range(40)]
    a, b = LoggedNode("a", server.url, prefix), LoggedNode("b", server.url, prefix)
    try:
        await a.start()
        await _until(lambda: all(map(a.serves, names)))
        assert all([await a.settle(name, 100 + number) for number, name in enumerate(names)])

        await b.start()
        await _until(lambda: sum(map(b.serves, names)) >= 10 and len(b.ownership.held()) == 8)
        moved = [name for name in names if b.serves(name)]
        assert {name: b.serving.recovered[name].horizon for name in moved} == {
            name: 100 + names.index(name) for name in moved
        }
        assert ("drop", 0) not in a.serving.calls

        # Node b seems dead: it is cut off from the others' sight, and goes on writing.
        b.membership._task.cancel()
        await _until(lambda: all(map(a.serves, names)), within_s=6)
        late = moved[0]
        assert not await b.settle(late, 999)
        assert await a.settle(late, 500)
        assert a.serving.recovered[late].horizon == 100 + names.index(late)
        assert shard_of(late, SHARDS) not in b.ownership.held()
    finally:
        await a.close()
        await b.close()
