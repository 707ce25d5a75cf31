"""Encode Python values as AMQP 1.0, each in the shortest form of its type (§1.6)."""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Final, cast
from uuid import UUID

from hotpath.wire.scan import COMPOUND, DEPTH_MAX, FIXED, SIZED_8, SIZED_32
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

_pack_u32 = Struct(">I").pack


def encode(value: object) -> bytes:
    """Encode a value: a plain int as long, float as double, list or tuple as list.

    Raises:
        WireError: The value, or one in it, has no AMQP type, is out of its type's range, or is
            nested deeper than 64.
    """
    return _encode(value, DEPTH_MAX)


def encode_list(items: Sequence[bytes]) -> bytes:
    """Put already encoded values into a list."""
    if not items:
        return b"\x45"
    return sized(b"".join(items), code=0xC0, count=len(items))


def encode_map(items: Sequence[bytes]) -> bytes:
    """Put already encoded keys and values, in turns, into a map."""
    return sized(b"".join(items), code=0xC1, count=len(items))


def sized(body: bytes, *, code: int, count: int) -> bytes:
    """Put size and count before the elements of a compound; `code` is its 8-bit constructor."""
    if len(body) < 255 and count < 256:
        return bytes((code, len(body) + 1, count)) + body
    return bytes((code + 0x10,)) + _pack_u32(len(body) + 4) + _pack_u32(count) + body


def encode_binary(raw: bytes) -> bytes:
    """Encode bytes as `binary`."""
    return _variable(0xA0, raw)


def _variable(code: int, raw: bytes) -> bytes:
    if len(raw) < 256:
        return bytes((code, len(raw))) + raw
    return bytes((code + 0x10,)) + _pack_u32(len(raw)) + raw


def _encode(value: object, depth: int) -> bytes:
    if depth < 0:
        raise WireError(f"nested deeper than {DEPTH_MAX}")
    kind = type(value)
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        try:
            return scalar(value)
        except (struct_error, UnicodeEncodeError, OverflowError):
            raise WireError(f"value does not fit {kind.__name__}") from None
    compound = _COMPOUNDS.get(kind)
    if compound is None:
        raise WireError(f"{kind.__name__} has no AMQP type")
    return compound(value, depth - 1)


def _packed(code: int, form: str) -> Callable[[object], bytes]:
    pack = Struct(">B" + form).pack
    return lambda value: pack(code, value)


def _null(_: object) -> bytes:
    return b"\x40"


def _boolean(value: object) -> bytes:
    return b"\x41" if value else b"\x42"


def _small(codes: tuple[int, int], forms: str) -> Callable[[object], bytes]:
    """A type with an 8-bit and a full encoding: `codes` and `forms` name both."""
    short = Struct(">B" + forms[0]).pack
    full = Struct(">B" + forms[1]).pack
    low, high = (0, 255) if forms[0] == "B" else (-128, 127)

    def pack(value: object) -> bytes:
        number = cast("int", value)
        return short(codes[0], number) if low <= number <= high else full(codes[1], number)

    return pack


def _nought(code: int, otherwise: Callable[[object], bytes]) -> Callable[[object], bytes]:
    """A type whose 0 has an encoding without bytes."""
    empty = bytes((code,))
    return lambda value: otherwise(value) if value else empty


def _char(value: object) -> bytes:
    text = cast("str", value)
    if len(text) != 1:
        raise WireError(f"char of {len(text)} characters")
    return b"\x73" + text.encode("utf-32-be")


def _decimal(value: object) -> bytes:
    raw = bytes(cast("bytes", value))
    code = {4: 0x74, 8: 0x84, 16: 0x94}.get(len(raw))
    if code is None:
        raise WireError(f"decimal of {len(raw)} bytes")
    return bytes((code,)) + raw


