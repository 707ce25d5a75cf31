"""AMQP 1.0 values that Python has no type of its own for (OASIS amqp-core-types-v1.0 §1.6).

`null`, `boolean`, `long`, `double`, `string`, `binary`, `uuid`, `list` and `map` are None, bool,
int, float, str, bytes, uuid.UUID, list and dict. The others are small subclasses of those, so
that they compare and compute like them, and encode to the type they came from.
"""

from dataclasses import dataclass
from typing import ClassVar


class WireError(ValueError):
    """Bytes that are no AMQP 1.0 encoding, or a value that has none.

    Attributes:
        detail: What is wrong, as a phrase.
        offset: Where in the bytes, or None for a value that cannot be encoded.
    """

    def __init__(self, detail: str, offset: int | None = None) -> None:
        super().__init__(detail if offset is None else f"{detail} (at byte {offset})")
        self.detail = detail
        self.offset = offset


class _Int(int):
    """An integer of one AMQP width. Its range is checked when it is encoded."""

    __slots__ = ()


class UByte(_Int):
    """`ubyte`: 0 to 255."""

    __slots__ = ()


class UShort(_Int):
    """`ushort`: 0 to 65,535."""

    __slots__ = ()


class UInt(_Int):
    """`uint`: 32 bits without sign."""

    __slots__ = ()


class ULong(_Int):
    """`ulong`: 64 bits without sign."""

    __slots__ = ()


class Byte(_Int):
    """`byte`: -128 to 127."""

    __slots__ = ()


class Short(_Int):
    """`short`: 16 bits with sign."""

    __slots__ = ()


class Int(_Int):
    """`int`: 32 bits with sign."""

    __slots__ = ()


class Long(_Int):
    """`long`: 64 bits with sign; a plain int encodes as this too."""

    __slots__ = ()


class Timestamp(_Int):
    """`timestamp`: milliseconds since the epoch, UTC."""

    __slots__ = ()


class Float32(float):
    """`float`: 32 bits; a plain float is a `double`."""

    __slots__ = ()


class Char(str):
    """`char`: one Unicode character."""

    __slots__ = ()


class Symbol(str):
    """`symbol`: a name from a constrained domain, ASCII on the wire."""

    __slots__ = ()


class DecimalBits(bytes):
    """`decimal32`, `decimal64` or `decimal128`, by its length of 4, 8 or 16 bytes; kept as is."""

    __slots__ = ()
    widths: ClassVar[tuple[int, ...]] = (4, 8, 16)


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor that says what it stands for (§1.3.2)."""

    descriptor: object
    value: object


@dataclass(frozen=True, slots=True)
class Array:
    """A sequence of values of one encoding (§1.6.24)."""

    code: int
    """Constructor that all items share, for example 0x98 for uuid."""
    items: tuple[object, ...] = ()
    descriptors: tuple[object, ...] = ()
    """Descriptors before the constructor, outermost first; seldom any."""
