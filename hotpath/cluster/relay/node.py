"""Both sides of the relay on one node, and the one face that edges see."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.asking import RelayAsking
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.control import RelayedControl
from hotpath.cluster.relay.management import RelayedCalls
from hotpath.cluster.relay.owner import RelayOwner
from hotpath.cluster.relay.remote import RemoteFeed, RemoteReceiver
from hotpath.clusterports import Bus
from hotpath.core.feed import Taken
from hotpath.core.locks import Accepted, Holding
from hotpath.core.subscription import Subscription
from hotpath.core.usual_plain import Submits, Twin
from hotpath.model.names import SubscriptionId
from hotpath.ports import Clock, LogFailure
from hotpath.service.commit import Committer
from hotpath.service.control import LocalControl
from hotpath.service.deliver import Delivering, Receiver
from hotpath.service.directory import Directory
from hotpath.service.feedcalls import LocalCalls
from hotpath.service.feeds import Attached, FeedServices, FeedView, Known, SubscriptionView, spec_of
from hotpath.service.settle import Feed, Settling

AnyReceiver = Receiver | RemoteReceiver

#: How long a node that stops waits until its links to others have been left, milliseconds.
LEAVE_MS: Final = 1_000


class Relay:
    """A node's end of the relay.

    Attributes:
        feeds: What the AMQP edge is given: all feeds of the cluster.
        control: What the REST edge is given: all subscriptions of the cluster.
        delivering: As `Delivering`, of all subscriptions.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        card: NodeCard,
        prefix: str,
        ownership: Ownership,
        find: Callable[[SubscriptionId], Subscription | None],
        directory: Directory,
        control: LocalControl,
        delivering: Delivering,
        feed_calls: LocalCalls,
    ) -> None:
        settling, committer = feed_calls.settling, feed_calls.committer
        self.calls = Calls(bus, clock, card, prefix=prefix)
        self.asking = RelayAsking(calls=self.calls, ownership=ownership, clock=clock)
        self.owner = RelayOwner(
            calls=self.calls,
            ownership=ownership,
            find=find,
            delivering=delivering,
            settling=settling,
            committer=committer,
            feed_calls=feed_calls,
            clock=clock,
        )
        self._find = find
        self.delivering = RelayedDelivering(delivering, self.asking)
        self.control = RelayedControl(
            asking=self.asking, owner=self.owner, local=control, served=self._served
        )
        self.feeds = FeedServices(
            self.delivering,
            RelayedSettling(settling),
            RelayedCommitter(committer, self.asking),
            RelayedCalls(self.asking, directory, self._served, feed_calls),
        )
        self.calls.answering = self.owner.answer
        self.calls.telling = self.asking.told

    def _served(self, identity: SubscriptionId) -> Subscription | None:
        """The live state of a subscription that this node serves now."""
        return self._find(identity) if self.asking.serves(identity) else None

    async def start(self) -> None:
        """Begin to answer and to ask. Raises LogFailure."""
        await self.calls.start()
        self.owner.start()
        self.asking.start()

    async def stop(self) -> None:
        """End all links."""
        await self.asking.drained(within_ms=LEAVE_MS)
        self.asking.stop()
        self.owner.stop()
        await self.calls.stop()