_SCALARS: Final[dict[type, Callable[[object], bytes]]] = {
    type(None): _null,
    bool: _boolean,
    int: _small((0x55, 0x81), "bq"),
    Long: _small((0x55, 0x81), "bq"),
    Int: _small((0x54, 0x71), "bi"),
    UInt: _nought(0x43, _small((0x52, 0x70), "BI")),
    ULong: _nought(0x44, _small((0x53, 0x80), "BQ")),
    UByte: _packed(0x50, "B"),
    Byte: _packed(0x51, "b"),
    UShort: _packed(0x60, "H"),
    Short: _packed(0x61, "h"),
    Timestamp: _packed(0x83, "q"),
    float: _packed(0x82, "d"),
    Float32: _packed(0x72, "f"),
    Char: _char,
    DecimalBits: _decimal,
    str: lambda value: _variable(0xA1, cast("str", value).encode("utf-8")),
    Symbol: lambda value: _variable(0xA3, cast("str", value).encode("ascii")),
    bytes: lambda value: _variable(0xA0, cast("bytes", value)),
    bytearray: lambda value: _variable(0xA0, bytes(cast("bytearray", value))),
    memoryview: lambda value: _variable(0xA0, bytes(cast("memoryview", value))),
    UUID: lambda value: b"\x98" + cast("UUID", value).bytes,
}


def _list(value: object, depth: int) -> bytes:
    return encode_list([_encode(item, depth) for item in cast("Sequence[object]", value)])


def _map(value: object, depth: int) -> bytes:
    items: list[bytes] = []
    for key, item in cast("Mapping[object, object]", value).items():
        items += (_encode(key, depth), _encode(item, depth))
    return encode_map(items)


def _described(value: object, depth: int) -> bytes:
    pair = cast("Described", value)
    return b"\x00" + _encode(pair.descriptor, depth) + _encode(pair.value, depth)


def _array(value: object, depth: int) -> bytes:
    array = cast("Array", value)
    head = b"".join(b"\x00" + _encode(item, depth) for item in array.descriptors)
    items = [_payload(array.code, item, depth) for item in array.items]
    body = head + bytes((array.code,)) + b"".join(items)
    return sized(body, code=0xE0, count=len(items))


_COMPOUNDS: Final[dict[type, Callable[[object, int], bytes]]] = {
    list: _list,
    tuple: _list,
    dict: _map,
    Described: _described,
    Array: _array,
}


#: Constructors of a fixed width that struct can write, for array elements.
_FORMS: Final[dict[int, Struct]] = {
    code: Struct(">" + form)
    for code, form in {
        0x50: "B", 0x51: "b", 0x52: "B", 0x53: "B", 0x54: "b", 0x55: "b", 0x56: "?",
        0x60: "H", 0x61: "h", 0x70: "I", 0x71: "i", 0x72: "f",
        0x80: "Q", 0x81: "q", 0x82: "d", 0x83: "q",
    }.items()
}  # fmt: skip


def _payload(code: int, value: object, depth: int) -> bytes:
    """Encode an array element: what follows the constructor that the array gives once."""
    form = _FORMS.get(code)
    if form is not None:
        try:
            return form.pack(value)
        except (struct_error, OverflowError):
            raise _misfit(code, value) from None
    encoded = _encode(value, depth)
    if code in FIXED:
        # What is left has one encoding only: null, booleans, zeros, [], char, decimals, uuid.
        if encoded[0] != code:
            raise _misfit(code, value)
        return encoded[1:]
    return _resized(code, encoded, value)


def _resized(code: int, encoded: bytes, value: object) -> bytes:
    """Give an encoded element of varying length the size (and count) width that `code` asks."""
    if encoded == b"\x45":
        encoded = b"\xc0\x01\x00"
    if code not in SIZED_8 | SIZED_32 or encoded[0] & 0xEF != code & 0xEF:
        raise _misfit(code, value)
    old, new = (1 if each in SIZED_8 else 4 for each in (encoded[0], code))
    rest = encoded[1 + old :]
    if code in COMPOUND:
        count = int.from_bytes(rest[:old], "big")
        rest = _sized_int(count, new, code=code) + rest[old:]
    return _sized_int(len(rest), new, code=code) + rest


def _sized_int(number: int, width: int, *, code: int) -> bytes:
    try:
        return number.to_bytes(width, "big")
    except OverflowError:
        raise WireError(f"element is too large for an array of 0x{code:02x}") from None


def _misfit(code: int, value: object) -> WireError:
    return WireError(f"{type(value).__name__} does not fit an array of 0x{code:02x}")
