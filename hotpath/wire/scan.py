"""Find where encoded values end without decoding them (amqp-core-types-v1.0 §1.2).

The table `STEP` gives the bytes of a value behind its constructor where the constructor alone
tells. 0 there means "one byte of size follows" and makes `STEP[c] or 2 + buf[i + 1]` the whole
step. All other constructors, unknown ones among them, step so far that a loop over a region
leaves it, and whoever ran the loop sees that it did not end where the region ends.
"""

from struct import Struct
from typing import Final

from hotpath.wire.values import WireError

DEPTH_MAX: Final = 64
"""Levels of nesting that are followed; deeper is refused."""

ELEMENTS_MAX: Final = 8192
"""Elements (a map entry is two) of a section or map that the broker walks through."""

TOO_FAR: Final = 1 << 48

FIXED: Final[dict[int, int]] = {
    **dict.fromkeys((0x40, 0x41, 0x42, 0x43, 0x44, 0x45), 0),
    **dict.fromkeys((0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56), 1),
    **dict.fromkeys((0x60, 0x61), 2),
    **dict.fromkeys((0x70, 0x71, 0x72, 0x73, 0x74), 4),
    **dict.fromkeys((0x80, 0x81, 0x82, 0x83, 0x84), 8),
    **dict.fromkeys((0x94, 0x98), 16),
}
"""Constructors of a fixed width, and the bytes that follow them."""

SIZED_8: Final = frozenset((0xA0, 0xA1, 0xA3, 0xC0, 0xC1, 0xE0))
SIZED_32: Final = frozenset((0xB0, 0xB1, 0xB3, 0xD0, 0xD1, 0xF0))
LISTS: Final = frozenset((0x45, 0xC0, 0xD0))
MAPS: Final = frozenset((0xC1, 0xD1))
ARRAYS: Final = frozenset((0xE0, 0xF0))
COMPOUND: Final = frozenset((0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0))


def _steps() -> tuple[int, ...]:
    table = [TOO_FAR] * 256
    for code, width in FIXED.items():
        table[code] = 1 + width
    for code in SIZED_8:
        table[code] = 0
    return tuple(table)


STEP: Final[tuple[int, ...]] = _steps()

read_u32: Final = Struct(">I").unpack_from


def skip(buf: bytes | memoryview, offset: int = 0) -> int:
    """Return the offset behind the value at `offset`; what is inside a compound is not looked at.

    Raises:
        WireError: The value is cut off, has an unknown constructor, or too many descriptors.
    """
    size = len(buf)
    pos = _constructor(buf, offset)
    if pos >= size:
        raise WireError("value is cut off", size)
    code = buf[pos]
    if code in FIXED:
        end = pos + 1 + FIXED[code]
    elif code in SIZED_8 and pos + 1 < size:
        end = pos + 2 + buf[pos + 1]
    elif code in SIZED_32 and pos + 4 < size:
        end = pos + 5 + int(read_u32(buf, pos + 1)[0])
    elif code in SIZED_8 or code in SIZED_32:
        raise WireError("size is cut off", pos)
    else:
        raise WireError(f"unknown constructor 0x{code:02x}", pos)
    if end > size:
        raise WireError("value is cut off", pos)
    return end


def _constructor(buf: bytes | memoryview, offset: int) -> int:
    """Pass over descriptors; the offset of the constructor proper."""
    pos = offset
    for _ in range(DEPTH_MAX):
        if pos >= len(buf) or buf[pos] != 0x00:
            return pos
        pos = _skip_descriptor(buf, pos + 1)
    raise WireError(f"more than {DEPTH_MAX} descriptors", offset)


def _skip_descriptor(buf: bytes | memoryview, pos: int) -> int:
    if pos < len(buf) and buf[pos] == 0x00:
        raise WireError("a descriptor has a descriptor", pos)
    return skip(buf, pos)


def contents(buf: bytes | memoryview, pos: int) -> tuple[int, int, int]:
    """Open the list or map whose constructor is at `pos`: element count, first offset, end.

    Raises:
        WireError: It is cut off, its size does not hold its count, or the count cannot be.
    """
    code = buf[pos]
    if code == 0x45:
        return 0, pos + 1, pos + 1
    end = skip(buf, pos)
    width = 1 if code in SIZED_8 else 4
    first = pos + 1 + 2 * width
    if first > end:
        raise WireError("compound has no room for its count", pos)
    count = buf[first - 1] if width == 1 else int(read_u32(buf, first - 4)[0])
    if count > end - first and code not in ARRAYS:
        raise WireError(f"{count} elements cannot be in {end - first} bytes", pos)
    return count, first, end


def check_compound(buf: bytes | memoryview, pos: int) -> int:
    """Check that the list or map at `pos` holds as many values as it says; that number.

    Raises:
        WireError: It does not, or holds more than 8192.
    """
    count, at, end = contents(buf, pos)
    if count > ELEMENTS_MAX:
        raise WireError(f"{count} elements, more than {ELEMENTS_MAX}", pos)
    if buf[pos] in MAPS and count % 2:
        raise WireError("map has a key without a value", pos)
    for _ in range(count):
        at = skip(buf, at)
    if at != end:
        raise WireError(f"compound does not hold the {count} elements it counts", pos)
    return count
