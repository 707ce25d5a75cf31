"""One AMQP connection over TCP or TLS: carries the engine's bytes and lets its time pass."""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from typing_extensions import override

from hotpath.client.cbs import CBS, TokenExchange
from hotpath.client.engine import Engine
from hotpath.client.errors import Condition, Detached, Unreachable
from hotpath.client.links import Incoming, Link, Outgoing

#: Bytes handed to the socket at a time.
WRITE_BYTES: Final = 262_144
#: Time for TCP, TLS, SASL and open, and for a clean close.
OPEN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
#: Time in which a link to publish on gets credit, unless the service is busy.
CREDIT_SECONDS: Final = 2.0


class Connection(asyncio.Protocol):
    """An open connection; get one with `connect`.

    Everything that is to be sent leaves in one write per turn of the event loop. While the socket
    does not take more, `writable` is false and nothing is moved out of the engine.
    """

    def __init__(self, hostname: str) -> None:
        self.engine = Engine(hostname=hostname, container=f"hotpath-{uuid4()}")
        self.writable = True
        self.on_end: Callable[[Condition], None] = lambda _: None
        self.on_writable: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._exchange: TokenExchange | None = None
        self._flush_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._freed = False
        self.engine.on_end = self._engine_ended

    # What the owner does

    async def put_token(self, *, audience: str, token: str) -> None:
        """Obtain or renew the rights of a token. Raises Detached."""
        if self.ended is not None:
            raise Detached(self.ended)
        if self._exchange is None:
            sender = self.engine.open_sender(f"cbs-{uuid4()}", CBS)
            receiver = self.engine.open_receiver(f"cbs-{uuid4()}", CBS)
            self._exchange = TokenExchange(sender, receiver)
        self.flush_soon()
        await self._exchange.put(audience=audience, token=token)

    async def attach_sender(self, address: str) -> Outgoing:
        """Open a link to publish on. Raises Detached when the service refuses it."""
        link = self.engine.open_sender(f"publish-{uuid4()}", address)
        await self._attached(link)
        # A refusal is an attach with a detach behind it; credit says that none will follow.
        await self._until(lambda: link.credit > 0 or link.ended is not None, CREDIT_SECONDS)
        self._raise_if_ended(link)
        return link

    async def attach_receiver(self, address: str) -> Incoming:
        """Open a link to receive on. Raises Detached when the service refuses it."""
        link = self.engine.open_receiver(f"receive-{uuid4()}", address)
        await self._attached(link)
        return link

    @property
    def ended(self) -> Condition | None:
        """Why the connection is over; None while it lives."""
        return self.engine.ended

    def flush_soon(self) -> None:
        """Send what the engine has to say at the end of this turn of the loop."""
        if not self._flush_planned and not self._freed:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """End the connection cleanly, or after two seconds anyhow, and free the engine."""
        self.on_end = lambda _: None
        if self._transport is not None and self.ended is None:
            self.engine.close()
            self._flush()
            await self._until(lambda: self.ended is not None, CLOSE_SECONDS)
        self._free()

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._pass_time()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._freed:
            self.engine.receive(data)
            self._wake()
            self.flush_soon()

    @override
    def eof_received(self) -> bool:
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._freed:
            self.engine.receive_end()
            self._wake()

    @override
    def pause_writing(self) -> None:
        self.writable = False

    @override
    def resume_writing(self) -> None:
        self.writable = True
        self.flush_soon()
        self.on_writable()

    # Inside

    async def opened(self) -> None:
        """Wait for the service's open. Raises Unreachable or Detached."""
        self.flush_soon()
        if not await self._until(self._open_or_ended, OPEN_SECONDS):
            raise Unreachable("the AMQP service", "it does not answer")
        if self.ended is not None:
            raise Detached(self.ended)

    def _open_or_ended(self) -> bool:
        return self.engine.is_open or self.ended is not None

    async def _attached(self, link: Link) -> None:
        """Wait for the attach, and for the detach that may come right behind it (§2.6.3)."""
        self.flush_soon()

        def decided() -> bool:
            return link.is_open or link.ended is not None or self.ended is not None

        if not await self._until(decided, OPEN_SECONDS):
            raise Unreachable(link.address, "the service does not answer the attach")
        self._raise_if_ended(link)

    def _raise_if_ended(self, link: Link) -> None:
        condition = link.ended or self.ended
        if condition is not None:
            raise Detached(condition)

    async def _until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, looking after each input; False when time is up."""
        try:
            async with asyncio.timeout(seconds):
                while not reached():
                    changed: asyncio.Future[None] = self._loop.create_future()
                    self._changed.append(changed)
                    await changed
        except TimeoutError:
            return reached()
        return True

    def _wake(self) -> None:
        waiting, self._changed = self._changed, []
        for changed in waiting:
            if not changed.done():
                changed.set_result(None)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._freed or self._transport is None:
            return
        while self.writable:
            chunk = self.engine.take_output(WRITE_BYTES)
            if not chunk:
                break
            self._transport.write(chunk)
        if self.ended is not None:
            self._transport.close()

    def _pass_time(self) -> None:
        if self._freed or self._transport is None:
            return
        now_ms = int(self._loop.time() * 1000)
        deadline = self.engine.tick(now_ms)
        # Before the peer's open its wish is not known yet, so look again soon.
        wait_ms = max(deadline - now_ms, 1) if deadline else 1000
        self._timer = self._loop.call_later(min(wait_ms / 1000, 5.0), self._pass_time)
        self.flush_soon()

    def _engine_ended(self, condition: Condition) -> None:
        if self._exchange is not None:
            self._exchange.fail(condition)
        self._wake()
        self.flush_soon()
        self.on_end(condition)

    def _free(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        if not self._freed:
            self._freed = True
            self.engine.free()


def read_url(url: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS of an `amqp://` or `amqps://` URL. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError(f"{url!r} is no amqp:// or amqps:// URL")
    tls = parts.scheme == "amqps"
    return parts.hostname, parts.port or (5671 if tls else 5672), tls


async def connect(url: str, *, tls: ssl.SSLContext | None = None) -> Connection:
    """Open a connection to the host of an `amqp(s)://` URL.

    Args:
        url: Its path is not looked at.
        tls: For `amqps`; the system's trusted authorities by default.

    Raises:
        Unreachable: Nobody listens there, TLS failed, or no answer in ten seconds.
        Detached: The service refused the connection.
    """
    host, port, secure = read_url(url)
    context = (tls or ssl.create_default_context()) if secure else None
    address = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(host), host, port, ssl=context
            )
    except TimeoutError:
        raise Unreachable(address, f"no answer in {OPEN_SECONDS:.0f} seconds") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable(address, reason) from error
    try:
        await connection.opened()
    except BaseException:
        await connection.close()
        raise
    return connection
