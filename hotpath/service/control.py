"""Calls about a subscription that need its live state, as the REST edge asks them.

Who may ask is checked before: every node has the definitions. Here the answers are those of the
subscriptions that this service serves; in a cluster the same calls lead to whoever serves them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hotpath.core.subscription import Subscription
from hotpath.model.errors import NotFound
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.admin import Administration, SubscriptionFigures, compile_condition
from hotpath.service.look import FOUND_BYTES, Looking, Seen, matching
from hotpath.service.peek import Peeking
from hotpath.service.why import Account, Fate, Whys


class InFeed(NamedTuple):
    """A message of a subscription."""

    seen: Seen
    fate: Fate
    delivery_count: int


class FeedLook(NamedTuple):
    """What a look at a subscription has found."""

    messages: list[InFeed]
    upto: int
    """Where the next look goes on."""
    more: bool
    """There is more to look at already."""


class SubscriptionControl(Protocol):
    """What is asked about live subscriptions."""

    async def figures(self, specs: Sequence[SubscriptionSpec]) -> list[SubscriptionFigures]:
        """What has become of subscriptions so far; of those that are gone meanwhile nothing.

        Raises Unavailable.
        """
        ...

    async def account(self, spec: SubscriptionSpec, seq: int, *, condition: str | None) -> Account:
        """What became of a message; `condition` (QEL) bounds what the asker may see.

        Raises NotFound, Invalid, Unavailable.
        """
        ...

    async def matched(self, spec: SubscriptionSpec, *, limit: int, after: int | None) -> FeedLook:
        """What the log holds of it: the last messages, or those after a number.

        Raises NotFound, Unavailable.
        """
        ...

    async def unsettled(
        self, spec: SubscriptionSpec, *, limit: int, after: int, dead: bool
    ) -> FeedLook:
        """What is not settled, or the dead letters, after a number. Raises NotFound, Unavailable."""
        ...


class LocalControl:
    """Answers about the subscriptions that are served here."""

    def __init__(
        self, *, admin: Administration, whys: Whys, looking: Looking, peeking: Peeking
    ) -> None:
        self._admin = admin
        self._whys = whys
        self._looking = looking
        self._peeking = peeking

    def _live(self, spec: SubscriptionSpec) -> Subscription:
        """Raises NotFound."""
        subscription = self._admin.find(spec.topic, spec.id)
        if subscription is None:
            raise NotFound(f"there is no subscription {spec.id}")
        return subscription

    async def figures(self, specs: Sequence[SubscriptionSpec]) -> list[SubscriptionFigures]:
        """What has become of subscriptions so far."""
        return [
            self._admin.figures(spec) for spec in specs if self._admin.find(spec.topic, spec.id)
        ]

    async def account(self, spec: SubscriptionSpec, seq: int, *, condition: str | None) -> Account:
        """What became of a message. Raises NotFound, Invalid, Unavailable."""
        compiled = compile_condition(condition, spec.topic)
        return await self._whys.ask(self._live(spec), seq, condition=compiled)

    async def matched(self, spec: SubscriptionSpec, *, limit: int, after: int | None) -> FeedLook:
        """What the log holds of it. Raises NotFound, Unavailable."""
        subscription, looking = self._live(spec), self._looking
        passes = matching(subscription)
        if after is None:
            look = await looking.latest(
                spec.key, limit, passes=passes, from_seq=spec.start_seq, routed=True
            )
        else:
            after = max(after, spec.start_seq - 1)
            look = await looking.following(spec.key, limit, passes=passes, after=after)
        messages = self._place(subscription, look.messages)
        _, end = await looking.bounds(spec.key)
        return FeedLook(messages, look.upto, look.upto < end - 1)

    async def unsettled(
        self, spec: SubscriptionSpec, *, limit: int, after: int, dead: bool
    ) -> FeedLook:
        """What is not settled, or the dead letters. Raises NotFound, Unavailable."""
        subscription, peek = self._live(spec), self._peeking.peek
        found = await peek(subscription, after + 1, count=limit, bytes_max=FOUND_BYTES, dead=dead)
        upto = found[-1].seq if found else after
        more = found and await peek(subscription, upto + 1, count=1, bytes_max=0, dead=dead)
        kept = [Seen(peeked.seq, peeked.enqueued_ms, peeked.stored) for peeked in found]
        return FeedLook(self._place(subscription, kept, dead=dead), upto, bool(more))

    def _place(
        self, subscription: Subscription, kept: list[Seen], *, dead: bool = False
    ) -> list[InFeed]:
        """Messages with where they are."""
        fates = [Fate.DEAD_LETTERED] * len(kept)
        if not dead:
            fates = self._whys.fates(subscription, kept)
        counts = subscription.locks.counts
        return [
            InFeed(seen, fate, counts.get(seen.seq, 0))
            for seen, fate in zip(kept, fates, strict=True)
        ]
