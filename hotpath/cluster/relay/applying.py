"""Outcomes that came from another node, applied like those of this node's own receivers."""

from collections.abc import Iterable

from hotpath.cluster.relay.messages import Outcome, Refusals
from hotpath.core.subscription import Subscription
from hotpath.model.errors import LimitReached, LockLost
from hotpath.service.feeds import What
from hotpath.service.settle import Feed, Settling

_LOST = "the lock has ended, or the message is settled already"


def apply(
    settling: Settling, subscription: Subscription, feed: Feed, outcomes: Iterable[Outcome]
) -> Refusals:
    """Apply outcomes in their order; those that were refused."""
    refused: Refusals = {}
    for outcome in outcomes:
        if outcome.what is What.COMPLETE:
            runs = [(outcome.serial, list(outcome.seqs))]
            lost = settling.complete_runs(subscription, feed, runs)
            refused.update(((seq, outcome.serial), LockLost(_LOST)) for seq in lost)
            continue
        for seq in outcome.seqs:
            try:
                kept = _apply_one(settling, subscription, feed, outcome=outcome, seq=seq)
            except LimitReached as error:
                refused[seq, outcome.serial] = error
            else:
                if not kept:
                    refused[seq, outcome.serial] = LockLost(_LOST)
    return refused


def _apply_one(
    settling: Settling, subscription: Subscription, feed: Feed, *, outcome: Outcome, seq: int
) -> bool:
    """Apply an outcome to one message; False when its lock was lost. Raises LimitReached."""
    held = (seq, outcome.serial)
    properties = outcome.properties or {}
    if outcome.what is What.DEAD_LETTER:
        return settling.dead_letter(
            subscription,
            feed,
            held,
            reason=outcome.reason,
            description=outcome.description,
            properties=properties,
        )
    try:
        settling.modify(feed, (held,), properties)
    except LimitReached:
        if not outcome.optional:
            raise
    if outcome.what is What.DEFER:
        return settling.defer(subscription, feed, *held)
    return settling.abandon(subscription, feed, *held, failed=outcome.failed)
