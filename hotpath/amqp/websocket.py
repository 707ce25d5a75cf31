"""AMQP over WebSocket: a route on the HTTP ports whose connections are like all others.

Subprotocols are `AMQPWSB10` (Azure Service Bus SDKs) and `amqp` (OASIS AMQP WebSocket Binding
§2.1); the client chooses. Binary messages carry the stream, wherever they are cut.

Backpressure goes both ways: what is sent waits in a bounded list while the peer does not read,
and a connection that pauses reading gets no further message from aiohttp, which then stops
reading from the socket.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web

from hotpath.amqp.connection import Connection
from hotpath.amqp.listener import AmqpEdge
from hotpath.auth.rights import Grant
from hotpath.config import Settings
from hotpath.service.access import Access
from hotpath.telemetry import get_logger

PATH: Final = "/$servicebus/websocket"
PROTOCOLS: Final = ("AMQPWSB10", "amqp")
#: A close is waited for so long, seconds; the connection has its own limit besides.
CLOSE_SECONDS: Final = 5.0
#: What a client may send as one WebSocket message beyond the largest AMQP message, bytes.
SLACK_BYTES: Final = 1_048_576

_log = get_logger("hotpath.amqp.websocket")


class WebSocketSink:
    """The sink of one connection: a list of what is to be sent, and a task that sends it."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket = socket
        self._transport = transport
        self._queue: deque[bytes] = deque()
        self._unsent = 0
        self._more = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._closing = False
        self.on_sent: Callable[[], None] = lambda: None

    # As a sink

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        if not self._closing:
            self._queue.append(data)
            self._unsent += len(data)
            self._more.set()

    def unsent(self) -> int:
        """Bytes that are kept."""
        return self._unsent

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Read again."""
        self._readable.set()

    def close(self) -> None:
        """Send what is kept, then close."""
        self._closing = True
        self._readable.set()
        self._more.set()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._queue.clear()
        self._readable.set()
        self._more.set()
        if self._transport is not None:
            self._transport.abort()

    # Its two tasks

    async def send(self) -> None:
        """Send what is written, until the sink is closed and everything is sent."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                data = self._queue.popleft()
                # Waits while the peer does not read, so what is sent is with the kernel.
                await self._socket.send_bytes(data)
                self._unsent -= len(data)
                self.on_sent()
            if self._closing:
                await self._socket.close()
                return

    async def receive(self) -> bytes | None:
        """The next bytes; None at the end."""
        await self._readable.wait()
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is WSMsgType.TEXT:
            # OASIS AMQP WebSocket Binding §2.2: only binary messages.
            _log.info("websocket closed", extra={"reason": "text message"})
            await self._socket.close(code=1003, message=b"binary messages only")
        return None


def websocket_mount(
    edge: AmqpEdge, settings: Settings, access: Access
) -> Callable[[web.Application], None]:
    """What puts the route into the application of the HTTP edge."""

    async def respond(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=PROTOCOLS,
            timeout=CLOSE_SECONDS,
            compress=False,
            max_msg_size=settings.max_message_bytes + SLACK_BYTES,
        )
        if not socket.can_prepare(request):
            text = f"this is for AMQP over WebSocket, subprotocol {' or '.join(PROTOCOLS)}"
            return web.Response(status=426, text=text, headers={"Upgrade": "websocket"})
        await socket.prepare(request)
        if socket.ws_protocol is None:
            await socket.close(code=1002, message=b"subprotocol AMQPWSB10 or amqp expected")
            return socket
        await _serve(edge, request, socket, access)
        return socket

    def mount(application: web.Application) -> None:
        for path in (PATH, PATH + "/"):
            application.router.add_get(path, respond)

    return mount


async def _serve(
    edge: AmqpEdge, request: web.Request, socket: web.WebSocketResponse, access: Access
) -> None:
    """Be the owner of a connection until either side ends it."""
    _leave_probation(request)
    transport = request.transport
    sink = WebSocketSink(socket, transport if isinstance(transport, asyncio.Transport) else None)
    connection = edge.websocket_connection(
        sink, str(request.remote or "unknown"), certified=_certified(request, access)
    )
    if connection is None:
        await socket.close(code=1013, message=b"too many connections")
        return
    sink.on_sent = connection.writable
    sending = asyncio.ensure_future(sink.send())
    try:
        await _read(sink, connection, sending)
    finally:
        connection.lost()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        if not socket.closed:
            await socket.close()


def _leave_probation(request: web.Request) -> None:
    """Among HTTP connections it counts as known: from here on it has the bounds of AMQP ones."""
    vouch = getattr(getattr(request.protocol, "ticket", None), "vouch", None)
    if callable(vouch):
        vouch()


async def _read(sink: WebSocketSink, connection: Connection, sending: "asyncio.Task[None]") -> None:
    """Hand on what comes, until the client or the sending ends."""
    while not sending.done():
        reading = asyncio.ensure_future(sink.receive())
        try:
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        if reading.cancelled() or reading.exception() is not None:
            return
        data = reading.result()
        if data is None:
            return
        fairness = connection.context.fairness
        await fairness.turn_of(connection.account)
        began = fairness.now()
        connection.receive(data, len(data))
        fairness.charge(connection.account, began, connection.earned)


def _certified(request: web.Request, access: Access) -> Grant | None:
    """What a verified client certificate gives."""
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "organizationName":
                return access.by_certificate(str(value))
    return None
