"""An AMQP client on Proton's own engine, over an asyncio socket, logged in with SASL PLAIN."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from proton import Collector, Connection, Delivery, Endpoint, Event, Link, Message, Transport

SEQUENCE = "x-opt-sequence-number"


class AmqpClient(asyncio.Protocol):
    """One connection with one session; events go to the callbacks of its links."""

    def __init__(self, password: str) -> None:
        self.engine = Transport(Transport.CLIENT)
        sasl = self.engine.sasl()
        sasl.allow_insecure_mechs = True
        sasl.allowed_mechs("PLAIN")
        self.connection = Connection()
        self.connection.hostname = "localhost"
        self.connection.container = f"crash-{id(self)}"
        self.connection.user, self.connection.password = "any", password
        self.collector = Collector()
        self.connection.collect(self.collector)
        self.engine.bind(self.connection)
        self.connection.open()
        self.session = self.connection.session()
        self.session.open()
        self.lost = asyncio.Event()
        self.failure: str | None = None
        self.links: dict[str, ClientLink] = {}
        self._socket: asyncio.Transport | None = None
        self._names = 0

    # Links

    def sender(self, address: str) -> "ClientLink":
        """Attach a link to publish on."""
        self._names += 1
        link = self.session.sender(f"out-{self._names}")
        link.target.address = address
        return self._attach(link)

    def receiver(
        self, address: str, *, settled: bool = False, second: bool = False
    ) -> "ClientLink":
        """Attach a link to receive on."""
        self._names += 1
        link = self.session.receiver(f"in-{self._names}")
        link.source.address = address
        if settled:
            link.snd_settle_mode = Link.SND_SETTLED
        if second:
            link.rcv_settle_mode = Link.RCV_SECOND
        return self._attach(link)

    def _attach(self, link: Link) -> "ClientLink":
        link.open()
        client_link = self.links[link.name] = ClientLink(self, link)
        return client_link

    # Bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        while data and (room := self.engine.capacity()) > 0:
            self.engine.push(data[:room])
            data = data[room:]
            self._drain()
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        for link in self.links.values():
            link.end("connection lost")

    def flush(self) -> None:
        """Send what the engine has to say."""
        if self._socket is None or self._socket.is_closing():
            return
        while (pending := self.engine.pending()) > 0:
            chunk = self.engine.peek(pending)
            self._socket.write(bytes(chunk))
            self.engine.pop(len(chunk))
        if pending < 0:
            self._socket.close()

    async def close(self) -> None:
        """End the connection cleanly."""
        self.connection.close()
        self.flush()
        try:
            async with asyncio.timeout(1):
                await self.lost.wait()
        except TimeoutError:
            self.abort()

    def stop_reading(self) -> None:
        """Leave what comes where it is."""
        if self._socket is not None:
            self._socket.pause_reading()

    def abort(self) -> None:
        """Cut the connection."""
        if self._socket is not None:
            self._socket.abort()

    # Events

    def _drain(self) -> None:
        while event := self.collector.peek():
            self._note(event)
            self.collector.pop()

    def _note(self, event: Event) -> None:
        kind = event.type
        if kind is Event.DELIVERY:
            self.links[event.delivery.link.name].on_delivery(event.delivery)
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            condition = event.link.remote_condition
            self.links[event.link.name].end(condition.name if condition else "")
            event.link.close()
        elif kind in (Event.LINK_REMOTE_OPEN, Event.LINK_FLOW):
            self.links[event.link.name].changed.set()
        elif kind in (Event.CONNECTION_REMOTE_CLOSE, Event.TRANSPORT_ERROR):
            condition = self.connection.remote_condition or self.engine.condition
            self.failure = str(condition)
            if self._socket is not None and kind is Event.TRANSPORT_ERROR:
                self._socket.close()


class ClientLink:
    """One link; whoever owns it sets the callbacks."""

    def __init__(self, client: AmqpClient, link: Link) -> None:
        self.client = client
        self.link = link
        self.changed = asyncio.Event()
        self.ended: str | None = None
        self.on_message: Callable[[Delivery, Message], None] = lambda *_: None
        self.on_update: Callable[[Delivery], None] = lambda _: None
        self.on_end: Callable[[str], None] = lambda _: None
        self._tags = 0

    def on_delivery(self, delivery: Delivery) -> None:
        """A message has come, or an outcome."""
        if self.link.is_receiver and delivery.readable:
            if delivery.partial:
                return
            message = Message()
            message.decode(self.link.recv(delivery.pending))
            self.link.advance()
            self.on_message(delivery, message)
        elif delivery.updated:
            self.on_update(delivery)
        self.changed.set()

    def end(self, reason: str) -> None:
        """The link is gone."""
        if self.ended is None:
            self.ended = reason
            self.on_end(reason)
        self.changed.set()

    def send(self, message: Message) -> str:
        """Send a message; the tag that its outcome will carry."""
        self._tags += 1
        tag = f"{self._tags}"
        self.link.delivery(tag)
        self.link.send(message.encode())
        self.link.advance()
        self.client.flush()
        return tag

    def grant(self, credit: int) -> None:
        """Ask for messages."""
        self.link.flow(credit)
        self.client.flush()

    async def wait(self, reached: Callable[[], bool]) -> bool:
        """Wait until something holds; False when the link ended first."""
        while not reached():
            if self.ended is not None:
                return False
            self.changed.clear()
            await self.changed.wait()
        return True

    async def opened(self) -> bool:
        """Whether the service has attached it."""
        return await self.wait(lambda: bool(self.link.state & Endpoint.REMOTE_ACTIVE))


async def connect(url: str, password: str) -> AmqpClient:
    """Open a connection. Raises OSError."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: AmqpClient(password), parts.hostname, parts.port
    )
    return client
