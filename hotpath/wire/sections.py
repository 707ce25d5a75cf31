"""The sections of an encoded message (amqp-core-messaging-v1.0 §3.2).

A message is header, delivery-annotations, message-annotations, then the bare message (properties,
application-properties, body), then the footer. Any may be missing, in practice even the body; the
body is one or more data sections, one or more amqp-sequence sections, or one amqp-value.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from hotpath.wire.scan import LISTS, MAPS, check_compound, skip
from hotpath.wire.values import WireError

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
MESSAGE_ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
AMQP_SEQUENCE: Final = 0x76
AMQP_VALUE: Final = 0x77
FOOTER: Final = 0x78

_BODY: Final = frozenset((DATA, AMQP_SEQUENCE, AMQP_VALUE))

_NAMES: Final[dict[bytes, int]] = {
    b"amqp:header:list": HEADER,
    b"amqp:delivery-annotations:map": DELIVERY_ANNOTATIONS,
    b"amqp:message-annotations:map": MESSAGE_ANNOTATIONS,
    b"amqp:properties:list": PROPERTIES,
    b"amqp:application-properties:map": APPLICATION_PROPERTIES,
    b"amqp:data:binary": DATA,
    b"amqp:amqp-sequence:list": AMQP_SEQUENCE,
    b"amqp:amqp-value:*": AMQP_VALUE,
    b"amqp:footer:map": FOOTER,
}

_BINARY: Final = frozenset((0xA0, 0xB0))
_CONSTRUCTORS: Final[dict[int, frozenset[int]]] = {
    HEADER: LISTS,
    DELIVERY_ANNOTATIONS: MAPS,
    MESSAGE_ANNOTATIONS: MAPS,
    PROPERTIES: LISTS,
    APPLICATION_PROPERTIES: MAPS,
    DATA: _BINARY,
    AMQP_SEQUENCE: LISTS,
    FOOTER: MAPS,
}

_CHECKED: Final = frozenset((MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES))
"""Sections that the broker reads, so that their elements are counted; values are opaque."""

SECTIONS_MAX: Final = 10_000
"""Sections of one message, which a batch or a body in many pieces may have."""

PROPERTIES_MAX: Final = 13
"""Fields of the properties section (§3.2.4)."""

read_u64: Final = Struct(">Q").unpack_from


class Section(NamedTuple):
    """Where one section lies: `start` its descriptor, `value` its constructor, `end` behind it."""

    code: int
    start: int
    value: int
    end: int


def read_section(buf: bytes, start: int) -> Section:
    """Read the section at `start`; its value is only measured.

    Raises:
        WireError: No section, an unknown one, the wrong type of value, or cut off.
    """
    code, value = _read_descriptor(buf, start)
    end = skip(buf, value)
    allowed = _CONSTRUCTORS.get(code)
    if allowed is not None and buf[value] not in allowed:
        raise WireError(f"section 0x{code:02x} has a value of type 0x{buf[value]:02x}", value)
    return Section(code, start, value, end)


def _read_descriptor(buf: bytes, start: int) -> tuple[int, int]:
    """The section code and the offset of its value; all three forms of a descriptor."""
    kind = buf[start : start + 2]
    if kind == b"\x00\x53" and start + 2 < len(buf):
        code = buf[start + 2]
    elif kind == b"\x00\x80" and start + 10 <= len(buf):
        code = int(read_u64(buf, start + 2)[0])
    elif kind in (b"\x00\xa3", b"\x00\xb3"):
        first = start + (3 if kind == b"\x00\xa3" else 6)
        code = _NAMES.get(buf[first : skip(buf, start + 1)], 0)
    else:
        raise WireError("section expected", start)
    if not HEADER <= code <= FOOTER:
        raise WireError("descriptor of no message section", start)
    return code, skip(buf, start + 1)


def iter_sections(buf: bytes, start: int = 0) -> Iterator[Section]:
    """Read sections one by one, in whatever order they are.

    Raises:
        WireError: As `read_section`.
    """
    pos = start
    for _ in range(SECTIONS_MAX):
        if pos >= len(buf):
            return
        section = read_section(buf, pos)
        yield section
        pos = section.end
    if pos < len(buf):
        raise WireError(f"message of more than {SECTIONS_MAX} sections", pos)


def walk(buf: bytes) -> list[Section]:
    """Read all sections of a whole message and check that they make one.

    Raises:
        WireError: Also for sections out of order or twice, a mixed body, properties, annotations or
            application-properties that do not hold what they count, or no bare message at all.
    """
    found: list[Section] = []
    previous = 0
    for section in iter_sections(buf):
        _check_order(previous, section)
        if section.code in _CHECKED:
            _check_fields(buf, section)
        previous = section.code
        found.append(section)
    if not any(PROPERTIES <= section.code < FOOTER for section in found):
        raise WireError("message without properties and body", len(buf))
    return found


def _check_order(previous: int, section: Section) -> None:
    code = section.code
    repeated = code == previous and code in (DATA, AMQP_SEQUENCE)
    if code <= previous and not repeated:
        raise WireError(f"section 0x{code:02x} after 0x{previous:02x}", section.start)
    if code in _BODY and previous in _BODY and code != previous:
        raise WireError("body of more than one kind", section.start)


def _check_fields(buf: bytes, section: Section) -> None:
    count = check_compound(buf, section.value)
    if section.code == PROPERTIES and count > PROPERTIES_MAX:
        raise WireError(f"properties of {count} fields", section.start)


def body_offset(buf: bytes, start: int = 0) -> int:
    """The offset of the first body section, from a section's `start` on.

    Raises:
        WireError: There is none, or a section before it is damaged.
    """
    for section in iter_sections(buf, start):
        if section.code in _BODY:
            return section.start
    raise WireError("message without a body", len(buf))


def data_content(buf: bytes, section: Section) -> bytes:
    """What a data section holds."""
    return buf[section.value + (2 if buf[section.value] == 0xA0 else 5) : section.end]
