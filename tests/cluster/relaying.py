"""Two nodes with the whole service each, and the relay between them."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from hotpath.app import Core
from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.node import Relay
from hotpath.clusterports import shard_of
from hotpath.config import Settings
from hotpath.model.names import SubscriptionId
from hotpath.service.clock import SystemClock
from hotpath.storage.jetstream.bus import NatsBus
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.options import LinkOptions
from hotpath.storage.memory import MemoryLog, MemoryStore
from tests.support.broker import Broker
from tests.support.bus import MemoryBus, Wire
from tests.support.clock import ManualClock

SHARDS = 4


class Owners:
    """Who owns what, as all nodes know it at once."""

    def __init__(self):
        self.cards: dict[int, NodeCard | None] = {}
        self.epochs: dict[int, int] = dict.fromkeys(range(SHARDS), 1)
        self.relays: list[Relay] = []

    def move(self, shard, card):
        self.cards[shard] = card
        self.epochs[shard] += 1
        for relay in self.relays:
            relay.asking.on_owner(shard)

    def seen_by(self, card):
        return _Seen(self, card)


class _Seen:
    """What a node asks of its ownership."""

    shards = SHARDS

    def __init__(self, owners, card):
        self._owners = owners
        self._card = card

    def serves(self, shard):
        return self._owners.cards.get(shard) == self._card

    def owner(self, shard):
        return self._owners.cards.get(shard)

    def epoch(self, shard):
        return self._owners.epochs[shard]


class Side:
    """One node."""

    def __init__(self, broker, relay, card, bus):
        self.broker = broker
        self.core = broker.core
        self.relay = relay
        self.card = card
        self.bus = bus


class Client:
    """An edge's link, as egress is one: pulls when it is woken, with the credit it has."""

    def __init__(self, side, subscription, *, dead=False, lock=True, credit=0):
        self.side = side
        self.credit = credit
        self.taken = []
        self.is_closed = False
        self.confirmed: list[dict] = []
        self.receiver = None
        self._pulling = False
        # Another node knows a subscription by its definition alone.
        known = subscription if side.core.topics.subscriptions else subscription.spec
        self.receiver = side.relay.delivering.attach(
            known, dead=dead, lock=lock, wake=self.wake, closed=self.close
        )

    def wake(self):
        if not self._pulling:
            self._pulling = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self):
        self._pulling = False
        if self.is_closed or self.receiver is None or self.credit <= 0:
            return
        parts = self.side.relay.delivering.pull(self.receiver, self.credit)
        count = sum(len(part.seqs) for part in parts)
        self.credit -= count
        self.taken += parts
        if count:
            self.wake()

    def flow(self, credit):
        self.credit = credit
        self.wake()

    def close(self):
        self.is_closed = True

    # What it has

    @property
    def seqs(self):
        return [seq for part in self.taken for seq in part.seqs]

    @property
    def stored(self):
        return [
            part.batch.payloads[seq - part.batch.first_seq]
            for part in self.taken
            for seq in part.seqs
        ]

    @property
    def held(self):
        return [(seq, part.serial) for part in self.taken for seq in part.seqs]

    @property
    def where(self):
        return self.receiver.subscription, self.receiver.feed

    # What it does

    def complete(self):
        self.complete_runs([(part.serial, list(part.seqs)) for part in self.taken])
        self.then()

    def complete_runs(self, runs):
        """Settle; those whose lock is known to be lost."""
        if self.receiver.far is None:
            return self.side.core.settling.complete_runs(*self.where, runs)
        self.receiver.far.complete_runs(runs)
        return []

    def then(self, done=None):
        done = done or self.confirmed.append
        if self.receiver.far is not None:
            self.receiver.far.then(done)
        else:
            self.side.core.committer.then(lambda failure: failure or done({}))

    def leave(self):
        self.side.relay.delivering.detach(self.receiver)
        self.is_closed = True


