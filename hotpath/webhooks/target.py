"""Where a stream's events go: reading a webhook URL, and reaching only what may be reached.

A URL is checked twice. `check_url` reads it at registration: its form, and its address if it has
one in place of a name. `Dialer.dial` resolves the name when a connection is opened, checks every
address it gets, and connects to one of exactly these: a name that meanwhile points elsewhere
(DNS rebinding) changes nothing, because nobody looks it up again. The certificate is checked
against the name, not the address. Proxies, redirects and the environment play no part.

The form is narrow on purpose. Where parsers are known to disagree (backslashes, user information,
numbers that are addresses to some, characters that normalise to others) a URL is refused.
"""

import asyncio
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol

from hotpath.ports import Clock
from hotpath.webhooks.address import Address, TargetPolicy, TargetRefused, check_address

#: Longest URL, characters.
URL_MAX: Final = 2_048
#: How long a resolved name is used for further connections, milliseconds.
RESOLVED_MS: Final = 30_000
#: Names kept with their addresses, and addresses tried of one name.
RESOLVED_MAX: Final = 4_096
ADDRESSES_MAX: Final = 8
#: Threads that wait for the system's resolver.
RESOLVER_THREADS: Final = 16

#: Ports of protocols that an HTTP request could be mistaken in (after the Fetch standard, §2.9).
_FOREIGN_PORTS: Final = frozenset(range(1, 1024)).union(
    (1719, 1720, 1723, 2049, 3659, 4045, 5060, 5061, 6000, 6379, 6566, 11211, 10080, 6697),
    range(6665, 6670),
) - {80, 443, 591, 593, 832, 981}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>.*)", re.DOTALL
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?P<port>:.*)?", re.DOTALL)
_PORT = re.compile(r":[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LOCAL_NAMES: Final = frozenset(("localhost", "localdomain", "local", "internal", "arpa"))
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook URL, read and found to be admissible in form."""

    tls: bool
    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    path: str
    """Path and query, as they stand in the request line."""
    address: Address | None
    """The host, if it is an address."""

    @property
    def authority(self) -> str:
        """The `Host` of a request: the port only where it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host
            if self.port == _DEFAULT_PORTS["https" if self.tls else "http"]
            else f"{host}:{self.port}"
        )


def check_url(url: str, policy: TargetPolicy) -> Target:
    """Read a webhook URL. Raises TargetRefused with what is wrong with it."""
    if not url or len(url) > URL_MAX:
        raise TargetRefused(f"the URL must have 1 to {URL_MAX} characters")
    if not all("!" <= character <= "~" for character in url):
        raise TargetRefused(
            "the URL has blanks, control or non-ASCII characters; write names in xn-- form and encode the rest"
        )
    if "\\" in url:
        raise TargetRefused("the URL has a backslash")
    match = _URL.fullmatch(url)
    if match is None:
        raise TargetRefused("it is no absolute URL such as https://example.com/hook")
    tls = _check_scheme(match["scheme"].lower(), policy)
    host, port = _split_authority(match["authority"])
    path = _check_path(match["path"])
    address = _read_address(host)
    target = Target(
        tls=tls,
        host=host.lower() if address is None else str(address),
        port=port if port is not None else _DEFAULT_PORTS["https" if tls else "http"],
        path=path,
        address=address,
    )
    if target.port in _FOREIGN_PORTS and not policy.allow_networks:
        raise TargetRefused(f"port {target.port} belongs to another protocol")
    if address is None:
        _check_name(target.host, policy)
    else:
        check_address(address, policy)
    return target


def _check_scheme(scheme: str, policy: TargetPolicy) -> bool:
    """Whether TLS is on. Raises TargetRefused."""
    if scheme == "https":
        return True
    if scheme == "http" and policy.allow_http:
        return False
    if scheme == "http":
        raise TargetRefused(
            "the URL must be https; http is off unless the service is configured so"
        )
    raise TargetRefused("the URL must be https")


def _split_authority(authority: str) -> tuple[str, int | None]:
    """Host as written, and port. Raises TargetRefused."""
    if "@" in authority:
        raise TargetRefused("the URL has credentials in it; use a webhookSecret")
    if "%" in authority:
        raise TargetRefused("the URL's host has percent-encoding or a zone in it")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"]:
        raise TargetRefused("the URL has no host, or none that can be read")
    if match["port"] is None:
        return match["host"], None
    if not _PORT.fullmatch(match["port"]) or int(match["port"][1:]) > 65_535:
        raise TargetRefused("the URL's port is no number from 1 to 65535")
    return match["host"], int(match["port"][1:])


