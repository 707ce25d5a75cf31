"""Messages of a subscription, for looking at: nothing is locked, settled or counted by it."""

from aiohttp import web

from hotpath.core.subscription import Subscription
from hotpath.model.errors import NotFound
from hotpath.rest.calls import Call, answer
from hotpath.rest.look import read_query
from hotpath.rest.look_models import FeedMessage, FeedPage, TailQuery
from hotpath.rest.shown import show_in_feed
from hotpath.service.look import FOUND_BYTES, Seen, matching
from hotpath.service.why import Fate


async def list_feed(call: Call) -> web.Response:
    """`GET /subscriptions/{type}/{subscriptionId}/messages`."""
    topic = call.known_topic()
    spec = call.services.admin.get(call.principal, topic, call.request.match_info["subscriptionId"])
    call.audit["subscription"] = spec.id
    query = read_query(call, TailQuery)
    subscription = call.services.admin.find(topic, spec.id)
    if subscription is None:
        raise NotFound(f"there is no subscription {spec.id}")
    if query.show == "matched":
        return answer(await _matched(call, subscription, query))
    return answer(await _peeked(call, subscription, query))


async def _matched(call: Call, subscription: Subscription, query: TailQuery) -> FeedPage:
    """What the log holds of it: the last messages, or those after a number."""
    services, spec = call.services, subscription.spec
    passes = matching(subscription)
    if query.after is None:
        look = await services.looking.latest(
            spec.key, query.limit, passes=passes, from_seq=spec.start_seq
        )
    else:
        after = max(query.after, spec.start_seq - 1)
        look = await services.looking.following(spec.key, query.limit, passes=passes, after=after)
    fates = services.whys.fates(subscription, look.messages)
    _, end = await services.looking.bounds(spec.key)
    shown = [
        _show(subscription, seen, fate) for seen, fate in zip(look.messages, fates, strict=True)
    ]
    return FeedPage(data=shown, next=look.upto, more=look.upto < end - 1)


async def _peeked(call: Call, subscription: Subscription, query: TailQuery) -> FeedPage:
    """What is not settled, or the dead letters, from a number on."""
    dead = query.show == "deadLettered"
    after = query.after or 0
    peek = call.services.peeking.peek
    found = await peek(subscription, after + 1, count=query.limit, bytes_max=FOUND_BYTES, dead=dead)
    upto = found[-1].seq if found else after
    more = found and await peek(subscription, upto + 1, count=1, bytes_max=0, dead=dead)
    kept = [Seen(peeked.seq, peeked.enqueued_ms, peeked.stored) for peeked in found]
    fates = [Fate.DEAD_LETTERED] * len(kept)
    if not dead:
        fates = call.services.whys.fates(subscription, kept)
    shown = [_show(subscription, seen, fate) for seen, fate in zip(kept, fates, strict=True)]
    return FeedPage(data=shown, next=upto, more=bool(more))


def _show(subscription: Subscription, seen: Seen, fate: Fate) -> FeedMessage:
    return show_in_feed(seen, fate, subscription.locks.counts.get(seen.seq, 0))
