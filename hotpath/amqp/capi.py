"""Proton's C API, typed: the only module that imports it.

Proton ships a cffi module under its Python binding; these are its functions with their types, bound
once so that a call costs no attribute lookup. Handles are C pointers. They hash and compare by
address, so they serve as dictionary keys, and they are dangling once their owner is freed:

    connection  owns sessions, links and deliveries; freed by `Engine.free`
    link        freed by `link_free`, by its session or by its connection
    delivery    lives until it is settled, then its memory serves another delivery
"""

from collections.abc import Callable
from typing import Final, NewType, cast

from cproton_ffi import ffi, lib

ConnectionPtr = NewType("ConnectionPtr", object)
SessionPtr = NewType("SessionPtr", object)
LinkPtr = NewType("LinkPtr", object)
DeliveryPtr = NewType("DeliveryPtr", object)
TransportPtr = NewType("TransportPtr", object)
CollectorPtr = NewType("CollectorPtr", object)
EventPtr = NewType("EventPtr", object)
TerminusPtr = NewType("TerminusPtr", object)
ConditionPtr = NewType("ConditionPtr", object)
DispositionPtr = NewType("DispositionPtr", object)
DataPtr = NewType("DataPtr", object)
TagValue = NewType("TagValue", object)
Memory = NewType("Memory", object)

EOS: Final = -1

ACCEPTED: Final[int] = lib.PN_ACCEPTED
REJECTED: Final[int] = lib.PN_REJECTED
RELEASED: Final[int] = lib.PN_RELEASED
MODIFIED: Final[int] = lib.PN_MODIFIED

TERMINUS_UNSPECIFIED: Final[int] = lib.PN_UNSPECIFIED
TERMINUS_COORDINATOR: Final[int] = lib.PN_COORDINATOR
DISTRIBUTION_COPY: Final[int] = lib.PN_DIST_MODE_COPY
SENDER_SETTLED: Final[int] = lib.PN_SND_SETTLED

CONNECTION_REMOTE_OPEN: Final[int] = lib.PN_CONNECTION_REMOTE_OPEN
CONNECTION_REMOTE_CLOSE: Final[int] = lib.PN_CONNECTION_REMOTE_CLOSE
SESSION_REMOTE_OPEN: Final[int] = lib.PN_SESSION_REMOTE_OPEN
SESSION_REMOTE_CLOSE: Final[int] = lib.PN_SESSION_REMOTE_CLOSE
LINK_REMOTE_OPEN: Final[int] = lib.PN_LINK_REMOTE_OPEN
LINK_REMOTE_CLOSE: Final[int] = lib.PN_LINK_REMOTE_CLOSE
LINK_REMOTE_DETACH: Final[int] = lib.PN_LINK_REMOTE_DETACH
LINK_FLOW: Final[int] = lib.PN_LINK_FLOW
DELIVERY: Final[int] = lib.PN_DELIVERY
TRANSPORT_ERROR: Final[int] = lib.PN_TRANSPORT_ERROR
TRANSPORT_TAIL_CLOSED: Final[int] = lib.PN_TRANSPORT_TAIL_CLOSED
TRANSPORT_CLOSED: Final[int] = lib.PN_TRANSPORT_CLOSED

# Connection and transport
connection_new: Callable[[], ConnectionPtr] = lib.pn_connection
connection_collect: Callable[[ConnectionPtr, CollectorPtr], None] = lib.pn_connection_collect
connection_open: Callable[[ConnectionPtr], None] = lib.pn_connection_open
connection_close: Callable[[ConnectionPtr], None] = lib.pn_connection_close
connection_release: Callable[[ConnectionPtr], None] = lib.pn_connection_release
connection_set_container: Callable[[ConnectionPtr, bytes], None] = lib.pn_connection_set_container
connection_properties: Callable[[ConnectionPtr], DataPtr] = lib.pn_connection_properties
connection_condition: Callable[[ConnectionPtr], ConditionPtr] = lib.pn_connection_condition
connection_remote_properties: Callable[[ConnectionPtr], DataPtr] = (
    lib.pn_connection_remote_properties
)
connection_remote_condition: Callable[[ConnectionPtr], ConditionPtr] = (
    lib.pn_connection_remote_condition
)
_connection_remote_container: Callable[[ConnectionPtr], object] = lib.pn_connection_remote_container
decref: Callable[[ConnectionPtr | TransportPtr], int] = lib.pn_decref

