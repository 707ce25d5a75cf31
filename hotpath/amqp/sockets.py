"""TCP and TLS connections as sinks, and the TLS settings of listeners."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from typing_extensions import override

from hotpath.amqp.connection import Connection

#: Bytes read from a socket at once.
READ_BYTES: Final = 262_144


class SocketSink(asyncio.BufferedProtocol):
    """A TCP or TLS connection, as asyncio drives it and as a connection writes to it.

    Args:
        shared: The read buffer of all sockets: what is read is taken in before the next read.
        output_bytes_max: Unsent bytes above which `resume_writing` will tell of room.
        adopt: Makes the connection once the transport (and TLS) stands; None: refused.
        left: Called when the socket is gone, or was never there.
    """

    def __init__(
        self,
        *,
        shared: bytearray,
        output_bytes_max: int,
        adopt: Callable[["SocketSink"], Connection | None],
        left: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._view = memoryview(shared)
        self._output_bytes_max = output_bytes_max
        self._adopt = adopt
        self._left = left
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
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
        return self._view

    @override
    def buffer_updated(self, nbytes: int) -> None:
        if self._connection is not None:
            self._connection.receive(self._shared, nbytes)

    @override
    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writable()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        connection, self._connection, self._transport = self._connection, None, None
        if connection is not None:
            connection.lost()
        self._left()

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
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

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
