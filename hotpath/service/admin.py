"""Creating, showing and ending subscriptions.

What a caller may do has been checked at the edge (scopes, rate); what a caller may *see* is
checked here: `Principal.sees`. A subscription that the caller may not see does not exist.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import qel
from hotpath.auth.rights import Principal
from hotpath.config import Settings
from hotpath.core.locks import LockTable
from hotpath.core.subscription import Subscription
from hotpath.model.chance import random_uuid
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unavailable, Violation
from hotpath.model.names import SUBSCRIBABLE, SubscriptionId, Topic, TopicKey
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock, LogFailure, MessageLog, RecordStore, Recovered
from hotpath.service import records
from hotpath.service.clock import sleep_until
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.directory import Directory
from hotpath.service.liveness import Liveness
from hotpath.service.settle import Settling
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import Metrics, get_logger

#: How long to wait before asking again whether a subscription's figures are complete.
COUNTING_MS: Final = 1_000

_log = get_logger("hotpath.admin")


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """What a caller asks for; the edge has checked the numbers' bounds."""

    topic: Topic
    filter: qel.Filter
    filter_text: str
    ttl_minutes: float
    sas_ttl_minutes: float
    start_from_ms: int | None = None
    """Enqueued time of the first message wanted, wall clock; 0 for the earliest; None for now."""


@dataclass(frozen=True, slots=True)
class SubscriptionFigures:
    """A subscription as its owner sees it. Times are wall-clock milliseconds."""

    spec: SubscriptionSpec
    last_activity_ms: int
    expires_ms: int
    backlog: int
    locked: int
    delivered: int
    dead_lettered: int
    clients: int


