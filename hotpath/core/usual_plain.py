"""As `hotpath.core.usual`, in Python: for subscriptions of any kind, one after the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import ProgressDelta

#: What knows the receivers that wait for an answer.
Twin = TypeVar("Twin")
#: What was read of a message.
Pulled = TypeVar("Pulled")


def route_all(
    pulled: list[Pulled], first_seq: int, match: Callable[[Pulled], Iterable[Subscription]]
) -> dict[Subscription, list[int]]:
    """Which subscriptions get which messages of a batch.

    Args:
        pulled: Of each message, what filters ask for.
        first_seq: The number of the first.
        match: Who gets a message.
    """
    hits: dict[Subscription, list[int]] = {}
    for seq, found in enumerate(pulled, first_seq):
        for subscription in match(found):
            seqs = hits.get(subscription)
            if seqs is None:
                hits[subscription] = [seq]
            else:
                seqs.append(seq)
    return hits


def offer_all(  # as its twin in C
    hits: Mapping[Subscription, Sequence[int]],
    batch: Batch,
    behind: set[Subscription],
    active_ms: int,
    mark_ms: int,
    touch: Callable[[Subscription], object],
    wake: Callable[[Subscription], object],
) -> None:
    """Queue what each has matched in a batch, note that it is active, then wake its receivers.

    Args:
        hits: Subscriptions with the numbers of messages.
        batch: Where these are.
        behind: Those that are behind are added.
        active_ms: Service time now.
        mark_ms: When the activity that is durable is so old, `touch` renews it.
        touch: Notes activity and makes it durable.
        wake: Lets receivers come.
    """
    for subscription, seqs in hits.items():
        subscription.offer(batch, seqs)
        if subscription.behind_at is not None:
            behind.add(subscription)
        if active_ms - subscription.persisted_active_ms < mark_ms:
            subscription.active_ms = active_ms
        else:
            touch(subscription)
    for subscription in hits:
        if subscription.receivers:
            wake(subscription)


class Submits(Protocol):
    """A link end that has gathered something."""

    def submit(self) -> None:
        """Settle it, or hand it on."""
        ...


def complete_all(
    ends: list[Submits],
    waiting: list[tuple[Twin, int]],  # noqa: ARG001  # as its twin in C
    touched: dict[Subscription, None],  # noqa: ARG001
) -> int:
    """Let link ends settle what they have gathered; how many messages are left to be counted."""
    for end in ends:
        end.submit()
    return 0


def collect_all(
    touched: Mapping[Subscription, None],
    routed_to: Callable[[Subscription], int],
    progress: list[tuple[SubscriptionId, ProgressDelta]],
) -> list[Subscription]:
    """Add what has changed of subscriptions; those are returned of which the caller has to do it.

    Args:
        touched: The subscriptions.
        routed_to: Where the topic of one stands.
        progress: Where it is added.
    """
    key, stands = None, 0
    for subscription in touched:
        if subscription.deleted:
            continue
        if subscription.key is not key:
            # Most are of one topic, and share its key.
            key, stands = subscription.key, routed_to(subscription)
        delta = subscription.collect_delta(
            routed_to=stands, active_ms=subscription.persisted_active_ms
        )
        progress.append((subscription.spec.id, delta))
    return []