def _check_path(path: str) -> str:
    """Path and query as sent. Raises TargetRefused."""
    if "#" in path:
        raise TargetRefused("the URL has a fragment, which is never sent")
    if _BARE_PERCENT.search(path):
        raise TargetRefused("the URL's path or query has percent signs that encode nothing")
    return path if path.startswith("/") else "/" + path


def _read_address(host: str) -> Address | None:
    """The address a host is in the one accepted notation; None for a name.

    Raises TargetRefused for other notations of addresses, which some resolvers accept.
    """
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1])
        except ValueError:
            raise TargetRefused("the URL's host is no IPv6 address") from None
    # WHATWG URL §3.5: what ends in a number is an address to a browser, in any base and length.
    if not _NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise TargetRefused(
            "the URL's host is a number, but no address of the form 192.0.2.1"
        ) from None


def _check_name(name: str, policy: TargetPolicy) -> None:
    """Raises TargetRefused for what is no host name, or one that is never public."""
    labels = name.split(".")
    if labels[-1] == "":
        raise TargetRefused("the URL's host ends in a dot")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise TargetRefused("the URL's host is no host name")
    if policy.allow_networks:
        return  # Local names may be meant; their addresses are looked at when connecting.
    if len(labels) == 1 or labels[-1] in _LOCAL_NAMES:
        raise TargetRefused("the URL's host is a local name")


class Resolver(Protocol):
    """Turns a name into addresses."""

    async def resolve(self, host: str) -> list[str]:
        """All addresses of a name. Raises OSError."""
        ...


class Connector(Protocol):
    """Opens connections to addresses, never to names."""

    async def connect(
        self,
        address: str,
        port: int,
        *,
        protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        """Connect and hand the transport to a new protocol. Raises OSError, ssl.SSLError."""
        ...


class SystemResolver:
    """The machine's resolver, on threads of its own so that slow names hold up nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="webhook-dns")

    async def resolve(self, host: str) -> list[str]:
        """All addresses, each once, in the system's order."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Let the threads go; one that still waits for an answer ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class SystemConnector:
    """TCP, with TLS where asked for."""

    async def connect(
        self,
        address: str,
        port: int,
        *,
        protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        """Connect; an address in digits is not looked up again."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            protocol, address, port, ssl=tls, server_hostname=server_name if tls else None
        )


class Dialer:
    """Opens checked connections."""

    def __init__(
        self,
        policy: TargetPolicy,
        *,
        resolver: Resolver,
        connector: Connector,
        tls: ssl.SSLContext,
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._connector = connector
        self._tls = tls
        self._clock = clock
        self._resolved: OrderedDict[str, tuple[int, list[Address]]] = OrderedDict()

    async def dial(self, target: Target, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection to a target; its addresses are tried in turn.

        Raises TargetRefused, OSError (ssl.SSLError among them).
        """
        failure: OSError | None = None
        for address in await self._addresses(target):
            # Checked last, right before the connection: what is not checked is not reached.
            check_address(address, self._policy)
            try:
                await self._connector.connect(
                    str(address),
                    target.port,
                    protocol=protocol,
                    tls=self._tls if target.tls else None,
                    server_name=target.host if target.tls else None,
                )
            except OSError as error:
                failure = error
            else:
                return
        self._resolved.pop(target.host, None)
        raise failure or OSError("the name has no address")

    async def _addresses(self, target: Target) -> list[Address]:
        """The target's addresses, all of them admissible. Raises TargetRefused, OSError."""
        if target.address is not None:
            return [target.address]
        found = self._resolved.get(target.host)
        if found is None or found[0] <= self._clock.ticks_ms():
            texts = await self._resolver.resolve(target.host)
            addresses = _read_resolved(texts)
            for address in addresses:
                _check_resolved(address, self._policy)
            found = (self._clock.ticks_ms() + RESOLVED_MS, addresses[:ADDRESSES_MAX])
            self._keep(target.host, found)
        return found[1]

    def _keep(self, host: str, found: tuple[int, list[Address]]) -> None:
        self._resolved[host] = found
        self._resolved.move_to_end(host)
        while len(self._resolved) > RESOLVED_MAX:
            self._resolved.popitem(last=False)


def _read_resolved(texts: list[str]) -> list[Address]:
    """What a resolver gave, as addresses. Raises OSError."""
    try:
        return [ip_address(text) for text in texts]
    except ValueError as error:
        raise OSError("the resolver gave something else than addresses") from error


def _check_resolved(address: Address, policy: TargetPolicy) -> None:
    """One bad address spoils a name: whoever mixes them is not to be trusted with the choice."""
    try:
        check_address(address, policy)
    except TargetRefused as refused:
        raise TargetRefused(f"the host's name leads to {refused.reason}") from None
