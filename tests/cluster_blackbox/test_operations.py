"""What docs/scaling.md tells operators to do: moving in, copying, and replacing one by one."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from proton import Timeout
from proton.utils import ConnectionClosed

from tests.e2e.feeds import quality_of, receive_all
from tests.support.cluster import Cluster, node_ports
from tests.support.nats import MISSING, NatsCluster, nats_cluster, nats_server, server_binary
from tests.support.process import LONG, Server, amqp_connection, eventually, run_command
from tests.support.stream_copies import back_up, restore, stream_names

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "nats-server is there"),
]

FACTS = {"objectId": "o", "variable": "v"}
OPTIONS = {"rate_limit": "10000/second", "rate_limit_burst": 10_000}


def values(*numbers):
    return [{**FACTS, "quality": n, "value": n} for n in numbers]


def at(node, access):
    """A feed at a node, with the token that was given out for it before."""
    return type(access)(access.id, f"{node.urls['amqp']}/{access.address}", access.token)


def qualities(node, access):
    return [quality_of(message) for message in receive_all(at(node, access))]


@contextmanager
def running_nodes(directory, servers, key_dir, *, nodes=2):
    cluster = Cluster(
        directory,
        servers=servers,
        ports=node_ports(nodes),
        key_dir=key_dir,
        cluster_replicas=len(servers.servers),
        **OPTIONS,
    )
    try:
        yield cluster.start()
    finally:
        cluster.close()


@pytest.fixture
def one_server(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        yield NatsCluster([server])


def settle_some(url, access, *, accepted, rejected):
    """Receive from the front of a feed: accept some, reject some, leave the rest."""
    with amqp_connection(url, access.token) as connection:
        receiver = connection.create_receiver(access.address, credit=accepted + rejected)
        for number in range(accepted + rejected):
            receiver.receive(timeout=10)
            (receiver.accept if number < accepted else receiver.reject)()
        receiver.close()


def test_what_a_service_had_is_read_from_the_nodes_after_a_migration(tmp_path, one_server):
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    alone = Server(data_dir, **OPTIONS).start()
    untouched, begun, low = (
        alone.subscribe(text) for text in ("quality >= 0", "quality >= 10", "quality < 5")
    )
    alone.publish(values(*range(40)))
    eventually(lambda: alone.shown(untouched)["backlog"] == 40)
    settle_some(alone.urls["amqp"], begun, accepted=6, rejected=2)
    eventually(lambda: alone.shown(begun)["backlog"] == 22)
    before = {each.id: alone.shown(each) for each in (untouched, begun, low)}
    assert alone.stop() == 0

    moved = run_command("migrate", "--data-dir", str(data_dir), "--cluster", one_server.urls[0])

    assert moved.returncode == 0, moved.stderr
    with running_nodes(tmp_path / "nodes", one_server, data_dir) as cluster:
        first, second = cluster.nodes
        for each in (untouched, begun, low):
            shown = second.shown(each)
            for name in ("backlog", "deadLettered", "filter", "createdAt"):
                assert shown[name] == before[each.id][name], name
        first.publish(values(40, 41))
        assert qualities(first, untouched) == list(range(42))
        assert qualities(second, begun) == list(range(18, 42))
        assert qualities(second, low) == list(range(5))
        letters = at(first, begun)
        dead = type(letters)(letters.id, f"{letters.url}/$DeadLetterQueue", letters.token)
        assert [quality_of(message) for message in receive_all(dead)] == [16, 17]


def test_clients_of_a_node_that_stops_lose_their_connection_before_their_feed_moves(
    tmp_path, one_server
):
    with running_nodes(tmp_path / "nodes", one_server, tmp_path / "keys") as cluster:
        first, second = cluster.nodes
        access = first.subscribe("quality >= 0")
        with amqp_connection(first.urls["amqp"], access.token) as connection:
            receiver = connection.create_receiver(access.address, credit=1)
            first.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed, match="amqp:connection:forced"):
                receiver.receive(timeout=20)
        assert first.wait() == 0
        second.publish(values(1))
        assert qualities(second, access) == [1]


def test_copies_of_the_streams_are_a_cluster_again(tmp_path, one_server):
    keys = tmp_path / "keys"
    with running_nodes(tmp_path / "before", one_server, keys) as cluster:
        first, second = cluster.nodes
        read, waiting = first.subscribe("quality >= 0"), second.subscribe("quality >= 20")
        first.publish(values(*range(40)))
        settle_some(second.urls["amqp"], at(second, read), accepted=15, rejected=1)
        eventually(lambda: first.shown(read)["backlog"] == 24)
        names = asyncio.run(stream_names(one_server.urls[0]))
        # As the page says: the journal first, the logs last, and not who has which shard.
        chosen = [name for name in names if name.startswith("hotpath-") and "-LOG-" not in name]
        chosen.sort(key=lambda name: name != "hotpath-JOURNAL")
        logs = [name for name in names if name.startswith("hotpath-LOG-")]
        copies = asyncio.run(back_up(one_server.urls[0], [*chosen, *logs]))
        assert logs
        # What comes after the copy is not in it.
        second.publish(values(99))
        assert cluster.stop() == 0

    with nats_server(tmp_path / "other") as other:
        asyncio.run(restore(other.url, copies))
        with running_nodes(tmp_path / "after", NatsCluster([other]), keys) as cluster:
            first, second = cluster.nodes
            assert first.shown(read)["deadLettered"] == 1
            assert qualities(first, read) == list(range(16, 40))
            assert qualities(second, waiting) == list(range(20, 40))
            first.publish(values(50))
            assert qualities(second, read) == [50]


class Beside:
    """Works in a thread of its own until it is over."""

    def __init__(self):
        self.over = False
        self._thread = threading.Thread(target=self.work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self._thread.join(30)

    def work(self):
        raise NotImplementedError


class Feed(Beside):
    """A client that reads at any node, comes again when it is sent away, and notes what came."""

    def __init__(self, cluster, access):
        super().__init__()
        self.cluster = cluster
        self.access = access
        self.seen = []
        self.gap = 0.0
        self._last = time.monotonic()

    def work(self):
        turn = 0
        while not self.over:
            node = self.cluster.nodes[turn % len(self.cluster.nodes)]
            turn += 1
            try:
                self._read_at(node)
            except Exception:  # noqa: BLE001 - whatever a client meets at a node that goes
                time.sleep(0.1)

    def _read_at(self, node):
        feed = at(node, self.access)
        with amqp_connection(feed.host, feed.token) as connection:
            receiver = connection.create_receiver(feed.address, credit=10)
            while not self.over:
                try:
                    message = receiver.receive(timeout=0.5)
                except Timeout:
                    continue
                receiver.accept()
                self.gap = max(self.gap, time.monotonic() - self._last)
                self._last = time.monotonic()
                self.seen.append(quality_of(message))


class Publishing(Beside):
    """Publishes numbers at whatever node takes them, all the time."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.accepted = []

    def work(self):
        number = 0
        while not self.over:
            node = self.cluster.nodes[number % len(self.cluster.nodes)]
            try:
                node.publish(values(number))
                self.accepted.append(number)
            except (OSError, AssertionError):
                time.sleep(0.05)
            number += 1
            time.sleep(0.02)


