"""The stored form of a message: what is in front of its bare message, and when it is due.

A stored message is `[header section] [message-annotations section] bare message`, where the two in
front are there only if the publisher set something that matters, and always with the short form
of their descriptors. Most messages have neither and are called plain.
"""

from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple, cast

from hotpath.wire.decoder import decode
from hotpath.wire.encoder import encode, encode_list
from hotpath.wire.mapping import build_map, read_entries, without
from hotpath.wire.scan import STEP, contents, read_u32, skip
from hotpath.wire.sections import (
    PROPERTIES,
    Section,
    iter_sections,
)
from hotpath.wire.values import Timestamp, UByte, UInt, WireError

HEADER_MARK: Final = b"\x00\x53\x70"
ANNOTATIONS_MARK: Final = b"\x00\x53\x72"
_MARKS: Final = frozenset((HEADER_MARK, ANNOTATIONS_MARK))

PRIORITY_DEFAULT: Final = 4
"""Priority of a message that names none (§3.2.1)."""

SCHEDULED: Final = b"x-opt-scheduled-enqueue-time"

_ABSOLUTE_EXPIRY: Final = 8
"""Index of absolute-expiry-time in the properties section (§3.2.4)."""

#: How a message without header, annotations and properties begins.
_BODIES: Final = frozenset(b"\x00\x53" + bytes((code,)) for code in (0x74, 0x75, 0x76, 0x77))

_read_i64 = Struct(">q").unpack_from


class Header(NamedTuple):
    """What the broker keeps of a publisher's header."""

    ttl_ms: int | None
    priority: int | None


class StoredParts(NamedTuple):
    """A stored message taken apart."""

    ttl_ms: int | None
    """Time to live from its enqueued time on, milliseconds."""
    priority: int | None
    annotations: bytes | None
    """The publisher's message annotations, an encoded map."""
    bare: int
    """Offset of the bare message."""


_NO_HEADER: Final = Header(None, None)


def is_plain(stored: bytes) -> bool:
    """Whether a stored message starts with its bare message."""
    return stored[:3] not in _MARKS


def stored_parts(stored: bytes) -> StoredParts:
    """Take a stored message apart.

    Raises:
        WireError: What is in front of the bare message is damaged.
    """
    pos = 0
    header = _NO_HEADER
    annotations: bytes | None = None
    if stored.startswith(HEADER_MARK):
        pos = skip(stored, 3)
        header = read_header(stored[:pos])
    if stored.startswith(ANNOTATIONS_MARK, pos):
        end = skip(stored, pos + 3)
        annotations = stored[pos + 3 : end]
        pos = end
    return StoredParts(header.ttl_ms, header.priority, annotations, pos)


@lru_cache(maxsize=1024)
def read_header(section: bytes) -> Header:
    """Read ttl and priority from a header section; headers are few and come again.

    A ttl of 0 counts as none: client libraries write it for "does not expire".

    Raises:
        WireError: It has more than five fields, or fields of wrong types (§3.2.1).
    """
    start = skip(section, 1)
    value, _ = decode(section, start)
    if not isinstance(value, list) or len(value) > 5:
        raise WireError("header is no list of five fields", 0)
    fields = [*cast("list[object]", value), None, None, None, None, None][:5]
    for field, kind in zip(fields, (bool, UByte, UInt, bool, UInt), strict=True):
        if field is not None and type(field) is not kind:
            raise WireError(f"header has a {type(field).__name__} for a {kind.__name__}", 0)
    ttl, priority = cast("int | None", fields[2]), cast("int | None", fields[1])
    return Header(int(ttl) if ttl else None, None if priority is None else int(priority))


@lru_cache(maxsize=1024)
def stored_header(section: bytes) -> bytes:
    """The header section to store for a publisher's one; empty if nothing in it matters.

    Raises:
        WireError: As `read_header`.
    """
    ttl_ms, priority = read_header(section)
    if priority == PRIORITY_DEFAULT:
        priority = None
    if ttl_ms is None and priority is None:
        return b""
    fields: list[object] = [None, None if priority is None else UByte(priority)]
    if ttl_ms is not None:
        fields.append(UInt(ttl_ms))
    return HEADER_MARK + encode_list([encode(field) for field in fields])


