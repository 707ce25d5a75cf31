"""From what a publisher sent to the stored form."""

from struct import Struct
from struct import error as struct_error
from typing import Final

from hotpath import native
from hotpath.wire.mapping import read_entries, without
from hotpath.wire.scan import ELEMENTS_MAX, STEP, skip
from hotpath.wire.sections import (
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    DATA,
    HEADER,
    MESSAGE_ANNOTATIONS,
    PROPERTIES,
    PROPERTIES_MAX,
    Section,
    walk,
)
from hotpath.wire.stored import ANNOTATIONS_MARK, annotations_section, stored_header

BROKER_OWNED: Final = frozenset(
    (
        b"x-opt-sequence-number",
        b"x-opt-enqueued-time",
        b"x-opt-locked-until",
        b"x-opt-enqueue-sequence-number",
        b"x-opt-message-state",
        b"x-opt-deadletter-source",
    )
)
"""Annotations that only the broker sets; a publisher's are dropped."""

#: Descriptor 0x00 0x53 and the section code: how most sections begin.
open_descriptor = Struct(">HB").unpack_from

#: Size and count of a list32 or map32.
read_two_u32 = Struct(">II").unpack_from


if native.ENABLED:
    from hotpath.native._native import intake as _intake
else:

    def _intake(raw: bytes, /) -> bytes | None:  # noqa: ARG001  # as its twin in C
        return None


def normalise(raw: bytes) -> bytes:
    """Check a message from a publisher and give the bytes to store.

    Of its header, ttl and priority are kept; delivery-annotations and the annotations that the
    broker owns are dropped; the bare message and the footer stay as they are.

    Checked are the sections, their order and sizes, and that properties, annotations and
    application-properties hold what they count. The body is opaque, and may be missing although
    §3.2 has no message without: Proton leaves it out when there is none.

    Raises:
        WireError: The bytes are no AMQP 1.0 message, or nothing but what precedes the bare message.
    """
    stored = _intake(raw)
    return normalise_carefully(raw) if stored is None else stored


def normalise_carefully(raw: bytes) -> bytes:
    """As `normalise`, without the C helper. Raises WireError."""
    try:
        stored = _normalise_common(raw)
    except (IndexError, struct_error):
        stored = None
    return _normalise_any(raw) if stored is None else stored


def _normalise_common(raw: bytes) -> bytes | None:
    """Messages as nearly all clients send them, in one pass; None or IndexError for all others."""
    front, bare = _read_front(raw)
    mark, code = open_descriptor(raw, bare)
    pos = bare
    if code == PROPERTIES and mark == 0x53:
        pos = _compound_end(raw, pos, PROPERTIES_MAX)
        mark, code = open_descriptor(raw, pos)
    if code == APPLICATION_PROPERTIES and mark == 0x53:
        pos = _compound_end(raw, pos, _PAIRS)
        if pos == len(raw):
            return front + raw[bare:] if bare else raw
        mark, code = open_descriptor(raw, pos)
    if mark != 0x53 or not _is_last(raw, pos, code):
        return None
    return front + raw[bare:] if bare else raw


def _read_front(raw: bytes) -> tuple[bytes, int]:
    """What to store of header and message-annotations, and the offset behind them.

    Raises:
        IndexError: They are damaged or not encoded as usual.
    """
    front = b""
    pos = 0
    mark, code = open_descriptor(raw, 0)
    if code == HEADER and mark == 0x53:
        pos = 4 if raw[3] == 0x45 else 5 + raw[4]
        if raw[3] == 0xC0:
            front = stored_header(raw[:pos])
        elif raw[3] != 0x45:
            raise IndexError
        mark, code = open_descriptor(raw, pos)
    if code == MESSAGE_ANNOTATIONS and mark == 0x53:
        end = _compound_end(raw, pos, _PAIRS)
        front += _kept_annotations(raw, Section(code, pos, pos + 3, end))
        pos = end
    return front, pos


_PAIRS: Final = -1
"""For a map: any even number of elements, up to the limit."""


def _compound_end(raw: bytes, pos: int, limit: int) -> int:
    """The end of the section at `pos`, if its list or map is filled by what it counts.

    Raises:
        IndexError: It is not, or holds more than `limit`, or is not encoded as usual.
    """
    code = raw[pos + 3]
    if code == 0xD0 + (limit < 0):
        size, count = read_two_u32(raw, pos + 4)
        at, end = pos + 12, pos + 8 + size
    elif code == 0xC0 + (limit < 0):
        count = raw[pos + 5]
        at, end = pos + 6, pos + 5 + raw[pos + 4]
    elif code == 0x45 and limit >= 0:
        return pos + 4
    else:
        raise IndexError
    if count & 1 or count > ELEMENTS_MAX if limit < 0 else count > limit:
        raise IndexError
    step = STEP
    for _ in range(count):
        at += step[raw[at]] or 2 + raw[at + 1]
    if at != end:
        raise IndexError
    return int(end)


def _is_last(raw: bytes, pos: int, code: int) -> bool:
    """Whether the section at `pos` is a body that ends the message."""
    constructor = raw[pos + 3]
    if code == DATA:
        if constructor == 0xA0:
            return pos + 5 + raw[pos + 4] == len(raw)
        return constructor == 0xB0 and skip(raw, pos + 3) == len(raw)
    return code == AMQP_VALUE and skip(raw, pos + 3) == len(raw)


def _normalise_any(raw: bytes) -> bytes:
    header = annotations = b""
    bare = len(raw)
    for section in walk(raw):
        if section.code == HEADER:
            header = stored_header(raw[section.start : section.end])
        elif section.code == MESSAGE_ANNOTATIONS:
            annotations = _kept_annotations(raw, section)
        elif section.code >= PROPERTIES:
            bare = section.start
            break
    return header + annotations + raw[bare:] if bare else raw


def _kept_annotations(raw: bytes, section: Section) -> bytes:
    entries = read_entries(raw, section.value)
    kept = without(raw, entries, BROKER_OWNED)
    if kept and len(kept) == len(entries):
        return ANNOTATIONS_MARK + raw[section.value : section.end]
    return annotations_section(kept)
