"""A peer for the AMQP edge: Proton's own engine, driven by hand, in memory or over a socket.

In memory, `MemoryPeer` stands back to back with a connection of the edge: `await peer.pump()`
carries bytes both ways until neither side has more to say. What each side sent is kept.
"""

import asyncio
import struct
from collections import defaultdict

from proton import (
    Collector,
    Connection,
    Data,
    Delivery,
    Endpoint,
    Event,
    Message,
    Terminus,
    Transport,
)

from hotpath.wire.types import Described, Symbol, ULong, decode, encode
from tests.support.broker import Broker
from tests.support.clock import settle

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"


def frame(body: bytes, *, channel: int = 0, kind: int = 0) -> bytes:
    """A frame around an encoded performative."""
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def performative(code: int, *fields: object) -> bytes:
    """An encoded performative."""
    return encode(Described(ULong(code), list(fields)))


def sasl_init(mechanism: bytes, response: bytes | None = None) -> bytes:
    """A sasl-init frame."""

    return frame(performative(0x41, Symbol(mechanism.decode()), response), kind=1)


def plain(user: str, password: str) -> bytes:
    """The sasl-init of PLAIN."""
    return sasl_init(b"PLAIN", b"\0" + user.encode() + b"\0" + password.encode())


def split_frames(data: bytes) -> list[bytes]:
    """Frames of a stream, protocol headers among them as they are."""
    frames: list[bytes] = []
    while data:
        size = 8 if data[:4] == b"AMQP" else struct.unpack(">I", data[:4])[0]
        frames.append(data[:size])
        data = data[size:]
    return frames


def read_performative(raw: bytes) -> Described | None:
    """The performative of a frame; None for a header or an empty frame."""
    if raw[:4] == b"AMQP" or len(raw) <= 8:
        return None
    value, _ = decode(raw, raw[4] * 4)
    assert isinstance(value, Described)
    return value


class MemorySink:
    """Takes what a connection writes."""

    def __init__(self) -> None:
        self.data = b""
        self.sent = b""
        self.closed = False
        self.aborted = False
        self.paused = False
        self.stuck = False
        """The peer reads nothing."""
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.sent += data
        self.writes += 1

    def unsent(self) -> int:
        return len(self.data) if self.stuck else 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Peer:
    """A client's engine, and what has happened on it."""

    def __init__(self, *, container: str = "tester", idle_ms: int = 0, max_frame: int = 0) -> None:
        self.transport = Transport(Transport.CLIENT)
        self.connection = Connection()
        self.collector = Collector()
        self.connection.collect(self.collector)
        self.connection.container = container
        self.connection.hostname = "feeds.example.com"
        if idle_ms:
            self.transport.idle_timeout = idle_ms / 1000
        if max_frame:
            self.transport.max_frame_size = max_frame
        self.transport.bind(self.connection)
        self.received: dict[str, list[tuple[Delivery, bytes]]] = defaultdict(list)
        self.updates: list[tuple[Delivery, int, bool]] = []
        self.detached: dict[str, object] = {}
        self.error = None
        self.closed = False
        self._tags = 0

    # Opening

    def open(self, properties: dict | None = None):
        """Open the connection and a session."""
        if properties:
            self.connection.properties = properties
        self.connection.open()
        self.session = self.connection.session()
        self.session.open()
        return self

    def sender(self, address: str | None, *, name: str | None = None, session=None, **modes):
        """Attach a sending link."""
        link = (session or self.session).sender(name or f"to {address}")
        link.target.address = address
        link.source.address = "here"
        _set_modes(link, **modes)
        link.open()
        return link

    def receiver(
        self,
        address: str | None,
        *,
        credit: int = 0,
        name: str | None = None,
        filters: dict | None = None,
        session=None,
        **modes,
    ):
        """Attach a receiving link."""
        link = (session or self.session).receiver(name or f"from {address}")
        link.source.address = address
        link.target.address = "here"
        if filters is not None:
            link.source.filter.put_object(filters)
        _set_modes(link, **modes)
        link.open()
        if credit:
            link.flow(credit)
        return link

    # Talking

    def send(
        self, link, message: Message | bytes, *, settled: bool = False, tag: bytes | None = None
    ):
        """Send a message."""
        self._tags += 1
        delivery = link.delivery(tag or str(self._tags).encode())
        link.send(message if isinstance(message, bytes) else message.encode())
        if settled:
            delivery.settle()
        link.advance()
        return delivery

    def raws(self, link) -> list[bytes]:
        """What has come on a receiving link."""
        return [raw for _, raw in self.received[link.name]]

    def messages(self, link) -> list[Message]:
        """What has come on a receiving link, decoded."""
        decoded = []
        for raw in self.raws(link):
            message = Message()
            message.decode(raw)
            decoded.append(message)
        return decoded

    def deliveries(self, link) -> list[Delivery]:
        """The deliveries of a receiving link."""
        return [delivery for delivery, _ in self.received[link.name]]

    def settle(self, delivery: Delivery, state: int | None = Delivery.ACCEPTED) -> None:
        """Give an outcome and settle (receiver-settle-mode first)."""
        if state is not None:
            delivery.update(state)
        delivery.settle()

    # Bytes

    def output(self) -> bytes:
        """Everything to send."""
        out = b""
        while (pending := self.transport.pending()) > 0:
            chunk = self.transport.peek(pending)
            out += chunk
            self.transport.pop(len(chunk))
        return out

    def input(self, data: bytes) -> None:
        """Take in bytes."""
        while data and (room := self.transport.capacity()) > 0:
            self.transport.push(data[:room])
            data = data[room:]
        self.drain()

    def drain(self) -> None:
        """Note what has happened."""
        while event := self.collector.peek():
            self._note(event)
            self.collector.pop()

    def _note(self, event: Event) -> None:
        if event.type is Event.DELIVERY:
            self._note_delivery(event.delivery)
        elif event.type in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            self.detached[event.link.name] = event.link.remote_condition
            if event.link.state & Endpoint.LOCAL_ACTIVE:
                event.link.close()
        elif event.type is Event.CONNECTION_REMOTE_CLOSE:
            self.error = self.connection.remote_condition
            self.closed = True
            if self.connection.state & Endpoint.LOCAL_ACTIVE:
                self.connection.close()
        elif event.type is Event.TRANSPORT_ERROR:
            self.error = self.transport.condition

    def _note_delivery(self, delivery: Delivery) -> None:
        link = delivery.link
        if link.is_receiver and delivery.readable and not delivery.partial:
            raw = link.recv(delivery.pending)
            self.received[link.name].append((delivery, raw))
            link.advance()
            if delivery.settled:
                delivery.settle()
        elif delivery.updated:
            self.updates.append((delivery, delivery.remote_state, delivery.settled))