def is_ready(node):
    try:
        return node.call("GET", "/readyz").status == 200
    except OSError:
        return False


def lame_duck(server):
    """`nats-server --signal ldm`: hand over what it leads, and end."""
    assert server.process is not None
    command = [server_binary(), "--signal", f"ldm={server.process.pid}"]
    subprocess.run(command, check=True, timeout=20, env=os.environ)
    server.process.wait(60)


def test_nodes_and_servers_replaced_one_after_the_other_lose_nothing(tmp_path):
    # The shortest that a server takes.
    quick = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"'
    with (
        nats_cluster(tmp_path / "nats", extra=quick) as servers,
        running_nodes(tmp_path / "nodes", servers, tmp_path / "keys", nodes=3) as cluster,
    ):
        access = cluster.nodes[0].subscribe("quality >= 0")
        with Feed(cluster, access) as feed, Publishing(cluster) as publishing:
            eventually(lambda: len(feed.seen) > 20)
            for node in cluster.nodes:
                assert node.stop() == 0
                node.start()
                eventually(lambda node=node: is_ready(node))
            for server in servers.servers:
                if LONG and server is servers.servers[0]:
                    lame_duck(server)
                server.stop()
                server.start()
                eventually(server.is_healthy)
            came = len(feed.seen)
            eventually(lambda: len(feed.seen) > came + 20)
            publishing.over = True
            eventually(lambda: set(publishing.accepted) <= set(feed.seen), what="all has come")

    assert len(publishing.accepted) > 50
