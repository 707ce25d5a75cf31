"""How many logged messages does a subscription match?

After a restart a checkpoint tells the figure up to some sequence number; what came after it is
matched once more, all subscriptions together. The same for a new subscription that starts in the
past. A batch at a turn of the loop, while the service is already at work.
"""

import asyncio
from typing import Final

from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.ports import LogFailure
from hotpath.service.liveness import Liveness
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import get_logger

READ_BYTES: Final = 4_194_304
RETRY_S: Final = 5.0

_log = get_logger("hotpath.recount")


async def recount(topics: Topics, liveness: Liveness) -> None:
    """Complete the figures of all subscriptions after a restart; ends when that is done."""
    for topic in list(topics):
        open_ones = {s for s in topic.subscriptions.values() if not s.counted}
        if open_ones:
            await _recount(topics, topic, open_ones, liveness=liveness)


async def recount_one(topics: Topics, subscription: Subscription) -> None:
    """Complete the figures of one subscription that starts in the past."""
    topic = topics.get(subscription.spec.key)
    if topic is not None and not subscription.counted:
        await _recount(topics, topic, {subscription}, liveness=None)


async def _recount(
    topics: Topics, topic: TopicLog, open_ones: set[Subscription], *, liveness: Liveness | None
) -> None:
    at = min(subscription.counted_to for subscription in open_ones)
    end = max(subscription.count_end for subscription in open_ones)
    while at < end:
        try:
            batches = await topics.log.read(topic.key, at, bytes_max=READ_BYTES)
        except LogFailure as failure:
            _log.error("read failed", extra={"reason": failure.detail})
            await asyncio.sleep(RETRY_S)
            continue
        batches = [batch for batch in batches if batch.first_seq < end]
        if not batches:
            break
        for batch in batches:
            if all(subscription.deleted for subscription in open_ones):
                return
            _count(topic, batch, open_ones, liveness)
            at = batch.end_seq
            await asyncio.sleep(0)
    for subscription in open_ones:
        subscription.counted = True


def _count(
    topic: TopicLog, batch: Batch, open_ones: set[Subscription], liveness: Liveness | None
) -> None:
    if len(open_ones) == 1:
        (only,) = open_ones
        hits = {only: topic.router.matching(only, batch)}
    else:
        routed = topic.router.route(batch)
        hits = {s: seqs for s, seqs in routed.items() if s in open_ones}
    for subscription, seqs in hits.items():
        matched = sum(subscription.counted_to <= seq < subscription.count_end for seq in seqs)
        if not subscription.counted:
            subscription.matched_total += matched
        if matched and liveness is not None:
            # It matched after the last checkpoint, so it was active until shortly before the stop.
            liveness.resume_active(subscription)