transport_new: Callable[[], TransportPtr] = lib.pn_transport
transport_set_server: Callable[[TransportPtr], None] = lib.pn_transport_set_server
transport_set_max_frame: Callable[[TransportPtr, int], None] = lib.pn_transport_set_max_frame
transport_set_channel_max: Callable[[TransportPtr, int], int] = lib.pn_transport_set_channel_max
transport_set_idle_timeout: Callable[[TransportPtr, int], None] = lib.pn_transport_set_idle_timeout
transport_remote_idle_timeout: Callable[[TransportPtr], int] = (
    lib.pn_transport_get_remote_idle_timeout
)
transport_bind: Callable[[TransportPtr, ConnectionPtr], int] = lib.pn_transport_bind
transport_unbind: Callable[[TransportPtr], int] = lib.pn_transport_unbind
transport_push: Callable[[TransportPtr, Memory, int], int] = lib.pn_transport_push
transport_pending: Callable[[TransportPtr], int] = lib.pn_transport_pending
transport_peek: Callable[[TransportPtr, Memory, int], int] = lib.pn_transport_peek
transport_pop: Callable[[TransportPtr, int], None] = lib.pn_transport_pop
transport_tick: Callable[[TransportPtr, int], int] = lib.pn_transport_tick
transport_condition: Callable[[TransportPtr], ConditionPtr] = lib.pn_transport_condition
transport_close_tail: Callable[[TransportPtr], int] = lib.pn_transport_close_tail

# Events
collector_new: Callable[[], CollectorPtr] = lib.pn_collector
collector_release: Callable[[CollectorPtr], None] = lib.pn_collector_release
collector_free: Callable[[CollectorPtr], None] = lib.pn_collector_free
collector_peek: Callable[[CollectorPtr], EventPtr | None] = lib.pn_collector_peek
collector_pop: Callable[[CollectorPtr], bool] = lib.pn_collector_pop
event_type: Callable[[EventPtr], int] = lib.pn_event_type
event_session: Callable[[EventPtr], SessionPtr] = lib.pn_event_session
event_link: Callable[[EventPtr], LinkPtr] = lib.pn_event_link
event_delivery: Callable[[EventPtr], DeliveryPtr] = lib.pn_event_delivery

# Sessions
session_open: Callable[[SessionPtr], None] = lib.pn_session_open
session_close: Callable[[SessionPtr], None] = lib.pn_session_close
session_free: Callable[[SessionPtr], None] = lib.pn_session_free
session_outgoing_bytes: Callable[[SessionPtr], int] = lib.pn_session_outgoing_bytes

# Links
link_open: Callable[[LinkPtr], None] = lib.pn_link_open
link_close: Callable[[LinkPtr], None] = lib.pn_link_close
link_detach: Callable[[LinkPtr], None] = lib.pn_link_detach
link_free: Callable[[LinkPtr], None] = lib.pn_link_free
link_session: Callable[[LinkPtr], SessionPtr] = lib.pn_link_session
link_is_receiver: Callable[[LinkPtr], bool] = lib.pn_link_is_receiver
link_condition: Callable[[LinkPtr], ConditionPtr] = lib.pn_link_condition
link_credit: Callable[[LinkPtr], int] = lib.pn_link_credit
link_flow: Callable[[LinkPtr, int], None] = lib.pn_link_flow
link_get_drain: Callable[[LinkPtr], bool] = lib.pn_link_get_drain
link_drained: Callable[[LinkPtr], int] = lib.pn_link_drained
link_current: Callable[[LinkPtr], DeliveryPtr | None] = lib.pn_link_current
link_advance: Callable[[LinkPtr], bool] = lib.pn_link_advance
link_recv: Callable[[LinkPtr, Memory, int], int] = lib.pn_link_recv
link_send: Callable[[LinkPtr, bytes, int], int] = lib.pn_link_send
link_source: Callable[[LinkPtr], TerminusPtr] = lib.pn_link_source
link_target: Callable[[LinkPtr], TerminusPtr] = lib.pn_link_target
link_remote_source: Callable[[LinkPtr], TerminusPtr] = lib.pn_link_remote_source
link_remote_target: Callable[[LinkPtr], TerminusPtr] = lib.pn_link_remote_target
link_properties: Callable[[LinkPtr], DataPtr] = lib.pn_link_properties
link_remote_properties: Callable[[LinkPtr], DataPtr] = lib.pn_link_remote_properties
link_remote_snd_settle_mode: Callable[[LinkPtr], int] = lib.pn_link_remote_snd_settle_mode
link_remote_rcv_settle_mode: Callable[[LinkPtr], int] = lib.pn_link_remote_rcv_settle_mode
link_set_snd_settle_mode: Callable[[LinkPtr, int], None] = lib.pn_link_set_snd_settle_mode
link_set_rcv_settle_mode: Callable[[LinkPtr, int], None] = lib.pn_link_set_rcv_settle_mode
link_set_max_message_size: Callable[[LinkPtr, int], None] = lib.pn_link_set_max_message_size
_link_name: Callable[[LinkPtr], object] = lib.pn_link_name

