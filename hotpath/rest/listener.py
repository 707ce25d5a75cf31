"""Sockets of the REST edge: accepted one by one, bounded in number, in all and by address.

A connection is counted from its `accept` on, before any handshake; one too many is closed at once.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Final

from hotpath.config import Endpoint, Settings
from hotpath.ports import Clock
from hotpath.service.clock import sleep_until
from hotpath.telemetry import Metrics, get_logger

#: Connections that the kernel keeps waiting while the loop is busy.
BACKLOG: Final = 1_024
#: Pause when the machine has no room for another connection, milliseconds.
EXHAUSTED_MS: Final = 100
#: How long a peer may take to answer the end of TLS, seconds.
TLS_END_SECONDS: Final = 5.0

#: Makes the protocol of a connection; it calls its argument once the connection is gone.
MakeProtocol = Callable[[Callable[[], None]], asyncio.Protocol]

_log = get_logger("hotpath.rest.listener")


class Admission:
    """How many connections there are, and whether there may be another."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.total = 0
        self._settings = settings
        self._metrics = metrics
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> Callable[[], None] | None:
        """A place for a connection, as what gives it back; None when a bound is reached."""
        cause = self._full(address)
        if cause is not None:
            self._metrics.refused_http_connections.labels(cause).inc()
            _log.warning("connection refused", extra={"peer": address, "cause": cause})
            return None
        self.total += 1
        self._by_address[address] += 1
        self._metrics.http_connections.inc()
        is_here = True

        def leave() -> None:
            nonlocal is_here
            if is_here:
                is_here = False
                self._leave(address)

        return leave

    def _full(self, address: str) -> str | None:
        if self.total >= self._settings.max_http_connections:
            return "total"
        if self._by_address[address] >= self._settings.max_http_connections_per_address:
            return "address"
        return None

    def _leave(self, address: str) -> None:
        self.total -= 1
        self._metrics.http_connections.dec()
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Listener:
    """One listening socket."""

    def __init__(
        self,
        make_protocol: MakeProtocol,
        *,
        admission: Admission,
        clock: Clock,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._make_protocol = make_protocol
        self._admission = admission
        self._clock = clock
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    async def start(self, endpoint: Endpoint) -> int:
        """Listen; the port, which the system chose if it was 0. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = found[0]
        listening = socket.create_server(
            (str(where[0]), int(where[1])),
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=family == socket.AF_INET6 and where[0] == "::",
        )
        listening.setblocking(False)
        self._socket = listening
        self._run(self._accept(listening))
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Take no new connections; those there are go on, but for unfinished handshakes."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("accept failed", extra={"reason": str(error)})
                await sleep_until(self._clock, self._clock.ticks_ms() + EXHAUSTED_MS)
                continue
            leave = self._admission.enter(str(peer[0]))
            if leave is None:
                accepted.close()
                continue
            # In a task, because a TLS handshake takes its time.
            self._run(self._connect(accepted, leave))

    async def _connect(self, accepted: socket.socket, leave: Callable[[], None]) -> None:
        tls = self._tls
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make_protocol(leave),
                accepted,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self._handshake_seconds,
                ssl_shutdown_timeout=None if tls is None else TLS_END_SECONDS,
            )
        except OSError as error:
            _log.info("no connection", extra={"reason": str(error)})
            leave()
        except asyncio.CancelledError:
            leave()
            accepted.close()
            raise
