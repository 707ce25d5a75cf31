"""From AMQP values to the plain Python values that filters and displays take.

Exact built-in types only: a symbol or char becomes a str, all integers an int, a float a float, a
timestamp a `qel.DateTime`, a uuid its canonical text, an array or list a list, a map a dict with
text keys. binary and decimals stay bytes; a described value is what is described.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, cast
from uuid import UUID

from hotpath.wire.decoder import decode
from hotpath.wire.scan import COMPOUND
from hotpath.wire.values import Array, Described, Timestamp, WireError
from qel import DateTime

STRUCTURE_BYTES_MAX: Final = 16 * 1024
"""Bytes of lists, maps and arrays that are decoded for a filter or a display of one message."""

_STRUCTURES: Final = COMPOUND | {0x00}


def plain(value: object) -> object:
    """Turn a decoded AMQP value into plain Python, to its innermost element."""
    if value is None or isinstance(value, bool):
        return value
    convert = _CONVERSIONS.get(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return bytes(value)
    return str(value)


def _list(value: object) -> list[object]:
    return [plain(item) for item in cast("list[object]", value)]


def _array(value: object) -> list[object]:
    return [plain(item) for item in cast("Array", value).items]


def _map(value: object) -> dict[str, object]:
    entries = cast("dict[object, object]", value)
    return {str(key): plain(item) for key, item in entries.items() if isinstance(key, str)}


_CONVERSIONS: Final[dict[type, Callable[[object], object]]] = {
    list: _list,
    Array: _array,
    dict: _map,
    Described: lambda value: plain(cast("Described", value).value),
    Timestamp: lambda value: DateTime.from_milliseconds(cast("int", value)),
    UUID: str,
}


def read_extents(buf: bytes, extents: Mapping[str, tuple[int, int]]) -> dict[str, object]:
    """Read the values between pairs of offsets, each as plain Python.

    Left out are values that are damaged, and lists, maps and arrays once they are larger than
    16 KiB together, so that no message costs more than its share of time.
    """
    room = STRUCTURE_BYTES_MAX
    found: dict[str, object] = {}
    for name, (start, stop) in extents.items():
        if buf[start] in _STRUCTURES:
            room -= stop - start
            if room < 0:
                continue
        try:
            found[name] = plain(decode(buf, start)[0])
        except WireError:
            continue
    return found


def _symbol(buf: bytes, pos: int) -> str:
    start = pos + 2
    return buf[start : start + buf[pos + 1]].decode("ascii")


def _boolean(buf: bytes, pos: int) -> bool:
    if buf[pos + 1] > 1:
        raise WireError(f"boolean of value {buf[pos + 1]}", pos)
    return buf[pos + 1] == 1


def _number(form: str) -> Callable[[bytes, int], object]:
    unpack = Struct(form).unpack_from
    return lambda buf, pos: unpack(buf, pos + 1)[0]


def _timestamp(buf: bytes, pos: int) -> DateTime:
    return DateTime(_read_i64(buf, pos + 1)[0] * 1_000_000)


def _unusual(_: bytes, pos: int) -> object:
    raise WireError("to be read by its extent", pos)


_read_i64 = Struct(">q").unpack_from

_NUMBERS: Final = {
    0x50: ">B", 0x51: ">b", 0x52: ">B", 0x53: ">B", 0x54: ">b", 0x55: ">b",
    0x60: ">H", 0x61: ">h", 0x70: ">I", 0x71: ">i", 0x72: ">f",
    0x80: ">Q", 0x81: ">q", 0x82: ">d",
}  # fmt: skip


def _readers() -> tuple[Callable[[bytes, int], object], ...]:
    table: list[Callable[[bytes, int], object]] = [_unusual] * 256
    for code, form in _NUMBERS.items():
        table[code] = _number(form)
    table[0x40] = lambda _buf, _pos: None
    table[0x41] = lambda _buf, _pos: True
    table[0x42] = lambda _buf, _pos: False
    table[0x43] = table[0x44] = lambda _buf, _pos: 0
    table[0x56] = _boolean
    table[0x83] = _timestamp
    table[0xA3] = _symbol
    return tuple(table)


READERS: Final = _readers()
"""By constructor, what reads the frequent types in one step from the offset of the constructor.

Short strings are not among them: whoever uses this reads those in place. They raise IndexError,
struct.error, UnicodeDecodeError or WireError for damage, and WireError for all other types;
`read_extents` is for those.
"""
