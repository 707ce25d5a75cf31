"""What may be asked of a feed that is served here, besides receiving from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hotpath.core.subscription import Subscription
from hotpath.model.errors import LockLost, NotFound
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.commit import Committer
from hotpath.service.deferred import Deferrals, Received
from hotpath.service.feeds import Disposition, Known, What
from hotpath.service.peek import Peeked, Peeking
from hotpath.service.settle import Feed, Settling


@dataclass(frozen=True, slots=True)
class LocalCalls:
    """Makes the calls of feeds; a `hotpath.service.feeds.CallsOf`."""

    settling: Settling
    committer: Committer
    deferrals: Deferrals
    peeking: Peeking

    def __call__(self, known: Known, *, dead: bool) -> "LocalFeedCalls":
        """The calls of a feed. Raises NotFound when it is not served here."""
        if not isinstance(known, Subscription):
            raise NotFound(f"there is no subscription {known.id}")
        return LocalFeedCalls(self, known, dead=dead)


class LocalFeedCalls:
    """See `hotpath.service.feeds.FeedCalls`."""

    __slots__ = ("_dead", "_services", "subscription")

    def __init__(self, services: LocalCalls, subscription: Subscription, *, dead: bool) -> None:
        self.subscription = subscription
        self._services = services
        self._dead = dead

    def spec(self) -> SubscriptionSpec:
        """The definition. Raises NotFound."""
        if self.subscription.deleted:
            raise NotFound("the subscription was deleted")
        return self.subscription.spec

    def _feed(self) -> Feed:
        """Where messages are locked. Raises NotFound."""
        self.spec()
        if self._dead:
            return self._services.settling.dead_letters(self.subscription)
        return self.subscription

    def _held(self, held: Sequence[tuple[int, int]]) -> Feed:
        """The feed in which all these locks are held. Raises LockLost, NotFound."""
        feed = self._feed()
        if any(feed.locks.held(seq, serial) is None for seq, serial in held):
            raise LockLost("the lock has ended, or the message is settled already")
        return feed

    async def renew(self, held: Sequence[tuple[int, int]]) -> list[int]:
        """Extend locks, all or none; their new ends. Raises LockLost, NotFound."""
        feed, settling = self._held(held), self._services.settling
        ends = [settling.renew(feed, seq, serial) for seq, serial in held]
        return [end for end in ends if end is not None]

    async def peek(self, from_seq: int, *, count: int, bytes_max: int) -> list[Peeked]:
        """Messages from a number on. Raises NotFound, Unavailable."""
        self._feed()
        return await self._services.peeking.peek(
            self.subscription, from_seq, count=count, bytes_max=bytes_max, dead=self._dead
        )

    async def receive(self, seqs: Sequence[int], *, lock: bool) -> list[Received]:
        """Deferred messages; among dead letters none is: there they go back.

        Raises NotFound, Unavailable.
        """
        self._feed()
        if self._dead:
            raise NotFound("nothing is deferred among dead letters")
        return await self._services.deferrals.receive(
            self.subscription, seqs, lock=lock, receiver=self
        )

    async def settle(self, disposition: Disposition) -> None:
        """Give messages an outcome. Raises LockLost, LimitReached, NotFound, LogFailure."""
        self.apply(disposition)
        await self._services.committer.settled()

    def apply(self, disposition: Disposition) -> None:
        """As `settle`, but it is not durable yet. Raises LockLost, LimitReached, NotFound."""
        what, held = disposition.what, disposition.held
        feed, subscription = self._held(held), self.subscription
        settling = self._services.settling
        if what is What.COMPLETE:
            settling.complete(subscription, feed, held)
            return
        if what is not What.DEAD_LETTER:
            settling.modify(feed, held, disposition.properties)
        for seq, serial in held:
            if what is What.ABANDON:
                settling.abandon(subscription, feed, seq, serial)
            elif what is What.DEFER:
                settling.defer(subscription, feed, seq, serial)
            else:
                settling.dead_letter(
                    subscription,
                    feed,
                    (seq, serial),
                    reason=disposition.reason,
                    description=disposition.description,
                    properties=disposition.properties,
                )

    def close(self) -> None:
        """Give locks back."""
        self._services.deferrals.drop(self.subscription, self)
