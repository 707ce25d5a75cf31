"""The `$management` node of an entity: requests besides receiving and sending.

A request's application-property `operation` names what is wanted, its body is a map. The reply has
`statusCode` (an int of 32 bits), `statusDescription` and, unless all went well, `errorCondition`.
Whoever may listen to a feed may manage it; whoever may send to a topic may schedule there.

    on a feed and on its dead letters   renew-lock, peek-message, update-disposition,
                                        receive-by-sequence-number, enumerate-rules
    on a topic                          schedule-message, cancel-scheduled-message

Filters are given when a subscription is created, so rules are shown and not changed; there are no
message sessions. Those operations, and unknown ones, are answered with 501.
"""

from typing import Final, NamedTuple

from hotpath.amqp import capi, terminus
from hotpath.amqp.conditions import (
    DESCRIPTION_MAX,
    MESSAGE_NOT_FOUND,
    Refused,
    condition_of,
    status_of,
)
from hotpath.amqp.context import Host
from hotpath.amqp.management_feed import FeedOperations
from hotpath.amqp.management_fields import NOTHING, Operation
from hotpath.amqp.management_topic import TopicOperations
from hotpath.amqp.node import ReplyLink, RequestLink, RequestNode
from hotpath.amqp.requests import Request, encode_reply
from hotpath.amqp.rights import LinkRight
from hotpath.amqp.terminus import Attach
from hotpath.auth.rights import Grant
from hotpath.model.errors import HotpathError, Invalid, Unavailable, Unsupported, Violation
from hotpath.model.names import AddressKind, SubscriptionId, TopicKey
from hotpath.ports import LogFailure
from hotpath.service.feeds import Known, spec_of
from hotpath.telemetry import get_logger
from hotpath.wire.types import Int, Symbol

#: A request may hold messages, and what surrounds them.
OVERHEAD_BYTES: Final = 65_536
PREFIX: Final = "com.microsoft:"

_OK: Final = 200
_NO_CONTENT: Final = 204
_NOT_FOUND: Final = 404

_log = get_logger("hotpath.amqp.management")


class Entity(NamedTuple):
    """What a node manages."""

    topic: TopicKey
    subscription: SubscriptionId | None
    dead: bool = False


class ManagementNodes:
    """All `$management` nodes of one connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._nodes: dict[Entity, ManagementNode] = {}

    def of(self, entity: Entity, known: Known | None) -> "ManagementNode":
        """The node of an entity; `known` is the subscription, if it belongs to one."""
        node = self._nodes.get(entity)
        if node is None:
            node = self._nodes[entity] = ManagementNode(self._host, entity, known)
        return node

    def close(self) -> None:
        """The connection is gone: drop what waits, and locks that were given here."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            node.close()


class ManagementNode:
    """The `$management` node of one entity, for one connection.

    Attributes:
        node: Its links and its queue.
    """

    def __init__(self, host: Host, entity: Entity, known: Known | None) -> None:
        limit = host.context.settings.max_message_bytes + OVERHEAD_BYTES
        self.node = RequestNode(host, self._answer, request_bytes_max=limit)
        self._feed: FeedOperations | None = None
        self._operations: dict[str, Operation] = {}
        if known is not None:
            self._feed = FeedOperations(host, known, dead=entity.dead)
            self._operations = self._feed.by_name()
        else:
            self._operations = TopicOperations(host.context, entity.topic).by_name()

    def close(self) -> None:
        """Drop what waits, and locks that were given here."""
        self.node.close()
        if self._feed is not None:
            self._feed.close()

    async def _answer(self, request: Request) -> bytes:
        """Carry a request out; what goes wrong is the reply."""
        try:
            body = await self._carry_out(request)
        except Refused as refused:
            condition = refused.condition
            status = _NOT_FOUND if condition.name == MESSAGE_NOT_FOUND else status_of(Invalid([]))
            return _reply(request, status, condition.description, condition.name)
        except HotpathError as error:
            return _refusal(request, error)
        except LogFailure:
            text = "the message log cannot be used now; try again later"
            return _refusal(request, Unavailable(text))
        if body is NOTHING:
            return _reply(request, _NO_CONTENT, "No Content", None)
        return _reply(request, _OK, "OK", None, body)

    async def _carry_out(self, request: Request) -> object:
        """The body of the reply. Raises HotpathError, Refused, LogFailure."""
        name = request.properties.get("operation")
        operation = None
        if isinstance(name, str):
            operation = self._operations.get(name.removeprefix(PREFIX))
        if operation is None:
            raise Unsupported(f"the operation {str(name)[:100]!r} is not supported on this entity")
        if not isinstance(request.body, dict):
            raise Invalid([Violation("the body must be a map")])
        return await operation({str(key): value for key, value in request.body.items()})


def _refusal(request: Request, error: HotpathError) -> bytes:
    _log.info("request refused", extra={"reason": error.detail[:DESCRIPTION_MAX]})
    return _reply(request, status_of(error), error.detail, condition_of(error).name)


def _reply(
    request: Request, status: int, description: str, condition: str | None, body: object = None
) -> bytes:
    properties: dict[str, object] = {
        "statusCode": Int(status),
        "statusDescription": description[:DESCRIPTION_MAX],
    }
    if condition is not None:
        properties["errorCondition"] = Symbol(condition)
    return encode_reply(request, properties, body)


def open_management(
    host: Host, link: capi.LinkPtr, wanted: Attach, *, right: LinkRight, grant: Grant
) -> ReplyLink | RequestLink:
    """Our end of a link to the management node of an entity. Raises HotpathError."""
    entity, known = _reach(host, right, grant)
    right.reaches = lambda other: _leads_to(host, right, other, entity)
    node = host.management.of(entity, known).node
    terminus.accept(link, message_bytes_max=node.request_bytes_max)
    if wanted.incoming:
        return RequestLink(link, node, right=right)
    return ReplyLink(link, wanted, node, right=right)


def _reach(host: Host, right: LinkRight, grant: Grant) -> tuple[Entity, Known | None]:
    """What a grant manages at an address. Raises HotpathError."""
    address, access = right.address, host.context.access
    if address.kind is AddressKind.TOPIC:
        return Entity(access.reach_topic(address, grant), None), None
    known = access.reach_subscription(address, grant)
    spec = spec_of(known)
    return Entity(spec.key, spec.id, address.kind is AddressKind.DEAD_LETTER), known


def _leads_to(host: Host, right: LinkRight, grant: Grant, entity: Entity) -> bool:
    """Whether a grant manages the same entity."""
    try:
        return _reach(host, right, grant)[0] == entity
    except HotpathError:
        return False
