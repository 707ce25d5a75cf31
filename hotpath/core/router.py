"""Which subscriptions of one topic get which messages."""

from collections.abc import Sequence

from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.wire.properties import Puller
from qel import FilterIndex


class Router:
    """The filters of one tenant's topic, and the matching of batches against all of them."""

    __slots__ = ("_index", "_pulled_paths", "_puller")

    def __init__(self) -> None:
        self._index: FilterIndex[Subscription] = FilterIndex()
        self._puller = Puller(frozenset())
        self._pulled_paths: frozenset[tuple[str, ...]] = frozenset()

    def __len__(self) -> int:
        return len(self._index)

    def add(self, subscription: Subscription) -> None:
        """Let `subscription` take part from the next batch on."""
        self._index.add(subscription, subscription.filter)

    def remove(self, subscription: Subscription) -> None:
        """Take `subscription` out; one that is not there is passed over."""
        if subscription in self._index:
            self._index.remove(subscription)

    def route(self, batch: Batch) -> dict[Subscription, list[int]]:
        """The subscriptions that match messages of `batch`, each with their sequence numbers."""
        hits: dict[Subscription, list[int]] = {}
        if batch.payloads is None or not len(self._index):
            return hits
        pull, match = self._current_puller().pull, self._index.match
        for seq, payload in enumerate(batch.payloads, batch.first_seq):
            for subscription in match(pull(payload)):
                seqs = hits.get(subscription)
                if seqs is None:
                    hits[subscription] = [seq]
                else:
                    seqs.append(seq)
        return hits

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
    matches, pull = subscription.filter.matches, puller.pull
    return [
        seq for seq, payload in enumerate(batch.payloads, batch.first_seq) if matches(pull(payload))
    ]
