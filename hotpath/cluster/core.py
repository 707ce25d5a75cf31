"""The service of one node of a cluster, put together."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from typing_extensions import override

from hotpath.assembly import Core
from hotpath.cluster.cards import NodeCard
from hotpath.cluster.events import Happened, OwnershipEvent
from hotpath.cluster.membership import Membership, Timings
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.node import Relay
from hotpath.cluster.service.administration import ShardedAdministration
from hotpath.cluster.service.definitions import Definitions
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.cluster.service.points import ShardedPoints
from hotpath.cluster.service.rights import SharedKeys, SharedPublishers, SharedRevoking
from hotpath.cluster.service.schedule import ShardedScheduling
from hotpath.cluster.service.shards import ShardServing
from hotpath.cluster.service.streams import ShardedStreams
from hotpath.cluster.service.topics import FollowedTopics
from hotpath.cluster.service.upkeep import SharedUpkeep
from hotpath.clusterports import Bus, Coordination, ShardedLog, SharedRecordStore
from hotpath.config import Settings
from hotpath.ports import Clock, Recovered, TimerHandle
from hotpath.service import records
from hotpath.service.clock import sleep_until
from hotpath.service.recount import recount
from hotpath.service.streams_records import STREAM_POINTS, STREAMS
from hotpath.telemetry import get_logger

#: How long a node that starts waits for all shards to be served, and how often it looks.
PLACED_MS: Final = 10_000
LOOK_MS: Final = 50
#: How often a node looks whether it is cut off from the servers, milliseconds.
CUT_OFF_LOOK_MS: Final = 250
#: How long a server gets that a node has changed to, milliseconds.
STAY_MS: Final = 6_000

_log = get_logger("hotpath.cluster")


def timings_of(settings: Settings) -> Timings:
    """How often nodes show themselves, as configured."""
    return Timings(
        renew_ms=settings.cluster_renew_ms,
        fence_ms=settings.cluster_fence_ms,
        dead_ms=settings.cluster_takeover_ms,
        linger_ms=settings.cluster_linger_ms,
    )


class ClusterCore(Core):
    """A node's service: it knows all definitions, and serves its own shards.

    `open` brings the definitions; from `follow` on its clients are served what other nodes have;
    `join`, once they can reach it, makes it one of the nodes, and `leave` hands its shards over.
    `silence` ends what `follow` began. `leave_server` goes to another of the cluster's servers.
    """

    is_log_shared = True
    topics_kind = FollowedTopics
    keys_kind = SharedKeys
    scheduling_kind = ShardedScheduling
    administration_kind = ShardedAdministration
    publishers_kind = SharedPublishers
    revoking_kind = SharedRevoking
    points_kind = ShardedPoints
    streams_kind = ShardedStreams
    upkeep_kind = SharedUpkeep

    topics: FollowedTopics
    keys: SharedKeys
    scheduling: ShardedScheduling
    admin: ShardedAdministration
    publishers: SharedPublishers
    revoking: SharedRevoking
    points: ShardedPoints
    streams: ShardedStreams
    upkeep: SharedUpkeep

    def __init__(
        self,
        settings: Settings,
        *,
        log: ShardedLog,
        store: SharedRecordStore,
        coordination: Coordination,
        bus: Bus,
        clock: Clock,
        card: NodeCard,
        is_connected: Callable[[], bool],
    ) -> None:
        super().__init__(settings, log=log, store=store, clock=clock)
        self.shared = store
        self.bus = bus
        self.card = card
        self.keys.share(store)
        self._is_connected = is_connected
        self._looking: TimerHandle | None = None
        self._has_uncounted = False
        self.definitions = Definitions(store)
        self.serving = ShardServing()
        self.membership = Membership(coordination, clock, card, timings=timings_of(settings))
        self.membership.may_linger = is_connected
        self.leave_server: Callable[[], None] = lambda: None
        self._company: asyncio.Task[None] | None = None
        self._left_ms = -STAY_MS
        self.ownership = Ownership(
            membership=self.membership,
            coordination=coordination,
            log=log,
            serving=self.serving,
            clock=clock,
            shards=settings.cluster_shards,
        )
        self.neighbours = Neighbours(
            bus=bus,
            clock=clock,
            card=card,
            prefix=settings.cluster_prefix,
            ownership=self.ownership,
            membership=self.membership,
        )

    # Putting together

    @override
    def _compose(self, *, base_ms: int | None) -> None:
        super()._compose(base_ms=base_ms)
        # What this node appends comes back with all the rest.
        self.committer.on_batches = self.points.note
        # Whoever takes a schedule over may find what its former owner has appended already.
        self.committer.names_due = True
        self.topics.on_batches = self.delivering.on_batches
        self._connect()
        self.relay = Relay(
            bus=self.bus,
            clock=self.clock,
            card=self.card,
            prefix=self.settings.cluster_prefix,
            ownership=self.ownership,
            find=self.topics.subscriptions.get,
            directory=self.admin.directory,
            control=self.control,
            delivering=self.delivering,
            feed_calls=self.feed_calls,
        )
        self.ownership.on_owner = self.relay.asking.on_owner
        self._measure()
        self.relay.asking.is_cut_off = self.neighbours.is_cut_off = self.is_cut_off

    def _connect(self) -> None:
        """Tell the parts of the other nodes, and of each other."""
        neighbours, store = self.neighbours, self.shared
        self.admin.connect(neighbours, store)
        self.keys.connect(neighbours, store)
        self.publishers.connect(neighbours, store)
        self.revoking.connect(neighbours, store)
        self.scheduling.connect(neighbours)
        self.points.connect(neighbours)
        self.streams.connect(neighbours, store, self._stream_recovery())
        self.ownership.on_event = self._happened
        self.upkeep.connect(neighbours)
        self.serving.connect(
            [self.admin, self.scheduling, self.points, self.streams],
            definitions=self.definitions,
            committer=self.committer,
            metrics=self.metrics,
        )
        definitions = self.definitions
        definitions.on(records.SUBSCRIPTIONS, self._subscription_changed)
        definitions.on(records.PUBLISHERS, self._publisher_changed)
        definitions.on(records.KEYS, self.keys.changed)
        for kind in (STREAMS, STREAM_POINTS):
            definitions.on(kind, partial(self.streams.changed, kind))
        definitions.settle += [self.admin.adopted, self.streams.adopted]
        neighbours.sight = definitions.sight

    def _measure(self) -> None:
        """Show how this node fares among the others."""
        metrics, relay = self.metrics, self.relay
        metrics.add_cluster()
        metrics.shards.set_function(lambda: len(self.ownership.held()))
        metrics.nodes.set_function(lambda: len(self.membership.others()) + 1)
        metrics.fenced.set_function(lambda: float(self.membership.is_fenced()))
        metrics.followed.set_function(lambda: self.topics.followed)
        metrics.relay_links.labels("asking").set_function(lambda: relay.asking.links)
        metrics.relay_links.labels("owner").set_function(lambda: relay.owner.links)
        counts = relay.calls.counts
        metrics.relay_traffic.labels("sent").set_function(lambda: counts.sent_bytes)
        metrics.relay_traffic.labels("received").set_function(lambda: counts.received_bytes)
        metrics.relay_calls.labels("answered").set_function(
            lambda: counts.calls - counts.unanswered
        )
        metrics.relay_calls.labels("unanswered").set_function(lambda: counts.unanswered)

    def _happened(self, event: OwnershipEvent) -> None:
        """Something has happened to a shard here."""
        self.metrics.shard_events.labels(event.what.value).inc()
        if event.what is Happened.TAKEN:
            self.serving.resume(event.shard)
            self.recount_later()

    def _subscription_changed(self, identity: str, record: records.Record | None) -> None:
        if self.admin.changed(identity, record):
            self.revoking.on_revoked()

    def _publisher_changed(self, identity: str, record: records.Record | None) -> None:
        if self.publishers.changed(identity, record):
            self.revoking.on_revoked()

    @override
    async def _resume(self, recovered: Recovered) -> None:
        """Learn what there is; what is served comes with the shards."""
        del recovered
        await self.definitions.watch()
        await self.publishers.resume()
        await self.admin.load()
        await self.streams.load()
        self.definitions.loaded()
        self.upkeep.start()

    # Being one of the nodes

    async def follow(self) -> None:
        """Learn who is there and who has what, and ask and answer. Raises LogFailure.

        A node that was killed and started again has to wait before it may join; its clients do not.
        """
        await self.neighbours.start()
        await self.relay.start()
        await self.ownership.follow()
        await self.membership.follow()

    async def join(self) -> None:
        """Become one of the nodes, and take shards. Raises NodeIdTaken, LogFailure."""
        await self.membership.join()
        await self.ownership.start()
        self._look()
        await self._until_placed()

    def is_cut_off(self) -> bool:
        """Whether the servers are out of reach for so long that others may have taken over."""
        silent_ms = self.membership.silent_ms
        return not self._is_connected() and silent_ms > self.membership.timings.dead_ms

    def _look(self) -> None:
        """Who is attached to a node that is cut off is better off on another one."""
        self._looking = self.clock.call_at(self.clock.ticks_ms() + CUT_OFF_LOOK_MS, self._look)
        if self.is_cut_off():
            for shard in self.ownership.held():
                self.serving.send_away(shard)
        elif self._fears_to_be_alone() and (self._company is None or self._company.done()):
            self._company = asyncio.ensure_future(self._seek_company())

    def _fears_to_be_alone(self) -> bool:
        """Whether nothing confirms this node: an election, or a server that has lost the others."""
        stays = self.clock.ticks_ms() - self._left_ms < STAY_MS
        return not stays and self.membership.silent_ms > self.membership.timings.dead_ms

    async def _seek_company(self) -> None:
        """Go to another server where no other node can be reached by this one.

        While servers only elect, messages between nodes arrive.
        """
        if await self.neighbours.is_alone() and self._fears_to_be_alone():
            self._left_ms = self.clock.ticks_ms()
            self.leave_server()

    async def _until_placed(self) -> None:
        """Wait for every shard to be served by somebody, but not for ever."""
        until_ms = self.clock.ticks_ms() + PLACED_MS
        shards = range(self.ownership.shards)
        while self.clock.ticks_ms() < until_ms:
            if all(self._is_placed(shard) for shard in shards):
                return
            await sleep_until(self.clock, self.clock.ticks_ms() + LOOK_MS)
        _log.warning("not all shards are served yet")

    def _is_placed(self, shard: int) -> bool:
        owner = self.ownership.owner(shard)
        return owner is not None and (owner != self.card or self.ownership.serves(shard))

    async def leave(self, *, within_ms: int) -> None:
        """Hand everything over, and be one of the nodes no more."""
        if self._looking is not None:
            self._looking.cancel()
        if self._company is not None:
            self._company.cancel()
        await self.ownership.stop(within_ms=within_ms)

    async def silence(self) -> None:
        """Follow, ask and answer nothing more."""
        await self.ownership.abandon()
        await self.relay.stop()
        await self.neighbours.stop()

    @override
    async def close(self) -> None:
        """Make everything durable and stop following. Raises LogFailure."""
        await self.definitions.stop()
        await self.topics.close()
        await super().close()

    def recount_later(self) -> None:
        """Complete the figures of what has come to life."""
        self._has_uncounted = True
        if self._recounting is None or self._recounting.done():
            self._recounting = asyncio.ensure_future(self._recount())

    async def _recount(self) -> None:
        while self._has_uncounted:
            self._has_uncounted = False
            await recount(self.topics, self.liveness)
