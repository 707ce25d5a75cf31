"""How a node reaches the servers, and what it asks of them."""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import nkeys  # type: ignore[import-untyped]

from hotpath.ports import LogFailure

_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
#: JetStream keeps no more than so many copies.
REPLICAS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Servers, and who asks; nothing secret shows in its text."""

    servers: tuple[str, ...] = field(repr=False)
    """`nats://host:port` or `tls://host:port`; all of a cluster."""
    name: str = "hotpath"
    """Shown in the server's list of connections."""
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    credentials: Path | None = None
    """A `.creds` file: a user's JWT and seed."""
    nkey: Path | None = None
    """A file with a user's seed."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    open_seconds: float = 10.0
    """How long the first connection may take."""
    request_seconds: float = 2.0
    """After which an answer is not waited for any longer, and the request is repeated."""
    silence_seconds: float = 1.0
    """How often the server is asked whether it is there; thrice in vain, another one is tried."""

    def check(self) -> None:
        """Raises LogFailure when this cannot work, saying why."""
        if not self.servers:
            raise LogFailure("no NATS server is given")
        for server in self.servers:
            if not _is_server(server):
                raise LogFailure(f"{shown(server)!r} is no address of a NATS server")
        ways = [self.credentials, self.nkey, self.user, self.token]
        if sum(way is not None for way in ways) > 1:
            raise LogFailure("give one of credentials, nkey, user and token for NATS, not several")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise LogFailure("a TLS certificate for NATS needs its key, and a key its certificate")
        self._check_files()

    def _check_files(self) -> None:
        """The library would raise all sorts of errors for such files, or read one for ever."""
        if self.nkey is not None:
            _check_seed(self.nkey, _lines(self.nkey)[:1])
        if self.credentials is not None:
            lines = _lines(self.credentials)
            if not _behind(lines, b"BEGIN NATS USER JWT"):
                raise LogFailure(f"{self.credentials} holds no user's JWT")
            _check_seed(self.credentials, _behind(lines, b"BEGIN USER NKEY SEED"))

    def tls_context(self) -> ssl.SSLContext | None:
        """What TLS needs, None where it is not asked for. Raises LogFailure."""
        wanted = any(urlsplit(server).scheme == "tls" for server in self.servers)
        if not wanted and self.tls_ca is None and self.tls_certificate is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_certificate is not None:
                context.load_cert_chain(self.tls_certificate, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(map(str, filter(None, (self.tls_ca, self.tls_certificate))))
            raise LogFailure(f"TLS to NATS cannot be set up with {files}: {error}") from error
        return context


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().strip().splitlines()
    except OSError as error:
        raise LogFailure(f"{path} cannot be read: {error.strerror}") from error


def _behind(lines: list[bytes], mark: bytes) -> list[bytes]:
    """The line behind the one with a mark."""
    at = next((n for n, line in enumerate(lines, 1) if mark in line), len(lines))
    return lines[at : at + 1]


def _check_seed(path: Path, lines: list[bytes]) -> None:
    """Raises LogFailure when there is no user's seed."""
    try:
        nkeys.from_seed(bytearray(lines[0]))
    except (nkeys.NkeysError, ValueError, IndexError) as error:
        raise LogFailure(f"{path} holds no user's seed") from error


def _is_server(server: str) -> bool:
    """Whether a text is the address of a server."""
    try:
        parts = urlsplit(server)
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(server: str) -> str:
    """A server's address without whatever stands before an @."""
    scheme, separator, rest = server.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the log asks of JetStream."""

    prefix: str = "hotpath"
    """Begins the names of all streams and subjects: several clusters can share the servers."""
    shards: int = 64
    """Parts that the subscriptions are divided into; never changed once there is data."""
    replicas: int = 1
    """Servers that have each message before it is acknowledged, 1 to 5."""
    commit_seconds: float = 10.0
    """A commit that is not confirmed by then is refused."""
    failing_seconds: float = 1.0
    """The same while the commit before has failed."""
    duplicate_seconds: float = 60.0
    """For how long a server recognises a repeated append."""
    in_flight: int = 1
    """Appends to one topic that are on their way at the same time.

    With more than one, two of them may change places when a connection breaks."""
    payload_min: int = 2_097_152
    """What the servers' `max_payload` must be at least, bytes."""
    journal_bytes: int = 131_072
    """Size at which a shard's journal is written anew without what later entries have replaced."""
    tombstone_seconds: int = 86_400
    """For how long a removed record can be seen to have been removed."""

    def check(self) -> None:
        """Raises LogFailure when this cannot work, saying why."""
        if not _PREFIX.fullmatch(self.prefix):
            raise LogFailure(
                f"{self.prefix!r} cannot begin the names of streams: "
                "1 to 32 letters, digits and hyphens"
            )
        if not 1 <= self.replicas <= REPLICAS_MAX:
            raise LogFailure(f"replicas must be 1 to {REPLICAS_MAX}")
        if not 1 <= self.shards <= 4096:
            raise LogFailure("shards must be 1 to 4096")
        if self.duplicate_seconds < 2 * self.commit_seconds:
            raise LogFailure("the duplicate window must be twice the time of a commit at least")
