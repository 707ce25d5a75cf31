"""From an attach to our end of the link: first the right, then the entity, then what is wanted."""

from typing import Final

from hotpath.amqp import capi, terminus
from hotpath.amqp.conditions import (
    LIMIT_EXCEEDED,
    NOT_ALLOWED,
    UNAUTHORIZED,
    Condition,
    Refused,
    condition_of,
)
from hotpath.amqp.context import Host
from hotpath.amqp.egress import Egress
from hotpath.amqp.engine import LinkEnd
from hotpath.amqp.ingress import Ingress
from hotpath.amqp.management import open_management
from hotpath.amqp.node import ReplyLink, RequestLink
from hotpath.amqp.point_ingress import PointIngress
from hotpath.amqp.rights import LinkRight
from hotpath.amqp.terminus import Attach
from hotpath.auth.rights import Grant, action_for
from hotpath.model.errors import HotpathError
from hotpath.model.names import Address, AddressKind, SubscriptionId, Topic
from hotpath.service.feeds import spec_of

#: Refused links a peer may leave half open before its connection is closed.
HALF_OPEN_MAX: Final = 1_024


def open_link(host: Host, link: capi.LinkPtr) -> bool:
    """Accept a peer's attach, or refuse it with the reason; whether it was accepted."""
    wanted: Attach | None = None
    try:
        wanted = terminus.read_attach(link)
        end = _open(host, link, wanted)
    except (Refused, HotpathError) as error:
        condition = error.condition if isinstance(error, Refused) else condition_of(error)
        host.audit("attach", reason=f"{condition.name}: {condition.description}", link=wanted)
        terminus.refuse(link)
        host.engine.close_link(link, condition)
        return False
    twin = end.twin if isinstance(end, Ingress | Egress) else None
    host.engine.attach(link, end, twin)
    return True


def _open(host: Host, link: capi.LinkPtr, wanted: Attach) -> LinkEnd:
    """Our end of a link. Raises Refused, HotpathError."""
    limit = host.context.settings.max_links_per_connection
    if len(host.engine.links) >= limit:
        text = f"a connection has {limit} links at most"
        raise Refused(Condition(LIMIT_EXCEEDED, text, {"links": limit}))
    terminus.check_node(wanted)
    address = Address.parse(wanted.address or "")
    if address.kind is AddressKind.CBS:
        return _open_cbs(host, link, wanted)
    right, grant = _claim(host, address, sending=wanted.incoming)
    if address.management:
        end: Ingress | Egress | ReplyLink | RequestLink = open_management(
            host, link, wanted, right=right, grant=grant
        )
    elif wanted.incoming:
        end = _open_ingress(host, link, right=right, grant=grant)
    else:
        end = _open_egress(host, link, wanted, right=right, grant=grant)
    right.end = end
    host.watch(right)
    host.audit("attach", grant=grant, link=wanted)
    return end


def _open_cbs(host: Host, link: capi.LinkPtr, wanted: Attach) -> LinkEnd:
    terminus.accept(link, message_bytes_max=host.context.settings.max_message_bytes)
    if wanted.incoming:
        return RequestLink(link, host.cbs.node)
    return ReplyLink(link, wanted, host.cbs.node)


def _claim(host: Host, address: Address, *, sending: bool) -> tuple[LinkRight, Grant]:
    """The right to an address. Raises Refused, whether or not the entity exists."""
    # Replies of a topic's management node belong to who sends there, not to a listener.
    action = action_for(address.kind, sending=sending or address.management)
    grant = host.grants.covering(address, action, host.context.clock.now_ms())
    if grant is None:
        text = f"no token of this connection allows {action.value} on {address.path[:200]}"
        raise Refused(Condition(UNAUTHORIZED, text, {"claim": action.value}))
    return LinkRight(address, action, grant), grant


def _open_ingress(host: Host, link: capi.LinkPtr, *, right: LinkRight, grant: Grant) -> Ingress:
    topic = host.context.access.reach_topic(right.address, grant)
    right.reaches = lambda other: other.tenant == grant.tenant
    terminus.accept(link, message_bytes_max=host.context.settings.max_message_bytes)
    make = PointIngress if topic.topic is Topic.POINTS else Ingress
    return make(link, host=host, topic=topic, right=right)


def _open_egress(
    host: Host, link: capi.LinkPtr, wanted: Attach, *, right: LinkRight, grant: Grant
) -> Egress:
    address = right.address
    if address.kind is AddressKind.TOPIC:
        text = f"one receives from a subscription: {address.path}/Subscriptions/<id>"
        raise Refused(Condition(NOT_ALLOWED, text, {"address": address.path}))
    known = host.context.access.reach_subscription(address, grant)
    identity = spec_of(known).id
    right.reaches = lambda other: _leads_to(host, address, other, identity)
    terminus.check_source(wanted.source)
    end = Egress(
        link,
        host=host,
        known=known,
        dead=address.kind is AddressKind.DEAD_LETTER,
        settled=wanted.settled,
        right=right,
    )
    terminus.accept(link, message_bytes_max=host.context.settings.max_message_bytes)
    return end


def _leads_to(host: Host, address: Address, grant: Grant, identity: SubscriptionId) -> bool:
    """Whether a grant reaches the same subscription."""
    try:
        return spec_of(host.context.access.reach_subscription(address, grant)).id == identity
    except HotpathError:
        return False
