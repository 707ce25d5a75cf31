"""Tables: the places in a bucket where atoms on one property and one kind of value are kept.

Each family of atoms has a table that finds, for a value, the buckets of all the atoms that
hold, and of no others. Tables know nothing of filters: a bucket is whatever has a size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from typing_extensions import override

from qel.index.atoms import Family, kind_of
from qel.index.bounds import IntervalTable, SortedTable
from qel.values import normalise

GRAM = 4
"""Characters of the parts by which substrings are found."""

_SEARCH_COST = 0.4
_CHARACTER_COST = 0.002
"""What a search for one part costs, and each character it passes, against one gram looked up."""

_REACH_WEIGHT = 1 / 16
"""Weight of the last message in the running mean of how many bounds a value is beyond."""


class Kept(Protocol):
    """What a table keeps."""

    size: int

    def unconditional_keys(self) -> Iterable[Hashable] | None:
        """Give all keys behind it if nothing more is asked of a message."""


B = TypeVar("B", bound=Kept)
Found: TypeAlias = set[Hashable]


class Table(Protocol[B]):
    """One family's atoms on one kind of value."""

    def __len__(self) -> int: ...

    def get(self, key: Any, /) -> B | None:
        """Give the bucket of an atom's constant."""

    def put(self, key: Any, bucket: B, /) -> None:
        """Keep a bucket for a constant that has none."""

    def drop(self, key: Any, /) -> None:
        """Forget the bucket of a constant."""

    def load(self, key: Any, /) -> int:
        """Estimate how many filters are reached together with an atom."""

    def find(self, value: Any, found: Found, /) -> Iterable[B]:
        """Give the buckets of all atoms that hold for a value of the right kind.

        A table may add the keys behind a bucket to what was found instead.
        """


class EqualTable(dict[Any, B], Generic[B]):
    """Equality: the value is the key."""

    __slots__ = ()

    def put(self, key: object, bucket: B) -> None:
        """Keep a bucket for a constant."""
        self[key] = bucket

    def drop(self, key: object) -> None:
        """Forget the bucket of a constant."""
        del self[key]
        # A dictionary never shrinks by itself.
        if not len(self) & (len(self) - 1):
            kept = dict(self)
            self.clear()
            self.update(kept)

    def load(self, key: object) -> int:
        """Tell how many filters are behind a constant."""
        bucket = self.get(key)
        return 0 if bucket is None else bucket.size

    def find(self, value: object, _: Found) -> Iterable[B]:
        """Give the buckets of all atoms that hold for a value."""
        bucket = self.get(value)
        return () if bucket is None else (bucket,)


class ElementTable(EqualTable[B]):
    """Elements of a list, by kind and value."""

    __slots__ = ()

    @override
    def find(self, value: object, _: Found) -> Iterable[B]:
        elements = [
            one for one in map(normalise, cast("list[object]", value)) if type(one) is not list
        ]
        keys = {(kind_of(one), one) for one in elements}
        return [self[key] for key in keys if key in self]


class AffixTable(EqualTable[B]):
    """Prefixes or suffixes, looked up by each length that occurs."""

    __slots__ = ("_cut", "_lengths")

    def __init__(self, cut: Callable[[str, int], str]) -> None:
        super().__init__()
        self._cut = cut
        self._lengths: dict[int, int] = {}

    @override
    def put(self, key: object, bucket: B) -> None:
        super().put(key, bucket)
        length = len(str(key))
        self._lengths[length] = self._lengths.get(length, 0) + 1

    @override
    def drop(self, key: object) -> None:
        super().drop(key)
        length = len(str(key))
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

    @override
    def find(self, value: object, _: Found) -> Iterable[B]:
        text, cut = cast("str", value), self._cut
        size = len(text)
        parts = [cut(text, length) for length in self._lengths if length <= size]
        return [self[part] for part in parts if part in self]


def _first(value: str, length: int) -> str:
    return value[:length]


def _last(value: str, length: int) -> str:
    return value[len(value) - length :]


