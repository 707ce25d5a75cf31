"""Both sides of the relay on one node, and the one face that edges see."""

from collections.abc import Callable, Iterable, Mapping

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.asking import RelayAsking
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.frames import Op, write_items
from hotpath.cluster.relay.management import RemoteFeedCalls
from hotpath.cluster.relay.messages import Refusals
from hotpath.cluster.relay.owner import RelayOwner
from hotpath.cluster.relay.remote import RemoteFeed, RemoteReceiver, RemoteSubscription
from hotpath.clusterports import Bus
from hotpath.core.feed import Taken
from hotpath.core.locks import Accepted, Holding
from hotpath.core.subscription import Subscription
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock, LogFailure
from hotpath.service.commit import Committer
from hotpath.service.deferred import Deferrals
from hotpath.service.deliver import Delivering, Receiver
from hotpath.service.peek import Peeking
from hotpath.service.settle import Feed, Settling

AnyReceiver = Receiver | RemoteReceiver
AnyFeed = Feed | RemoteFeed
AnySubscription = Subscription | RemoteSubscription
Confirmed = Callable[[LogFailure | None, Refusals], None]


class Relay:
    """A node's end of the relay."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        card: NodeCard,
        prefix: str,
        ownership: Ownership,
        find: Callable[[SubscriptionId], Subscription | None],
        delivering: Delivering,
        settling: Settling,
        committer: Committer,
        deferrals: Deferrals,
        peeking: Peeking,
    ) -> None:
        self.calls = Calls(bus, clock, card, prefix=prefix)
        self.asking = RelayAsking(calls=self.calls, ownership=ownership, clock=clock)
        self.owner = RelayOwner(
            calls=self.calls,
            ownership=ownership,
            find=find,
            delivering=delivering,
            settling=settling,
            committer=committer,
            deferrals=deferrals,
            peeking=peeking,
            clock=clock,
        )
        self.delivering = RelayedDelivering(delivering, committer, self.asking, ownership)
        self.settling = RelayedSettling(settling)
        self.calls.answering = self.owner.answer
        self.calls.telling = self.asking.told

    async def start(self) -> None:
        """Begin to answer and to ask. Raises LogFailure."""
        await self.calls.start()
        self.owner.start()
        self.asking.start()

    async def stop(self) -> None:
        """End all links."""
        self.asking.stop()
        self.owner.stop()
        await self.calls.stop()

    async def ask(self, spec: SubscriptionSpec, name: str, question: bytes) -> bytes:
        """Ask whoever serves a subscription something by name; see `RelayOwner.asked`.

        Raises HotpathError.
        """
        body = write_items(name, spec.id, question)
        return await self.asking.ask_owner(spec, Op.ASK, body)

    def feed(self, spec: SubscriptionSpec, *, dead: bool) -> RemoteFeedCalls:
        """What management asks of a feed that another node serves."""
        return RemoteFeedCalls(self.asking, spec, dead=dead)


class RelayedDelivering:
    """`Delivering` for edges: receivers here, or on the node that serves the subscription."""

    def __init__(
        self,
        delivering: Delivering,
        committer: Committer,
        asking: RelayAsking,
        ownership: Ownership,
    ) -> None:
        self._delivering = delivering
        self._committer = committer
        self._asking = asking
        self._ownership = ownership

    def attach(
        self,
        subscription: Subscription | SubscriptionSpec,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> AnyReceiver:
        """As `Delivering.attach`, of a subscription here or of one that is only known by its spec.

        What another node refuses comes by `closed`. Raises LimitReached, NotFound.
        """
        if isinstance(subscription, Subscription) and self._serves(subscription):
            return self._delivering.attach(
                subscription, dead=dead, lock=lock, wake=wake, closed=closed
            )
        spec = subscription.spec if isinstance(subscription, Subscription) else subscription
        return self._asking.attach(spec, dead=dead, lock=lock, wake=wake, closed=closed)

    def _serves(self, subscription: Subscription) -> bool:
        return self._ownership.serves(self._asking.shard_of(subscription.spec))

    def pull(self, receiver: AnyReceiver, limit: int) -> list[Taken]:
        """As `Delivering.pull`."""
        if isinstance(receiver, RemoteReceiver):
            return receiver.pull(limit)
        if not self._serves(receiver.subscription):
            return []
        return self._delivering.pull(receiver, limit)

    def pull_run(self, receiver: AnyReceiver, limit: int, *, now_ms: int) -> Holding | None:
        """As `Delivering.pull_run`; never of another node."""
        if isinstance(receiver, RemoteReceiver):
            return None
        if not self._serves(receiver.subscription):
            return None
        return self._delivering.pull_run(receiver, limit, now_ms=now_ms)

    def count_pulled(self) -> None:
        """As `Delivering.count_pulled`."""
        self._delivering.count_pulled()

    def detach(self, receiver: AnyReceiver) -> None:
        """As `Delivering.detach`."""
        if isinstance(receiver, RemoteReceiver):
            receiver.detach()
        else:
            self._delivering.detach(receiver)

    def then(self, receiver: AnyReceiver, done: Confirmed) -> None:
        """Call back when all outcomes that a receiver has given are durable.

        With what was refused of them, by number. When that cannot be known, the receiver's link
        ends instead, and nothing is called.
        """
        if isinstance(receiver, RemoteReceiver):
            receiver.then(lambda refused: done(None, refused))
        else:
            self._committer.then(lambda failure: done(failure, {}))


class RelayedSettling:
    """The outcomes of `Settling` for edges.

    What is said about a message of another node is taken as held; whether it was comes with the
    confirmation.
    """

    def __init__(self, settling: Settling) -> None:
        self._settling = settling

    def complete_runs(
        self, subscription: AnySubscription, feed: AnyFeed, runs: Iterable[tuple[int, list[int]]]
    ) -> list[int]:
        """As `Settling.complete_runs`."""
        if isinstance(feed, RemoteFeed):
            feed.link.complete_runs(runs)
            return []
        return self._settling.complete_runs(_here(subscription), feed, runs)

    def complete_accepted(
        self,
        subscription: AnySubscription,
        feed: AnyFeed,
        accepted: Accepted,
        late: list[object],
    ) -> tuple[int, int]:
        """As `Settling.complete_accepted`."""
        if isinstance(feed, RemoteFeed):
            return feed.link.complete_accepted(accepted, late)
        return self._settling.complete_accepted(_here(subscription), feed, accepted, late)

    def count_completed(self) -> None:
        """As `Settling.count_completed`."""
        self._settling.count_completed()

    def modify(
        self, feed: AnyFeed, held: Iterable[tuple[int, int]], properties: Mapping[str, object]
    ) -> None:
        """As `Settling.modify`. Raises LimitReached."""
        if isinstance(feed, RemoteFeed):
            feed.link.modify(held, properties)
        else:
            self._settling.modify(feed, held, properties)

    def abandon(
        self,
        subscription: AnySubscription,
        feed: AnyFeed,
        seq: int,
        serial: int,
        *,
        failed: bool = True,
    ) -> bool:
        """As `Settling.abandon`."""
        if isinstance(feed, RemoteFeed):
            feed.link.abandon(seq, serial, failed=failed)
            return True
        return self._settling.abandon(_here(subscription), feed, seq, serial, failed=failed)

    def defer(self, subscription: AnySubscription, feed: AnyFeed, seq: int, serial: int) -> bool:
        """As `Settling.defer`."""
        if isinstance(feed, RemoteFeed):
            feed.link.defer(seq, serial)
            return True
        return self._settling.defer(_here(subscription), feed, seq, serial)

    def dead_letter(
        self,
        subscription: AnySubscription,
        feed: AnyFeed,
        held: tuple[int, int],
        *,
        reason: str,
        description: str = "",
        properties: dict[str, object] | None = None,
    ) -> bool:
        """As `Settling.dead_letter`. Raises LimitReached."""
        if isinstance(feed, RemoteFeed):
            feed.link.dead_letter(
                held, reason=reason, description=description, properties=properties
            )
            return True
        return self._settling.dead_letter(
            _here(subscription),
            feed,
            held,
            reason=reason,
            description=description,
            properties=properties,
        )


def _here(subscription: AnySubscription) -> Subscription:
    """A subscription whose feed is here is here, too."""
    if isinstance(subscription, RemoteSubscription):
        raise TypeError("the feed is here, and its subscription is not")
    return subscription
