"""Servers that are killed, paused, full or too few, while a node commits."""

import asyncio
import random
import time
from typing import Any, cast

import pytest

from hotpath.clusterports import shard_of
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, LogFailure
from hotpath.storage.jetstream.coordination import KvCoordination
from tests.support.logs import VARIABLES, append
from tests.support.nats import Proxy, nats_cluster, nats_server
from tests.support.nodes import Node, needs_server, nodes_on

pytestmark = [needs_server, pytest.mark.slow, pytest.mark.timeout(180)]

SUB = SubscriptionId("sub-1")
SHARD = shard_of(SUB, 4)


class Writer:
    """Commits one after the other, and remembers what was answered."""

    def __init__(self, node: Node, name: str = "w") -> None:
        self.node = node
        self.name = name
        self.answered: dict[bytes, int] = {}
        self.refused: set[bytes] = set()
        self.moved = 0
        self.gap = 0.0
        self._turn = 0
        self._stopping = False
        self._last = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> "Writer":
        self._task = asyncio.ensure_future(self._run())
        return self

    async def stop(self) -> None:
        assert self._task is not None
        self._stopping = True
        await self._task

    async def _run(self) -> None:
        while not self._stopping:
            await self.commit()
            await asyncio.sleep(0)

    async def commit(self) -> bool:
        """One commit with an append and progress; whether it was confirmed."""
        self._turn += 1
        payload = b"%s-%d" % (self.name.encode(), self._turn)
        delta = ProgressDelta(self._turn, settled_total=self._turn)
        work = append(VARIABLES, payload)
        work.progress = [(SUB, delta)]
        try:
            [batch] = await self.node.log.commit(work)
        except LogFailure:
            self.refused.add(payload)
            return False
        now = time.monotonic()
        self.gap = max(self.gap, now - self._last)
        self._last = now
        self.answered[payload] = batch.first_seq
        self.moved = self._turn
        return True

    async def goes_on(self, count: int = 20, *, seconds: float = 40.0) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answered) + count
        deadline = time.monotonic() + seconds
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, "commits do not go on"
            await asyncio.sleep(0.01)


