"""What an attach asks for, read once into frozen values, and the reply that echoes it."""

from dataclasses import dataclass, field
from typing import Final

from hotpath.amqp import capi, codec
from hotpath.amqp.conditions import INVALID_FIELD, NOT_IMPLEMENTED, Condition, Refused
from hotpath.model.errors import Unsupported
from hotpath.wire.types import WireError

SESSION_FILTER: Final = "com.microsoft:session-filter"


@dataclass(frozen=True, slots=True)
class Terminus:
    """A source or target as the peer sent it."""

    address: str | None
    kind: int
    dynamic: bool = False
    browsing: bool = False
    """distribution-mode copy: messages are to stay where they are."""
    filters: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attach:
    """A peer's attach.

    Attributes:
        name: The link's name.
        incoming: The peer is the sender.
        source: Where messages come from.
        target: Where they go.
        settled: The peer wants transfers settled by their sender (receive-and-delete).
    """

    name: str
    incoming: bool
    source: Terminus
    target: Terminus
    settled: bool

    @property
    def address(self) -> str | None:
        """The address on our side."""
        return self.target.address if self.incoming else self.source.address


def read_attach(link: capi.LinkPtr) -> Attach:
    """Read what the peer asks for. Raises Refused when it cannot be decoded."""
    try:
        source = _read(capi.link_remote_source(link))
        target = _read(capi.link_remote_target(link))
    except WireError as error:
        text = f"the source or target cannot be decoded: {error.detail}"
        raise Refused(Condition(INVALID_FIELD, text, {"field": "filter"})) from error
    return Attach(
        name=capi.link_name(link),
        incoming=capi.link_is_receiver(link),
        source=source,
        target=target,
        settled=capi.link_remote_snd_settle_mode(link) == capi.SENDER_SETTLED,
    )


def _read(terminus: capi.TerminusPtr) -> Terminus:
    return Terminus(
        address=capi.terminus_address(terminus),
        kind=capi.terminus_type(terminus),
        dynamic=capi.terminus_is_dynamic(terminus),
        browsing=capi.terminus_distribution(terminus) == capi.DISTRIBUTION_COPY,
        filters=codec.read_map(capi.terminus_filter(terminus)),
    )


def check_node(attach: Attach) -> None:
    """Refuse what has no address to ask a right for. Raises Refused."""
    node = attach.target if attach.incoming else attach.source
    if node.kind == capi.TERMINUS_COORDINATOR:
        raise _not_implemented("transactions are not supported", "transactions")
    if node.dynamic:
        raise _not_implemented("dynamic nodes are not supported", "dynamic-node")
    if node.kind == capi.TERMINUS_UNSPECIFIED or node.address is None:
        what = "target" if attach.incoming else "source"
        raise _not_implemented(f"the {what} needs an address", "anonymous-terminus")


def check_source(source: Terminus) -> None:
    """Refuse what a feed does not do, rather than ignore it. Raises Unsupported."""
    if SESSION_FILTER in source.filters:
        raise Unsupported("message sessions are not supported")
    for name, value in source.filters.items():
        if codec.undescribed(value) is not None:
            raise Unsupported(
                f"the filter {name[:100]} is not supported on attach: "
                "a subscription's filter is given when it is created"
            )
    if source.browsing:
        raise Unsupported("browsing (distribution-mode copy) is not supported")


def _not_implemented(text: str, feature: str) -> Refused:
    return Refused(Condition(NOT_IMPLEMENTED, text, {"feature": feature}))


def accept(link: capi.LinkPtr, *, message_bytes_max: int) -> None:
    """Reply to an attach with its own termini and modes."""
    capi.terminus_copy(capi.link_source(link), capi.link_remote_source(link))
    capi.terminus_copy(capi.link_target(link), capi.link_remote_target(link))
    _echo_modes(link)
    capi.link_set_max_message_size(link, message_bytes_max)
    capi.link_open(link)


def refuse(link: capi.LinkPtr) -> None:
    """Reply to an attach that will be detached at once: with null termini (§2.6.3)."""
    _echo_modes(link)
    capi.link_open(link)


def _echo_modes(link: capi.LinkPtr) -> None:
    # Some clients fail an attach whose reply has other modes than they asked for.
    capi.link_set_snd_settle_mode(link, capi.link_remote_snd_settle_mode(link))
    capi.link_set_rcv_settle_mode(link, capi.link_remote_rcv_settle_mode(link))