# Deliveries
delivery_new: Callable[[LinkPtr, TagValue], DeliveryPtr] = lib.pn_delivery
delivery_settle: Callable[[DeliveryPtr], None] = lib.pn_delivery_settle
delivery_update: Callable[[DeliveryPtr, int], None] = lib.pn_delivery_update
delivery_settled: Callable[[DeliveryPtr], bool] = lib.pn_delivery_settled
delivery_pending: Callable[[DeliveryPtr], int] = lib.pn_delivery_pending
delivery_partial: Callable[[DeliveryPtr], bool] = lib.pn_delivery_partial
delivery_aborted: Callable[[DeliveryPtr], bool] = lib.pn_delivery_aborted
delivery_remote_state: Callable[[DeliveryPtr], int] = lib.pn_delivery_remote_state
delivery_local: Callable[[DeliveryPtr], DispositionPtr] = lib.pn_delivery_local
delivery_remote: Callable[[DeliveryPtr], DispositionPtr] = lib.pn_delivery_remote
disposition_condition: Callable[[DispositionPtr], ConditionPtr] = lib.pn_disposition_condition
disposition_annotations: Callable[[DispositionPtr], DataPtr] = lib.pn_disposition_annotations
disposition_is_undeliverable: Callable[[DispositionPtr], bool] = lib.pn_disposition_is_undeliverable
disposition_set_failed: Callable[[DispositionPtr, bool], None] = lib.pn_disposition_set_failed
disposition_set_undeliverable: Callable[[DispositionPtr, bool], None] = (
    lib.pn_disposition_set_undeliverable
)
_delivery_tag: Callable[[DeliveryPtr], object] = lib.pn_delivery_tag

# Termini, conditions, values
terminus_type: Callable[[TerminusPtr], int] = lib.pn_terminus_get_type
terminus_copy: Callable[[TerminusPtr, TerminusPtr], int] = lib.pn_terminus_copy
terminus_is_dynamic: Callable[[TerminusPtr], bool] = lib.pn_terminus_is_dynamic
terminus_filter: Callable[[TerminusPtr], DataPtr] = lib.pn_terminus_filter
terminus_distribution: Callable[[TerminusPtr], int] = lib.pn_terminus_get_distribution_mode
_terminus_address: Callable[[TerminusPtr], object] = lib.pn_terminus_get_address
condition_is_set: Callable[[ConditionPtr], bool] = lib.pn_condition_is_set
condition_set_name: Callable[[ConditionPtr, bytes], int] = lib.pn_condition_set_name
condition_set_description: Callable[[ConditionPtr, bytes], int] = lib.pn_condition_set_description
condition_info: Callable[[ConditionPtr], DataPtr] = lib.pn_condition_info
_condition_name: Callable[[ConditionPtr], object] = lib.pn_condition_get_name
_condition_description: Callable[[ConditionPtr], object] = lib.pn_condition_get_description
data_encoded_size: Callable[[DataPtr], int] = lib.pn_data_encoded_size
data_encode: Callable[[DataPtr, Memory, int], int] = lib.pn_data_encode
data_decode: Callable[[DataPtr, bytes, int], int] = lib.pn_data_decode
data_clear: Callable[[DataPtr], None] = lib.pn_data_clear

# Memory

allocate: Callable[[str, int], Memory] = ffi.new
view: Callable[[Memory, int], memoryview] = ffi.buffer
unpack: Callable[[Memory, int], bytes] = ffi.unpack
borrow: Callable[[bytes | bytearray | memoryview], Memory] = ffi.from_buffer
_NULL: Final = ffi.NULL


def offset(memory: Memory, by: int) -> Memory:
    """The address `by` bytes behind another."""
    return cast("Memory", memory + by)  # type: ignore[operator]  # C pointer arithmetic


