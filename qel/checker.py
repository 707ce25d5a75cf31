"""Tree and schema to errors.

They are names the topic does not have, operators and literals that the types forbid, and
dateTimes that do not parse.

All problems are collected, not just the first. Where a type is known only at run time, nothing
is refused: a value that does not fit then makes the comparison unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

from qel.datetimes import parse_datetime
from qel.errors import ERRORS_MAX, Fault, QelSchemaError
from qel.hints import suggest
from qel.nodes import (
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Node,
    Operand,
    Operator,
    Property,
    TextOperator,
    TextTest,
    leaves,
    operands,
)
from qel.printer import path_text, string_text, to_text
from qel.schema import Schema, Type

Report: TypeAlias = Callable[[str, int, str | None], None]


def check(root: Node, schema: Schema) -> list[Fault]:
    """Check a tree against a schema and give everything that is wrong, in textual order."""
    checker = _Checker(schema)
    faults: list[Fault] = []
    for leaf in leaves(root):
        faults.extend(checker.check_leaf(leaf))
        if len(faults) >= ERRORS_MAX:
            break
    return sorted(faults[:ERRORS_MAX], key=lambda fault: fault.at)


def check_leaf(leaf: Leaf, schema: Schema) -> list[Fault]:
    """Check a single predicate."""
    return list(_Checker(schema).check_leaf(leaf))


class _Checker:
    """The rules, each yielding what it finds wrong with a predicate."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def check_leaf(self, leaf: Leaf) -> Iterator[Fault]:
        unknown = [
            fault
            for place, operand in enumerate(operands(leaf))
            for fault in self._check_name(operand, is_right=place > 0)
        ]
        if unknown:
            # What type the operand should have is anybody's guess.
            yield from unknown
            return
        match leaf:
            case Bare():
                yield from self._check_test(leaf)
            case Comparison():
                yield from self._check_comparison(leaf)
            case Membership():
                yield from self._check_membership(leaf)
            case TextTest():  # pragma: no branch -- exhaustive
                yield from self._check_text_test(leaf)

    def _check_name(self, operand: Operand, *, is_right: bool) -> Iterator[Fault]:
        if isinstance(operand, Literal) or self._type(operand) is not None:
            return
        root, *below = operand.path
        known = self._schema.properties.get(root)
        if below and known is not None:
            yield _fault(f"{root} is a {known.value} and has no properties", operand.at)
            return
        name, topic = path_text(operand.path), self._schema.name
        suggestion = self._suggest_name(operand)
        if suggestion is None and is_right:
            suggestion = f"a string is written in quotes: {string_text(root)}"
        yield _fault(f"{topic} have no property {name}", operand.at, suggestion)

    def _suggest_name(self, operand: Property) -> str | None:
        root, *below = operand.path
        roots = self._schema.roots
        if not below and root in roots:
            return f"a part of it can be asked for, as in {root}.part"
        known = [*roots] if below else [*self._schema.properties, "true", "false", "null"]
        return suggest(root, known)

    def _check_test(self, leaf: Bare) -> Iterator[Fault]:
        kind = self._type(leaf.operand)
        if kind not in (Type.BOOLEAN, Type.ANY):
            yield _fault(
                f"{_name(leaf.operand)} is a {_word(kind)}; alone it must be a boolean",
                leaf.operand.at,
            )

    def _check_comparison(self, leaf: Comparison) -> Iterator[Fault]:
        left, right = self._type(leaf.left), self._type(leaf.right)
        if Type.ANY in (left, right):
            return
        if leaf.operator.orders:
            yield from self._check_order(leaf)
        else:
            yield from self._check_fit(leaf.left, leaf.right, leaf.operator)

    def _check_order(self, leaf: Comparison) -> Iterator[Fault]:
        for operand in (leaf.left, leaf.right):
            kind = self._type(operand)
            if kind in (None, Type.BOOLEAN, Type.LIST):
                yield _fault(f"{leaf.operator.value} cannot order a {_word(kind)}", leaf.at)
                return
        yield from self._check_fit(leaf.left, leaf.right, leaf.operator)

    def _check_fit(self, left: Operand, right: Operand, sign: Operator | None) -> Iterator[Fault]:
        """Check that two operands of known types can be compared."""
        kinds = self._type(left), self._type(right)
        if None in kinds or Type.ANY in kinds:
            return
        for one, other in ((left, right), (right, left)):
            if self._type(one) is Type.DATETIME and _is_text(other):
                yield from _check_datetime(one, other)
                return
        if kinds[0] is not kinds[1]:
            wrong = right if isinstance(right, Literal) else left
            fixed = left if wrong is right else right
            how = sign.value if sign else "IN"
            yield _fault(
                f"{how} cannot compare {_name(fixed)}, a {_word(self._type(fixed))}, "
                f"with {_name(wrong)}, a {_word(self._type(wrong))}",
                wrong.at,
            )

    def _check_membership(self, leaf: Membership) -> Iterator[Fault]:
        if isinstance(leaf.choices, Property):
            kind = self._type(leaf.choices)
            if kind not in (Type.LIST, Type.ANY):
                yield _fault(
                    f"IN needs a list, {_name(leaf.choices)} is a {_word(kind)}", leaf.choices.at
                )
            return
        for choice in leaf.choices:
            yield from self._check_fit(leaf.operand, choice, None)

    def _check_text_test(self, leaf: TextTest) -> Iterator[Fault]:
        kind = self._type(leaf.operand)
        allowed = {Type.STRING, Type.ANY}
        if leaf.operator is TextOperator.HAS:
            allowed.add(Type.LIST)
        if kind not in allowed:
            yield _fault(
                f"{leaf.operator.value} needs a string, {_name(leaf.operand)} is a {_word(kind)}",
                leaf.at,
            )

    def _type(self, operand: Operand) -> Type | None:
        """Give an operand's type; None for an unknown property, and for the literal null."""
        if isinstance(operand, Property):
            return self._schema.type_of(operand.path)
        match operand.value:
            case None:
                return None
            case bool():
                return Type.BOOLEAN
            case str():
                return Type.STRING
            case _:
                return Type.NUMBER


def _check_datetime(moment: Operand, text: Operand) -> Iterator[Fault]:
    if parse_datetime(str(cast("Literal", text).value)) is None:
        yield _fault(
            f"{_name(text)} is no ISO 8601 dateTime",
            text.at,
            f"{_name(moment)} is compared with texts like '2026-03-01T00:00:00Z'",
        )


def _is_text(operand: Operand) -> bool:
    return isinstance(operand, Literal) and isinstance(operand.value, str)


def _fault(detail: str, at: int, suggestion: str | None = None) -> Fault:
    return Fault(detail, at, suggestion=suggestion, kind=QelSchemaError)


def _word(kind: Type | None) -> str:
    return "null" if kind is None else kind.value


def _name(operand: Operand) -> str:
    text = to_text(operand)
    return text if len(text) <= 60 else f"{text[:59]}…"
