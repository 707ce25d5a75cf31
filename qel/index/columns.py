"""Columns: which properties the filters look at, and how a message's values get into slots.

Each pair of a path and a view has a slot while some filter needs it. All values that any filter
needs are taken from a message and reduced to exact built-in types once, before anything is
asked. Slot 0 is the turn itself, so that an atom can ask for what is no single value: an OR, or
a property compared with another.
"""

from __future__ import annotations

from typing import TypeVar, cast

from qel.index.atoms import View
from qel.index.taking import TYPES, Column, Path, Take, Values, descend, make_take, show
from qel.values import Message, fetch

T = TypeVar("T")

TURN = 0
"""The slot of the turn."""

_NAN = float("nan")

_WIDE = 16
"""With fewer slots it is not worth while to look which of them a message has."""

_TWINS_MAX = 4096
"""So many tuples are remembered, that equal ones be one."""


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
    """The slots, counted by how many filters use them.

    Attributes:
        values: takes the values of all slots from a message. Never raises.
        is_wide: whether there may be far more slots than a message has properties.
    """

    def __init__(self) -> None:
        self.values: Take = self._take_first
        self.is_wide = False
        self._slots: dict[Column, int] = {}
        self._columns: list[Column | None] = [None]
        self._users: list[int] = [0]
        self._nested: dict[int, Path] = {}
        self._views: dict[int, frozenset[type]] = {}
        self._empty: Values = [None]
        self._by_root: dict[str, dict[int, None]] = {}
        self._free: list[int] = []
        self._new: list[int] = []
        self._twins: dict[object, object] = {}

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
            self._empty.append(None)
        slot = self._free.pop()
        self._slots[path, view] = slot
        self._columns[slot] = path, view
        if len(path) > 1:
            self._nested[slot] = path[1:]
        self._views[slot] = TYPES[view]
        self._empty[slot] = None if view is View.PLAIN else _NAN
        self._by_root.setdefault(path[0], {})[slot] = None
        self._new.append(slot)
        self._change()
        return slot

    def twin(self, made: T) -> T:
        """Give a tuple that says the same about slots as one made now: if possible, an old one.

        Filters have few different parts that are not their own. One object for all of them
        takes less memory, and what is in use all the time stays in the processor's cache.
        """
        if len(self._twins) >= _TWINS_MAX:
            self._twins.clear()
        return cast("T", self._twins.setdefault(made, made))

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
            self._empty[slot] = None
            root = column[0][0]
            del self._by_root[root][slot]
            if not self._by_root[root]:
                del self._by_root[root]
            self._free.append(slot)
            self._twins.clear()  # the slot may come again and mean another property
            self._change()

    def _change(self) -> None:
        self.is_wide = len(self._columns) > _WIDE
        self.values = self._take_wide if self.is_wide else self._take_first

    def _take_first(self, message: Message) -> Values:
        """Take values for the first time since the slots have changed."""
        self.values = make_take(self._columns, self._values_with_care)
        return self.values(message)

    def _take_wide(self, message: Message) -> Values:
        """Take values for slots that are too many to make a function for them."""
        try:
            if type(message) is not dict:
                return self._values_with_care(message)
            values = self._empty.copy()
            for slot, types in self._views.items():
                path = cast("Column", self._columns[slot])[0]
                value = descend(message.get(path[0]), path[1:])
                values[slot] = value if type(value) in types else show(value, types)
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
                        value = descend(value, self._nested[slot])
                    types = self._views[slot]
                    values[slot] = value if type(value) in types else show(value, types)
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
            values[slot] = value if is_shown else show(value, types)
        return values