def _set_modes(link, *, snd: int | None = None, rcv: int | None = None) -> None:
    if snd is not None:
        link.snd_settle_mode = snd
    if rcv is not None:
        link.rcv_settle_mode = rcv


class MemoryPeer(Peer):
    """A peer back to back with a connection of the edge."""

    def __init__(
        self, broker: Broker, *, address: str = "192.0.2.1", certified=None, **options
    ) -> None:
        super().__init__(**options)
        self.sink = MemorySink()
        connection = broker.edge.websocket_connection(self.sink, address, certified=certified)
        assert connection is not None
        self.edge_connection = connection
        self.preface = b""
        self.lost = False

    def feed(self, data: bytes) -> None:
        """Hand raw bytes to the edge."""
        self.edge_connection.receive(data, len(data))

    async def login(self, init: bytes) -> None:
        """Go through SASL; `preface` holds what the edge answered."""
        self.feed(SASL_HEADER + init)
        await settle()
        self.preface, self.sink.data = self.sink.data, b""

    async def pump(self, turns: int = 40) -> None:
        """Carry bytes both ways until nothing moves."""
        quiet = 0
        for _ in range(turns * 10):
            moved = self._exchange()
            await asyncio.sleep(0)
            quiet = 0 if moved else quiet + 1
            if quiet >= turns:
                break
        if self.sink.closed and not self.lost:
            self.lost = True
            self.edge_connection.lost()

    def _exchange(self) -> bool:
        moved = False
        if not self.sink.paused and (out := self.output()):
            self.feed(out)
            moved = True
        if self.sink.data and not self.sink.stuck:
            data, self.sink.data = self.sink.data, b""
            self.input(data)
            moved = True
        return moved

    def cut(self) -> None:
        """Lose the connection without a word."""
        self.lost = True
        self.edge_connection.lost()

    # With $cbs

    async def put_token(self, token: str, audience: str = "amqp://feeds.example.com/x") -> Message:
        """Put a token the way a generic client does; the reply."""
        names = (f"cbs-in-{self._tags}", f"cbs-out-{self._tags}")
        replies = self.receiver("$cbs", credit=10, name=names[0])
        requests = self.sender("$cbs", name=names[1])
        await self.pump()
        request = Message(
            id=f"request-{self._tags}",
            reply_to=names[0],
            properties={"operation": "put-token", "type": "jwt", "name": audience},
            body=token,
        )
        self.send(requests, request)
        await self.pump()
        [reply] = self.messages(replies)
        replies.close()
        requests.close()
        await self.pump()
        return reply


def coordinator(link) -> None:
    """Make a link's target a transaction coordinator."""
    link.target.type = Terminus.COORDINATOR


def described_symbols(data: Data) -> list:
    """All values of a tree."""
    values = []
    data.rewind()
    while data.next():
        values.append(data.get_object())
    return values
