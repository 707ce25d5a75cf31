"""Proton's engine as a client drives it: bytes in, events to links, bytes out; no IO, no clock.

One `Engine` is one AMQP connection with one session. SASL is ANONYMOUS: rights come by put-token
(`hotpath.client.cbs`). TLS is the business of whoever carries the bytes.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import cproton  # noqa: F401  # initialises the library behind cproton_ffi
from cproton_ffi import ffi, lib

from hotpath.client.errors import Condition
from hotpath.client.links import Incoming, Link, Outgoing, read_condition

#: Largest frame that is accepted, bytes.
FRAME_BYTES: Final = 65_536
#: Silence after which the service counts as gone, milliseconds.
IDLE_MS: Final = 60_000
#: Unread bytes of the session that may wait in the engine.
CAPACITY_BYTES: Final = 16 * 1024 * 1024

_LinkT = TypeVar("_LinkT", bound=Link)


class Engine:
    """The state of one connection; free it when done."""

    def __init__(self, *, hostname: str, container: str) -> None:
        self.is_open = False
        self.ended: Condition | None = None
        self.on_end: Callable[[Condition], None] = lambda _: None
        self._links: dict[Any, Link] = {}
        self._connection = lib.pn_connection()
        self._collector = lib.pn_collector()
        self._transport = lib.pn_transport()
        lib.pn_connection_collect(self._connection, self._collector)
        lib.pn_connection_set_container(self._connection, container.encode())
        lib.pn_connection_set_hostname(self._connection, hostname.encode())
        lib.pn_transport_set_max_frame(self._transport, FRAME_BYTES)
        lib.pn_transport_set_idle_timeout(self._transport, IDLE_MS)
        lib.pn_sasl_allowed_mechs(lib.pn_sasl(self._transport), b"ANONYMOUS")
        lib.pn_transport_bind(self._transport, self._connection)
        lib.pn_connection_open(self._connection)
        self._session = lib.pn_session(self._connection)
        lib.pn_session_set_incoming_capacity(self._session, CAPACITY_BYTES)
        lib.pn_session_open(self._session)

    # Links

    def open_sender(self, name: str, address: str) -> Outgoing:
        """Attach a link to send on, unsettled."""
        pointer = lib.pn_sender(self._session, name.encode())
        lib.pn_terminus_set_address(lib.pn_link_target(pointer), address.encode())
        lib.pn_terminus_set_address(lib.pn_link_source(pointer), name.encode())
        lib.pn_link_set_snd_settle_mode(pointer, lib.PN_SND_UNSETTLED)
        return self._opened(Outgoing(pointer, address))

    def open_receiver(self, name: str, address: str) -> Incoming:
        """Attach a link to receive on; grant credit to get messages."""
        pointer = lib.pn_receiver(self._session, name.encode())
        lib.pn_terminus_set_address(lib.pn_link_source(pointer), address.encode())
        lib.pn_terminus_set_address(lib.pn_link_target(pointer), name.encode())
        lib.pn_link_set_snd_settle_mode(pointer, lib.PN_SND_UNSETTLED)
        lib.pn_link_set_rcv_settle_mode(pointer, lib.PN_RCV_FIRST)
        return self._opened(Incoming(pointer, address))

    def _opened(self, link: _LinkT) -> _LinkT:
        self._links[link.pointer] = link
        lib.pn_link_open(link.pointer)
        return link

    # Bytes and time

    def receive(self, chunk: bytes) -> None:
        """Take bytes from the peer and tell the links what they mean."""
        view = memoryview(chunk)
        while view:
            taken = lib.pn_transport_push(self._transport, ffi.from_buffer(view), len(view))
            self._drain()
            if taken <= 0:
                break
            view = view[taken:]

    def receive_end(self) -> None:
        """The peer sends no more bytes."""
        lib.pn_transport_close_tail(self._transport)
        self._drain()
        self._end(Condition("amqp:connection:forced", "the connection was lost"))

    def take_output(self, limit: int) -> bytes:
        """Up to `limit` bytes for the peer; empty when there is nothing to say."""
        pending = lib.pn_transport_pending(self._transport)
        if pending <= 0:
            return b""
        room = bytearray(min(pending, limit))
        size = lib.pn_transport_peek(self._transport, ffi.from_buffer(room), len(room))
        if size <= 0:
            return b""
        lib.pn_transport_pop(self._transport, size)
        return bytes(room[:size]) if size < len(room) else bytes(room)

    def tick(self, now_ms: int) -> int:
        """Let time pass; the time of the next tick on the same clock, or 0 for none needed."""
        deadline = int(lib.pn_transport_tick(self._transport, now_ms))
        self._drain()
        return deadline

    def close(self) -> None:
        """Ask for a clean end of the connection."""
        lib.pn_connection_close(self._connection)

    def free(self) -> None:
        """Give the engine's memory back; the object is of no use afterwards."""
        for link in self._links.values():
            if isinstance(link, Incoming):
                link.let_go()
        self._links.clear()
        lib.pn_collector_release(self._collector)
        lib.pn_transport_unbind(self._transport)
        lib.pn_decref(self._transport)
        lib.pn_connection_release(self._connection)
        lib.pn_decref(self._connection)
        lib.pn_decref(self._collector)

    # Events

    def _drain(self) -> None:
        collector = self._collector
        event = lib.pn_collector_peek(collector)
        while event != ffi.NULL:
            kind = lib.pn_event_type(event)
            if kind == lib.PN_DELIVERY:
                delivery = lib.pn_event_delivery(event)
                link = self._links.get(lib.pn_delivery_link(delivery))
                if link is not None:
                    link.on_delivery(delivery)
            elif kind in _LINK_EVENTS:
                self._link_event(kind, lib.pn_event_link(event))
            elif kind in _ENDINGS:
                self._ending(kind)
            elif kind == lib.PN_CONNECTION_REMOTE_OPEN:
                self.is_open = True
            lib.pn_collector_pop(collector)
            event = lib.pn_collector_peek(collector)

    def _link_event(self, kind: int, pointer: Any) -> None:
        link = self._links.get(pointer)
        if link is None:
            return
        if kind == lib.PN_LINK_REMOTE_OPEN:
            link.opened_by_peer()
        elif kind == lib.PN_LINK_FLOW:
            if isinstance(link, Outgoing):
                link.on_credit()
        else:
            if isinstance(link, Incoming):
                link.let_go()
            del self._links[pointer]
            link.ended_by_peer(read_condition(lib.pn_link_remote_condition(pointer)))

    def _ending(self, kind: int) -> None:
        """A session or the connection is over: for a client of one session that is the same."""
        if kind == lib.PN_SESSION_REMOTE_CLOSE:
            condition = read_condition(lib.pn_session_remote_condition(self._session))
            lib.pn_connection_close(self._connection)
        elif kind == lib.PN_CONNECTION_REMOTE_CLOSE:
            condition = read_condition(lib.pn_connection_remote_condition(self._connection))
            lib.pn_connection_close(self._connection)
        else:
            condition = read_condition(lib.pn_transport_condition(self._transport))
        self._end(condition or Condition("amqp:connection:forced", "the connection has ended"))

    def _end(self, condition: Condition) -> None:
        if self.ended is None:
            self.ended = condition
            self.is_open = False
            self.on_end(condition)


_LINK_EVENTS: Final = frozenset(
    (
        lib.PN_LINK_REMOTE_OPEN,
        lib.PN_LINK_FLOW,
        lib.PN_LINK_REMOTE_CLOSE,
        lib.PN_LINK_REMOTE_DETACH,
    )
)
_ENDINGS: Final = frozenset(
    (
        lib.PN_SESSION_REMOTE_CLOSE,
        lib.PN_CONNECTION_REMOTE_CLOSE,
        lib.PN_TRANSPORT_ERROR,
        lib.PN_TRANSPORT_CLOSED,
    )
)