class PartTable(EqualTable[B]):
    """Substrings, each kept under the rarest of its grams; short ones under themselves."""

    __slots__ = ("_grams", "_short")

    def __init__(self) -> None:
        super().__init__()
        self._grams: dict[str, list[str]] = {}
        self._short = 0

    @override
    def put(self, key: object, bucket: B) -> None:
        super().put(key, bucket)
        part = str(key)
        self._short += len(part) < GRAM
        grams = self._grams
        rarest = min(_grams_of(part), key=lambda gram: (len(grams.get(gram, ())), gram))
        grams.setdefault(rarest, []).append(part)

    @override
    def drop(self, key: object) -> None:
        super().drop(key)
        part = str(key)
        self._short -= len(part) < GRAM
        gram = next(gram for gram in _grams_of(part) if part in self._grams.get(gram, ()))
        self._grams[gram].remove(part)
        if not self._grams[gram]:
            del self._grams[gram]

    @override
    def find(self, value: object, _: Found) -> Iterable[B]:
        text = cast("str", value)
        size = len(text)
        if len(self) * (_SEARCH_COST + _CHARACTER_COST * size) <= GRAM * size:
            return [bucket for part, bucket in self.items() if part in text]
        grams = {text[at : at + GRAM] for at in range(size)}
        if self._short:
            for length in range(1, GRAM):
                grams.update([text[at : at + length] for at in range(size)])
            grams.add("")
        return [
            self[part]
            for gram in self._grams.keys() & grams
            for part in self._grams[gram]
            if part in text
        ]


def _grams_of(part: str) -> set[str]:
    """Give the grams that a string must have to hold a part; a short part is its own."""
    if len(part) <= GRAM:
        return {part}
    return {part[at : at + GRAM] for at in range(len(part) - GRAM + 1)}


_MIXED = "some of the buckets ask"


class BoundTable(SortedTable[B]):
    """Bounds on one side: the atom holds for all values beyond its bound.

    Many may hold at once. Where a block of buckets has nothing more to ask, its keys are noted
    together and taken together.
    """

    __slots__ = ("_inclusive", "_is_lower", "_reach")

    def __init__(self, family: Family) -> None:
        super().__init__()
        self._is_lower = family in (Family.ABOVE, Family.FROM)
        self._inclusive = family in (Family.FROM, Family.UP_TO)
        self._reach = 0.0

    def load(self, _: object) -> int:
        """Tell how many bounds a value was beyond lately; it is the same for all of them."""
        return int(self._reach)

    def find(self, value: Any, found: Found) -> Iterable[B]:
        """Give the buckets of all bounds that a value is beyond, or take their keys."""
        if value != value:  # noqa: PLR0124 -- NaN is beyond no bound
            return ()
        blocks, edge = self.beyond(value, below=self._is_lower, inclusive=self._inclusive)
        rows, reached = [edge], len(edge)
        for block in blocks:
            buckets = self._buckets[block]
            reached += len(buckets)
            if self._notes[block] is None:
                self._notes[block] = _all_keys(buckets)
            note = self._notes[block]
            if note is _MIXED:
                rows.append(buckets)
            else:
                found.update(cast("list[Hashable]", note))
        self._reach += (reached - self._reach) * _REACH_WEIGHT
        return chain.from_iterable(rows)


def _all_keys(buckets: list[B]) -> list[Hashable] | str:
    """Give the keys behind all of some buckets, unless one of them asks more."""
    keys: list[Hashable] = []
    for bucket in buckets:
        own = bucket.unconditional_keys()
        if own is None:
            return _MIXED
        keys.extend(own)
    return keys


class BetweenTable(IntervalTable[B]):
    """Two bounds."""

    __slots__ = ()

    def load(self, key: Any) -> int:
        """Tell how many filters have exactly this interval."""
        bucket = self.get(key)
        return 0 if bucket is None else bucket.size

    def find(self, value: Any, _: Found) -> Iterable[B]:
        """Give the buckets of all intervals that hold a value."""
        if value != value:  # noqa: PLR0124 -- NaN is between no bounds
            return ()
        return self.holding(value)


class AnyTable(EqualTable[B]):
    """One bucket, for every value of the kind."""

    __slots__ = ()

    @override
    def find(self, value: object, _: Found) -> Iterable[B]:
        return self.values()


class NanTable(EqualTable[B]):
    """One bucket, for NaN."""

    __slots__ = ()

    @override
    def find(self, value: object, _: Found) -> Iterable[B]:
        return self.values() if value != value else ()  # noqa: PLR0124 -- that is what NaN is


_MAKERS: dict[Family, Callable[[], Table[Any]]] = {
    Family.EQUAL: EqualTable,
    Family.ELEMENT: ElementTable,
    Family.PREFIX: lambda: AffixTable(_first),
    Family.SUFFIX: lambda: AffixTable(_last),
    Family.HAS: PartTable,
    Family.PRESENT: AnyTable,
    Family.NAN: NanTable,
    Family.ANY: AnyTable,
}


def make_table(family: Family, kind: type) -> Table[Any]:
    """Make an empty table of a family for a kind of value."""
    if family is Family.BETWEEN:
        return BetweenTable(kind)
    make = _MAKERS.get(family)
    return BoundTable(family) if make is None else make()
