"""The AMQP edge as a whole: listeners for plain TCP and TLS, and all connections there are.

A connection is counted from its `accept` on, before any handshake. `AmqpEdge` is what the
composition root starts and stops; WebSockets join by `websocket_connection`.
"""

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from itertools import count
from traceback import clear_frames
from typing import Final

from hotpath.amqp.admission import Admission, Ticket
from hotpath.amqp.bounds import Outgoing, Shared
from hotpath.amqp.connection import Connection
from hotpath.amqp.context import Context, Turn
from hotpath.amqp.fairness import IDLE_PARTS, Fairness
from hotpath.amqp.outflow import Sink
from hotpath.amqp.pace import Pace
from hotpath.amqp.sockets import ReadRoom, SocketSink
from hotpath.auth.rights import Grant
from hotpath.config import Endpoint, Settings
from hotpath.core.keeping import BLOCKS_A_CONNECTION, KEEPING
from hotpath.ports import Clock, LogFailure
from hotpath.service.access import Access
from hotpath.service.clock import SystemClock, sleep_until, stopwatch
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.feeds import FeedServices
from hotpath.service.points import PointPublishing
from hotpath.service.publish import Publishing
from hotpath.service.schedule import Schedules
from hotpath.telemetry import Metrics, get_logger

BACKLOG: Final = 1_024
#: Connections accepted before others have a turn.
ACCEPTS_AT_ONCE: Final = 8
#: Pause when the machine has no room for another connection, milliseconds.
EXHAUSTED_MS: Final = 100

_log = get_logger("hotpath.amqp.listener")


