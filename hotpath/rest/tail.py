"""Messages of a subscription, for looking at: nothing is locked, settled or counted by it."""

from aiohttp import web

from hotpath.rest.calls import Call, answer
from hotpath.rest.look import read_query
from hotpath.rest.look_models import FeedPage, TailQuery
from hotpath.rest.shown import show_in_feed


async def list_feed(call: Call) -> web.Response:
    """`GET /subscriptions/{type}/{subscriptionId}/messages`."""
    topic = call.known_topic()
    spec = call.services.admin.get(call.principal, topic, call.request.match_info["subscriptionId"])
    call.audit["subscription"] = spec.id
    query = read_query(call, TailQuery)
    control = call.services.control
    if query.show == "matched":
        look = await control.matched(spec, limit=query.limit, after=query.after)
    else:
        dead = query.show == "deadLettered"
        look = await control.unsettled(spec, limit=query.limit, after=query.after or 0, dead=dead)
    shown = [show_in_feed(*each) for each in look.messages]
    return answer(FeedPage(data=shown, next=look.upto, more=look.more))
