"""AMQP frames taken apart and put together again, by span, without a meaning of their own."""

import re
import struct
from dataclasses import dataclass, field

from hotpath.wire.types import WireError, skip

HEADER = b"AMQP"
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"

_OPERATION = re.compile(rb"com\.microsoft:[a-z-]+")
_pack_head = struct.Struct(">IBBH").pack
_read_head = struct.Struct(">IBBH").unpack_from
_pack_pair = struct.Struct(">II").pack


@dataclass(slots=True)
class Frame:
    """One frame whose body is a described list: fields as encoded, and what is behind them."""

    code: int
    fields: list[bytes]
    payload: bytes = b""
    kind: int = 0
    channel: int = 0

    def encode(self) -> bytes:
        """The bytes of the frame."""
        body = b"".join(self.fields)
        head = b"\x00\x53" + bytes((self.code & 0xFF,)) + b"\xd0"
        body = head + _pack_pair(len(body) + 4, len(self.fields)) + body + self.payload
        return _pack_head(8 + len(body), 2, self.kind & 0xFF, self.channel & 0xFFFF) + body

    def copy(self) -> "Frame":
        """One to be changed."""
        return Frame(self.code, list(self.fields), self.payload, self.kind, self.channel)


@dataclass(slots=True)
class Stream:
    """A capture: protocol headers and frames, each as bytes or, where it can be, taken apart."""

    parts: list[bytes | Frame] = field(default_factory=list)

    def encode(self) -> bytes:
        """The bytes of all parts."""
        return b"".join(part if isinstance(part, bytes) else part.encode() for part in self.parts)


def split(stream: bytes) -> list[bytes]:
    """Headers and frames of a stream; what is no whole frame comes last, as it is."""
    found: list[bytes] = []
    at = 0
    while at < len(stream):
        size = 8
        if stream[at : at + 4] != HEADER and len(stream) - at >= 8:
            size = int(_read_head(stream, at)[0])
        if size < 8 or at + size > len(stream):
            break
        found.append(stream[at : at + size])
        at += size
    return found if at == len(stream) else [*found, stream[at:]]


def take_apart(raw: bytes) -> Frame | None:
    """A frame of which everything is where it should be; None for anything else."""
    if len(raw) < 12 or raw[:4] == HEADER:
        return None
    _, offset, kind, channel = _read_head(raw)
    at = offset * 4
    try:
        if raw[at : at + 2] != b"\x00\x53":
            return None
        end = skip(raw, at)
        fields = _fields(raw, at + 3)
    except (WireError, IndexError):
        return None
    return Frame(raw[at + 2], fields, raw[end:], kind, channel)


def _fields(raw: bytes, at: int) -> list[bytes]:
    """The encoded elements of the list at a place. Raises WireError or IndexError."""
    code = raw[at]
    if code == 0x45:
        return []
    if code not in (0xC0, 0xD0):
        raise WireError("no list", at)
    count, pos = (raw[at + 2], at + 3) if code == 0xC0 else _wide(raw, at)
    found = []
    for _ in range(count):
        end = skip(raw, pos)
        found.append(raw[pos:end])
        pos = end
    return found


def _wide(raw: bytes, at: int) -> tuple[int, int]:
    return int.from_bytes(raw[at + 5 : at + 9], "big"), at + 9


def read_stream(stream: bytes) -> Stream:
    """A capture taken apart as far as it can be."""
    return Stream([take_apart(raw) or raw for raw in split(stream)])


def shapes(stream: bytes) -> set[object]:
    """What kinds of frames a stream has: performatives with the encodings of their fields."""
    found: set[object] = set()
    for raw in split(stream):
        frame = take_apart(raw)
        if frame is None:
            found.add(raw[:8] if raw[:4] == HEADER else len(raw) > 8)
            continue
        codes = tuple(each[:3] if each[:1] == b"\x00" else each[:1] for each in frame.fields)
        found.add((frame.code, codes, frame.payload[:4]))
        found |= set(_OPERATION.findall(frame.payload))
    return found