class RelayedDelivering:
    """`Delivering` for edges: receivers here, or on the node that serves the subscription.

    A `hotpath.service.feeds.Delivers`.
    """

    def __init__(self, delivering: Delivering, asking: RelayAsking) -> None:
        self._delivering = delivering
        self._asking = asking

    def attach(
        self,
        known: Known,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> AnyReceiver:
        """As `Delivering.attach`, of a subscription here or of one that is only known by its spec.

        What another node refuses comes by `closed`. Raises LimitReached, NotFound.
        """
        spec = spec_of(known)
        if isinstance(known, Subscription) and self._asking.serves(spec.id):
            return self._delivering.attach(known, dead=dead, lock=lock, wake=wake, closed=closed)
        return self._asking.attach(spec, dead=dead, lock=lock, wake=wake, closed=closed)

    def _pausing(self, receiver: Receiver) -> bool:
        """Whether nothing may be handed out now of a subscription that is here."""
        return not self._asking.serves(receiver.subscription.spec.id)

    def pull(self, receiver: Attached, limit: int) -> list[Taken]:
        """As `Delivering.pull`."""
        if isinstance(receiver, RemoteReceiver):
            return receiver.pull(limit)
        local = cast("Receiver", receiver)
        return [] if self._pausing(local) else self._delivering.pull(local, limit)

    def pull_run(self, receiver: Attached, limit: int, *, now_ms: int) -> Holding | None:
        """As `Delivering.pull_run`; never of another node."""
        if isinstance(receiver, RemoteReceiver):
            return None
        local = cast("Receiver", receiver)
        if self._pausing(local):
            return None
        return self._delivering.pull_run(local, limit, now_ms=now_ms)

    @property
    def tally(self) -> None:
        """As `Delivering.tally`: whether something may be handed out is asked each time."""
        return

    def count_pulled(self) -> None:
        """As `Delivering.count_pulled`."""
        self._delivering.count_pulled()

    def detach(self, receiver: Attached) -> None:
        """As `Delivering.detach`."""
        if isinstance(receiver, RemoteReceiver):
            receiver.detach()
        else:
            self._delivering.detach(cast("Receiver", receiver))


class RelayedCommitter:
    """Waits for what edges have handed in; a `hotpath.service.feeds.Confirms`."""

    def __init__(self, committer: Committer, asking: RelayAsking) -> None:
        self._committer = committer
        self._asking = asking

    def then(self, done: Callable[[LogFailure | None], None]) -> None:
        """As `Committer.then`: of what is settled here."""
        self._committer.then(done)

    async def settled(self) -> None:
        """Wait for what is settled here and elsewhere. Raises LogFailure."""
        await self._asking.settled()
        await self._committer.settled()


class RelayedSettling:
    """The outcomes of `Settling` for edges; a `hotpath.service.feeds.Settles`.

    What is said about a message of another node is taken as held; whether it was comes with the
    confirmation. What is accepted there goes by `RemoteReceiver.complete_runs`, and what a message
    is given by its `modify`.
    """

    def __init__(self, settling: Settling) -> None:
        self._settling = settling

    def complete_accepted(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
        accepted: Accepted,
        late: list[object],
    ) -> tuple[int, int]:
        """As `Settling.complete_accepted`, of a feed that is here."""
        return self._settling.complete_accepted(*_here(subscription, feed), accepted, late)

    def complete_all(self, ends: list[Submits], waiting: list[tuple[Twin, int]]) -> int:
        """As `Settling.complete_all`; those of feeds that are elsewhere submit by themselves."""
        return self._settling.complete_all(ends, waiting)

    def count_completed(self) -> None:
        """As `Settling.count_completed`."""
        self._settling.count_completed()

    def modify(
        self, feed: FeedView, held: Iterable[tuple[int, int]], properties: Mapping[str, object]
    ) -> None:
        """As `Settling.modify`, of a feed that is here. Raises LimitReached."""
        self._settling.modify(cast("Feed", feed), held, properties)

    def abandon(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
        seq: int,
        serial: int,
        *,
        failed: bool = True,
    ) -> bool:
        """As `Settling.abandon`."""
        if isinstance(feed, RemoteFeed):
            feed.link.abandon(seq, serial, failed=failed)
            return True
        return self._settling.abandon(*_here(subscription, feed), seq, serial, failed=failed)

    def defer(self, subscription: SubscriptionView, feed: FeedView, seq: int, serial: int) -> bool:
        """As `Settling.defer`."""
        if isinstance(feed, RemoteFeed):
            feed.link.defer(seq, serial)
            return True
        return self._settling.defer(*_here(subscription, feed), seq, serial)

    def dead_letter(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
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
            *_here(subscription, feed),
            held,
            reason=reason,
            description=description,
            properties=properties,
        )


def _here(subscription: SubscriptionView, feed: FeedView) -> tuple[Subscription, Feed]:
    """What an edge has got from the services here, and gives back."""
    return cast("Subscription", subscription), cast("Feed", feed)
