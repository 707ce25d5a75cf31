"""Nodes of a cluster in this process, without their edges, on a real server."""

import asyncio
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from hotpath.auth.rights import Principal
from hotpath.auth.sealing import SealingKey
from hotpath.cluster.cards import NodeCard, new_run
from hotpath.cluster.core import ClusterCore
from hotpath.config import Settings
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import LogFailure
from hotpath.service.admin import NewSubscription
from hotpath.service.clock import SystemClock
from hotpath.storage.jetstream.bus import NatsBus
from hotpath.storage.jetstream.coordination import KvCoordination
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.records import JetStreamStore
from hotpath.storage.jetstream.settings import link_options, log_options
from hotpath.wire.jsonbody import encode_json
from qel import compile_filter

TENANT = TenantId("acme")
KEY = TopicKey(TENANT, Topic.VARIABLES)
PRINCIPAL = Principal(TENANT, "tester", frozenset({"hotpath.subscribe"}))
SEALING = SealingKey(bytes(32))
SHARDS = 8
#: Longer than anything takes on a busy machine.
WITHIN_S = 15.0


def message(value):
    return encode_json(b"{}", {"value": value})


class Reader:
    """An edge's link to a node: takes what comes, and settles it when it is told to."""

    def __init__(self, node, spec, *, credit=1_000):
        self.core = node.core
        self.credit = credit
        self.parts = []
        self.closed = False
        self.pulling = False
        self.confirmed = 0
        delivering = self.core.relay.delivering
        known = self.core.admin.find(spec.topic, spec.id) or spec
        self.receiver = delivering.attach(
            known, dead=False, lock=True, wake=self.wake, closed=self.close
        )
        self.wake()

    def wake(self):
        if not self.pulling and not self.closed:
            self.pulling = True
            asyncio.get_running_loop().call_soon(self.pull)

    def pull(self):
        self.pulling = False
        parts = [] if self.closed else self.core.relay.delivering.pull(self.receiver, self.credit)
        self.parts += parts
        if parts:
            self.wake()

    def close(self):
        self.closed = True

    @property
    def values(self):
        return [
            part.batch.payloads[seq - part.batch.first_seq]
            for part in self.parts
            for seq in part.seqs
        ]

    def complete(self):
        """Settle everything there is."""
        runs = [(part.serial, list(part.seqs)) for part in self.parts]
        count = sum(len(seqs) for _, seqs in runs)
        far = self.receiver.far

        def done(refused):
            self.confirmed += count - len(refused)

        if far is not None:
            far.complete_runs(runs)
            far.then(done)
            return
        where = (self.receiver.subscription, self.receiver.feed)
        lost = self.core.settling.complete_runs(*where, runs)
        # A link that has been left is told nothing more, as an edge has it.
        self.core.committer.then(lambda failure: failure or self.closed or done(lost))

    def detach(self):
        self.closed = True
        self.core.relay.delivering.detach(self.receiver)


class Node:
    """One node."""

    def __init__(self, settings, name):
        self.name = name
        self.link = Link(link_options(settings))
        options = log_options(settings)
        self.store = JetStreamStore(self.link, options)
        self.bucket = KvCoordination(self.link, bucket=f"{settings.cluster_prefix}-nodes")
        self.log = JetStreamLog(self.link, options, node=name)
        self.core = ClusterCore(
            settings,
            log=self.log,
            store=self.store,
            coordination=self.bucket,
            bus=NatsBus(self.link),
            clock=SystemClock(),
            card=NodeCard(name, new_run()),
            is_connected=lambda: self.link.is_connected,
        )

        self.core.sealing = SEALING

    async def open(self):
        """As far as it goes without the consent of the others."""
        await self.link.open()
        await self.bucket.open(replicas=1)
        await self.store.open()
        await self.core.open()
        await self.core.follow()

    async def start(self):
        await self.open()
        await self.core.join()

    async def stop(self):
        """As SIGTERM."""
        await self.core.leave(within_ms=5_000)
        await self.core.silence()
        await self.core.close()
        await self.link.close()

    async def kill(self):
        """As kill -9: the servers hear nothing more of it."""
        await self.link.close()
        await self.core.ownership.abandon()
        self.core._looking.cancel()
        await self.core.silence()
        for closing in (self.core.close, self.link.close):
            with suppress(LogFailure):
                await closing()

    def serves(self, spec):
        return self.core.neighbours.serves(self.core.neighbours.shard_of(spec.id))

    async def create(self, text="value >= 0", *, ttl_minutes=60, **options):
        wanted = NewSubscription(
            topic=Topic.VARIABLES,
            filter=compile_filter(text, "variables"),
            filter_text=text,
            ttl_minutes=ttl_minutes,
            sas_ttl_minutes=5,
            **options,
        )
        return await self.core.admin.create(PRINCIPAL, wanted)

    async def publish(self, *values):
        await self.core.publishing.publish(KEY, [message(value) for value in values], via="test")

    def read(self, spec, **options):
        return Reader(self, spec, **options)


class Nodes:
    """All nodes of a cluster."""

    def __init__(self, server, directory, **settings):
        self.settings = Settings(
            data_dir=directory,
            cluster=server.url,
            cluster_prefix=f"t{uuid4().hex[:12]}",
            cluster_replicas=1,
            cluster_shards=SHARDS,
            cluster_renew_ms=100,
            cluster_fence_ms=500,
            cluster_takeover_ms=800,
            **settings,
        )
        self.nodes = {}

    def __getitem__(self, name):
        return self.nodes[name]

    async def start(self, *names):
        """Start nodes, together; each one."""
        made = [Node(self.settings, name) for name in names]
        self.nodes.update({node.name: node for node in made})
        await asyncio.gather(*(node.start() for node in made))
        await until(self.is_placed)
        return made

    def is_placed(self):
        """Whether each shard is served by one node, and all have their part."""
        held = [shard for node in self.nodes.values() for shard in node.core.ownership.held()]
        parts = [len(node.core.ownership.held()) for node in self.nodes.values()]
        return sorted(held) == list(range(SHARDS)) and min(parts) >= SHARDS // len(self.nodes)

    def owner(self, spec):
        (owner,) = [node for node in self.nodes.values() if node.serves(spec)]
        return owner

    def others(self, *nodes):
        return [node for node in self.nodes.values() if node not in nodes]

    async def kill(self, node):
        del self.nodes[node.name]
        await node.kill()

    async def stop(self, node):
        del self.nodes[node.name]
        await node.stop()


async def until(check, *, within_s=WITHIN_S):
    """Wait until something has come true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not check():
        assert loop.time() < end, "it has not come true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running_nodes(server, directory, *names, **settings):
    """Nodes until the end of the block."""
    nodes = Nodes(server, directory, **settings)
    try:
        await nodes.start(*names)
        yield nodes
    finally:
        for node in list(nodes.nodes.values()):
            await nodes.stop(node)
