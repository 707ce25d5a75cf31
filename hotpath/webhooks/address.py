"""Which addresses a delivery may go to: public ones, and those of the operator's allow-list.

Everything that is not known to be public is refused: IPv4 by the special-purpose registry
(RFC 6890 and its followers), IPv6 by allowing only global unicast (2000::/3) less its own special
blocks. Forms of IPv6 that carry an IPv4 address are refused as such; where the allow-list admits
them, the address inside must be admissible too.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_V4: Final = tuple(
    (IPv4Network(block), what)
    for block, what in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier-grade NAT"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a documentation"),
        ("192.31.196.0/24", "a reserved"),
        ("192.52.193.0/24", "a reserved"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "a private"),
        ("192.175.48.0/24", "a reserved"),
        ("198.18.0.0/15", "a benchmarking"),
        ("198.51.100.0/24", "a documentation"),
        ("203.0.113.0/24", "a documentation"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
)

_PUBLIC_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    (IPv6Network(block), what)
    for block, what in (
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("::ffff:0:0/96", "an IPv4-mapped"),
        ("::ffff:0:0:0/96", "an IPv4-translated"),
        ("::/96", "an IPv4-compatible"),
        ("64:ff9b::/96", "a NAT64"),
        ("64:ff9b:1::/48", "a NAT64"),
        ("100::/64", "a discard-only"),
        ("2001::/32", "a Teredo"),
        ("2001:db8::/32", "a documentation"),
        ("2001::/23", "a reserved"),
        ("2002::/16", "a 6to4"),
        ("2620:4f:8000::/48", "a reserved"),
        ("3fff::/20", "a documentation"),
        ("5f00::/16", "a segment routing"),
        ("fc00::/7", "a unique local"),
        ("fe80::/10", "a link-local"),
        ("fec0::/10", "a site-local"),
        ("ff00::/8", "a multicast"),
    )
)

#: Where cloud providers tell a machine its own credentials; no allow-list admits these.
_METADATA: Final = frozenset(
    map(
        IPv4Address,
        ("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192"),
    )
) | frozenset(map(IPv6Address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")))


class TargetRefused(Exception):
    """A place that deliveries do not go to; the text says why and is fit for the stream's owner.

    It never holds an address that a name was resolved to: that would tell outsiders what the
    service's own DNS knows.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What the operator admits beyond https to public addresses."""

    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()

    def admits(self, address: Address) -> bool:
        """Whether the allow-list names the address."""
        return any(address in network for network in self.allow_networks)


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, separated by commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


@lru_cache(maxsize=4_096)
def check_address(address: Address, policy: TargetPolicy) -> None:
    """Raises TargetRefused unless deliveries may go to `address`."""
    kind = refusal(address)
    inner = _inner_v4(address)
    if address in _METADATA or inner in _METADATA:
        raise TargetRefused("an address of a cloud metadata service")
    if _goes_nowhere(address):
        raise TargetRefused(f"{kind} address, where nothing can listen")
    if kind is None:
        return
    if not policy.admits(address):
        raise TargetRefused(f"{kind} address, which is not public")
    if inner is not None:
        check_address(inner, policy)


def refusal(address: Address) -> str | None:
    """What kind of address it is, if it is not public: `a private`, `a loopback`, ..."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "a scoped"
    special = _SPECIAL_V4 if isinstance(address, IPv4Address) else _SPECIAL_V6
    for network, what in special:
        if address in network:
            return what
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return "a reserved"
    return None


def _goes_nowhere(address: Address) -> bool:
    """Nothing can listen there: no allow-list makes sense of it."""
    broadcast = address == IPv4Address("255.255.255.255")
    return address.is_multicast or address.is_unspecified or broadcast


def _inner_v4(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address carries to whoever translates it."""
    if isinstance(address, IPv4Address) or address.is_loopback:
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


_TRANSLATED: Final = tuple(
    map(
        IPv6Network,
        ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)
