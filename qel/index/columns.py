"""Columns: which properties the filters look at, and how a message's values get into slots.

Each pair of a path and a view has a slot while some filter needs it. All values that any filter
needs are taken from a message and reduced to exact built-in types once, before anything is
asked. Slot 0 is the turn itself, so that an atom can ask for what is no single value: an OR, or
a property compared with another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from qel.datetimes import DateTime, parse_datetime
from qel.index.atoms import View
from qel.values import Message, child, fetch, normalise

Values: TypeAlias = list[object]
Path: TypeAlias = tuple[str, ...]

TURN = 0
"""The slot of the turn."""

_TYPES: dict[View, frozenset[type]] = {
    View.PLAIN: frozenset((str, int, float, bool, type(None), DateTime, list, dict)),
    View.NUMBER: frozenset((int, float)),
    View.MOMENT: frozenset((DateTime,)),
}
"""Types of values that a slot shows as they are."""

_NAN = float("nan")
_TEXT_CACHED_MAX = 48

_WIDE = 16
"""With fewer slots it is not worth while to look which of them a message has."""


class Turn:
    """One message on its way through the index.

    The object is used for message after message; the number tells one from another, so that
    what was found out about the last is known to be out of date.
    """

    __slots__ = ("message", "number", "values")

    def __init__(self) -> None:
        self.number = 0
        self.message: Message = {}
        self.values: Values = []

    def start(self, message: Message, values: Values) -> None:
        """Begin with a message."""
        self.number += 1
        self.message = message
        self.values = values
        values[TURN] = self

    def end(self) -> None:
        """Let go of the message."""
        # The turn is among the values: without this they would keep each other alive.
        self.values[TURN] = None
        self.message = {}
        self.values = []


class Columns:
    """The slots, counted by how many filters use them."""

    def __init__(self) -> None:
        self._slots: dict[tuple[Path, View], int] = {}
        self._columns: list[tuple[Path, View] | None] = [None]
        self._users: list[int] = [0]
        # For a free slot, and for that of the turn, the empty name is asked for in vain.
        self._roots: list[str] = [""]
        self._nested: dict[int, Path] = {}
        self._views: dict[int, frozenset[type]] = {}
        self._empty: Values = [None]
        self._by_root: dict[str, dict[int, None]] = {}
        self._free: list[int] = []
        self._new: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, path: Path, view: View) -> int:
        """Give the slot of a property; a new one goes with the next `sweep` unless it is kept."""
        found = self._slots.get((path, view))
        if found is not None:
            return found
        if not self._free:
            self._free.append(len(self._columns))
            self._columns.append(None)
            self._users.append(0)
            self._roots.append("")
            self._empty.append(None)
        slot = self._free.pop()
        self._slots[path, view] = slot
        self._columns[slot] = path, view
        self._roots[slot] = path[0]
        if len(path) > 1:
            self._nested[slot] = path[1:]
        self._views[slot] = _TYPES[view]
        self._empty[slot] = None if view is View.PLAIN else _NAN
        self._by_root.setdefault(path[0], {})[slot] = None
        self._new.append(slot)
        return slot

    @property
    def is_wide(self) -> bool:
        """Whether there may be far more slots than a message has properties."""
        return len(self._columns) > _WIDE

    def keep(self, slot: int) -> None:
        """Count one more user of a slot."""
        self._users[slot] += 1

    def release(self, slot: int) -> None:
        """Count one user less; the last one frees the slot."""
        self._users[slot] -= 1
        self._free_unused(slot)

    def sweep(self) -> None:
        """Free the slots that came since the last time and are not kept."""
        while self._new:
            self._free_unused(self._new.pop())

    def _free_unused(self, slot: int) -> None:
        column = self._columns[slot]
        if column is not None and not self._users[slot]:
            del self._slots[column], self._views[slot]
            self._nested.pop(slot, None)
            self._columns[slot] = None
            root, self._roots[slot], self._empty[slot] = self._roots[slot], "", None
            del self._by_root[root][slot]
            if not self._by_root[root]:
                del self._by_root[root]
            self._free.append(slot)

    def values(self, message: Message) -> Values:
        """Take the values of all slots from a message. Never raises."""
        try:
            if type(message) is not dict:
                return self._values_with_care(message)
            values: Values = [*map(message.get, self._roots)]
            for slot, below in self._nested.items():
                values[slot] = _descend(values[slot], below)
            for slot, types in self._views.items():
                if type(values[slot]) not in types:
                    values[slot] = _show(values[slot], types)
        except Exception:  # noqa: BLE001 -- a key, or a class, that raises when it is compared
            return self._values_with_care(message)
        return values

    def present(self, message: Message) -> tuple[Values, list[int]] | None:
        """Take the values of the slots that a message has, and tell which slots those are.

        None: there are not many more slots, or anything is to be feared of the message.
        """
        if type(message) is not dict or 2 * len(message) > len(self._columns):
            return None
        values, slots = self._empty.copy(), []
        try:
            for name in message:
                for slot in self._by_root.get(name, ()):
                    value = message[name]
                    if slot in self._nested:
                        value = _descend(value, self._nested[slot])
                    types = self._views[slot]
                    values[slot] = value if type(value) in types else _show(value, types)
                    slots.append(slot)
        except Exception:  # noqa: BLE001 -- a key, or a class, that raises when it is compared
            return None
        return values, slots

    def _values_with_care(self, message: Message) -> Values:
        values: Values = [None] * len(self._columns)
        for slot, types in self._views.items():
            column = self._columns[slot]
            value = None if column is None else fetch(message, column[0])
            kind = type(value)
            is_shown = any(kind is exact for exact in types)
            values[slot] = value if is_shown else _show(value, types)
        return values


def _show(value: object, types: frozenset[type]) -> object:
    """Show a value in a slot for certain types."""
    normal = normalise(value)
    if type(normal) in types or types is _TYPES[View.PLAIN]:
        return normal
    return _read_moment(normal) if types is _TYPES[View.MOMENT] else _NAN


def _descend(value: object, below: Path) -> object:
    for name in below:
        if type(value) is dict:
            value = value.get(name)
        elif value is None:
            return None
        else:
            value = child(value, name)
    return value


def _read_moment(value: object) -> object:
    """Read what stands in a property declared dateTime."""
    if type(value) is not str:
        return _NAN
    # Messages of the same time share a text, and timestamps are short.
    parse = _parse_cached if len(value) <= _TEXT_CACHED_MAX else parse_datetime
    moment = parse(value)
    return _NAN if moment is None else moment


@lru_cache(maxsize=256)
def _parse_cached(text: str) -> DateTime | None:
    return parse_datetime(text)
