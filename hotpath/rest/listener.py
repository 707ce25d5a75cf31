"""Sockets of the REST edge: accepted one by one, bounded in number, in all and by address.

A connection is counted from its `accept` on, before any handshake; one too many is closed at once.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import islice
from traceback import clear_frames
from typing import Final

from aiohttp import web

from hotpath.config import Endpoint, Settings
from hotpath.ports import Clock
from hotpath.service.clock import sleep_until
from hotpath.telemetry import Metrics, Seldom, get_logger

#: Connections that the kernel keeps waiting while the loop is busy.
BACKLOG: Final = 1_024
#: Pause when the machine has no room for another connection, milliseconds.
EXHAUSTED_MS: Final = 100
#: Refused connections are reported so often, milliseconds; the metric counts them all.
REPORT_MS: Final = 1_000
#: Among so many that came first, the one is chosen that has to go.
EVICTION_CHOICE: Final = 32
#: How long a peer may take to answer the end of TLS, seconds.
TLS_END_SECONDS: Final = 5.0

#: Makes the protocol of a connection, which leaves its ticket once the connection is gone.
MakeProtocol = Callable[["Ticket"], asyncio.Protocol]

_log = get_logger("hotpath.rest.listener")


def _nothing() -> None:
    """There is no connection to close."""


class Ticket:
    """One connection's place, from its accept on.

    Attributes:
        address: Where it comes from.
        evict: Closes the connection, for want of places.
    """

    def __init__(self, admission: "Admission", address: str) -> None:
        self.address = address
        self.evict: Callable[[], None] = _nothing
        self._admission = admission
        self._vouched = False
        self._left = False

    def vouch(self) -> None:
        """A valid token came with a request."""
        if not self._vouched:
            self._vouched = True
            self._admission.vouched(self)

    def leave(self) -> None:
        """The connection is gone; further calls do nothing."""
        if not self._left:
            self.vouch()
            self._left = True
            self.evict = _nothing
            self._admission.drop(self)


class Admission:
    """How many connections there are, and whether there may be another.

    Who has shown no token yet does not keep others out: when there are too many, the one that has
    been so for longest goes, of those whose address has the most.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock) -> None:
        self.total = 0
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._reports = Seldom(REPORT_MS)
        # In the order of their coming.
        self._unknown: dict[Ticket, None] = {}
        self._by_address: Counter[str] = Counter()
        self._unknown_by_address: Counter[str] = Counter()

    def enter(self, address: str) -> Ticket | None:
        """A place for a connection; None when a bound is reached."""
        cause = self._full(address)
        if cause is not None:
            self._refused(address, cause)
            return None
        if len(self._unknown) >= self._settings.max_http_connections_unauthenticated:
            leaving = self._least_welcome()
            self._refused(leaving.address, "unauthenticated")
            evict = leaving.evict
            leaving.leave()
            evict()
        self.total += 1
        self._by_address[address] += 1
        self._unknown_by_address[address] += 1
        self._metrics.http_connections.inc()
        ticket = Ticket(self, address)
        self._unknown[ticket] = None
        return ticket

    def _least_welcome(self) -> Ticket:
        """Of those without a right that came first, one whose address has the most of them."""
        first = islice(self._unknown, EVICTION_CHOICE)
        return max(first, key=lambda ticket: self._unknown_by_address[ticket.address])

    def _refused(self, address: str, cause: str) -> None:
        self._metrics.refused_http_connections.labels(cause).inc()
        others = self._reports.take(self._clock.ticks_ms())
        if others is not None:
            fields = {"peer": address, "cause": cause, "others": others}
            _log.warning("connection refused", extra=fields)

    def _full(self, address: str) -> str | None:
        settings = self._settings
        if self.total >= settings.max_http_connections:
            return "total"
        if self._by_address[address] >= settings.max_http_connections_per_address:
            return "address"
        of_address = self._unknown_by_address[address]
        if of_address >= settings.max_http_connections_unauthenticated_per_address:
            return "unauthenticated address"
        return None

    def vouched(self, ticket: Ticket) -> None:
        """A connection has shown a token, or is gone."""
        del self._unknown[ticket]
        _take_one(self._unknown_by_address, ticket.address)

    def drop(self, ticket: Ticket) -> None:
        """A place is free again."""
        self.total -= 1
        self._metrics.http_connections.dec()
        _take_one(self._by_address, ticket.address)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _take_one(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if not counter[address]:
        del counter[address]


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
        self._accepting: asyncio.Task[None] | None = None
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
        self._accepting = self._run(self._accept(listening))
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Take no new connections; those there are go on, but for unfinished handshakes."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("accept failed", extra={"reason": str(error)})
                await sleep_until(self._clock, self._clock.ticks_ms() + EXHAUSTED_MS)
                continue
            ticket = self._admission.enter(str(peer[0]))
            if ticket is None:
                accepted.close()
                continue
            # In a task, because a TLS handshake takes its time.
            task = self._run(self._connect(accepted, ticket))
            ticket.evict = partial(_cancel, task)

    async def _connect(self, accepted: socket.socket, ticket: Ticket) -> None:
        tls = self._tls
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make_protocol(ticket),
                accepted,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self._handshake_seconds,
                ssl_shutdown_timeout=None if tls is None else TLS_END_SECONDS,
            )
        except OSError as error:
            _log.info("no connection", extra={"reason": str(error)})
            # asyncio's frames hold the error and the TLS buffers, and the error holds the frames.
            clear_frames(error.__traceback__)
            ticket.leave()
        except asyncio.CancelledError:
            ticket.leave()
            accepted.close()
            raise


def vouch(request: web.BaseRequest) -> None:
    """The connection of a request is known: it has shown a token, or has bounds of its own."""
    ticket = getattr(request.protocol, "ticket", None)
    if isinstance(ticket, Ticket):
        ticket.vouch()
