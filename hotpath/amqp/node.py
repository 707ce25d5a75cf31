"""A node that answers requests: links that requests come in on, links that replies go out on.

Requests are answered in their order, one at a time, because an answer may need the disk or keys
that are fetched first. The reply goes to the receiver whose name or target address is the
request's `reply-to`; without one, to the receiver on the same session; else to any. Its
correlation-id is the request's message-id with the type that has.

Bounds: a link has a number of requests under way, what waits counts as incomplete deliveries of
the connection do, and no request is carried out while a receiver's replies pile up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from struct import Struct
from typing import Final

from hotpath.amqp import capi
from hotpath.amqp.conditions import MESSAGE_SIZE, TRANSFER_LIMIT, Condition
from hotpath.amqp.context import Host
from hotpath.amqp.inbound import Assembler, Oversize
from hotpath.amqp.requests import Request, read_request
from hotpath.amqp.rights import LinkRight
from hotpath.amqp.terminus import Attach
from hotpath.telemetry import get_logger
from hotpath.wire.types import WireError

#: Requests that a link may have under way.
CREDIT: Final = 100
#: Replies that wait for a receiver's credit; further ones are dropped.
UNSENT_MAX: Final = 100

_pack_tag = Struct(">Q").pack
_log = get_logger("hotpath.amqp.node")

Answer = Callable[[Request], Awaitable[bytes]]
"""Carries a request out and gives the encoded reply; it raises nothing."""


class ReplyLink:
    """Our end of a link that replies go out on."""

    __slots__ = ("_node", "_presettled", "_right", "link", "names", "session")

    def __init__(
        self,
        link: capi.LinkPtr,
        attach: Attach,
        node: "RequestNode",
        *,
        right: LinkRight | None = None,
    ) -> None:
        self.link = link
        self.session = capi.link_session(link)
        self.names = {attach.name, attach.target.address}
        # §2.7.3: unsettled only where the receiver asked for nothing else.
        self._presettled = capi.link_remote_snd_settle_mode(link) != 0
        self._node = node
        self._right = right
        node.replies.append(self)

    def send(self, raw: bytes, tag: capi.TagValue) -> None:
        """Send a reply; without credit it waits, up to a number."""
        if capi.link_credit(self.link) <= -UNSENT_MAX:
            return
        delivery = capi.delivery_new(self.link, tag)
        capi.link_send(self.link, raw, len(raw))
        if self._presettled:
            capi.delivery_settle(delivery)
        else:
            capi.link_advance(self.link)

    def on_delivery(self, delivery: capi.DeliveryPtr) -> None:
        """A reply has arrived: forget it."""
        if capi.delivery_remote_state(delivery) or capi.delivery_settled(delivery):
            capi.delivery_settle(delivery)

    def on_flow(self) -> None:
        """Give credit back that a drain asks for: there is never more to come."""
        if capi.link_get_drain(self.link):
            capi.link_drained(self.link)

    def on_detach(self, *, closed: bool) -> None:
        """Answer."""
        self.on_lost()
        self._node.host.engine.finish(self.link, closed=closed)

    def on_lost(self) -> None:
        """Send nothing here any more."""
        if self in self._node.replies:
            self._node.replies.remove(self)
        if self._right is not None:
            self._node.host.forget(self._right)

    def close(self, condition: Condition) -> None:
        """Detach with an error."""
        self.on_lost()
        self._node.host.engine.close_link(self.link, condition)
        self._node.host.mark()


class RequestLink:
    """Our end of a link that requests come in on."""

    __slots__ = ("_assembler", "_gone", "_link", "_node", "_open", "_right", "session")

    def __init__(
        self, link: capi.LinkPtr, node: "RequestNode", *, right: LinkRight | None = None
    ) -> None:
        self.session = capi.link_session(link)
        self._link = link
        self._node = node
        self._right = right
        self._assembler = Assembler(link, bytes_max=node.request_bytes_max)
        self._open = 0
        self._gone = False
        capi.link_flow(link, CREDIT)

    def on_delivery(self, _: capi.DeliveryPtr) -> None:
        """Queue a request when it is complete."""
        host, held = self._node.host, self._assembler.held_bytes
        try:
            complete = self._assembler.read()
        except Oversize:
            limit = self._node.request_bytes_max
            text = f"a request is at most {limit} bytes"
            self.close(Condition(MESSAGE_SIZE, text, {"limit-bytes": limit}))
            return
        finally:
            host.hold_bytes(self._assembler.held_bytes - held)
        if complete is None:
            return
        delivery, raw = complete
        capi.delivery_update(delivery, capi.ACCEPTED)
        capi.delivery_settle(delivery)
        if self._right is not None and self._right.ended(host.context.clock.now_ms()):
            host.end_right(self._right)
            return
        self._open += 1
        if self._open > CREDIT:
            self._refuse_more()
            return
        self._node.enqueue(raw, self)

    def _refuse_more(self) -> None:
        text = "more requests were sent than there was credit for"
        self.close(Condition(TRANSFER_LIMIT, text, {"credit": CREDIT}))

    def answered(self) -> None:
        """One request less is under way."""
        self._open -= 1
        if self._gone:
            return
        credit = capi.link_credit(self._link)
        if credit < 0:
            # Its flow may say that it has sent anything.
            self._refuse_more()
        elif credit + self._open <= CREDIT // 2:
            capi.link_flow(self._link, CREDIT - credit - self._open)

    def on_flow(self) -> None:
        """Nothing: credit is ours to give."""

    def on_detach(self, *, closed: bool) -> None:
        """Answer; requests that were sent before are still carried out."""
        self.on_lost()
        self._node.host.engine.finish(self._link, closed=closed)

    def on_lost(self) -> None:
        """The link is gone."""
        if self._gone:
            return
        self._gone = True
        self._node.host.hold_bytes(-self._assembler.held_bytes)
        if self._right is not None:
            self._node.host.forget(self._right)

    def close(self, condition: Condition) -> None:
        """Detach with an error; requests that were sent before are still carried out."""
        self.on_lost()
        self._node.host.engine.close_link(self._link, condition)
        self._node.host.mark()


class RequestNode:
    """The queue of one node of one connection.

    Attributes:
        host: The connection.
        replies: Links that replies may go out on.
        request_bytes_max: Size of a request.
    """

    def __init__(self, host: Host, answer: Answer, *, request_bytes_max: int) -> None:
        self.host = host
        self.replies: list[ReplyLink] = []
        self.request_bytes_max = request_bytes_max
        self._answer = answer
        self._waiting: deque[tuple[bytes, RequestLink]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()
        self._tags = count(1)
        self._tag_room = capi.allocate("char[]", 8)

    def enqueue(self, raw: bytes, source: RequestLink) -> None:
        """Carry out a request after those before it."""
        self._waiting.append((raw, source))
        self.host.hold_bytes(len(raw))
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())

    def close(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self.replies.clear()
        self._answer = _nobody
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_room()
                raw, source = self._waiting.popleft()
                self.host.hold_bytes(-len(raw))
                await self._serve(raw, source)
                self.host.mark()
        except Exception:  # noqa: BLE001 - the task's edge: a bug of ours ends this connection only
            _log.exception("connection ended by a bug in a request")
            self.host.abort()
        finally:
            self._task = None

    async def _serve(self, raw: bytes, source: RequestLink) -> None:
        try:
            request = read_request(raw)
        except WireError as error:
            _log.info("request not readable", extra={"reason": str(error)})
            source.answered()
            return
        reply = await self._answer(request)
        source.answered()
        link = self._route(request.reply_to, source)
        if link is not None:
            capi.view(self._tag_room, 8)[:] = _pack_tag(next(self._tags))
            link.send(reply, capi.tag_of(self._tag_room, 8))

    def _route(self, reply_to: str | None, source: RequestLink) -> ReplyLink | None:
        """Where a reply belongs; None when nobody is there."""
        if reply_to is not None:
            for link in self.replies:
                if reply_to in link.names:
                    return link
        same_session = [link for link in self.replies if link.session == source.session]
        candidates = same_session or self.replies
        return candidates[-1] if candidates else None

    # Replies that pile up

    async def _wait_for_room(self) -> None:
        limit = self.host.context.settings.output_bytes_max
        while any(capi.session_outgoing_bytes(link.session) >= limit for link in self.replies):
            self._has_room.clear()
            self.host.want_pump_after_read(self)
            await self._has_room.wait()

    def pump(self, _: int) -> int:
        """The peer has sent something: perhaps room for replies. Nothing is sent from here."""
        self._has_room.set()
        return 0

    @property
    def has_more(self) -> bool:
        """Never: replies are sent when they are made."""
        return False


async def _nobody(_: Request) -> bytes:
    """Who answers when the connection is gone."""
    return b""