async def check(reader: Node, *writers: Writer) -> None:
    """Everything answered is there once, under its number; no number was given twice."""
    found: dict[bytes, int] = {}
    at = last = 1
    while batches := await reader.log.read(VARIABLES, at, bytes_max=1 << 20):
        for batch in batches:
            assert batch.first_seq >= last
            last = batch.end_seq
            for place, payload in enumerate(batch.payloads):
                assert payload not in found, "a repetition was taken for something new"
                found[payload] = batch.first_seq + place
        at = last
    for writer in writers:
        assert {payload: found.get(payload) for payload in writer.answered} == writer.answered
    known = {payload for writer in writers for payload in (*writer.answered, *writer.refused)}
    assert set(found) <= known


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_single_server_killed_during_commits_loses_nothing(tmp_path, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    with nats_server(tmp_path / "nats") as server:
        async with nodes_on(server.url) as nodes:
            node = await nodes.add()
            await node.log.claim(SHARD)
            writer = Writer(node).start()
            for _ in range(4):
                await writer.goes_on(rng.randint(1, 80))
                server.kill()
                await asyncio.sleep(rng.random() * 0.5)
                server.start()
            await writer.goes_on()
            await writer.stop()

            other = await nodes.add()
            await check(other, writer)
            recovered = await other.log.claim(SHARD)
            assert writer.moved <= recovered.progress[SUB].horizon <= writer._turn
            assert recovered.damage == []
            assert node.lost == []
            assert writer.refused == set()


async def test_one_of_three_servers_killed_under_load_ends_nothing(tmp_path):
    rng = random.Random(7)
    with nats_cluster(tmp_path) as cluster:
        async with nodes_on(*cluster.urls, replicas=3, commit_seconds=20.0) as nodes:
            first, second = await nodes.add(), await nodes.add()
            await first.log.claim(SHARD)
            heard = []
            await second.log.follow(VARIABLES, 1, heard.append)
            writers = [Writer(first, "a").start(), Writer(second, "b").start()]
            for _ in range(2):
                victim = rng.choice(cluster.servers)
                victim.kill()
                await asyncio.gather(*(writer.goes_on() for writer in writers))
                victim.start()
                victim.wait_healthy()
            await asyncio.gather(*(writer.goes_on() for writer in writers))
            for writer in writers:
                await writer.stop()
            print("longest gaps", [round(writer.gap, 2) for writer in writers])

            third = await nodes.add()
            await check(third, *writers)
            recovered = await third.log.claim(SHARD)
            assert recovered.progress[SUB].horizon >= writers[0].moved
            assert first.lost == []
            wanted = {seq for writer in writers for seq in writer.answered.values()}
            deadline = time.monotonic() + 10
            while not wanted <= {batch.first_seq for batch in heard}:
                assert time.monotonic() < deadline, "a follower has missed something"
                await asyncio.sleep(0.05)
            firsts = [batch.first_seq for batch in heard]
            assert firsts == sorted(set(firsts))


async def test_a_node_that_starts_waits_for_an_election(tmp_path):
    with nats_cluster(tmp_path) as cluster:
        async with nodes_on(*cluster.urls, replicas=3) as nodes:
            node = await nodes.add()
            bucket_name = f"{node.options.prefix}-b"
            bucket = KvCoordination(node.link, bucket=bucket_name)
            await bucket.open(replicas=3)
            await bucket.swap("key", b"value", revision=0)
            # A leader that is left alone goes on to answer for a while.
            info = await node.link.api(f"STREAM.INFO.KV_{bucket_name}", {})
            leader = str(cast("dict[str, Any]", info["cluster"])["leader"])
            others = [server for server in cluster.servers if server.name != leader]
            gone = [server for server in cluster.servers if server.name == leader] + others[:1]
            assert len(gone) == 2
            for server in gone:
                server.kill()

            opening = asyncio.ensure_future(bucket.open(replicas=3))
            done, _ = await asyncio.wait({opening}, timeout=3.0)
            assert not done, "one unanswered question does not end it"
            for server in gone:
                server.start()

            await asyncio.wait_for(opening, 40)
            found = await bucket.read("key")
            assert found is not None
            assert found.value == b"value"


async def test_a_start_on_servers_that_do_not_come_back_ends(tmp_path):
    with nats_server(tmp_path) as server:
        async with nodes_on(server.url) as nodes:
            node = await nodes.add()
            server.kill()

            with pytest.raises(LogFailure, match="coordination bucket"):
                await KvCoordination(node.link, bucket="b").open(replicas=1, within_s=0.3)


async def test_without_a_quorum_commits_are_refused_until_it_is_back(tmp_path):
    with nats_cluster(tmp_path) as cluster:
        async with nodes_on(*cluster.urls, replicas=3, commit_seconds=3.0) as nodes:
            node = await nodes.add()
            await node.log.claim(SHARD)
            writer = Writer(node)
            while len(writer.answered) < 20:
                await writer.commit()
            for server in cluster.servers[:2]:
                server.kill()

            took = []
            for _ in range(3):
                began = time.monotonic()
                assert not await writer.commit()
                took.append(time.monotonic() - began)
            for server in cluster.servers[:2]:
                server.start()
            deadline = time.monotonic() + 40
            while not await writer.commit():
                assert time.monotonic() < deadline, "commits do not go on"

            assert took[0] < 5.0
            assert max(took[1:]) < 3.0
            other = await nodes.add()
            await check(other, writer)
            recovered = await other.log.claim(SHARD)
            assert recovered.progress[SUB].horizon == writer._turn


async def test_a_full_store_is_told_and_room_helps(tmp_path):
    with nats_server(tmp_path / "nats", max_file="12MB") as server:
        async with nodes_on(server.url) as nodes:
            node = await nodes.add()
            await node.log.claim(SHARD)
            failure = None
            now_ms = 0
            while failure is None and now_ms < 100:
                now_ms += 1
                try:
                    await node.log.commit(append(VARIABLES, bytes(1_000_000), now_ms=now_ms))
                except LogFailure as error:
                    failure = error

            assert failure is not None
            assert failure.full
            changed = await node.log.trim(before_ms=0, bytes_max=4_000_000)
            assert VARIABLES in changed
            await node.log.commit(append(VARIABLES, bytes(1_000_000), now_ms=now_ms))
            await node.log.commit(Commit(1, progress=[(SUB, ProgressDelta(3))]))
            assert (await node.log.claim(SHARD)).progress == {SUB: Progress(3)}


async def test_a_node_that_was_cut_off_cannot_change_what_it_lost(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        proxy = await Proxy(server.port).start()
        async with nodes_on(server.url, commit_seconds=1.0) as nodes:
            former = await nodes.add(proxy.url)
            owner = await nodes.add()
            await former.log.claim(SHARD)
            writer = Writer(former)
            assert await writer.commit()
            proxy.stall()
            waiting = asyncio.ensure_future(writer.commit())

            recovered = await owner.log.claim(SHARD)
            await owner.log.commit(Commit(1, progress=[(SUB, ProgressDelta(100))]))
            assert not await waiting
            proxy.mend()
            deadline = time.monotonic() + 20
            while not former.lost:
                await writer.commit()
                assert time.monotonic() < deadline, "the loss is not noticed"

            assert recovered.progress == {SUB: Progress(1, settled_total=1)}
            found = (await owner.log.claim(SHARD)).progress[SUB]
            assert found == Progress(100, settled_total=1)
            await check(owner, writer)
        await proxy.stop()


async def test_a_server_that_stands_still_is_waited_for_and_then_told(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        async with nodes_on(server.url, commit_seconds=1.5) as nodes:
            node = await nodes.add()
            await node.log.claim(SHARD)
            writer = Writer(node)
            assert await writer.commit()
            server.pause()
            began = time.monotonic()
            assert not await writer.commit()
            assert time.monotonic() - began < 4
            server.go_on()
            deadline = time.monotonic() + 20
            while not await writer.commit():
                assert time.monotonic() < deadline, "commits do not go on"

            await check(node, writer)
            assert node.lost == []