def annotations_section(entries: list[bytes]) -> bytes:
    """A message-annotations section of encoded entries; empty for none."""
    return ANNOTATIONS_MARK + build_map(entries) if entries else b""


def due_ms(stored: bytes) -> int | None:
    """When a scheduled message is to be enqueued, milliseconds since the epoch; None: now."""
    if stored[:3] not in _MARKS:
        return None
    try:
        annotations = stored_parts(stored).annotations
        if annotations is None or SCHEDULED not in annotations:
            return None
        return _scheduled(annotations)
    except WireError:
        return None


def _scheduled(annotations: bytes) -> int | None:
    due: int | None = None
    for entry in read_entries(annotations, 0):
        if entry.name == SCHEDULED and annotations[entry.value] == 0x83:
            due = int(_read_i64(annotations, entry.value + 1)[0])
    return due


def without_schedule(stored: bytes) -> bytes:
    """Take the scheduled time away, as when the message enters its log.

    Raises:
        WireError: What is in front of the bare message is damaged.
    """
    parts = stored_parts(stored)
    if parts.annotations is None:
        return stored
    entries = read_entries(parts.annotations, 0)
    kept = without(parts.annotations, entries, (SCHEDULED,))
    if len(kept) == len(entries):
        return stored
    start = parts.bare - len(parts.annotations) - len(ANNOTATIONS_MARK)
    return stored[:start] + annotations_section(kept) + stored[parts.bare :]


def may_expire(stored: bytes) -> bool:
    """Whether a message may have an end; False for nearly all, at the price of a comparison."""
    if stored[:3] == b"\x00\x53\x73" and len(stored) > 5:
        kind = stored[3]
        return kind != 0x45 and (kind != 0xC0 or stored[5] > _ABSOLUTE_EXPIRY)
    return stored[:3] not in _BODIES


def expires_ms(stored: bytes, enqueued_ms: int) -> int | None:
    """When a message expires, milliseconds since the epoch; None: never.

    By its ttl, which counts from the enqueued time and so needs no agreement of clocks; else by
    its absolute-expiry-time. Damaged bytes never expire.
    """
    try:
        if stored[:3] not in _MARKS:
            return _absolute_expiry(stored, 0)
        parts = stored_parts(stored)
        if parts.ttl_ms is not None:
            return enqueued_ms + parts.ttl_ms
        return _absolute_expiry(stored, parts.bare)
    except (WireError, IndexError, struct_error):
        return None


def _absolute_expiry(stored: bytes, bare: int) -> int | None:
    opening = stored[bare : bare + 4]
    if opening == b"\x00\x53\x73\xc0":
        count, pos = stored[bare + 5], bare + 6
    elif opening == b"\x00\x53\x73\xd0":
        count, pos = int(read_u32(stored, bare + 8)[0]), bare + 12
    else:
        return _find_expiry(stored, bare)
    if count <= _ABSOLUTE_EXPIRY:
        return None
    for _ in range(_ABSOLUTE_EXPIRY):
        pos += STEP[stored[pos]] or 2 + stored[pos + 1]
        if pos >= len(stored):
            return _find_expiry(stored, bare)
    return int(_read_i64(stored, pos + 1)[0]) if stored[pos] == 0x83 else None


def _find_expiry(stored: bytes, bare: int) -> int | None:
    """The same by whatever encoding."""
    section = next(iter_sections(stored, bare), None)
    if section is None or section.code != PROPERTIES:
        return None
    field = property_field(stored, section, index=_ABSOLUTE_EXPIRY)
    value = None if field is None else decode(stored, field)[0]
    return int(value) if isinstance(value, Timestamp) else None


def property_field(stored: bytes, section: Section, *, index: int) -> int | None:
    """The offset of a field of the properties section; None if the list ends before it.

    Raises:
        WireError: The list is damaged.
    """
    count, pos, end = contents(stored, section.value)
    if count <= index:
        return None
    for _ in range(index):
        pos = skip(stored, pos)
    if pos >= end:
        raise WireError("properties are cut off", pos)
    return pos
