"""Following a topic, over whatever happens to connections and servers."""

import asyncio
from threading import Event

import pytest

from hotpath.clusterports import Entry
from hotpath.ports import LogFailure
from hotpath.storage.jetstream import following
from hotpath.storage.jetstream.coordination import KvCoordination
from hotpath.storage.jetstream.following import Following
from hotpath.storage.jetstream.link import Unanswered
from hotpath.storage.jetstream.naming import first_number
from tests.support.logs import VARIABLES, append
from tests.support.nats import Proxy, nats_server
from tests.support.nodes import Node, needs_server, nodes_on, until

pytestmark = needs_server


@pytest.fixture
async def nodes():
    async with nodes_on() as nodes:
        yield nodes


@pytest.fixture
async def proxy(nodes):
    proxy = await Proxy(int(nodes.urls[0].rpartition(":")[2])).start()
    yield proxy
    await proxy.stop()


class Follower:
    """What one node was given of a topic."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.batches = []

    async def start(self, from_seq: int = 1):
        return await self.node.log.follow(VARIABLES, from_seq, self.batches.append)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for batch in self.batches for payload in batch.payloads]

    def check(self, expected: set[bytes]) -> None:
        """Each once, numbers in order."""
        firsts = [batch.first_seq for batch in self.batches]
        assert firsts == sorted(set(firsts))
        assert len(self.payloads) == len(set(self.payloads))
        assert set(self.payloads) == expected


async def test_batches_of_all_nodes_are_delivered_in_order(nodes):
    first, second = await nodes.add(), await nodes.add()
    followers = [Follower(node) for node in (first, second)]
    for follower in followers:
        await follower.start()

    appends = [
        node.log.commit(append(VARIABLES, b"%d-%d" % (place, n)))
        for n in range(40)
        for place, node in enumerate((first, second))
    ]
    results = await asyncio.gather(*appends)

    for follower in followers:
        await until(lambda f=follower: len(f.batches) == 80)
        follower.check({b"%d-%d" % (place, n) for n in range(40) for place in (0, 1)})
    assert [b.first_seq for b in followers[0].batches] == sorted(b.first_seq for [b] in results)
    assert followers[0].payloads == followers[1].payloads


async def test_following_begins_with_the_batch_that_holds_the_number(nodes):
    node = await nodes.add()
    batches = [
        (await node.log.commit(append(VARIABLES, b"%d" % n, b"x%d" % n)))[0] for n in range(4)
    ]
    cases = {
        1: 0,
        batches[1].first_seq: 1,
        batches[1].first_seq + 1: 1,
        batches[1].end_seq: 2,
        batches[3].end_seq: 4,
    }
    for from_seq, skipped in cases.items():
        follower = Follower(node)
        stop = await follower.start(from_seq)
        [last] = await node.log.commit(append(VARIABLES, b"last"))
        await until(lambda f=follower, n=last: f.batches and f.batches[-1].first_seq == n.first_seq)
        await stop()
        firsts = [batch.first_seq for batch in follower.batches]
        assert firsts[: 4 - skipped] == [batch.first_seq for batch in batches[skipped:]]


async def test_a_topic_that_nobody_has_used_can_be_followed(nodes):
    node = await nodes.add()
    follower = Follower(node)
    await follower.start(1)

    await node.log.commit(append(VARIABLES, b"first"))

    await until(lambda: follower.payloads == [b"first"])


async def test_nothing_comes_after_stopping(nodes):
    node = await nodes.add()
    follower = Follower(node)
    stop = await follower.start()
    await stop()

    await node.log.commit(append(VARIABLES, b"unheard"))
    other = Follower(node)
    await other.start()
    await until(lambda: other.batches)

    assert follower.batches == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "stall", "stall_answers"])
async def test_each_batch_comes_once_over_lost_connections(nodes, proxy, fault):
    follower = Follower(await nodes.add(proxy.url))
    writer = await nodes.add()
    await follower.start()
    written = 0
    for _ in range(3):
        for _ in range(20):
            await writer.log.commit(append(VARIABLES, b"%d" % written))
            written += 1
        await until(lambda: follower.batches)
        getattr(proxy, fault)()
        for _ in range(20):
            await writer.log.commit(append(VARIABLES, b"%d" % written))
            written += 1
        await until(lambda: not follower.node.link.is_connected)
        proxy.mend()
        await until(lambda n=written: len(follower.payloads) == n)

    assert follower.payloads == [b"%d" % n for n in range(written)]
    follower.check({b"%d" % n for n in range(written)})


async def test_what_a_follower_misses_while_it_is_slow_comes_all_the_same(nodes):
    """A loop that stands still is a receiver whose buffers run over."""
    node = await nodes.add()
    follower = Follower(node)
    await follower.start()
    for n in range(30):
        await node.log.commit(append(VARIABLES, b"%d" % n, b"x" * 500_000))

    await until(lambda: len(follower.batches) == 30)

    assert follower.payloads[::2] == [b"%d" % n for n in range(30)]


@pytest.fixture
def consumers(monkeypatch):
    """Whether the servers make any; they make none while they elect who decides about that."""
    made, wanted = Following._make, Event()
    wanted.set()

    async def make(following):
        if not wanted.is_set():
            following._broken.clear()
            raise Unanswered("NATS did not answer in time")
        await made(following)

    monkeypatch.setattr(Following, "_make", make)
    return wanted


async def test_a_topic_is_read_on_while_no_consumer_can_be_made(nodes, consumers):
    node, writer = await nodes.add(), await nodes.add()
    follower = Follower(node)
    await follower.start()
    consumers.clear()
    node.link.leave_server()
    for n in range(40):
        await writer.log.commit(append(VARIABLES, b"%d" % n))
    await until(lambda: len(follower.batches) == 40)

    consumers.set()
    for n in range(40, 80):
        await writer.log.commit(append(VARIABLES, b"%d" % n))
    await until(lambda: len(follower.batches) == 80)

    follower.check({b"%d" % n for n in range(80)})


async def test_a_bucket_is_watched_on_while_no_consumer_can_be_made(nodes, consumers):
    node, writer = await nodes.add(), await nodes.add()
    seats = [KvCoordination(each.link, bucket="watched") for each in (node, writer)]
    for seat in seats:
        await seat.open(replicas=1)
    told = {}
    stop = await seats[0].watch("a.", lambda key, entry: told.update({key: entry}))
    await seats[1].swap("a.1", b"first", revision=0)
    await until(lambda: told)
    consumers.clear()
    node.link.leave_server()

    second = await seats[1].swap("a.2", b"second", revision=0)
    await seats[1].swap("b.1", b"unwanted", revision=0)
    await seats[1].drop("a.1")
    await until(lambda: told.get("a.1") is None and "a.2" in told)

    assert told == {"a.1": None, "a.2": Entry("a.2", b"second", second)}
    await stop()


async def test_following_ends_at_whichever_moment_it_is_stopped(nodes, consumers, monkeypatch):
    """Also in one in which what it waits for has just come."""
    monkeypatch.setattr(following, "_RETRY_S", 0.0)
    node = await nodes.add()
    for steps in range(60):
        consumers.set()
        stop = await Follower(node).start()
        consumers.clear()
        for broken in node.link.on_connected:
            broken()
        for _ in range(steps):
            await asyncio.sleep(0)

        ended, _ = await asyncio.wait({asyncio.ensure_future(stop())}, timeout=5)

        assert ended, f"not when stopped {steps} steps after its consumer was lost"


async def test_a_damaged_batch_is_left_out_and_reported(nodes):
    node = await nodes.add()
    follower = Follower(node)
    await follower.start()
    await node.log.commit(append(VARIABLES, b"before"))
    await node.link.request(node.names.topic_subject(VARIABLES), b"no batch at all")
    await node.log.commit(append(VARIABLES, b"after"))

    await until(lambda: len(follower.batches) == 2)

    assert follower.payloads == [b"before", b"after"]
    place = first_number(2)
    assert node.damage == [f"acme/variables: messages from {place} on: the checksum is wrong"]
    read = await node.log.read(VARIABLES, 1, bytes_max=1 << 20)
    assert [list(batch.payloads) for batch in read] == [[b"before"], [b"after"]]


async def test_a_batch_in_the_wrong_place_is_damage(nodes):
    node = await nodes.add()
    await node.log.commit(append(VARIABLES, b"ours"))
    [stored] = await _stored(node)
    other = VARIABLES._replace(tenant="globex")
    await node.log.commit(append(other, b"theirs"))
    await node.link.request(node.names.topic_subject(other), stored)

    read = await node.log.read(other, 1, bytes_max=1 << 20)

    assert [list(batch.payloads) for batch in read] == [[b"theirs"]]
    assert len(node.damage) == 1


async def _stored(node: Node) -> list[bytes]:
    reply = await node.link.request(
        "$JS.API.DIRECT.GET." + node.names.topic_stream(VARIABLES), b'{"seq": 1}'
    )
    return [reply.data]


async def test_a_follower_that_breaks_is_given_the_next_batches(nodes):
    node = await nodes.add()
    heard = []

    def deliver(batch) -> None:
        heard.append(batch.payloads[0])
        if len(heard) == 1:
            raise RuntimeError("a bug of the receiver")

    await node.log.follow(VARIABLES, 1, deliver)
    await node.log.commit(append(VARIABLES, b"a"))
    await node.log.commit(append(VARIABLES, b"b"))

    await until(lambda: heard == [b"a", b"b"])


async def test_following_a_server_that_is_gone_fails(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        async with nodes_on(server.url, commit_seconds=1.0) as nodes:
            node = await nodes.add()
            server.kill()

            with pytest.raises(LogFailure):
                await node.log.follow(VARIABLES, 1, lambda _: None)
