"""One connection's protocol engine: bytes in, calls out, bytes out; no IO and no clock of its own.

The owner pushes what it has read, lets `drain` tell what happened, and takes `output`. Events of
links go straight to the `LinkEnd` that `links` names; a link without one is on its way out, and
what still comes on it is dropped at once, so that it cannot gather in memory.

An engine is used from one thread, never from within its own calls, and not after `free`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, cast

from hotpath.amqp import capi, codec, conditions
from hotpath.amqp.conditions import DECODE_ERROR, Condition, Refused
from hotpath.amqp.ends import Ends, Inlet, Outlet, refer
from hotpath.amqp.frames import FrameRewriter
from hotpath.amqp.outcomes import Answered, read_disposition
from hotpath.wire.types import Symbol, WireError


class LinkEnd(Protocol):
    """Our end of a link, as the engine drives it.

    Where it has a twin (`hotpath.amqp.ends`), that one hears of what is frequent, and this one of
    the rest.
    """

    def on_delivery(self, delivery: capi.DeliveryPtr) -> None:
        """Bytes of a delivery or a change of its state have come."""
        ...

    def on_flow(self) -> None:
        """Credit or drain has changed, or something was sent."""
        ...

    def on_detach(self, *, closed: bool) -> None:
        """The peer has detached; `Engine.finish` answers."""
        ...

    def on_lost(self) -> None:
        """The link is gone without a detach, and its pointer with it."""
        ...


class Shell(Protocol):
    """The owner of an engine."""

    def on_open(self) -> None:
        """The peer has opened the connection."""
        ...

    def on_close(self) -> None:
        """The peer has closed the connection."""
        ...

    def on_attach(self, link: capi.LinkPtr) -> None:
        """The peer has attached a link."""
        ...

    def on_failure(self, condition: Condition) -> None:
        """The peer broke the protocol or was silent for too long; Proton has closed."""
        ...

    def on_deaf(self) -> None:
        """Proton takes in no further byte of this peer."""
        ...


class Engine:
    """See the module.

    Attributes:
        links: The ends of attached links.
        closed: Nothing will be sent any more.
    """

    __slots__ = (
        "_alive",
        "_collector",
        "_connection",
        "_ends",
        "_filled",
        "_rewriters",
        "_started",
        "_transport",
        "closed",
        "links",
        "session_count",
    )

    def __init__(self, *, frame_bytes_max: int, sessions_max: int, idle_ms: int) -> None:
        self.links: dict[capi.LinkPtr, LinkEnd] = {}
        self.closed = False
        self.session_count = 0
        self._filled: list[object] = []
        self._rewriters: list[FrameRewriter] = []
        self._started = False
        self._alive: dict[capi.LinkPtr, capi.SessionPtr] = {}
        self._collector = capi.collector_new()
        self._connection = capi.connection_new()
        capi.connection_collect(self._connection, self._collector)
        self._transport = capi.transport_new()
        self._ends = Ends(refer(self._collector), refer(self._transport))
        capi.transport_set_server(self._transport)
        capi.transport_set_max_frame(self._transport, frame_bytes_max)
        capi.transport_set_channel_max(self._transport, sessions_max - 1)
        # Proton announces half of it (AMQP 1.0 §2.4.5: peers should announce half of what counts).
        capi.transport_set_idle_timeout(self._transport, idle_ms)
        capi.transport_bind(self._transport, self._connection)

    # Bytes

    def push(self, chunk: bytes | bytearray | memoryview, size: int) -> None:
        """Take in the first `size` bytes of a chunk; after a failure the rest is dropped."""
        push, transport = capi.transport_push, self._transport
        source = capi.borrow(chunk)
        at = 0
        while at < size:
            took = push(transport, capi.offset(source, at), size - at)
            if took <= 0:
                return
            at += took

    def follow(self, chunk: bytes | bytearray, pos: int, size: int) -> int:
        """Pass frames that are about to be pushed, and take in what they tell of deliveries.

        Returns:
            The place of the first that is to be looked at closely, or has not come so far that one
            could tell.
        """
        return self._ends.follow(chunk, pos, size, self._filled)

    def on_disposition(self, channel: int, frame: bytes) -> None:
        """Take in what a frame tells of deliveries that `follow` has left. Raises Refused."""
        try:
            told = read_disposition(frame)
        except WireError as error:
            text = f"a disposition cannot be decoded: {error}"
            raise Refused(Condition(DECODE_ERROR, text, {"channel": channel})) from error
        if told is None or not told.outcome.is_final:
            return
        outcome, ids = told.outcome, (told.first, told.last)
        if outcome.state == capi.ACCEPTED:
            self._ends.accept(channel, *ids, outcome.settled, self._filled)
            return
        for end, reference, seq, serial in self._ends.pick(channel, *ids):
            cast("Answered", end).on_outcome(reference, (seq, serial), outcome)

    def on_end(self, channel: int) -> None:
        """The peer ends the session of a channel: what it tells there later is of another one."""
        self._ends.end(channel)

    def output(self) -> bytes:
        """Everything there is to send now."""
        out, self.closed = self._ends.output()
        self._started = self._started or bool(out)
        for rewrite in self._rewriters:
            out = rewrite(out)
        return out

    def rewrite_frames(self, rewrite: Callable[[bytes], bytes]) -> None:
        """From now on, send each frame as `rewrite` gives it back."""
        self._rewriters.append(FrameRewriter(rewrite, header_first=not self._started))

    def tick(self, now_ms: int) -> int | None:
        """Send keep-alives, notice a silent peer; when to be called next, or None."""
        return capi.transport_tick(self._transport, now_ms) or None

    @property
    def peer_idle_ms(self) -> int:
        """The idle time-out that the peer has announced, in milliseconds; 0 for none."""
        return capi.transport_remote_idle_timeout(self._transport)

    # Connection

    def open(self, container: str, properties: Mapping[str, object]) -> None:
        """Answer the peer's open."""
        capi.connection_set_container(self._connection, container.encode())
        symbols = {Symbol(key): value for key, value in properties.items()}
        codec.write(capi.connection_properties(self._connection), symbols)
        capi.connection_open(self._connection)

    def close(self, condition: Condition | None) -> None:
        """Close the connection, with an error or, as the answer to a close, without."""
        if condition is not None:
            conditions.write(capi.connection_condition(self._connection), condition)
        capi.connection_close(self._connection)

    def peer_container(self) -> str:
        """The peer's container-id."""
        return capi.connection_remote_container(self._connection)

    def peer_properties(self) -> dict[str, object]:
        """The properties of the peer's open; empty if they cannot be read."""
        try:
            return codec.read_map(capi.connection_remote_properties(self._connection))
        except WireError:
            return {}

    def peer_error(self) -> str:
        """The condition of the peer's close; empty for none."""
        return capi.condition_name(capi.connection_remote_condition(self._connection))

    # Links

    @property
    def link_count(self) -> int:
        """Links that exist, those on their way out included."""
        return len(self._alive)

    def attach(self, link: capi.LinkPtr, end: LinkEnd, twin: Inlet | Outlet | None = None) -> None:
        """Let an end, and its twin if it has one, hear what happens on a link."""
        self.links[link] = end
        self._ends.add(refer(link), end, twin)

    def _forget(self, link: capi.LinkPtr) -> LinkEnd | None:
        """Tell the end of a link no more; that end, if there is one."""
        self._ends.remove(refer(link))
        return self.links.pop(link, None)

    def close_link(self, link: capi.LinkPtr, condition: Condition) -> None:
        """Detach with an error; the link goes when the peer has detached too."""
        self._forget(link)
        conditions.write(capi.link_condition(link), condition)
        capi.link_close(link)

    def finish(self, link: capi.LinkPtr, *, closed: bool) -> None:
        """Answer the peer's detach; the pointer is dead from here on."""
        self._forget(link)
        self._alive.pop(link, None)
        (capi.link_close if closed else capi.link_detach)(link)
        capi.link_free(link)

    # Events

    def drain(self, shell: Shell, *, careful: bool) -> list[object]:
        """Tell the shell and the link ends what has happened.

        Args:
            shell: The owner.
            careful: Messages that have come are all to be looked at by their link ends.

        Returns:
            The link ends whose twins have gathered something.
        """
        filled = self._filled
        take_in, collector = self._ends.drain, self._collector
        while take_in(filled, careful):
            event = capi.collector_peek(collector)
            if event is not None:
                self._tell(capi.event_type(event), event, shell)
            capi.collector_pop(collector)
        self._filled = []
        return filled

    def _tell(self, kind: int, event: capi.EventPtr, shell: Shell) -> None:
        """All events that the twins leave."""
        if kind in (capi.DELIVERY, capi.LINK_FLOW):
            self._tell_end(kind, event)
        elif kind in (capi.CONNECTION_REMOTE_OPEN, capi.CONNECTION_REMOTE_CLOSE):
            (shell.on_open if kind == capi.CONNECTION_REMOTE_OPEN else shell.on_close)()
        elif kind == capi.LINK_REMOTE_OPEN:
            link = capi.event_link(event)
            self._alive[link] = capi.link_session(link)
            shell.on_attach(link)
        elif kind in (capi.LINK_REMOTE_CLOSE, capi.LINK_REMOTE_DETACH):
            self._detached(capi.event_link(event), closed=kind == capi.LINK_REMOTE_CLOSE)
        elif kind == capi.SESSION_REMOTE_OPEN:
            self.session_count += 1
            capi.session_open(capi.event_session(event))
        elif kind == capi.SESSION_REMOTE_CLOSE:
            self._end_session(capi.event_session(event))
        elif kind in (capi.TRANSPORT_ERROR, capi.TRANSPORT_TAIL_CLOSED):
            self._tell_of_the_end(kind, shell)

    def _tell_of_the_end(self, kind: int, shell: Shell) -> None:
        if kind == capi.TRANSPORT_TAIL_CLOSED:
            shell.on_deaf()
            return
        condition = capi.transport_condition(self._transport)
        name, text = capi.condition_name(condition), capi.condition_description(condition)
        shell.on_failure(Condition(name, text))

    def _tell_end(self, kind: int, event: capi.EventPtr) -> None:
        end = self.links.get(capi.event_link(event))
        if end is None:
            return
        if kind == capi.DELIVERY:
            end.on_delivery(capi.event_delivery(event))
        else:
            end.on_flow()

    def _detached(self, link: capi.LinkPtr, *, closed: bool) -> None:
        if link not in self._alive:
            return
        end = self.links.get(link)
        if end is None:
            self.finish(link, closed=closed)
        else:
            end.on_detach(closed=closed)

    def _end_session(self, session: capi.SessionPtr) -> None:
        """Forget a session's links, and answer its end."""
        for link in [link for link, owner in self._alive.items() if owner == session]:
            del self._alive[link]
            end = self._forget(link)
            if end is not None:
                end.on_lost()
        self.session_count -= 1
        capi.session_close(session)
        capi.session_free(session)

    def free(self) -> None:
        """Give all memory back; every pointer of this engine is dead from here on."""
        ends, self.links = list(self.links.values()), {}
        self._ends.clear()
        for end in ends:
            end.on_lost()
        self._alive.clear()
        capi.transport_unbind(self._transport)
        capi.collector_release(self._collector)
        capi.connection_release(self._connection)
        capi.decref(self._connection)
        capi.decref(self._transport)
        capi.collector_free(self._collector)
