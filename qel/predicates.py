"""What a single predicate means: leaves of a tree to functions that give a truth value.

A predicate over one property depends on that property's value alone, so it is offered as a
function of the value (`value_test`), which an index can ask once for many filters. All others
are functions of the message (`message_test`). Both are made by the same code and never raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar, cast

from qel.datetimes import parse_datetime
from qel.nodes import (
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Operand,
    Operator,
    Property,
    TextTest,
    operands,
)
from qel.schema import Schema, Type
from qel.values import OPAQUE, Message, Truth, Value, compare, contains, fetch, match_text, read_as

S = TypeVar("S")
Take: TypeAlias = Callable[[tuple[str, ...]], Callable[[S], object]]
MessageTest: TypeAlias = Callable[[Message], Truth]
ValueTest: TypeAlias = Callable[[object], Truth]

MIRRORED = {
    Operator.EQ: Operator.EQ,
    Operator.NE: Operator.NE,
    Operator.LT: Operator.GT,
    Operator.LE: Operator.GE,
    Operator.GT: Operator.LT,
    Operator.GE: Operator.LE,
}
"""What an operator becomes when its operands change sides."""


def message_test(leaf: Leaf, schema: Schema) -> MessageTest:
    """Make the function that decides a predicate for a message."""
    return _make_test(leaf, schema, lambda path: lambda message: fetch(message, path))


def value_test(leaf: Leaf, schema: Schema) -> ValueTest:
    """Make the function that decides a predicate for the value of its one property.

    Meaningful only for a predicate with `only_property`. The value is what `qel.values.fetch` gives: None stands for a missing property, too.
    """
    return _make_test(leaf, schema, lambda _: lambda value: value)


def only_property(leaf: Leaf) -> Property | None:
    """Give the property that alone decides a predicate, if there is exactly one."""
    found = [operand for operand in operands(leaf) if isinstance(operand, Property)]
    return found[0] if len(found) == 1 else None


def property_first(leaf: Comparison) -> Comparison:
    """Turn `literal sign property` into `property sign literal`; others stay as they are."""
    if isinstance(leaf.left, Literal) and isinstance(leaf.right, Property):
        return Comparison(MIRRORED[leaf.operator], leaf.right, leaf.left, leaf.at)
    return leaf


def constant(literal: Literal, against: Operand, schema: Schema) -> Value:
    """Give a literal's value as it is compared with an operand: an instant with a dateTime."""
    value = literal.value
    if isinstance(against, Literal) or not isinstance(value, str):
        return value
    if schema.type_of(against.path) is not Type.DATETIME:
        return value
    # The checker lets no other text stand beside a dateTime, but a tree may be made in code.
    instant = parse_datetime(value)
    return OPAQUE if instant is None else instant


def _make_test(leaf: Leaf, schema: Schema, take: Take[S]) -> Callable[[S], Truth]:
    maker = _Maker(schema, take)
    match leaf:
        case Bare():
            return maker.make_bare(leaf)
        case Comparison():
            return maker.make_comparison(property_first(leaf))
        case Membership(operand, choices) if isinstance(choices, Property):
            return maker.make_containment(operand, choices)
        case Membership():
            return maker.make_choice(leaf.operand, cast("tuple[Literal, ...]", leaf.choices))
        case TextTest():  # pragma: no branch -- exhaustive
            return maker.make_text_test(leaf)


class _Maker(Generic[S]):
    """Makes tests over a source: a message, or the value of the only property."""

    def __init__(self, schema: Schema, take: Take[S]) -> None:
        self._schema = schema
        self._take = take

    def make_bare(self, leaf: Bare) -> Callable[[S], Truth]:
        read = self._reader(leaf.operand, leaf.operand)

        def is_true(source: S) -> Truth:
            value = read(source)
            return value if isinstance(value, bool) else None

        return is_true

    def make_comparison(self, leaf: Comparison) -> Callable[[S], Truth]:
        sign, left, right = leaf.operator, leaf.left, leaf.right
        if _is_null(left):
            left, right = right, left
        if _is_null(right):
            return self._null_test(sign, left)
        read_left, read_right = self._reader(left, right), self._reader(right, left)
        return lambda source: compare(sign, read_left(source), read_right(source))

    def make_choice(self, operand: Operand, choices: tuple[Literal, ...]) -> Callable[[S], Truth]:
        equals = [
            self.make_comparison(Comparison(Operator.EQ, operand, choice)) for choice in choices
        ]

        def is_any(source: S) -> Truth:
            answer: Truth = False
            for equal in equals:
                truth = equal(source)
                if truth:
                    return True
                if truth is None:
                    answer = None
            return answer

        return is_any

    def make_containment(self, operand: Operand, container: Property) -> Callable[[S], Truth]:
        wants_null = _is_null(operand)
        read_list = self._reader(container, container)
        read_wanted = self._reader(operand, operand)
        return lambda source: contains(
            read_list(source), read_wanted(source), wants_null=wants_null
        )

    def make_text_test(self, leaf: TextTest) -> Callable[[S], Truth]:
        read, sign, text = self._reader(leaf.operand, leaf.operand), leaf.operator, leaf.text
        return lambda source: match_text(sign, read(source), text)

    def _null_test(self, sign: Operator, operand: Operand) -> Callable[[S], Truth]:
        """Make a comparison with the literal null: never unknown, but for an order."""
        if sign.orders:
            return lambda _: None
        wanted = sign is Operator.EQ
        if isinstance(operand, Literal):
            answer = (operand.value is None) is wanted
            return lambda _: answer
        take = self._take(operand.path)
        return lambda source: (take(source) is None) is wanted

    def _reader(self, operand: Operand, against: Operand) -> Callable[[S], Value]:
        if isinstance(operand, Literal):
            value = constant(operand, against, self._schema)
            return lambda _: value
        declared = self._schema.type_of(operand.path) or Type.ANY
        take = self._take(operand.path)
        return lambda source: read_as(declared, take(source))


def _is_null(operand: Operand) -> bool:
    return isinstance(operand, Literal) and operand.value is None
