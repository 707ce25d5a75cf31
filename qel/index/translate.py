"""Predicates to atoms: what a leaf of a tree being true, or being false, asks of the values.

The common predicates become plain atoms. The others become a `Question` that is asked through
the evaluators of `qel.predicates`: a property compared with another, a literal in a list, an IN
list of mixed types, and strings that are dateTimes too, where the property is typed at run time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, cast

from qel.datetimes import DateTime, parse_datetime
from qel.index import atoms
from qel.index.atoms import NOWHERE, NUMBER, Atom, Family, Pin, Post, View, kind_of
from qel.index.columns import Turn
from qel.nodes import (
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Operator,
    Property,
    TextTest,
    operands,
)
from qel.predicates import constant, message_test, only_property, property_first, value_test
from qel.schema import Schema, Type
from qel.values import OPAQUE, Value

_CHOICE_KINDS = (str, NUMBER, DateTime)
_RECIPES_MAX = 1024


class Question(NamedTuple):
    """A predicate that no plain atom says."""

    ask: Callable[[Turn], bool]
    pin: Pin = NOWHERE
    slots: tuple[int, ...] = ()


SlotOf: TypeAlias = Callable[[tuple[str, ...], View], int]
Said: TypeAlias = Atom | Question | bool
"""An atom, a question, or whether the predicate is as wanted whatever the message holds."""


Recipe: TypeAlias = tuple[atoms.Test, tuple[str, ...], View]
"""How all comparisons are said that differ only in their literal, which is the constant."""


class Translator:
    """Translates the predicates of one schema."""

    __slots__ = ("_recipes", "_slot_of", "schema")

    def __init__(self, schema: Schema, slot_of: SlotOf) -> None:
        self.schema = schema
        self._slot_of = slot_of
        self._recipes: dict[tuple[object, ...], Recipe | None] = {}

    def translate(self, leaf: Leaf, *, wanted: bool) -> Said:
        """Say a predicate's being definitely true or, if not `wanted`, definitely false."""
        # Most predicates are comparisons, and most are said like others: that goes first.
        if not isinstance(leaf, Comparison):
            return self._other(leaf, wanted=wanted)
        left, right = leaf.left, leaf.right
        if not isinstance(left, Property) or not isinstance(right, Literal):
            return self._other(leaf, wanted=wanted)
        value = right.value
        key = (left.path, leaf.operator, type(value), wanted)
        try:
            recipe = self._recipes[key]
        except KeyError:
            if len(self._recipes) >= _RECIPES_MAX:
                self._recipes.clear()
            recipe = self._recipes[key] = self._recipe(leaf.operator, left, type(value), wanted)
        if recipe is None or value != value:  # noqa: PLR0124 -- NaN
            return self._comparison(leaf, left, wanted=wanted)
        test, path, view = recipe
        if type(value) is str:
            value = sys.intern(value)  # there are many filters on few strings
        return test, self._slot_of(path, view), value

    def _recipe(
        self, sign: Operator, operand: Property, kind: type, wanted: bool, /
    ) -> Recipe | None:
        if self._is_dated(operand):
            return None
        if kind is str and self.schema.type_of(operand.path) is Type.STRING:
            return atoms.text_test(sign, wanted=wanted), operand.path, View.PLAIN
        if kind is int or kind is float:
            test, view = atoms.number_test(sign, wanted=wanted)
            return test, operand.path, view
        return None

    def _other(self, leaf: Leaf, *, wanted: bool) -> Said:
        if isinstance(leaf, Comparison):
            leaf = property_first(leaf)
            if isinstance(leaf.left, Property) and isinstance(leaf.right, Literal):
                return self._comparison(leaf, leaf.left, wanted=wanted)
            return self._without_value(leaf, wanted=wanted)
        operand = only_property(leaf)
        if operand is None:
            return self._without_value(leaf, wanted=wanted)
        if isinstance(leaf, Membership) and isinstance(leaf.choices, tuple):
            return self._choice(leaf, operand, wanted=wanted)
        if self._is_dated(operand):
            return False  # a dateTime is no boolean, no string and no list
        return self._undated(leaf, operand, wanted=wanted)

    def _undated(
        self, leaf: Bare | Membership | TextTest, operand: Property, *, wanted: bool
    ) -> Said:
        match leaf:
            case Bare():
                return atoms.is_same, self._slot(operand), wanted
            case Membership():
                return self._element(leaf, operand, wanted=wanted)
            case TextTest(sign, _, text):  # pragma: no branch -- exhaustive
                return atoms.PART_TESTS[sign, wanted], self._slot(operand), text

    def types(self, leaf: Leaf) -> tuple[Type | None, ...]:
        """Give the declared types that, with the leaf itself, make up its meaning."""
        return tuple(
            [
                self.schema.type_of(operand.path) if isinstance(operand, Property) else None
                for operand in operands(leaf)
            ]
        )

    def _without_value(self, leaf: Leaf, *, wanted: bool) -> Said:
        """Ask a predicate with two properties; one with none is a constant."""
        test = message_test(leaf, self.schema)
        # To be true or false it needs, if two are compared, both of them, and IN needs its list.
        *_, needed = operands(leaf)
        if not isinstance(needed, Property):
            return test({}) is wanted
        slot = self._slot(needed)
        pin = atoms.any_kind(slot, (object,))
        return Question(lambda turn: test(turn.message) is wanted, pin, (slot,))

    def _comparison(self, leaf: Comparison, operand: Property, *, wanted: bool) -> Said:
        sign = leaf.operator
        value = constant(cast("Literal", leaf.right), operand, self.schema)
        if type(value) is str:
            return self._text_comparison(leaf, operand, wanted=wanted)
        if value is None or isinstance(value, bool):
            return self._identity(leaf, operand, wanted=wanted)
        if self._is_dated(operand):
            if type(value) is not DateTime:
                return False  # always unknown
            test = atoms.moment_test(sign, wanted=wanted)
            return test, self._slot_of(operand.path, View.MOMENT), value
        if kind_of(value) is not NUMBER or value != value:  # noqa: PLR0124 -- NaN
            return self._ask_value(leaf, operand, NOWHERE, wanted=wanted)
        test, view = atoms.number_test(sign, wanted=wanted)
        return test, self._slot_of(operand.path, view), value

    def _identity(self, leaf: Comparison, operand: Property, *, wanted: bool) -> Said:
        """Say a comparison with null, or with a boolean: neither has an order."""
        value = cast("Literal", leaf.right).value
        if leaf.operator.orders:
            return False  # always unknown
        is_equal = (leaf.operator is Operator.EQ) is wanted
        if value is None:
            return (atoms.is_same if is_equal else atoms.is_not_same), self._slot(operand), None
        if self._is_dated(operand):
            return False
        return atoms.is_same, self._slot(operand), value is is_equal

    def _text_comparison(self, leaf: Comparison, operand: Property, *, wanted: bool) -> Said:
        # Equal constants are one object: there are many filters on few strings.
        text = sys.intern(cast("str", cast("Literal", leaf.right).value))
        test, slot = atoms.text_test(leaf.operator, wanted=wanted), self._slot(operand)
        moment = self._moment(text, operand)
        if moment is None:
            return test, slot, text
        # Typed at run time: a string is compared as a string, a dateTime as an instant.
        instants = atoms.pin((atoms.moment_test(leaf.operator, wanted=wanted), slot, moment))
        posts = atoms.pin((test, slot, text)).posts + instants.posts
        return self._ask_value(leaf, operand, Pin(posts, instants.is_exact), wanted=wanted)

    def _choice(self, leaf: Membership, operand: Property, *, wanted: bool) -> Said:
        choices = cast("tuple[Literal, ...]", leaf.choices)
        values = [constant(choice, operand, self.schema) for choice in choices]
        kind = self._common_kind(values, operand)
        if kind is not None:
            test, view = atoms.CHOICE_TESTS[kind, wanted]
            return test, self._slot_of(operand.path, view), frozenset(values)
        pin = self._pin_mixed(values, operand) if wanted else NOWHERE
        return self._ask_value(leaf, operand, pin, wanted=wanted)

    def _common_kind(self, values: list[Value], operand: Property) -> type | None:
        """Give the kind of all values of a list if one plain atom can say them."""
        kinds = {kind_of(value) for value in values}
        kind = kinds.pop()
        if kinds or kind not in _CHOICE_KINDS or any(value != value for value in values):  # noqa: PLR0124 -- NaN
            return None
        if kind is str and any(self._moment(str(one), operand) is not None for one in values):
            return None
        return kind if (kind is DateTime) is self._is_dated(operand) else None

    def _pin_mixed(self, values: list[Value], operand: Property) -> Pin:
        moments = View.MOMENT if self._is_dated(operand) else View.PLAIN
        posts: dict[Post, None] = {}
        for value in values:
            if value != value:  # noqa: PLR0124 -- NaN equals nothing
                return NOWHERE
            if value is OPAQUE or (value is not None and self._is_misfit(value, operand)):
                continue
            view = moments if type(value) is DateTime else View.PLAIN
            slot = self._slot_of(operand.path, view)
            posts[Post(slot, kind_of(value), Family.EQUAL, value)] = None
            moment = self._moment(value, operand) if isinstance(value, str) else None
            if moment is not None:
                posts[Post(slot, DateTime, Family.EQUAL, moment)] = None
        return Pin(tuple(posts), is_exact=True)

    def _element(self, leaf: Membership, container: Property, *, wanted: bool) -> Said:
        """Say that a list holds, or is known not to hold, a literal."""
        value = cast("Literal", leaf.operand).value
        if not wanted or value != value:  # noqa: PLR0124 -- NaN equals nothing
            pin = atoms.any_kind(self._slot(container), (list,))
            return self._ask_value(leaf, container, pin, wanted=wanted)
        keys: list[tuple[type, object]] = [(kind_of(value), value)]
        moment = parse_datetime(value) if isinstance(value, str) else None
        if moment is not None:
            keys.append((DateTime, moment))
        slot = self._slot(container)
        posts = tuple([Post(slot, list, Family.ELEMENT, key) for key in keys])
        return self._ask_value(leaf, container, Pin(posts, is_exact=True), wanted=wanted)

    def _ask_value(self, leaf: Leaf, operand: Property, pin: Pin, *, wanted: bool) -> Question:
        test, slot = value_test(leaf, self.schema), self._slot(operand)
        slots = {slot, *(post.slot for post in pin.posts)}
        return Question(lambda turn: test(turn.values[slot]) is wanted, pin, tuple(slots))

    def _moment(self, text: str, operand: Property) -> DateTime | None:
        """Give the instant that a string also is, where a property may hold either."""
        declared = self.schema.type_of(operand.path)
        return None if declared is Type.STRING else parse_datetime(text)

    def _is_dated(self, operand: Property) -> bool:
        return self.schema.type_of(operand.path) is Type.DATETIME

    def _is_misfit(self, value: Value, operand: Property) -> bool:
        """Tell whether a property declared dateTime meets a constant that is none."""
        return self._is_dated(operand) and type(value) is not DateTime

    def _slot(self, operand: Property) -> int:
        return self._slot_of(operand.path, View.PLAIN)
