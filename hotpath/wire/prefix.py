"""What the broker puts in front of a stored message on its way to a receiver.

    header · [delivery-annotations] · message-annotations · bare message

All receivers that agree in enqueued time, lock and delivery count share one `DeliveryPrefix`; only
the sequence number differs from message to message, and it comes last so that joining three byte
strings makes the transfer.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final
from uuid import UUID

from hotpath.wire.encoder import encode, encode_list, sized
from hotpath.wire.mapping import read_entries, without
from hotpath.wire.stored import (
    ANNOTATIONS_MARK,
    HEADER_MARK,
    SCHEDULED,
    is_plain,
    stored_parts,
)
from hotpath.wire.values import Int, Long, Symbol, Timestamp, UByte, UInt

_SEQUENCE_NUMBER: Final = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_LOCK_TOKEN: Final = encode(Symbol("x-opt-lock-token"))
_DELIVERY_ANNOTATIONS_MARK: Final = b"\x00\x53\x71"

_pack_i64 = Struct(">q").pack


@dataclass(frozen=True, slots=True)
class BrokerAnnotations:
    """Annotations that only some deliveries carry."""

    message_state: int | None = None
    """0 active, 1 deferred, 2 scheduled."""
    scheduled_ms: int | None = None
    """When it is to be enqueued, milliseconds since the epoch."""
    enqueue_sequence_number: int | None = None
    deadletter_source: str | None = None
    """The entity that a dead letter comes from."""

    def encoded(self) -> dict[bytes, bytes]:
        """From the names of those that are set to their encoded values."""
        values: dict[bytes, object] = {}
        if self.message_state is not None:
            values[b"x-opt-message-state"] = Int(self.message_state)
        if self.scheduled_ms is not None:
            values[SCHEDULED] = Timestamp(self.scheduled_ms)
        if self.enqueue_sequence_number is not None:
            values[b"x-opt-enqueue-sequence-number"] = Long(self.enqueue_sequence_number)
        if self.deadletter_source is not None:
            values[b"x-opt-deadletter-source"] = self.deadletter_source
        return {name: encode(value) for name, value in values.items()}


@lru_cache(maxsize=1024)
def _header(delivery_count: int, priority: int | None, ttl_ms: int | None) -> bytes:
    """A header section with every field there, also those that have their default."""
    fields: tuple[object, ...] = (
        True,
        None if priority is None else UByte(priority),
        None if ttl_ms is None else UInt(ttl_ms),
        delivery_count == 0,
        UInt(delivery_count),
    )
    return HEADER_MARK + encode_list([encode(field) for field in fields])


def _entry(name: bytes, value: bytes) -> bytes:
    return bytes((0xA3, len(name))) + name + value


class DeliveryPrefix:
    """Header and annotations that a run of deliveries has in common.

    Args:
        enqueued_ms: When the log accepted the messages, milliseconds since the epoch.
        locked_until_ms: End of their lock; None when there is none (receive-and-delete, peek).
        delivery_count: Earlier failed deliveries.
        extra: Annotations besides.
        lock_token: Goes into delivery-annotations, for messages that travel inside a management
            reply and so have no delivery tag.

    Attributes:
        opening: For a plain message, all that comes before the eight bytes of its sequence number.
    """

    __slots__ = ("_annotations", "_delivery_annotations", "_delivery_count", "_own", "opening")

    def __init__(
        self,
        *,
        enqueued_ms: int,
        locked_until_ms: int | None = None,
        delivery_count: int = 0,
        extra: BrokerAnnotations | None = None,
        lock_token: UUID | None = None,
    ) -> None:
        entries = [_ENQUEUED_TIME + _pack_i64(enqueued_ms)]
        self._own: Collection[bytes] = ()
        if locked_until_ms is not None:
            entries.append(_LOCKED_UNTIL + _pack_i64(locked_until_ms))
        if extra is not None:
            own = extra.encoded()
            entries += (_entry(name, value) for name, value in own.items())
            self._own = own.keys()
        self._annotations = entries
        self._delivery_count = delivery_count
        self._delivery_annotations = b"" if lock_token is None else _lock_token(lock_token)
        self.opening = (
            _header(delivery_count, None, None)
            + self._delivery_annotations
            + _open_annotations(entries)
        )

    def wire(self, seq: int, stored: bytes) -> bytes:
        """The bytes to transfer for a stored message with sequence number `seq`.

        Raises:
            WireError: What is in front of a message that is not plain is damaged.
        """
        if is_plain(stored):
            return self.opening + _pack_i64(seq) + stored
        return self._merged(seq, stored)

    def _merged(self, seq: int, stored: bytes) -> bytes:
        """Put the publisher's ttl, priority and annotations beside the broker's."""
        parts = stored_parts(stored)
        entries = self._annotations
        if parts.annotations is not None:
            theirs = read_entries(parts.annotations, 0)
            entries = without(parts.annotations, theirs, self._own) + entries
        return b"".join(
            (
                _header(self._delivery_count, parts.priority, parts.ttl_ms),
                self._delivery_annotations,
                _open_annotations(entries),
                _pack_i64(seq),
                stored[parts.bare :],
            )
        )


@lru_cache(maxsize=64)
def common_prefix(
    enqueued_ms: int, locked_until_ms: int | None, delivery_count: int
) -> DeliveryPrefix:
    """A prefix without anything special, which all receivers of a batch ask for."""
    return DeliveryPrefix(
        enqueued_ms=enqueued_ms, locked_until_ms=locked_until_ms, delivery_count=delivery_count
    )


_ENQUEUED_TIME: Final = _entry(b"x-opt-enqueued-time", b"\x83")
_LOCKED_UNTIL: Final = _entry(b"x-opt-locked-until", b"\x83")


def _open_annotations(entries: list[bytes]) -> bytes:
    """The annotations section of these entries and the sequence number, up to its eight bytes."""
    body = b"".join(entries) + _SEQUENCE_NUMBER
    count = 2 * len(entries) + 2
    return ANNOTATIONS_MARK + sized(body + bytes(8), code=0xC1, count=count)[:-8]


def _lock_token(token: UUID) -> bytes:
    return _DELIVERY_ANNOTATIONS_MARK + sized(_LOCK_TOKEN + encode(token), code=0xC1, count=2)
