"""TLS as a server: which certificate is shown, and how a new one comes into force.

Listeners are given one context for good (`listening`). At each handshake it hands over to the one
that was read last (`ssl.SSLContext.sni_callback`, which is called also for clients that send no
name). So a new certificate is whole or not there at all, connections that stand go on, and a file
that cannot be used changes nothing.
"""

import asyncio
import ssl
from pathlib import Path

from hotpath.config import Settings
from hotpath.ports import Clock, TimerHandle
from hotpath.telemetry import get_logger

_log = get_logger("hotpath.tls")

#: What a file is recognised by: when it was written, its size, its inode.
_Version = tuple[tuple[int, int, int], ...]


class Certificates:
    """The server's certificate and key, read again when their files change.

    Args:
        certificate: PEM file with the certificate and its chain.
        key: PEM file with its private key.
        client_ca: PEM file with authorities whose client certificates count, or None.
        clock: For looking at the files every `interval_ms`; 0 turns that off.

    Raises:
        OSError: (which ssl.SSLError is) a file cannot be read or does not fit the others.

    Attributes:
        listening: What listeners use.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None,
        *,
        clock: Clock,
        interval_ms: int = 0,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._clock = clock
        self._interval_ms = interval_ms
        self._timer: TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._version = self._look_at_files()
        self._current = self._read()
        self.listening = self._read()
        self.listening.sni_callback = self._hand_over

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "Certificates | None":
        """As configured; None without a certificate. Raises OSError."""
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        return cls(
            settings.tls_cert,
            settings.tls_key,
            settings.tls_client_ca,
            clock=clock,
            interval_ms=round(settings.tls_reload_seconds * 1000),
        )

    def start(self) -> None:
        """Begin to look at the files."""
        if self._interval_ms and self._timer is None:
            due_ms = self._clock.ticks_ms() + self._interval_ms
            self._timer = self._clock.call_at(due_ms, self._look)

    async def stop(self) -> None:
        """Look no more."""
        self._interval_ms = 0
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    async def reload(self) -> bool:
        """Read the files now; whether what they hold is in force."""
        try:
            version = await asyncio.to_thread(self._look_at_files)
            current = await asyncio.to_thread(self._read)
        except OSError as error:
            _log.error(
                "certificate not usable, the old one stays",
                extra={"file": str(self._certificate), "reason": str(error)},
            )
            return False
        # Both in one turn of the loop: no handshake sees half of it.
        self._version, self._current = version, current
        _log.info("certificate read again", extra={"file": str(self._certificate)})
        return True

    def _hand_over(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def _look(self) -> None:
        self._timer = None
        self._looking = asyncio.ensure_future(self._reload_if_changed())

    async def _reload_if_changed(self) -> None:
        try:
            version: _Version | None = await asyncio.to_thread(self._look_at_files)
        except OSError:
            version = None  # being replaced just now, or gone: `reload` says so
        if version != self._version and not await self.reload():
            # Said once; the next change is looked at again.
            self._version = version or ()
        self.start()

    def _look_at_files(self) -> _Version:
        found = [self._certificate, self._key]
        if self._client_ca is not None:
            found.append(self._client_ca)
        states = [path.stat() for path in found]
        return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)

    def _read(self) -> ssl.SSLContext:
        """TLS 1.2 at least; a client certificate is welcome, not required. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context