class Administration:
    """All definitions of subscriptions, and their live state."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: RecordStore,
        log: MessageLog,
        topics: Topics,
        committer: Committer,
        delivering: Delivering,
        settling: Settling,
        liveness: Liveness,
        lock_table: Callable[[bool], LockTable],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._topics = topics
        self._committer = committer
        self._delivering = delivering
        self._settling = settling
        self._liveness = liveness
        self._lock_table = lock_table
        self._clock = clock
        self._metrics = metrics
        self.directory = Directory()
        self.on_created: Callable[[Subscription], None] = lambda _: None

    # Opening

    async def resume(self, recovered: Recovered, *, others: Collection[str] = ()) -> None:
        """Bring back everything the store and the log know. Raises LogFailure.

        `others` are ids whose progress is somebody else's: streams.
        """
        known: set[str] = set(others)
        for record in await self._store.load(records.SUBSCRIPTIONS):
            known.add(str(record.get("id")))
            await self._resume_subscription(record, recovered)
        for identity in recovered.progress.keys() | recovered.dead.keys():
            if identity not in known:
                self._committer.forget(identity)

    async def _resume_subscription(self, record: records.Record, recovered: Recovered) -> None:
        """Bring one back; one that cannot be read is not served, and its progress is kept."""
        try:
            spec = records.read_subscription(record)
            subscription = self._build(spec, compile_filter(spec))
        except (KeyError, TypeError, ValueError, qel.QelError, Invalid):
            _log.exception("subscription unreadable", extra={"subscription": record.get("id")})
            return
        self._take_up(subscription, recovered, await self._topics.open(spec.key))

    def _take_up(self, subscription: Subscription, recovered: Recovered, topic: TopicLog) -> None:
        """Go on with a subscription where the log says that it was."""
        spec = subscription.spec
        progress = recovered.progress.get(spec.id)
        if progress is not None:
            subscription.resume(progress)
            self._liveness.resume(subscription, progress.active_ms)
        else:
            self._liveness.begin(subscription)
        dead = recovered.dead.get(spec.id)
        if dead:
            sizes = recovered.dead_sizes.get(spec.id, {})
            self._settling.resume_dead(subscription, dead, sizes)
        self._register(subscription, topic)

    # Subscriptions

    async def create(self, principal: Principal, wanted: NewSubscription) -> SubscriptionSpec:
        """Create a subscription; durable when this returns.

        Raises:
            Invalid: the caller's condition names something the topic does not have.
            LimitReached: the tenant has too many subscriptions.
            Unavailable: the store cannot be written.
        """
        condition = compile_condition(principal.condition, wanted.topic)
        key = TopicKey(principal.tenant, wanted.topic)
        topic, start_seq = await self._start(key, wanted.start_from_ms)
        self._check_limit(principal)
        spec = self._specify(principal, wanted, SubscriptionId(random_uuid()), start_seq=start_seq)
        combined = wanted.filter if condition is None else qel.all_of([condition, wanted.filter])
        await self._begin(spec, combined, topic)
        return spec

    def _check_limit(self, principal: Principal) -> None:
        """Raises LimitReached when a tenant may not have another subscription."""
        limit = self._settings.subscriptions_per_tenant_max
        if self.directory.count(principal.tenant) >= limit:
            raise LimitReached("this tenant has as many subscriptions as are allowed")

    def _specify(
        self,
        principal: Principal,
        wanted: NewSubscription,
        identity: SubscriptionId,
        *,
        start_seq: int,
    ) -> SubscriptionSpec:
        return SubscriptionSpec(
            id=identity,
            tenant=principal.tenant,
            topic=wanted.topic,
            filter=wanted.filter_text,
            condition=principal.condition,
            ttl_ms=self._settings.minutes_ms(wanted.ttl_minutes),
            sas_ttl_ms=self._settings.minutes_ms(wanted.sas_ttl_minutes),
            start_seq=start_seq,
            created_ms=self._clock.now_ms(),
            creator=principal.subject,
            ttl_minutes=wanted.ttl_minutes,
            sas_ttl_minutes=wanted.sas_ttl_minutes,
        )

    async def _begin(self, spec: SubscriptionSpec, filter_: qel.Filter, topic: TopicLog) -> None:
        """Serve a new subscription; durable when this returns. Raises Unavailable."""
        subscription = self._build(spec, filter_)
        self._liveness.begin(subscription)
        self._register(subscription, topic)
        await self._keep(subscription)
        if not subscription.counted:
            self._delivering.count_past(subscription)
        self._metrics.subscriptions_created.labels(spec.topic.value).inc()
        self.on_created(subscription)

    async def _start(self, key: TopicKey, start_from_ms: int | None) -> tuple[TopicLog, int]:
        """A topic and the first number of it that a new subscription gets. Raises Unavailable."""
        try:
            topic = await self._topics.open(key)
            if start_from_ms is None:
                return topic, topic.routed_to
            found = await self._log.seek(key, start_from_ms)
        except LogFailure as failure:
            raise Unavailable("the log cannot be read now; try again later") from failure
        # What is durable and not routed yet is offered like any other new message.
        return topic, min(found, topic.routed_to)

    async def _keep(self, subscription: Subscription) -> None:
        """Write a new definition and its first progress; without them it does not exist."""
        spec = subscription.spec
        try:
            await self._store.put(records.SUBSCRIPTIONS, spec.id, records.subscription_record(spec))
        except BaseException as failure:
            self._unregister(subscription)
            self._committer.forget(spec.id)
            if isinstance(failure, LogFailure):
                raise Unavailable("the store cannot be written now; try again later") from failure
            raise
        self._committer.touch(subscription)

    def get(self, principal: Principal, topic: Topic, identity: str) -> SubscriptionSpec:
        """One of the caller's own subscriptions. Raises NotFound."""
        spec = self.directory.get(identity)
        if spec is None or spec.topic is not topic or not principal.sees(spec):
            raise NotFound(f"there is no subscription {identity}")
        return spec

    def figures(self, spec: SubscriptionSpec) -> SubscriptionFigures:
        """What has become of a subscription so far. Raises NotFound."""
        subscription = self._topics.subscriptions.get(spec.id)
        if subscription is None:
            raise NotFound(f"there is no subscription {spec.id}")
        active_ms = self._liveness.last_active_ms(subscription)
        return SubscriptionFigures(
            spec=spec,
            last_activity_ms=self._liveness.wall_ms(active_ms),
            expires_ms=self._liveness.wall_ms(active_ms + spec.ttl_ms),
            backlog=subscription.backlog(self._routed_to(spec)),
            locked=subscription.locks.locked,
            delivered=subscription.delivered_total,
            dead_lettered=self._settling.dead_count(subscription),
            clients=subscription.receivers,
        )

    def _routed_to(self, spec: SubscriptionSpec) -> int:
        topic = self._topics.get(spec.key)
        return spec.start_seq if topic is None else topic.routed_to

    def list_own(
        self,
        principal: Principal,
        *,
        after: str | None,
        limit: int,
        topics: Collection[Topic] = SUBSCRIBABLE,
    ) -> tuple[list[SubscriptionSpec], str | None]:
        """The caller's subscriptions, oldest first, and where the next page begins.

        Raises Invalid when `after` is no mark of a page.
        """
        return self.directory.page(principal, after=after, limit=limit, topics=topics)

    async def delete(self, principal: Principal, topic: Topic, identity: str) -> None:
        """End one of the caller's own subscriptions. Raises NotFound or Unavailable."""
        spec = self.get(principal, topic, identity)
        subscription = self._topics.subscriptions.get(spec.id)
        if subscription is None:
            raise NotFound(f"there is no subscription {identity}")
        await self.end(subscription, cause="deleted")

    async def reap(self) -> int:
        """End every subscription that has been idle for its time; how many there were."""
        ended = 0
        for subscription in self.subscriptions():
            if not subscription.deleted and await self.end_if_idle(subscription):
                ended += 1
        return ended

    def redefine(self, spec: SubscriptionSpec) -> None:
        """A subscription's definition has changed, and is durable."""
        self.directory.put(spec)
        subscription = self._topics.subscriptions.get(spec.id)
        if subscription is not None:
            subscription.spec = spec

    def subscriptions(self) -> list[Subscription]:
        """All subscriptions there are, of all tenants; streams are not among them."""
        return [
            subscription
            for subscription in self._topics.subscriptions.values()
            if subscription.spec.topic in SUBSCRIBABLE
        ]

    def next_expiry_ms(self) -> int | None:
        """The earliest wall-clock time at which a subscription can have been idle for its time."""
        ends = [
            self._liveness.last_active_ms(subscription) + subscription.spec.ttl_ms
            for subscription in self.subscriptions()
        ]
        return self._liveness.wall_ms(min(ends)) if ends else None

    async def end_if_idle(self, subscription: Subscription) -> bool:
        """End a subscription if it has been idle for its time. Raises Unavailable."""
        if subscription.deleted:
            return True
        if self._liveness.idle_since_ms(subscription) < subscription.spec.ttl_ms:
            return False
        if not subscription.counted:
            # Whether it matched something shortly before the last stop is being found out.
            await sleep_until(self._clock, self._clock.ticks_ms() + COUNTING_MS)
            return False
        await self.end(subscription, cause="idle")
        return True

    async def end(self, subscription: Subscription, *, cause: str) -> None:
        """End a subscription, its progress and dead letters with it.

        Raises NotFound when it has ended already, Unavailable.
        """
        spec = subscription.spec
        if subscription.deleted:
            raise NotFound(f"there is no subscription {spec.id}")
        try:
            await self._store.delete(records.SUBSCRIPTIONS, [spec.id])
        except LogFailure as failure:
            raise Unavailable("the store cannot be written now; try again later") from failure
        if self._topics.subscriptions.get(spec.id) is not subscription:
            return  # somebody else ended it meanwhile
        self._unregister(subscription)
        self._committer.forget(spec.id)
        self._delivering.close_all(subscription)
        self._metrics.subscriptions_ended.labels(cause).inc()
        _log.info("subscription ended", extra={"subscription": spec.id, "cause": cause})

    def find(self, topic: Topic | None, identity: str | None) -> Subscription | None:
        """The live subscription behind an address, whoever's it is, or None.

        The feed of a stream is not to be found: it belongs to the edge that delivers it.
        """
        if topic not in SUBSCRIBABLE:
            return None
        subscription = self._topics.subscriptions.get(SubscriptionId(identity or ""))
        if subscription is None or subscription.spec.topic is not topic:
            return None
        return subscription

    def _build(self, spec: SubscriptionSpec, filter_: qel.Filter) -> Subscription:
        return Subscription(
            spec,
            filter_,
            locks=self._lock_table(False),
            ready_max=self._settings.ready_max,
            locks_max=self._settings.locks_max,
        )

    def _register(self, subscription: Subscription, topic: TopicLog) -> None:
        self._topics.add(subscription, topic)
        self.directory.put(subscription.spec)
        self._metrics.subscriptions.inc()

    def _unregister(self, subscription: Subscription) -> None:
        subscription.deleted = True
        self._topics.remove(subscription)
        self._settling.forget(subscription)
        self.directory.remove(subscription.spec.id)
        self._metrics.subscriptions.dec()


def compile_condition(condition: str | None, topic: Topic) -> qel.Filter | None:
    """The filter that a caller's rights add. Raises Invalid when it does not fit the topic."""
    if condition is None:
        return None
    try:
        return qel.compile_filter(condition, topic.value)
    except qel.QelError as error:
        detail = f"the condition of your token does not fit this topic: {error.errors[0].detail}"
        raise Invalid([Violation(detail)]) from error


def compile_filter(spec: SubscriptionSpec) -> qel.Filter:
    """The whole filter of a subscription: its own text AND its creator's condition, as trees."""
    own = qel.compile_filter(spec.filter, spec.topic.value)
    condition = compile_condition(spec.condition, spec.topic)
    return own if condition is None else qel.all_of([condition, own])
