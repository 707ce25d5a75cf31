"""Which subscriptions of one topic get which messages."""

from collections.abc import Sequence
from typing import Final

from hotpath.core.keeping import BLOCKS_A_FILTER, KEEPING
from hotpath.core.subscription import Subscription
from hotpath.core.usual import route_all
from hotpath.model.message import Batch
from hotpath.wire.properties import Puller
from qel import FilterIndex

#: Up to so many filters it is quicker to ask each of them than the index.
SCAN_MAX: Final = 8


class Router:
    """The filters of one tenant's topic, and the matching of batches against all of them."""

    __slots__ = ("_index", "_pulled_paths", "_puller", "_subscriptions")

    def __init__(self) -> None:
        self._index: FilterIndex[Subscription] = FilterIndex()
        self._subscriptions: dict[Subscription, None] = {}
        self._puller = Puller(frozenset())
        self._pulled_paths: frozenset[tuple[str, ...]] = frozenset()

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Let `subscription` take part from the next batch on."""
        if subscription not in self._subscriptions:
            KEEPING.add_known(BLOCKS_A_FILTER)
        self._index.add(subscription, subscription.filter)
        self._subscriptions[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Take `subscription` out; one that is not there is passed over."""
        if subscription in self._subscriptions:
            del self._subscriptions[subscription]
            self._index.remove(subscription)
            KEEPING.add_known(-BLOCKS_A_FILTER)

    def route(self, batch: Batch) -> dict[Subscription, list[int]]:
        """The subscriptions that match messages of `batch`, each with their sequence numbers."""
        if batch.payloads is None or not self._subscriptions:
            return {}
        if len(self._subscriptions) <= SCAN_MAX:
            return self._ask_each(batch, batch.payloads)
        pulled = self._current_puller().pull_all(batch.payloads)
        return route_all(pulled, batch.first_seq, self._index.match)

    def _ask_each(self, batch: Batch, payloads: Sequence[bytes]) -> dict[Subscription, list[int]]:
        """As `route`, one filter after the other."""
        hits: dict[Subscription, list[int]] = {}
        pulled = self._current_puller().pull_all(payloads)
        for subscription in self._subscriptions:
            matches = subscription.filter.matches
            seqs = [seq for seq, found in enumerate(pulled, batch.first_seq) if matches(found)]
            if seqs:
                hits[subscription] = seqs
        return hits

    def matching(self, subscription: Subscription, batch: Batch) -> Sequence[int]:
        """As `matching` below, for one subscription of this topic."""
        return matching(subscription, batch, Puller(subscription.filter.properties))

    def _current_puller(self) -> Puller:
        """A puller for exactly the properties that some filter names."""
        paths = self._index.properties
        if paths != self._pulled_paths:
            self._pulled_paths = frozenset(paths)
            self._puller = Puller(self._pulled_paths)
        return self._puller


def matching(subscription: Subscription, batch: Batch, puller: Puller) -> Sequence[int]:
    """Sequence numbers of the messages of `batch` that one subscription's filter lets through."""
    if batch.payloads is None:
        return ()
    matches, pulled = subscription.filter.matches, puller.pull_all(batch.payloads)
    return [seq for seq, found in enumerate(pulled, batch.first_seq) if matches(found)]
