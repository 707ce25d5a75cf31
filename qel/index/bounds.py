"""Sorted tables: which bounds, and which intervals, hold a value.

All keys of a table are of one kind (strings, numbers or dateTimes), so that they have an order.
A lookup costs the logarithm of the size and then only what it finds; so do adding and removing.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

from qel.datetimes import DateTime
from qel.index.atoms import NUMBER

B = TypeVar("B")
Interval: TypeAlias = tuple[Any, bool, Any, bool]
"""Lower bound, whether it is open, upper bound, whether it is closed."""

BLOCK = 256
"""A block of sorted keys is split when it is twice as long."""

_SMALL = 12
"""Intervals in a cell that are simply asked one by one."""


class SortedTable(Generic[B]):
    """A mapping in the order of its keys, in blocks, so that no change moves all of it."""

    __slots__ = ("_buckets", "_count", "_keys", "_last", "_notes")

    def __init__(self) -> None:
        self._keys: list[list[Any]] = []
        self._buckets: list[list[B]] = []
        self._last: list[Any] = []
        # What is known of a block as a whole, until it changes.
        self._notes: list[object] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: Any) -> B | None:
        """Give the bucket of a key."""
        block = bisect_left(self._last, key)
        if block == len(self._last):
            return None
        at = bisect_left(self._keys[block], key)
        return self._buckets[block][at] if self._keys[block][at] == key else None

    def put(self, key: Any, bucket: B) -> None:
        """Add a key that is not there."""
        self._count += 1
        if not self._keys:
            self._keys, self._buckets, self._last, self._notes = [[key]], [[bucket]], [key], [None]
            return
        block = min(bisect_left(self._last, key), len(self._last) - 1)
        keys, buckets = self._keys[block], self._buckets[block]
        at = bisect_left(keys, key)
        keys.insert(at, key)
        buckets.insert(at, bucket)
        self._last[block] = keys[-1]
        self._notes[block] = None
        if len(keys) >= 2 * BLOCK:
            self._keys[block : block + 1] = keys[:BLOCK], keys[BLOCK:]
            self._buckets[block : block + 1] = buckets[:BLOCK], buckets[BLOCK:]
            self._last.insert(block, keys[BLOCK - 1])
            self._notes.insert(block, None)

    def drop(self, key: Any) -> None:
        """Remove a key that is there."""
        self._count -= 1
        block = bisect_left(self._last, key)
        keys, buckets = self._keys[block], self._buckets[block]
        at = bisect_left(keys, key)
        del keys[at], buckets[at]
        self._notes[block] = None
        if keys:
            self._last[block] = keys[-1]
        else:
            del self._keys[block], self._buckets[block], self._last[block], self._notes[block]

    def touch(self, key: Any) -> None:
        """Forget what is known of the block of a key: its bucket has changed."""
        self._notes[bisect_left(self._last, key)] = None

    def beyond(self, key: Any, *, below: bool, inclusive: bool) -> tuple[range, list[B]]:
        """Give the blocks that are wholly below or above a key, and the rest, from its own."""
        bisect = bisect_right if below is inclusive else bisect_left
        block = bisect(self._last, key)
        if block == len(self._last):
            return range(block if below else 0), []
        at = bisect(self._keys[block], key)
        if below:
            return range(block), self._buckets[block][:at]
        return range(block + 1, len(self._last)), self._buckets[block][at:]

    def items(self) -> Iterator[tuple[Any, B]]:
        """Yield all keys with their buckets."""
        return zip(chain.from_iterable(self._keys), chain.from_iterable(self._buckets), strict=True)

    def before(self, key: Any, *, inclusive: bool) -> list[list[B]]:
        """Give what has keys below a key, in rows."""
        bisect = bisect_right if inclusive else bisect_left
        block = bisect(self._last, key)
        rows = self._buckets[:block]
        if block < len(self._last):
            rows.append(self._buckets[block][: bisect(self._keys[block], key)])
        return rows

    def after(self, key: Any, *, inclusive: bool) -> list[list[B]]:
        """Give what has keys above a key, in rows."""
        bisect = bisect_left if inclusive else bisect_right
        block = bisect(self._last, key)
        rows = self._buckets[block:]
        if rows:
            rows[0] = rows[0][bisect(self._keys[block], key) :]
        return rows


class IntervalTable(Generic[B]):
    """Intervals, and which of them a value lies in.

    The places of a line, numbered with 64 bits, form a tree of halves, of which only the
    cells in use exist. An interval lives in the smallest cell that holds both its ends, so
    that it covers the middle of the cell. A value is looked for in the one cell of each level
    that it lies in. Left of the middle, it is below every upper bound there, and the lower
    bounds in their order tell which intervals hold it; right of the middle, the upper ones.
    """

    __slots__ = ("_count", "_levels", "_locate")

    def __init__(self, kind: type) -> None:
        self._locate = LOCATORS[kind]
        self._levels: dict[int, dict[int, _Cell[B]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: Interval) -> B | None:
        """Give the bucket of an interval."""
        level, place = self._cell(key)
        cell = self._levels.get(level, {}).get(place)
        return None if cell is None else cell.get(key)

    def put(self, key: Interval, bucket: B) -> None:
        """Add an interval that is not there; its lower bound is not above the upper."""
        level, place = self._cell(key)
        cell = self._levels.setdefault(level, {}).setdefault(place, _Cell())
        cell.put(key, bucket)
        self._count += 1

    def drop(self, key: Interval) -> None:
        """Remove an interval that is there."""
        level, place = self._cell(key)
        cells = self._levels[level]
        if cells[place].drop(key):
            del cells[place]
            if not cells:
                del self._levels[level]
        self._count -= 1

    def holding(self, value: Any) -> list[B]:
        """Give the buckets of all intervals that hold a value."""
        at = self._locate(value)
        found: list[B] = []
        for level, cells in self._levels.items():
            cell = cells.get(at >> level)
            if cell is not None:
                # The bit below the cell's own place says on which side of its middle.
                side = (at >> (level - 1)) & 1 if level else None
                found.extend(cell.holding(value, side))
        return found

    def _cell(self, key: Interval) -> tuple[int, int]:
        low, high = self._locate(key[0]), self._locate(key[2])
        level = (low ^ high).bit_length()
        return level, low >> level


class _Cell(Generic[B]):
    """The intervals around one middle: a few in a list, many sorted by either bound."""

    __slots__ = ("_few", "_highs", "_lows")

    def __init__(self) -> None:
        self._few: dict[Interval, B] = {}
        self._lows: SortedTable[B] | None = None
        self._highs: SortedTable[B] | None = None

    def get(self, key: Interval) -> B | None:
        return self._few.get(key) if self._lows is None else self._lows.get(key)

    def put(self, key: Interval, bucket: B) -> None:
        if self._lows is not None and self._highs is not None:
            self._lows.put(key, bucket)
            self._highs.put(_upper_first(key), bucket)
            return
        self._few[key] = bucket
        if len(self._few) > _SMALL:
            few, self._few = self._few, {}
            self._lows, self._highs = SortedTable(), SortedTable()
            for known, its_bucket in few.items():
                self.put(known, its_bucket)

    def drop(self, key: Interval) -> bool:
        """Remove an interval; tell whether the cell is empty."""
        if self._lows is None or self._highs is None:
            del self._few[key]
            return not self._few
        self._lows.drop(key)
        self._highs.drop(_upper_first(key))
        return not self._lows

    def holding(self, value: Any, side: int | None) -> Iterable[B]:
        """Give what holds a value left (0) or right (1) of the middle; None: there is none."""
        if self._lows is None or self._highs is None:
            few = self._few.items()
            if side is None:
                return [bucket for key, bucket in few if is_within(key, value)]
            if side:
                return [one for (_, _, high, closed), one in few if (high, closed) >= (value, True)]
            return [one for (low, is_open, _, _), one in few if (low, is_open) < (value, True)]
        if side is None:
            return [bucket for key, bucket in self._lows.items() if is_within(key, value)]
        # A pair is below all longer tuples that begin with it.
        edge = (value, True)
        if side:
            return chain.from_iterable(self._highs.after(edge, inclusive=True))
        return chain.from_iterable(self._lows.before(edge, inclusive=False))


def is_within(interval: Interval, value: Any) -> bool:
    """Tell whether an interval holds a value."""
    low, is_low_open, high, is_high_closed = interval
    if value == low and is_low_open:
        return False
    if value == high and not is_high_closed:
        return False
    return bool(low <= value <= high)


def is_empty(interval: Interval) -> bool:
    """Tell whether an interval holds nothing, whatever lies between its bounds."""
    low, is_low_open, high, is_high_closed = interval
    return bool(low > high or (low == high and (is_low_open or not is_high_closed)))


def _upper_first(key: Interval) -> Interval:
    return key[2], key[3], key[0], key[1]


# --- where a value lies on its line: a number that never falls when the value rises

_PLACES = 2**64
_SIGN = 2**63


def _locate_number(value: float) -> int:
    try:
        approximate = float(value)
    except OverflowError:
        approximate = float("inf") if value > 0 else float("-inf")
    # Read as an integer, the bits of a positive float rise with it.
    bits: int = struct.unpack(">q", struct.pack(">d", approximate))[0]
    return _SIGN + bits if bits >= 0 else _SIGN - (bits + _SIGN)


def _locate_moment(value: DateTime) -> int:
    return max(0, min(_PLACES - 1, value + _SIGN))


def _locate_text(value: str) -> int:
    # UTF-8 sorts by code point; the first bytes tell most strings apart.
    first = value[:8].encode("utf-8", "surrogatepass")[:8]
    return int.from_bytes(first.ljust(8, b"\0"), "big")


LOCATORS: dict[type, Callable[[Any], int]] = {
    NUMBER: _locate_number,
    DateTime: _locate_moment,
    str: _locate_text,
}
