"""Subscriptions of a cluster: defined on every node, live where their shard is served."""

import asyncio
from typing import Final, cast

from typing_extensions import override

import qel
from hotpath.auth.rights import Principal
from hotpath.cluster.relay.frames import NotServed, write_items
from hotpath.cluster.relay.messages import as_int, as_text
from hotpath.cluster.service.directory import ShardedDirectory
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.cluster.service.topics import FollowedTopics
from hotpath.clusterports import SharedRecordStore
from hotpath.core.subscription import Subscription
from hotpath.model.errors import Invalid, NotFound, Unavailable
from hotpath.model.names import SubscriptionId, Topic, TopicKey
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import LogFailure, Recovered
from hotpath.service import records
from hotpath.service.admin import (
    Administration,
    NewSubscription,
    compile_condition,
    compile_filter,
)
from hotpath.service.topics import TopicLog
from hotpath.telemetry import get_logger

#: Subscriptions that come to life in one turn of the event loop.
TURN: Final = 8
MOVED: Final = "the subscription has moved to another node; attach again"

_END: Final = "end"
_REAP: Final = "reap"

_log = get_logger("hotpath.cluster.admin")


class ShardedAdministration(Administration):
    """All definitions of subscriptions; their live state for the shards that are served here."""

    def connect(self, neighbours: Neighbours, store: SharedRecordStore) -> None:
        """Name the other nodes; before anything else is asked."""
        self._neighbours = neighbours
        self._shared = store
        self._followed = cast("FollowedTopics", self._topics)
        self._sharded = ShardedDirectory(neighbours.shard_of)
        self.directory = self._sharded
        self._live: dict[int, dict[SubscriptionId, Subscription]] = {}
        # Shards that are served, each held while what is in it comes to life.
        self._taken: dict[int, asyncio.Lock] = {}
        # Progress of subscriptions whose records have not come yet.
        self._expected: dict[int, Recovered] = {}
        self._adopting: set[asyncio.Task[None]] = set()
        self._ending: set[SubscriptionId] = set()
        self._next_elsewhere: list[int] = []
        neighbours.answer(_END, self._answer_end)
        neighbours.answer_for_node(_REAP, self._answer_reap)

    # Creating

    @override
    async def create(self, principal: Principal, wanted: NewSubscription) -> SubscriptionSpec:
        """As alone; all nodes know it when this returns, and its owner serves it."""
        condition = compile_condition(principal.condition, wanted.topic)
        key = TopicKey(principal.tenant, wanted.topic)
        self._check_limit(principal)
        identity = self._neighbours.own_id()
        try:
            next_seq = (await self._log.bounds(key)).next_seq
            start_seq = next_seq
            if wanted.start_from_ms is not None:
                start_seq = min(await self._log.seek(key, wanted.start_from_ms), next_seq)
            spec = self._specify(principal, wanted, identity, start_seq=start_seq)
            combined = (
                wanted.filter if condition is None else qel.all_of([condition, wanted.filter])
            )
            if self._neighbours.serves(self._neighbours.shard_of(identity)):
                await self._begin(spec, combined, await self._followed.reach(key, next_seq))
            else:
                record = records.subscription_record(spec)
                await self._store.put(records.SUBSCRIPTIONS, spec.id, record)
                self._metrics.subscriptions_created.labels(spec.topic.value).inc()
        except LogFailure as failure:
            raise Unavailable(f"the cluster cannot do this now: {failure.detail}") from failure
        await self._neighbours.spread(self._shared.written)
        return spec

    # Ending

    @override
    async def delete(self, principal: Principal, topic: Topic, identity: str) -> None:
        """End one of the caller's own subscriptions, wherever it is served."""
        spec = self.get(principal, topic, identity)
        await self._neighbours.ask(self._neighbours.shard_of(spec.id), _END, spec.id, "deleted")

    async def _answer_end(self, _: int, items: list[object]) -> bytes:
        subscription = self.live(as_text(items[0]))
        await self.end(subscription, cause=as_text(items[1]))
        return write_items()

    def live(self, identity: str) -> Subscription:
        """A subscription that is served here. Raises NotFound, NotServed."""
        subscription = self._topics.subscriptions.get(SubscriptionId(identity))
        if subscription is not None:
            return subscription
        if self.directory.get(identity) is None:
            raise NotFound(f"there is no subscription {identity}")
        raise NotServed("the subscription is not served here yet")

    @override
    async def end(self, subscription: Subscription, *, cause: str) -> None:
        """As alone; all nodes know it when this returns."""
        if cause == "idle":
            await self._confirm(subscription)
        identity = subscription.spec.id
        self._ending.add(identity)
        try:
            await super().end(subscription, cause=cause)
        finally:
            self._ending.discard(identity)
        await self._neighbours.spread(self._shared.written)

    async def _confirm(self, subscription: Subscription) -> None:
        """See that it is this node's to end: the log has taken something for its shard.

        Raises NotFound when it is not, Unavailable.
        """
        self._committer.touch(subscription)
        try:
            await self._committer.settled()
        except LogFailure as failure:
            raise Unavailable("the log cannot be written now") from failure
        shard = self._neighbours.shard_of(subscription.spec.id)
        if subscription.deleted or not self._neighbours.serves(shard):
            raise NotFound("the subscription is served by another node")

    @override
    async def reap(self) -> int:
        """As alone, on all nodes."""
        ended = await super().reap()
        answers = await self._neighbours.ask_others(_REAP)
        self._next_elsewhere = [as_int(ms) for _, ms in answers if ms is not None]
        return ended + sum(as_int(count) for count, _ in answers)

    async def _answer_reap(self, _: list[object]) -> bytes:
        return write_items(await super().reap(), super().next_expiry_ms())

    @override
    def next_expiry_ms(self) -> int | None:
        """As alone; of the other nodes as they answered when all was last reaped."""
        own = super().next_expiry_ms()
        return min((*self._next_elsewhere, *(() if own is None else (own,))), default=None)

    # Definitions

    async def load(self) -> None:
        """Learn all definitions. Raises LogFailure."""
        for record in await self._store.load(records.SUBSCRIPTIONS):
            self._learn(str(record.get("id")), record)

    def _learn(self, identity: str, record: records.Record) -> SubscriptionSpec | None:
        try:
            spec = records.read_subscription(record)
        except (KeyError, TypeError, ValueError):
            _log.exception("subscription unreadable", extra={"subscription": identity})
            return None
        self.redefine(spec)
        return spec

    def changed(self, identity: str, record: records.Record | None) -> bool:
        """A record was written on some node; whether tokens are worth less than before."""
        if record is None:
            self._forget(SubscriptionId(identity))
            return False
        before = self.directory.get(identity)
        spec = self._learn(identity, record)
        if spec is None:
            return False
        shard = self._neighbours.shard_of(spec.id)
        if shard in self._taken and spec.id not in self._topics.subscriptions:
            self._adopt_soon(shard, spec.id)
        return before is not None and before.generation != spec.generation

    def _forget(self, identity: SubscriptionId) -> None:
        """The record is gone, by another node's doing or by this one's."""
        subscription = self._topics.subscriptions.get(identity)
        if subscription is None:
            self.directory.remove(identity)
        elif identity not in self._ending:
            self._unregister(subscription)
            self._committer.forget(identity)
            self._delivering.close_all(subscription)

    def _adopt_soon(self, shard: int, identity: SubscriptionId) -> None:
        task = asyncio.ensure_future(self._adopt_new(shard, identity))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def adopted(self) -> None:
        """Wait until what was created elsewhere by now is served, if it is to be served here."""
        if self._adopting:
            await asyncio.wait(self._adopting)

    async def _adopt_new(self, shard: int, identity: SubscriptionId) -> None:
        """Serve a subscription that another node has created."""
        lock = self._taken.get(shard)
        if lock is None:
            return
        async with lock:
            spec = self.directory.get(identity)
            if spec is None:
                return
            try:
                topic = await self._followed.reach(spec.key, spec.start_seq)
            except LogFailure as failure:
                _log.error("not served yet", extra={"id": identity, "reason": failure.detail})
                return
            if self._taken.get(shard) is lock:
                self._adopt(identity, self._expected.get(shard, Recovered()), topic)

    # Shards

    async def take(self, shard: int, recovered: Recovered) -> set[str]:
        """Serve a shard's subscriptions from where they were; the ids of them. Raises LogFailure."""
        lock = self._taken[shard] = asyncio.Lock()
        async with lock:
            known: set[str] = set()
            for count, spec in enumerate(self._sharded.of_shard(shard), 1):
                known.add(spec.id)
                # As far as it has been routed elsewhere: what was settled must not come again.
                progress = recovered.progress.get(spec.id)
                seq = spec.start_seq if progress is None else progress.horizon
                self._adopt(spec.id, recovered, await self._followed.reach(spec.key, seq))
                if count % TURN == 0:
                    await asyncio.sleep(0)
        return known

    def _adopt(self, identity: SubscriptionId, recovered: Recovered, topic: TopicLog) -> None:
        """Bring one to life, unless it is, or is gone by now."""
        spec = self.directory.get(identity)
        if spec is None or identity in self._topics.subscriptions:
            return
        try:
            subscription = self._build(spec, compile_filter(spec))
        except (ValueError, qel.QelError, Invalid):
            _log.exception("subscription unreadable", extra={"subscription": identity})
            return
        self._take_up(subscription, recovered, topic)
        self.on_created(subscription)

    def expect(self, shard: int, rest: Recovered) -> None:
        """There is progress of subscriptions that are not known yet."""
        self._expected[shard] = rest

    def of_shard(self, shard: int) -> list[Subscription]:
        """The live subscriptions of a shard."""
        return list(self._live.get(shard, {}).values())

    def pause(self, shard: int) -> None:
        """Edges ask whether a shard is served before they hand anything out."""

    def close_feeds(self, shard: int) -> None:
        """Send the receivers of a shard away."""
        for subscription in self.of_shard(shard):
            self._delivering.close_all(subscription, Unavailable(MOVED))

    def start(self, shard: int) -> None:
        """Let the receivers of a shard come again."""
        for subscription in self.of_shard(shard):
            self._delivering.wake(subscription)

    def let_go(self, shard: int) -> None:
        """Forget the live state of a shard; its definitions stay."""
        self._taken.pop(shard, None)
        self._expected.pop(shard, None)
        gone = list(self._live.pop(shard, {}).values())
        for subscription in gone:
            subscription.deleted = True
            self._topics.remove(subscription)
            self._settling.forget(subscription)
            self._metrics.subscriptions.dec()
            self._delivering.close_all(subscription, Unavailable(MOVED))
        self._committer.discard(gone)

    @override
    def _register(self, subscription: Subscription, topic: TopicLog) -> None:
        super()._register(subscription, topic)
        shard = self._neighbours.shard_of(subscription.spec.id)
        self._live.setdefault(shard, {})[subscription.spec.id] = subscription

    @override
    def _unregister(self, subscription: Subscription) -> None:
        shard = self._neighbours.shard_of(subscription.spec.id)
        if self._live.get(shard, {}).pop(subscription.spec.id, None) is not None:
            super()._unregister(subscription)