class AmqpEdge:
    """All AMQP connections of the service."""

    def __init__(
        self,
        *,
        access: Access,
        publishing: Publishing,
        feeds: FeedServices,
        settings: Settings,
        scheduling: Schedules,
        points: PointPublishing,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        turn_s = settings.fair_turn_ms / 1000
        # On a clock that is turned by hand nothing waits for the machine's.
        idle_s = IDLE_PARTS * turn_s if isinstance(clock, SystemClock) else 0.0
        self._room = ReadRoom()
        fairness = Fairness(turn_s, now=stopwatch(clock), idle_s=idle_s)
        self._context = Context(
            access=access,
            publishing=publishing,
            delivering=feeds.delivering,
            settling=feeds.settling,
            committer=feeds.committer,
            calls=feeds.calls,
            settings=settings,
            clock=clock,
            metrics=metrics,
            turn=Turn(fairness, on_flushed=self._room.fit),
            fairness=fairness,
            outgoing=Outgoing(settings),
            shared=Shared(settings),
            scheduling=scheduling,
            points=points,
        )
        self.admission = Admission(settings, metrics, clock)
        self._pace = Pace(settings.accepts_per_second, clock)
        self._listening: list[tuple[socket.socket, asyncio.Task[None]]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._connections: dict[Connection, None] = {}
        self._stopping = False
        self._all_gone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    def alternate_with(self, committer: Committer, delivering: Delivering) -> None:
        """Let connections that have to wait have their turns between commits rather than beside them.

        And while some wait, who is behind gets on slower.
        """
        fairness = self._context.fairness
        fairness.is_committing = lambda: committer.is_running
        committer.give_way = fairness.give_way
        delivering.replay.give_way = fairness.stand_back

    # Listening

    async def start(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> int:
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
        self._listening.append((listening, asyncio.ensure_future(self._accept(listening, tls))))
        return int(listening.getsockname()[1])

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop, clock = asyncio.get_running_loop(), self._context.clock
        for number in count(1):
            if number % ACCEPTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("accept failed", extra={"reason": str(error)})
                await sleep_until(clock, clock.ticks_ms() + EXHAUSTED_MS)
                continue
            ticket = self._admit(str(peer[0]), "amqps" if tls else "amqp")
            if ticket is None:
                accepted.close()
                continue
            # In a task, because a TLS handshake takes its time.
            task = asyncio.ensure_future(self._connect(accepted, ticket, tls))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            ticket.evict = partial(_cancel, task)
            wait_ms = self._pace.take()
            if wait_ms:
                await sleep_until(clock, clock.ticks_ms() + wait_ms)

    def _admit(self, address: str, listener: str) -> Ticket | None:
        if self._context.fairness.is_burdened_by(address):
            self.admission.refuse(address, "busy")
            return None
        return self.admission.enter(address, listener)

    async def _connect(
        self, accepted: socket.socket, ticket: Ticket, tls: ssl.SSLContext | None
    ) -> None:
        def adopt(sink: SocketSink) -> Connection | None:
            certified = None
            if tls is not None:
                certified = self._context.access.by_certificate(sink.organization())
            return self._adopt(sink, ticket, certified)

        def protocol() -> SocketSink:
            return SocketSink(
                room=self._room,
                fairness=self._context.fairness,
                output_bytes_max=self._context.settings.output_bytes_max,
                adopt=adopt,
                left=ticket.leave,
            )

        handshake_s = None if tls is None else self._context.settings.handshake_seconds
        fairness = self._context.fairness
        try:
            await fairness.turn_of(fairness.account(ticket.address))
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, accepted, ssl=tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:
            _log.info("no connection", extra={"peer": ticket.address, "reason": str(error)})
            # asyncio's frames hold the error and the TLS buffers, and the error holds the frames.
            clear_frames(error.__traceback__)
            ticket.leave()
        except asyncio.CancelledError:
            ticket.leave()
            accepted.close()
            raise

    def websocket_connection(
        self, sink: Sink, address: str, *, certified: Grant | None = None
    ) -> Connection | None:
        """A connection over a WebSocket, whose owner calls `receive`, `writable` and `lost`.

        None when there are too many connections.
        """
        ticket = self._admit(address, "websocket")
        if ticket is None:
            return None
        connection = self._adopt(sink, ticket, certified)
        if connection is None:
            ticket.leave()
        else:
            connection.on_lost = lambda: self._forget_websocket(connection, ticket)
        return connection

    def _forget_websocket(self, connection: Connection, ticket: Ticket) -> None:
        self._forget(connection, ticket)
        ticket.leave()

    def _adopt(self, sink: Sink, ticket: Ticket, certified: Grant | None) -> Connection | None:
        if self._stopping:
            return None
        connection = Connection(self._context, sink, peer=ticket.address, certified=certified)
        connection.on_authorized = ticket.authorize
        connection.on_lost = lambda: self._forget(connection, ticket)
        ticket.evict = connection.abort
        self._connections[connection] = None
        KEEPING.add_known(BLOCKS_A_CONNECTION)
        return connection

    def _forget(self, connection: Connection, ticket: Ticket) -> None:
        if connection in self._connections:
            del self._connections[connection]
            KEEPING.add_known(-BLOCKS_A_CONNECTION)
        if connection.is_unwelcome:
            ticket.strike()
        if not self._connections:
            self._all_gone.set()

    def recheck(self) -> None:
        """Tokens have been revoked: end the links that stand on one of them."""
        for connection in list(self._connections):
            connection.recheck()

    # Stopping

    async def stop(self, drain_seconds: float) -> None:
        """Listen no more, let what was taken in be settled, close every connection.

        Each peer gets `amqp:connection:forced`, and time to answer until the drain is over.
        """
        self._stopping = True
        await self._stop_listening()
        if not self._connections:
            return
        clock = self._context.clock
        drained = asyncio.Event()
        timer = clock.call_at(clock.ticks_ms() + round(drain_seconds * 1000), drained.set)
        for connection in self._connections:
            connection.stopping = True
        await _first(self._settled(), drained.wait())
        for connection in list(self._connections):
            connection.stop()
        self._all_gone.clear()
        if self._connections:
            await _first(self._all_gone.wait(), drained.wait())
        timer.cancel()
        for connection in list(self._connections):
            connection.abort()
        # Aborted transports say so in the next turn.
        await asyncio.sleep(0)
        self._context.fairness.finish()

    async def _stop_listening(self) -> None:
        tasks = [task for _, task in self._listening] + list(self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening, _ in self._listening:
            listening.close()
        self._listening.clear()

    async def _settled(self) -> None:
        """Wait until everything taken in so far is durable."""
        with suppress(LogFailure):
            await self._context.committer.settled()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _first(*works: Coroutine[object, object, object]) -> None:
    """Wait for the first of several, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
