"""Find and read the body of a stored message.

Nothing that reads here raises, whatever the bytes are; `locate` is for callers that catch `DAMAGE`.
"""

import json
from collections.abc import Mapping
from struct import Struct
from struct import error as struct_error
from typing import Final, cast

from hotpath.wire.scan import read_u32
from hotpath.wire.sections import (
    AMQP_VALUE,
    DATA,
    Section,
    body_offset,
    data_content,
    iter_sections,
)
from hotpath.wire.stored import is_plain, stored_parts
from hotpath.wire.values import WireError

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""May stand before JSON text and is passed over (RFC 8259 §8.1)."""

DAMAGE: Final = (WireError, IndexError, struct_error, UnicodeDecodeError)
"""What readers may raise for bytes that are damaged."""

_open_section = Struct(">HBBB").unpack_from


def locate(stored: bytes) -> tuple[int, int]:
    """Where the entries of application-properties are, for messages encoded as usual.

    The end is the offset of the body as well.

    Raises:
        WireError: The message is encoded in another way, or (with IndexError and struct.error)
            damaged.
    """
    at = 0
    mark, code, constructor, size = _open_section(stored, 0)
    while code < 0x74 and mark == 0x53:
        if constructor == 0xC0:
            at += 5 + size
        else:
            _, at = _extent(stored, at, 0xC1 if code == 0x72 else 0xC0)
        mark, code, constructor, size = _open_section(stored, at)
    if mark == 0x53:
        if code == 0x74:
            return _extent(stored, at, 0xC1)
        if code in (0x75, 0x77):
            return at, at
    raise WireError("not encoded as usual", at)


def _extent(stored: bytes, at: int, code: int) -> tuple[int, int]:
    """First element and end of the list or map in the section at `at`; `code` is its short form."""
    constructor = stored[at + 3]
    if constructor == code:
        return at + 6, at + 5 + stored[at + 4]
    if constructor == code + 0x10:
        return at + 12, at + 8 + int(read_u32(stored, at + 4)[0])
    if constructor == 0x45 and code == 0xC0:
        return at + 4, at + 4
    raise WireError("not encoded as usual", at)


def data_text(stored: bytes, at: int) -> bytes | None:
    """The content of the one data section at `at`; None if the body is something else."""
    if stored[at : at + 3] != b"\x00\x53\x75":
        return None
    if stored[at + 3] == 0xA0:
        start, end = at + 5, at + 5 + stored[at + 4]
    else:
        start, end = at + 8, at + 8 + int(read_u32(stored, at + 4)[0])
    return stored[start:end] if end == len(stored) else None


def join_data(stored: bytes, first: Section) -> bytes:
    """What the data sections from `first` on hold, joined."""
    return b"".join(
        data_content(stored, section)
        for section in iter_sections(stored, first.start)
        if section.code == DATA
    )


def text_value(stored: bytes, start: int, end: int) -> bytes:
    """The bytes of a string or binary; empty for anything else."""
    code = stored[start]
    if code in (0xA0, 0xA1):
        return stored[start + 2 : end]
    if code in (0xB0, 0xB1):
        return stored[start + 5 : end]
    return b""


def body_bytes(stored: bytes) -> bytes | None:
    """The body as bytes: data sections joined, or an AMQP value that is a string or binary.

    None for other bodies, and for messages that are damaged.
    """
    try:
        start = body_offset(stored, 0 if is_plain(stored) else stored_parts(stored).bare)
        section = next(iter_sections(stored, start))
        if section.code == DATA:
            return join_data(stored, section)
        if section.code == AMQP_VALUE and stored[section.value] in (0xA0, 0xA1, 0xB0, 0xB1):
            return text_value(stored, section.value, section.end)
    except DAMAGE:
        return None
    return None


def parse_object(text: bytes) -> Mapping[str, object]:
    """Parse JSON text that should be an object; empty if it is none. Never raises.

    NaN and Infinity are read as such, integers of any length as numbers, nesting too deep for the
    parser as no object.
    """
    value = parse_json(text)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def parse_json(text: bytes) -> object:
    """Parse JSON text in UTF-8; None also for what is none. Never raises."""
    try:
        source = text.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        return None
    try:
        return json.loads(source)
    except (json.JSONDecodeError, RecursionError):
        return None
    except ValueError:
        return _parse_lenient(source)


def _parse_lenient(source: str) -> object:
    """Parse with integers that are longer than Python converts."""
    try:
        return _LENIENT.decode(source)
    except (ValueError, RecursionError):
        return None


def _any_integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


_LENIENT: Final = json.JSONDecoder(parse_int=_any_integer)
