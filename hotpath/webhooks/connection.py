"""Requests to one endpoint over connections that are kept, with time-outs.

Every attempt is an `Exchange`: a connection (kept from before, or dialled anew), the request's
bytes, the answer, one deadline for all of it and an earlier one for connecting. It ends exactly
once, with an `Outcome`; nothing is awaited per request, so no task is spent on one.

A kept connection may have been closed by the peer just as the request went out. When not one byte
of an answer has come, the request goes out once more, over a new connection, in the same attempt.
"""

import asyncio
import os
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from hotpath.interpreter import release, socket_transport
from hotpath.ports import Clock, TimerHandle
from hotpath.webhooks.address import TargetRefused
from hotpath.webhooks.response import AnswerReader, BadAnswer
from hotpath.webhooks.retry import Outcome
from hotpath.webhooks.target import Dialer, Target

CONNECT_MS: Final = 5_000
TOTAL_MS: Final = 15_000
#: A connection that was unused for so long is closed, and none lives longer than that, so that a
#: name that moves is followed.
IDLE_MS: Final = 30_000
LIFE_MS: Final = 300_000

Done = Callable[[Outcome], None]


class Connection(asyncio.Protocol):
    """One connection; it belongs to one exchange at a time, or to nobody.

    Attributes:
        exchange: What it works for now.
        used: How many answers it has brought.
        open: Neither side has closed it.
        born_ms, idle_since_ms: Monotonic.
    """

    __slots__ = (
        "_socket_transport",
        "_transport",
        "born_ms",
        "exchange",
        "idle_since_ms",
        "open",
        "used",
    )

    def __init__(self, exchange: "Exchange", *, now_ms: int) -> None:
        self.exchange: Exchange | None = exchange
        self.used = 0
        self.open = False
        self.born_ms = self.idle_since_ms = now_ms
        self._transport: asyncio.Transport | None = None
        self._socket_transport: asyncio.BaseTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a connection needs a stream transport")
        self._transport = transport
        self._socket_transport = socket_transport(transport)
        self.open = True
        if self.exchange is None:
            self.close()  # The exchange ended while this was being opened.
        else:
            self.exchange.connected(self)

    @override
    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.close()  # Nobody asked.
        else:
            self.exchange.received(data)

    @override
    def eof_received(self) -> bool:
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        release(self._socket_transport)
        self._socket_transport = None
        if self.exchange is not None:
            self.exchange.lost(exc)

    def write(self, request: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """End it now; a peer that does not read cannot delay that."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()


class Exchange:
    """One attempt; see the module."""

    __slots__ = (
        "_answer",
        "_began_ms",
        "_connection",
        "_deadline_ms",
        "_dialing",
        "_done",
        "_endpoint",
        "_request",
        "_timer",
    )

    def __init__(self, endpoint: "Endpoint", request: bytes, done: Done) -> None:
        self._endpoint = endpoint
        self._request = request
        self._done: Done | None = done
        self._answer = AnswerReader()
        self._connection: Connection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._began_ms = endpoint.clock.ticks_ms()
        self._timer: TimerHandle | None = None
        self._deadline_ms = self._began_ms + TOTAL_MS

    def start(self, connection: Connection | None) -> None:
        """Begin over a kept connection, or over a new one."""
        if connection is None:
            self._dial()
            return
        connection.exchange = self
        self.connected(connection)

    def _dial(self) -> None:
        self._arm(min(self._endpoint.clock.ticks_ms() + CONNECT_MS, self._deadline_ms))
        self._dialing = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        """Dial; a success is told by the connection itself, before this ends."""
        endpoint = self._endpoint
        try:
            await endpoint.dialer.dial(endpoint.target, self._new_connection)
        except (TargetRefused, OSError) as error:
            self._dialing = None
            self._finish(None, _explain(error))

    def _new_connection(self) -> Connection:
        connection = Connection(self, now_ms=self._endpoint.clock.ticks_ms())
        if self._done is None:
            connection.exchange = None
        return connection

    # What the connection tells

    def connected(self, connection: Connection) -> None:
        """The connection is there: send."""
        if self._done is None:
            connection.exchange = None
            connection.close()
            return
        self._connection = connection
        self._arm(self._deadline_ms)
        connection.write(self._request)

    def received(self, data: bytes) -> None:
        """Part of the answer."""
        try:
            self._answer.feed(data)
        except BadAnswer as bad:
            self._finish(None, str(bad))
            return
        if self._answer.done:
            self._answered()

    def lost(self, error: Exception | None) -> None:
        """The connection was closed by the peer or the network."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.used and not self._answer.begun:
            self._dial()
            return
        try:
            self._answer.end()
        except BadAnswer as bad:
            self._finish(None, "connection reset" if isinstance(error, OSError) else str(bad))
            return
        self._answered()

    def _answered(self) -> None:
        status = self._answer.status or 0
        reason = ""
        if 300 <= status < 400:
            reason = f"HTTP {status}: redirects are not followed"
        elif not 200 <= status < 300:
            reason = f"HTTP {status}"
        self._finish(status, reason)

    # Time

    def _arm(self, at_ms: int) -> None:
        """Set the deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._endpoint.clock.call_at(at_ms, self._time_out)

    def _time_out(self) -> None:
        if self._answer.status is not None:
            self._answered()  # Only the body's end was still missing.
        elif self._connection is None:
            self._finish(None, f"no connection within {CONNECT_MS // 1000} s")
        else:
            self._finish(None, f"no answer within {TOTAL_MS // 1000} s")

    def cancel(self, reason: str) -> None:
        """Give up, as failed."""
        self._finish(None, reason)

    def _finish(self, status: int | None, reason: str) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if self._dialing is not None and connection is None:
            self._dialing.cancel()
        endpoint, answer = self._endpoint, self._answer
        if connection is not None:
            connection.exchange = None
            endpoint.release(connection, reusable=status is not None and answer.reusable)
        duration_ms = endpoint.clock.ticks_ms() - self._began_ms
        endpoint.ended(self)
        done(Outcome(status, reason, duration_ms, answer.retry_after))


class Kept:
    """The connections of all endpoints that nobody uses now, no more than `limit`."""

    __slots__ = ("_clock", "_connections", "_limit")

    def __init__(self, limit: int, *, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        # Those that have been unused longest come first.
        self._connections: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        """Keep one; when there are too many, the one unused longest is closed."""
        connection.idle_since_ms = self._clock.ticks_ms()
        self._connections[connection] = None
        if len(self._connections) > self._limit:
            self._connections.popitem(last=False)[0].close()

    def remove(self, connection: Connection) -> None:
        """It is used again, or closed."""
        self._connections.pop(connection, None)

    def sweep(self) -> None:
        """Close what was unused for too long."""
        oldest_ms = self._clock.ticks_ms() - IDLE_MS
        while self._connections:
            connection = next(iter(self._connections))
            if connection.idle_since_ms > oldest_ms:
                return
            self.remove(connection)
            connection.close()


class Endpoint:
    """One stream's place to send to, with the connections kept to it.

    Attributes:
        target: Where.
    """

    __slots__ = ("_exchanges", "_head", "_idle", "_kept", "clock", "dialer", "target")

    def __init__(
        self, target: Target, *, dialer: Dialer, kept: Kept, clock: Clock, agent: str
    ) -> None:
        self.target = target
        self._kept = kept
        self.dialer = dialer
        self.clock = clock
        self._idle: list[Connection] = []
        self._exchanges: set[Exchange] = set()
        self._head = (
            f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {agent}\r\n"
            "Accept: */*\r\nContent-Type: application/json\r\n"
        ).encode("ascii")

    def send(self, headers: list[tuple[str, str]], body: bytes, done: Done) -> Exchange:
        """Make a request; `done` hears how it ended, never before this returns."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (
            self._head,
            lines.encode(),
            len(body),
            body,
        )
        exchange = Exchange(self, request, done)
        self._exchanges.add(exchange)
        exchange.start(self._unused())
        return exchange

    def _unused(self) -> Connection | None:
        """A connection that is still good; the one used last, so that others may age."""
        now_ms = self.clock.ticks_ms()
        while self._idle:
            connection = self._idle.pop()
            self._kept.remove(connection)
            if connection.open and now_ms - connection.born_ms < LIFE_MS:
                return connection
            connection.close()
        return None

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """An exchange is done with its connection."""
        connection.used += 1
        if not reusable or not connection.open:
            connection.close()
            return
        self._kept.add(connection)
        self._idle.append(connection)

    def ended(self, exchange: Exchange) -> None:
        """An exchange has ended."""
        self._exchanges.discard(exchange)

    def sweep(self) -> None:
        """Forget connections that were closed."""
        self._idle = [connection for connection in self._idle if connection.open]

    def close(self) -> None:
        """Give up what is under way, as failed, and close everything."""
        for exchange in tuple(self._exchanges):
            exchange.cancel("the service is stopping")
        for connection in self._idle:
            self._kept.remove(connection)
            connection.close()
        self._idle.clear()


def _explain(error: TargetRefused | OSError) -> str:
    """Why there is no connection; never with an address, which is the service's own knowledge."""
    match error:
        case TargetRefused():
            return f"target refused: {error.reason}"
        case ssl.SSLCertVerificationError():
            return f"TLS: the certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or 'the handshake failed'}"
        case socket.gaierror():
            return "the host's name cannot be resolved"
        case _:
            text = os.strerror(error.errno) if error.errno else type(error).__name__
            return f"cannot connect: {text}"
