"""A service whose AMQP edge is on another node than its subscriptions."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

from hotpath.amqp.listener import AmqpEdge
from hotpath.app import App
from hotpath.auth.jwt import make_verifier
from hotpath.auth.keys import load_development_key
from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.node import Relay
from hotpath.edges import amqp_edge, rest_services
from hotpath.service.access import Access
from tests.cluster.relaying import relayed_pair
from tests.support.broker import Broker
from tests.support.bus import MemoryBus, Wire


def edge_on(side, owner, access) -> AmqpEdge:
    """The AMQP edge of a node; messages enter the log, which all nodes share, through the owner."""
    core = owner.core
    return AmqpEdge(
        access=access,
        publishing=core.publishing,
        feeds=side.relay.feeds,
        settings=side.core.settings,
        scheduling=core.scheduling,
        points=core.points,
        clock=core.clock,
        metrics=core.metrics,
    )


@asynccontextmanager
async def brokers_of(pair):
    """The owner and the node that asks it, each with an edge and all that tests need of one."""
    owner, brokers = pair.owner, []
    settings, clock = owner.core.settings, pair.clock
    verifier = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)
    pair.share_definitions()
    for side in (pair.owner, pair.asker):
        access = Access(
            admin=side.core.admin,
            publishers=owner.core.publishers,
            ring=owner.core.ring,
            verifier=verifier,
            clock=clock,
        )
        broker = Broker(
            settings=settings,
            clock=clock,
            log=owner.broker.log,
            core=owner.core,
            access=access,
            edge=edge_on(side, owner, access),
            verifier=verifier,
            key=load_development_key(settings.data_dir),
        )
        brokers.append(broker)

    def recheck():
        for each in brokers:
            each.edge.recheck()

    owner.core.keys.on_retired = owner.core.revoking.on_revoked = recheck
    try:
        yield brokers
    finally:
        owner.broker.log.resume()
        for each in brokers:
            await each.edge.stop(0)
        await verifier.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def far_broker(directory, **options):
    """As `running_broker`, but clients come to a node that serves nothing."""
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(relayed_pair(directory, **options))
        _, far = await stack.enter_async_context(brokers_of(pair))
        yield far


class _Serves:
    """An ownership in which one node has everything."""

    shards = 8

    def __init__(self, owner_card, *, all_of_it):
        self._owner = owner_card
        self._all_of_it = all_of_it

    def serves(self, shard):
        return self._all_of_it

    def owner(self, shard):
        return self._owner

    def epoch(self, shard):
        return 1


class FarApp(App):
    """The whole service; its edges ask for every subscription as if another node served it."""

    async def _open(self):
        await super()._open()
        core, wire, relays = self.core, Wire(), []
        cards = [NodeCard("owner", "owner-1"), NodeCard("asker", "asker-1")]
        for card in cards:
            serves = card is cards[0]
            relay = Relay(
                bus=MemoryBus(wire),
                clock=core.clock,
                card=card,
                prefix="far",
                ownership=_Serves(cards[0], all_of_it=serves),
                find=core.topics.subscriptions.get if serves else lambda _: None,
                directory=core.admin.directory,
                control=core.control,
                delivering=core.delivering,
                feed_calls=core.feed_calls,
            )
            await relay.start()
            self._exits.push_async_callback(relay.stop)
            relays.append(relay)
        self._asker = relays[1]

    def _amqp_edge(self, access):
        return amqp_edge(self.core, access, self._asker.feeds)

    def _rest_services(self, verifier):
        return rest_services(
            self.core,
            verifier,
            connection_url=self.connection_url,
            readiness=self._unready,
            control=self._asker.control,
        )
