"""The tree of a filter: what parser, checker, printer, compiler and index share.

Invariants:

- Values: nodes never change, compare and hash by structure; where a node stood in the text
  (`at`, an offset, -1 for a node made in code) does not count.
- An `And` never directly holds an `And`, an `Or` never an `Or`: parentheses that change
  nothing leave no trace, so that a tree and its canonical text correspond one to one.
- Nothing here recurses, so that a tree of any depth can be compared, hashed and printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from typing_extensions import override

NOWHERE = -1

Scalar: TypeAlias = str | int | float | bool | None


class Operator(Enum):
    """A comparison of two operands."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def orders(self) -> bool:
        """Whether the operator needs values that have an order."""
        return self not in (Operator.EQ, Operator.NE)


class TextOperator(Enum):
    """A test of an operand against a string."""

    HAS = "HAS"
    STARTS_WITH = "STARTS_WITH"
    ENDS_WITH = "ENDS_WITH"


class _Printable:
    """Gives every node its canonical text as `str`."""

    __slots__ = ()

    @override
    def __str__(self) -> str:
        # The printer knows the nodes; they borrow it only to be readable in a log or a test.
        from qel.printer import to_text  # noqa: PLC0415

        return to_text(self)  # type: ignore[arg-type]  # every subclass is a Node or an Operand


@dataclass(frozen=True, slots=True)
class Property(_Printable):
    """A message's property: its name, and the names below it in nested mappings."""

    path: tuple[str, ...]
    at: int = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Literal(_Printable):
    """A constant. Integral numbers within 64 bits are always `int` (see `number_value`)."""

    value: Scalar
    at: int = field(default=NOWHERE, repr=False)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return self._key() == other._key()

    @override
    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[bool, Scalar]:
        # To Python, True equals 1; to the language a boolean is never a number.
        return isinstance(self.value, bool), self.value


Operand: TypeAlias = Property | Literal


@dataclass(frozen=True, slots=True)
class Bare(_Printable):
    """A bare boolean property, or `true` or `false`, standing as a predicate."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Comparison(_Printable):
    """`left operator right`; `at` is the operator's place."""

    operator: Operator
    left: Operand
    right: Operand
    at: int = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Membership(_Printable):
    """`operand IN choices`: one of some literals, or an element of a list property."""

    operand: Operand
    choices: tuple[Literal, ...] | Property
    at: int = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TextTest(_Printable):
    """`operand HAS|STARTS_WITH|ENDS_WITH 'text'`."""

    operator: TextOperator
    operand: Operand
    text: str
    at: int = field(default=NOWHERE, compare=False, repr=False)


class _Connective(_Printable):
    """Structural equality for the nodes that can nest, without recursion."""

    __slots__ = ()

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, And | Or | Not):
            return NotImplemented
        return _flatten(self) == _flatten(other)  # type: ignore[arg-type]  # see class docstring

    @override
    def __hash__(self) -> int:
        return hash(tuple(_flatten(self)))  # type: ignore[arg-type]

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class And(_Connective):
    """All parts; at least two."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _merge(self.parts, And))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Or(_Connective):
    """Any part; at least two."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _merge(self.parts, Or))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Not(_Connective):
    """The opposite; unknown stays unknown."""

    part: Node


Leaf: TypeAlias = Bare | Comparison | Membership | TextTest
Node: TypeAlias = And | Or | Not | Leaf


def walk(root: Node) -> Iterator[Node]:
    """Yield every node, each before its parts, parts from left to right."""
    pending: list[Node] = [root]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, And | Or):
            pending.extend(reversed(node.parts))
        elif isinstance(node, Not):
            pending.append(node.part)


def leaves(root: Node) -> Iterator[Leaf]:
    """Yield the predicates of a tree from left to right."""
    return (node for node in walk(root) if not isinstance(node, And | Or | Not))


def operands(leaf: Leaf) -> tuple[Operand, ...]:
    """Give a predicate's operands from left to right; the literals of a list are not among them."""
    match leaf:
        case Comparison():
            return leaf.left, leaf.right
        case Membership(choices=Property() as choices):
            return leaf.operand, choices
        case _:
            return (leaf.operand,)


def properties(root: Node) -> frozenset[tuple[str, ...]]:
    """Give the paths of all properties that a tree looks at."""
    found = (operand for leaf in leaves(root) for operand in operands(leaf))
    return frozenset(operand.path for operand in found if isinstance(operand, Property))


def _merge(parts: tuple[Node, ...], kind: type[And] | type[Or]) -> tuple[Node, ...]:
    if len(parts) < 2:
        raise ValueError(f"{kind.__name__} needs at least two parts")
    if not any(isinstance(part, kind) for part in parts):
        return parts
    merged: list[Node] = []
    for part in parts:
        if isinstance(part, kind):
            merged.extend(part.parts)
        else:
            merged.append(part)
    return tuple(merged)


def _flatten(root: Node) -> list[Leaf | tuple[type[Node], int]]:
    """Write a tree in prefix form: leaves as they are, connectives by kind and arity."""
    flat: list[Leaf | tuple[type[Node], int]] = []
    for node in walk(root):
        if isinstance(node, And | Or):
            flat.append((type(node), len(node.parts)))
        elif isinstance(node, Not):
            flat.append((Not, 1))
        else:
            flat.append(node)
    return flat