def _text(chars: object) -> str | None:
    """A C string, or None for a null pointer; bytes that are no UTF-8 are replaced."""
    if chars == _NULL:
        return None
    return cast("bytes", ffi.string(chars)).decode("utf-8", "replace")


def connection_remote_container(connection: ConnectionPtr) -> str:
    """The container-id of the peer's open."""
    return _text(_connection_remote_container(connection)) or ""


def link_name(link: LinkPtr) -> str:
    """The link's name, which its peer chose."""
    return _text(_link_name(link)) or ""


def terminus_address(terminus: TerminusPtr) -> str | None:
    """A source's or target's address, None if it is null."""
    return _text(_terminus_address(terminus))


def condition_name(condition: ConditionPtr) -> str:
    """The symbol of a condition; empty if none is set."""
    return _text(_condition_name(condition)) or ""


def condition_description(condition: ConditionPtr) -> str:
    """The description of a condition; empty if none is set."""
    return _text(_condition_description(condition)) or ""


def delivery_tag(delivery: DeliveryPtr) -> bytes:
    """The tag of a delivery."""
    tag = _delivery_tag(delivery)
    return cast("bytes", ffi.unpack(tag.start, tag.size)) if tag.size else b""  # type: ignore[attr-defined]  # C struct


# Addresses, for the C helper

#: What the helper calls, and the C type that it takes each for.
_HELPER_CALLS: Final = {
    "pn_collector_peek": "struct pn_event_t *(*)(struct pn_collector_t *)",
    "pn_collector_pop": "_Bool(*)(struct pn_collector_t *)",
    "pn_event_type": "pn_event_type_t(*)(struct pn_event_t *)",
    "pn_event_link": "struct pn_link_t *(*)(struct pn_event_t *)",
    "pn_event_delivery": "struct pn_delivery_t *(*)(struct pn_event_t *)",
    "pn_link_current": "struct pn_delivery_t *(*)(struct pn_link_t *)",
    "pn_link_advance": "_Bool(*)(struct pn_link_t *)",
    "pn_link_recv": "ssize_t(*)(struct pn_link_t *, char *, size_t)",
    "pn_link_send": "ssize_t(*)(struct pn_link_t *, char *, size_t)",
    "pn_link_credit": "int(*)(struct pn_link_t *)",
    "pn_link_get_drain": "_Bool(*)(struct pn_link_t *)",
    "pn_link_session": "struct pn_session_t *(*)(struct pn_link_t *)",
    "pn_session_outgoing_bytes": "size_t(*)(struct pn_session_t *)",
    "pn_delivery": "struct pn_delivery_t *(*)(struct pn_link_t *, struct pn_bytes_t)",
    "pn_delivery_pending": "size_t(*)(struct pn_delivery_t *)",
    "pn_delivery_partial": "_Bool(*)(struct pn_delivery_t *)",
    "pn_delivery_aborted": "_Bool(*)(struct pn_delivery_t *)",
    "pn_delivery_settle": "void(*)(struct pn_delivery_t *)",
    "pn_delivery_update": "void(*)(struct pn_delivery_t *, uint64_t)",
    "pn_transport_pending": "ssize_t(*)(struct pn_transport_t *)",
    "pn_transport_peek": "ssize_t(*)(struct pn_transport_t *, char *, size_t)",
    "pn_transport_pop": "void(*)(struct pn_transport_t *, size_t)",
}


def helper_table() -> dict[str, int] | None:
    """Addresses and numbers for the C helper; None if this Proton is not the one it knows."""
    table = {"PN_DELIVERY": DELIVERY, "PN_LINK_FLOW": LINK_FLOW}
    for name, kind in _HELPER_CALLS.items():
        if not hasattr(lib, name):
            return None
        function = ffi.addressof(lib, name)
        if ffi.typeof(function).cname != kind:
            return None
        table[name] = address_of(function)
    return table


def address_of(pointer: object) -> int:
    """Where a pointer points."""
    return int(ffi.cast("uintptr_t", pointer))


def delivery_at(address: int) -> DeliveryPtr:
    """The delivery at an address."""
    return cast("DeliveryPtr", ffi.cast("pn_delivery_t *", address))


def tag_of(memory: Memory, size: int) -> TagValue:
    """A delivery tag as a C value that borrows `memory`, which the caller keeps alive."""
    return cast("TagValue", ffi.new("pn_bytes_t *", {"size": size, "start": memory})[0])
