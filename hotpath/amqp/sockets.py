"""TCP and TLS connections as sinks, and the TLS settings of listeners."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, cast

from typing_extensions import override

from hotpath.amqp.connection import Connection
from hotpath.amqp.fairness import Fairness
from hotpath.interpreter import release, socket_transport

#: Bytes read from a socket at once, at the most.
READ_BYTES: Final = 262_144
#: The same when what was read before took long to be sent on.
READ_BYTES_MIN: Final = 16_384
#: Sending on what one turn has brought shall take so long, seconds: who delivers to a hundred
#: receivers reads less of a publisher at once, so that it does not run ahead of them.
SEND_S: Final = 0.02
#: The same of one that has not earned more: what is kept when it must wait.
SMALL_READ_BYTES: Final = 512


class ReadRoom:
    """The read buffer of all sockets, and how much of it a read may fill.

    Attributes:
        shared: All of it.
        large: For who is favoured.
        small: For all others.
    """

    __slots__ = ("_bytes", "_view", "large", "shared", "small")

    def __init__(self) -> None:
        self.shared = bytearray(READ_BYTES)
        self._view = memoryview(self.shared)
        self._bytes = READ_BYTES
        self.large = self._view
        self.small = self._view[:SMALL_READ_BYTES]

    def fit(self, took_s: float) -> None:
        """What there was to be sent in a turn took so long, seconds."""
        if took_s > SEND_S:
            wanted = max(self._bytes // 2, READ_BYTES_MIN)
        elif took_s < SEND_S / 4:
            wanted = min(2 * self._bytes, READ_BYTES)
        else:
            return
        if wanted != self._bytes:
            self._bytes = wanted
            self.large = self._view[:wanted]


class SocketSink(asyncio.BufferedProtocol):
    """A TCP or TLS connection, as asyncio drives it and as a connection writes to it.

    Args:
        room: The read buffer of all sockets: what is read is taken in before the next read, or
            kept apart when others are to be read first.
        fairness: Says who is read first.
        output_bytes_max: Unsent bytes above which `resume_writing` will tell of room.
        adopt: Makes the connection once the transport (and TLS) stands; None: refused.
        left: Called when the socket is gone, or was never there.
    """

    def __init__(
        self,
        *,
        room: ReadRoom,
        fairness: Fairness,
        output_bytes_max: int,
        adopt: Callable[["SocketSink"], Connection | None],
        left: Callable[[], None],
    ) -> None:
        self._room = room
        self._fairness = fairness
        self._kept = b""
        self._is_throttled = self._is_waiting = False
        self._output_bytes_max = output_bytes_max
        self._adopt = adopt
        self._left = left
        self._transport: asyncio.Transport | None = None
        self._socket_transport: asyncio.BaseTransport | None = None
        self._connection: Connection | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket_transport = socket_transport(transport)
        high = self._output_bytes_max
        self._transport.set_write_buffer_limits(high=high - 1, low=high // 4)
        self._connection = self._adopt(self)
        if self._connection is None:
            self._transport.abort()

    def organization(self) -> str | None:
        """The organization of the peer's verified certificate, or None."""
        certificate = None
        if self._transport is not None:
            certificate = self._transport.get_extra_info("peercert")
        for part in (certificate or {}).get("subject", ()):
            for name, value in part:
                if name == "organizationName":
                    return str(value)
        return None

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        connection, room = self._connection, self._room
        return room.large if connection and connection.account.is_favoured else room.small

    @override
    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._fairness.may_go(connection.account):
            self._take_in(connection, self._room.shared, nbytes)
            return
        self._kept = bytes(self._room.small[:nbytes])
        self._set_reading(on=False)
        self._fairness.wait(connection.account, self._read_kept)

    def _take_in(self, connection: Connection, chunk: bytes | bytearray, size: int) -> None:
        if connection.account.is_favoured and not self._fairness.is_contended:
            connection.receive(chunk, size)
            return
        began = self._fairness.now()
        connection.receive(chunk, size)
        self._fairness.charge(connection.account, began, connection.earned)

    def _read_kept(self) -> None:
        """It is this one's turn: take in what was kept, and read the socket again."""
        kept, self._kept = self._kept, b""
        if self._connection is not None:
            connection = self._connection
            self._take_in(connection, kept, len(kept))
            # In a turn of its own too: of thousands, each that is read costs something at once.
            self._is_waiting = True
            self._fairness.wait(connection.account, self._read_again)

    def _read_again(self) -> None:
        self._is_waiting = False
        self._set_reading(on=not self._is_throttled)

    def _set_reading(self, *, on: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    @override
    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writable()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        connection, self._connection, self._transport = self._connection, None, None
        release(self._socket_transport)
        self._socket_transport = None
        if connection is None:
            self._left()
        elif self._fairness.has_time:
            self._leave(connection)
        else:
            # Thousands may go at once. What one that has achieved something has locked is for others
            # now: it goes before whoever comes after it.
            leave = partial(self._leave, connection)
            self._fairness.leave(connection.account, leave, first=connection.earned > 0)

    def _leave(self, connection: Connection) -> None:
        began = self._fairness.now()
        connection.lost()
        self._left()
        self._fairness.charge(connection.account, began, connection.earned)

    # As a sink

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        if self._transport is not None:
            self._transport.write(data)

    def unsent(self) -> int:
        """Bytes that are kept."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._is_throttled = True
        self._set_reading(on=False)

    def resume_reading(self) -> None:
        """Read again."""
        self._is_throttled = False
        self._set_reading(on=not (self._kept or self._is_waiting))

    def close(self) -> None:
        """Send what is kept, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def server_tls(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """TLS settings of a listener: TLS 1.2 at least; client certificates are welcome, not required.

    Raises OSError or ssl.SSLError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
