"""Decode AMQP 1.0 values (amqp-core-types-v1.0 §1.6): any encoding of a type is accepted.

Sizes and counts are checked against the bytes that are there before anything is built, so that
what a decoder makes is never more than a small multiple of what it was given.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final
from uuid import UUID

from hotpath.wire.scan import ARRAYS, DEPTH_MAX, FIXED, SIZED_8, SIZED_32, read_u32
from hotpath.wire.values import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    WireError,
)

VALUES_MAX: Final = 65_536
"""Elements of all compounds together that one call decodes."""


def _number(form: str, kind: Callable[..., object]) -> Callable[[bytes], object]:
    unpack = Struct(form).unpack
    return lambda raw: kind(unpack(raw)[0])


def _boolean(raw: bytes) -> bool:
    if raw[0] > 1:
        raise WireError(f"boolean of value {raw[0]}")
    return raw[0] == 1


def _char(raw: bytes) -> Char:
    return Char(raw.decode("utf-32-be"))


def _string(raw: bytes) -> str:
    return raw.decode("utf-8")


def _symbol(raw: bytes) -> Symbol:
    return Symbol(raw.decode("ascii"))


def _uuid(raw: bytes) -> UUID:
    return UUID(bytes=raw)


#: From a constructor to what makes a value of the bytes behind it; compounds are not here.
SCALARS: Final[dict[int, Callable[[bytes], object]]] = {
    0x40: lambda _: None,
    0x41: lambda _: True,
    0x42: lambda _: False,
    0x43: lambda _: UInt(0),
    0x44: lambda _: ULong(0),
    0x45: lambda _: [],
    0x50: _number(">B", UByte),
    0x51: _number(">b", Byte),
    0x52: _number(">B", UInt),
    0x53: _number(">B", ULong),
    0x54: _number(">b", Int),
    0x55: _number(">b", Long),
    0x56: _boolean,
    0x60: _number(">H", UShort),
    0x61: _number(">h", Short),
    0x70: _number(">I", UInt),
    0x71: _number(">i", Int),
    0x72: _number(">f", Float32),
    0x73: _char,
    0x74: DecimalBits,
    0x80: _number(">Q", ULong),
    0x81: _number(">q", Long),
    0x82: _number(">d", float),
    0x83: _number(">q", Timestamp),
    0x84: DecimalBits,
    0x94: DecimalBits,
    0x98: _uuid,
    0xA0: bytes,
    0xA1: _string,
    0xA3: _symbol,
    0xB0: bytes,
    0xB1: _string,
    0xB3: _symbol,
}


def decode(buf: bytes | memoryview, offset: int = 0) -> tuple[object, int]:
    """Decode the value at `offset`; the value and the offset behind it.

    Integers come as the class of their width (they are ints), a map as a dict with its keys as
    they were.

    Raises:
        WireError: Cut off, malformed, nested deeper than 64, of more than 65,536 elements, or with
            map keys that a dict cannot
            hold apart (lists, maps, the same key twice).
    """
    return _Reader(bytes(buf)).value(offset, DEPTH_MAX)


def decode_exact(buf: bytes | memoryview) -> object:
    """Decode bytes that hold one value and nothing else.

    Raises:
        WireError: As `decode`, or bytes are left over.
    """
    value, end = decode(buf)
    if end != len(buf):
        raise WireError("bytes after the value", end)
    return value


class _Reader:
    """One call of `decode`: the bytes, and how many elements it may still make."""

    __slots__ = ("buf", "left")

    def __init__(self, buf: bytes) -> None:
        self.buf = buf
        self.left = VALUES_MAX

    def value(self, pos: int, depth: int) -> tuple[object, int]:
        code, pos = self.constructor(pos, depth)
        if code == 0x00:
            descriptor, pos = self.value(pos, depth - 1)
            described, pos = self.value(pos, depth - 1)
            return Described(descriptor, described), pos
        return self.payload(code, pos, depth)

    def constructor(self, pos: int, depth: int) -> tuple[int, int]:
        if depth < 0:
            raise WireError(f"nested deeper than {DEPTH_MAX}", pos)
        if not 0 <= pos < len(self.buf):
            raise WireError("value is cut off", pos)
        return self.buf[pos], pos + 1

    def payload(self, code: int, pos: int, depth: int) -> tuple[object, int]:
        """Decode what follows a constructor; in an array many follow one."""
        start, end = self.extent(code, pos)
        scalar = SCALARS.get(code)
        if scalar is None:
            return self.compound(code, start, end=end, depth=depth), end
        try:
            return scalar(self.buf[start:end]), end
        except UnicodeDecodeError as error:
            raise WireError(f"text is no {error.encoding}", pos) from None
        except WireError as error:
            raise WireError(error.detail, pos) from None

    def extent(self, code: int, pos: int) -> tuple[int, int]:
        """First byte and end of a payload, after its size if it has one."""
        size = len(self.buf)
        if code in FIXED:
            start, end = pos, pos + FIXED[code]
        elif code in SIZED_8 and pos < size:
            start = pos + 1
            end = start + self.buf[pos]
        elif code in SIZED_32 and pos + 4 <= size:
            start = pos + 4
            end = start + int(read_u32(self.buf, pos)[0])
        elif code in SIZED_8 or code in SIZED_32:
            raise WireError("size is cut off", pos)
        else:
            raise WireError(f"unknown constructor 0x{code:02x}", pos - 1)
        if end > size:
            raise WireError("value is cut off", pos)
        return start, end

    def compound(self, code: int, start: int, *, end: int, depth: int) -> object:
        width = 1 if code in SIZED_8 else 4
        pos = start + width
        if pos > end:
            raise WireError("compound has no room for its count", start)
        count = int.from_bytes(self.buf[start:pos], "big")
        if code in ARRAYS:
            return self.array(pos, end=end, count=count, depth=depth)
        if count > end - pos:
            raise WireError(f"{count} elements cannot be in {end - pos} bytes", start)
        self.take(count, start)
        items = self.elements(pos, end=end, count=count, depth=depth)
        return items if code in (0xC0, 0xD0) else _pair_up(items, start)

    def elements(self, pos: int, *, end: int, count: int, depth: int) -> list[object]:
        items: list[object] = []
        for _ in range(count):
            if pos >= end:
                raise WireError("fewer elements than counted", pos)
            item, pos = self.value(pos, depth - 1)
            items.append(item)
        if pos != end:
            raise WireError("elements do not fill their compound", pos)
        return items

    def array(self, pos: int, *, end: int, count: int, depth: int) -> Array:
        descriptors: list[object] = []
        code, pos = self.constructor(pos, depth)
        while code == 0x00:
            descriptor, pos = self.value(pos, depth - 1)
            descriptors.append(descriptor)
            if len(descriptors) > DEPTH_MAX:
                raise WireError(f"more than {DEPTH_MAX} descriptors", pos)
            code, pos = self.constructor(pos, depth)
        if count * FIXED.get(code, 1) > end - pos:
            raise WireError(f"{count} elements cannot be in {end - pos} bytes", pos)
        self.take(count, pos)
        items: list[object] = []
        for _ in range(count):
            item, pos = self.payload(code, pos, depth - 1)
            items.append(item)
        if pos != end:
            raise WireError("elements do not fill their array", pos)
        return Array(code, tuple(items), tuple(descriptors))

    def take(self, count: int, pos: int) -> None:
        """Count elements before they are made; those of an array may come without any bytes."""
        self.left -= count
        if self.left < 0:
            raise WireError(f"more than {VALUES_MAX} values", pos)


def _pair_up(items: list[object], at: int) -> dict[object, object]:
    if len(items) % 2:
        raise WireError("map has a key without a value", at)
    result: dict[object, object] = {}
    try:
        result.update(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        raise WireError("map key is a list or map", at) from None
    if len(result) * 2 != len(items):
        raise WireError("map has the same key twice", at)
    return result
