"""Shapes: filters that differ only in their literals are parsed once.

Applications make their filters from a few templates. The first text of a shape goes through the
parser, and what became of each of its lexemes is remembered; a later one of the same shape is
cut into lexemes, within the same limits, and its tree is built at once: the same tree with the
same positions, and the same error should a literal be wrong. That takes a fifth of the time.

A shape also remembers for which schemas it was found right, as far as that does not depend on
the literals' values: dateTimes are looked at each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from qel.checker import check, check_leaf
from qel.errors import Fault
from qel.lexer import Lexeme, number_value, string_value
from qel.nodes import (
    And,
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Node,
    Not,
    Operand,
    Or,
    Property,
    TextTest,
    leaves,
    operands,
    properties,
)
from qel.parser import build_tree
from qel.schema import Schema, Type

SHAPES_MAX: Final = 1024
"""So many shapes are remembered; the oldest goes first."""

LEXEMES_MAX: Final = 128
"""Longer filters are parsed each time. It also bounds the depth of what is remembered."""

SCHEMAS_MAX: Final = 8
"""So many schemas are remembered for a shape: there are four topics."""

N = TypeVar("N")
Recipe: TypeAlias = Callable[[list[Lexeme]], N]
"""Builds a part of a tree from the lexemes of its text."""

_SLOTS = {"STRING": "''", "NUMBER": "0"}
"""What stands for a literal in a shape; no other lexeme is written like it."""


class Shape:
    """What all texts that differ only in their literals have in common.

    Attributes:
        properties: the paths of all properties that they look at.
    """

    __slots__ = ("_build", "_to_check", "properties")

    def __init__(self, root: Node, lexemes: list[Lexeme]) -> None:
        numbers = {lexeme.at: number for number, lexeme in enumerate(lexemes)}
        self.properties = properties(root)
        self._build = _Recorder(lexemes, numbers).node(root)
        self._to_check: dict[Schema, tuple[int, ...]] = {}

    def build(self, lexemes: list[Lexeme]) -> Node:
        """Build the tree of another text of this shape.

        Raises:
            Fault: a literal is wrong.
        """
        return self._build(lexemes)

    def check(self, root: Node, schema: Schema) -> list[Fault]:
        """Check a tree of this shape against a schema, as `qel.checker.check` does."""
        to_check = self._to_check.get(schema)
        if to_check is not None:
            asked = tuple(leaves(root)) if to_check else ()
            if not any(check_leaf(asked[number], schema) for number in to_check):
                return []
        faults = check(root, schema)
        if not faults and to_check is None:
            if len(self._to_check) >= SCHEMAS_MAX:
                self._to_check.clear()
            dated = [number for number, leaf in enumerate(leaves(root)) if _is_dated(leaf, schema)]
            self._to_check[schema] = tuple(dated)
        return faults


class Shapes:
    """The shapes that were seen lately."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Shape] = {}

    def __len__(self) -> int:
        return len(self._known)

    def build_tree(self, lexemes: list[Lexeme], end: int) -> tuple[Node, Shape | None]:
        """Do as `qel.parser.build_tree`; also give the shape, unless the text is too long.

        Raises:
            Fault: the lexemes are no expression.
        """
        if len(lexemes) > LEXEMES_MAX:
            return build_tree(lexemes, end), None
        key = tuple([_SLOTS.get(lexeme.type) or lexeme.text for lexeme in lexemes])
        shape = self._known.get(key)
        if shape is not None:
            return shape.build(lexemes), shape
        root = build_tree(lexemes, end)
        if len(self._known) >= SHAPES_MAX:
            self._known.pop(next(iter(self._known)), None)
        shape = self._known[key] = Shape(root, lexemes)
        return root, shape


class _Recorder:
    """Turns a tree into the recipe that builds its like."""

    def __init__(self, lexemes: list[Lexeme], numbers: dict[int, int]) -> None:
        self._lexemes = lexemes
        self._numbers = numbers

    def node(self, node: Node) -> Recipe[Node]:
        match node:
            case And(parts):
                recipes = [self.node(part) for part in parts]
                return lambda lexemes: And(tuple([recipe(lexemes) for recipe in recipes]))
            case Or(parts):
                recipes = [self.node(part) for part in parts]
                return lambda lexemes: Or(tuple([recipe(lexemes) for recipe in recipes]))
            case Not(part):
                negated = self.node(part)
                return lambda lexemes: Not(negated(lexemes))
            case _:
                return self.leaf(node)

    def leaf(self, leaf: Leaf) -> Recipe[Node]:
        match leaf:
            case Bare(operand):
                only = self.operand(operand)
                return lambda lexemes: Bare(only(lexemes))
            case Comparison(operator, left, right, at):
                first, second, sign = self.operand(left), self.operand(right), self._numbers[at]
                return lambda lexemes: Comparison(
                    operator, first(lexemes), second(lexemes), lexemes[sign].at
                )
            case Membership(operand, choices, at):
                member, sign = self.operand(operand), self._numbers[at]
                chosen = self.choices(choices)
                return lambda lexemes: Membership(
                    member(lexemes), chosen(lexemes), lexemes[sign].at
                )
            case TextTest(text_operator, operand, _, at):  # pragma: no branch -- exhaustive
                tested, sign = self.operand(operand), self._numbers[at]
                return lambda lexemes: TextTest(
                    text_operator,
                    tested(lexemes),
                    string_value(lexemes[sign + 1]),
                    lexemes[sign].at,
                )

    def choices(
        self, choices: tuple[Literal, ...] | Property
    ) -> Recipe[tuple[Literal, ...] | Property]:
        if isinstance(choices, Property):
            return self.property(choices)
        recipes = [self.literal(choice) for choice in choices]
        return lambda lexemes: tuple([recipe(lexemes) for recipe in recipes])

    def operand(self, operand: Operand) -> Recipe[Operand]:
        if isinstance(operand, Literal):
            return self.literal(operand)
        return self.property(operand)

    def property(self, first: Property) -> Recipe[Property]:
        number, path, at = self._numbers[first.at], first.path, first.at

        def build(lexemes: list[Lexeme]) -> Property:
            # The first ones of most texts stand at the same place: then one object will do.
            here = lexemes[number].at
            return first if here == at else Property(path, here)

        return build

    def literal(self, literal: Literal) -> Recipe[Literal]:
        number, value = self._numbers[literal.at], literal.value
        match self._lexemes[number].type:
            case "STRING":
                return lambda lexemes: Literal(string_value(lexemes[number]), lexemes[number].at)
            case "NUMBER":
                return lambda lexemes: Literal(number_value(lexemes[number]), lexemes[number].at)
            case _:
                return lambda lexemes: Literal(value, lexemes[number].at)


def _is_dated(leaf: Leaf, schema: Schema) -> bool:
    return any(
        isinstance(operand, Property) and schema.type_of(operand.path) is Type.DATETIME
        for operand in operands(leaf)
    )