class Pair:
    """The owner of all subscriptions, and a node that asks it."""

    def __init__(self, owner, asker, owners, wire, clock):
        self.owner = owner
        self.asker = asker
        self.owners = owners
        self.wire = wire
        self.clock = clock

    async def until(self, check, *, within_ms=15_000):
        """Go on until something has come true."""
        for _ in range(within_ms // 10):
            if check():
                return
            await self.advance(10)
        raise AssertionError("it has not come true")

    async def advance(self, milliseconds):
        if isinstance(self.clock, ManualClock):
            while milliseconds > 0:
                await self.clock.advance(min(50, milliseconds))
                milliseconds -= 50
        else:
            await asyncio.sleep(milliseconds / 1000)

    def client(self, subscription, **options):
        return Client(self.asker, subscription, **options)

    def share_definitions(self):
        """Let both nodes know at once of every subscription."""
        shared = self.owner.core.admin.directory
        for side in (self.owner, self.asker):
            side.core.admin.directory = shared

    def show_url(self, side, url):
        """Let a node show where its clients reach it."""
        card = replace(side.card, amqp_url=url)
        for shard, owner in self.owners.cards.items():
            if owner == side.card:
                self.owners.cards[shard] = card

    def managing(self, subscription, *, dead=False):
        """The calls of a feed, on the node that does not serve it."""
        self.asker.core.admin.directory.put(subscription.spec)
        return self.asker.relay.feeds.calls(subscription.spec, dead=dead)

    def local(self, subscription, **options):
        return Client(self.owner, subscription, **options)

    def shard(self, subscription):
        return shard_of(subscription.spec.id, SHARDS)


class DirectoryOf:
    """The directory that a service has at the moment."""

    def __init__(self, core):
        self._core = core

    def get(self, identity):
        return self._core.admin.directory.get(identity)


@asynccontextmanager
async def running_core(directory, *, clock, **options):
    """A node's service in memory, without its edges."""
    settings, log = Settings(data_dir=directory, **options), MemoryLog()
    core = Core(settings, log=log, store=MemoryStore(), clock=clock)
    await core.open()
    try:
        yield Broker(
            settings=settings,
            clock=clock,
            log=log,
            core=core,
            access=None,
            edge=None,
            verifier=None,
            key=None,
        )
    finally:
        log.resume()
        await core.close()


@asynccontextmanager
async def relayed_pair(directory, *, nats_url=None, clock=None, payload_max=1_048_576, **options):
    """Two nodes on one wire: in memory with a manual clock, or on a real nats-server."""
    clock = clock or (SystemClock() if nats_url else ManualClock())
    wire, owners = Wire(payload_max=payload_max), Owners()
    async with AsyncExitStack() as stack:
        sides = []
        for name in ("owner", "asker"):
            path = directory / name
            path.mkdir()
            broker = await stack.enter_async_context(running_core(path, clock=clock, **options))
            card = NodeCard(name, f"{name}-1")
            if nats_url:
                link = Link(LinkOptions((nats_url,)))
                await link.open()
                stack.push_async_callback(link.close)
                bus = NatsBus(link)
            else:
                bus = MemoryBus(wire)
            core = broker.core
            relay = Relay(
                bus=bus,
                clock=clock,
                card=card,
                prefix=f"hp{directory.name.replace('_', '-').replace('.', '-')}",
                ownership=owners.seen_by(card),
                find=lambda name, core=core: core.topics.subscriptions.get(SubscriptionId(name)),
                directory=DirectoryOf(core),
                control=core.control,
                delivering=core.delivering,
                feed_calls=core.feed_calls,
            )
            await relay.start()
            stack.push_async_callback(relay.stop)
            owners.relays.append(relay)
            sides.append(Side(broker, relay, card, bus))
        owners.cards = dict.fromkeys(range(SHARDS), sides[0].card)
        yield Pair(*sides, owners, wire, clock)
