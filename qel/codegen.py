"""The fast form of a filter: one Python function, made of templates.

Closures that call closures cost twice as much as one generated expression. The source text is
made of the fixed templates below and of numbered names; whatever comes from a filter (names of
properties, constants) is bound as a variable and never becomes source. Filters of the same
shape have the same source and share one code object; compiling a new shape costs about 60 µs a
leaf, a filter of a known shape about 30 µs in all.

A template decides only for values of the exact built-in type that a comparison expects. Any
other value goes to the plain evaluator (`Program`), which is also asked again should anything
raise, so that the generated code needs no care of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

from qel.datetimes import DateTime
from qel.nodes import (
    And,
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Node,
    Not,
    Operator,
    Or,
    Property,
    TextOperator,
    TextTest,
    leaves,
)
from qel.predicates import constant, only_property, property_first
from qel.program import Program
from qel.schema import Schema, Type
from qel.values import OPAQUE, Message, Value, child, fetch

LEAVES_MAX = 48
"""Larger filters are left to the plain evaluator: compiling them would hold up the caller."""

DEPTH_MAX = 24
"""Deeper nested connectives, too: Python's own parser takes no more than 200 parentheses."""

_SHAPES_MAX = 2048

Predicate = Callable[[Message], bool]

_SIGNS = {
    Operator.EQ: "v == {k}",
    Operator.NE: "v != {k}",
    Operator.LT: "v < {k}",
    Operator.LE: "v <= {k}",
    Operator.GT: "v > {k}",
    Operator.GE: "v >= {k}",
}
_TEXT_SIGNS = {
    TextOperator.HAS: "{k} in v",
    TextOperator.STARTS_WITH: "v.startswith({k})",
    TextOperator.ENDS_WITH: "v.endswith({k})",
}
_IS_NUMBER = "(t := type(v := {fetch})) is int or t is float"
_CHECKS = {
    str: "type(v := {fetch}) is str",
    DateTime: "type(v := {fetch}) is DateTime",
    int: _IS_NUMBER,
    float: _IS_NUMBER,
}
_FUNCTION = """\
def bind({names}):
    def matches(m):
        try:
            return {expression}
        except Exception:
            return careful(m)
    return matches
"""


def make_predicate(root: Node, schema: Schema, program: Program) -> Predicate:
    """Make the fastest function that tells whether a message makes a tree true."""
    if not _is_small(root):
        return program.is_true
    writer = _Writer(schema)
    expression = writer.write(root, positive=True)
    bind = _compile_shape(expression, tuple(writer.bindings))
    return bind(
        program.is_true, program.test_value, program.test_message, *writer.bindings.values()
    )


def _is_small(root: Node) -> bool:
    count, level = 0, [root]
    for _ in range(DEPTH_MAX):
        level = [part for node in level for part in _parts(node)]
        count += len(level)
        if not level or count > 4 * LEAVES_MAX:
            break
    return not level and sum(1 for _ in leaves(root)) <= LEAVES_MAX


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case And(parts) | Or(parts):
            return parts
        case Not(part):
            return (part,)
        case _:
            return ()


@lru_cache(maxsize=_SHAPES_MAX)
def _compile_shape(expression: str, names: tuple[str, ...]) -> Callable[..., Predicate]:
    source = _FUNCTION.format(
        names=", ".join(("careful", "test_value", "test_message", *names)), expression=expression
    )
    scope: dict[str, object] = {"DateTime": DateTime, "child": child, "fetch": fetch}
    exec(compile(source, "<qel filter>", "exec"), scope)  # noqa: S102 -- holds no caller's text
    return cast("Callable[..., Predicate]", scope["bind"])


class _Writer:
    """Writes the expression of a tree and collects what its names are bound to."""

    def __init__(self, schema: Schema) -> None:
        self.bindings: dict[str, object] = {}
        self._schema = schema
        self._leaf = -1

    def write(self, node: Node, *, positive: bool) -> str:
        """Write whether a node is definitely true, or, if not `positive`, definitely false."""
        match node:
            case Not(part):
                return self.write(part, positive=not positive)
            case And(parts) | Or(parts):
                sign = " and " if isinstance(node, And) is positive else " or "
                return f"({sign.join([self.write(part, positive=positive) for part in parts])})"
            case _:
                self._leaf += 1
                return self._write_leaf(node, positive=positive)

    def _write_leaf(self, leaf: Leaf, *, positive: bool) -> str:
        if only_property(leaf) is None:
            return f"test_message({self._leaf}, m) is {positive}"
        match leaf:
            case Bare(Property() as bare) if not self._is_dated(bare):
                return f"{self._fetch(bare)} is {positive}"
            case Comparison():
                return self._write_comparison(property_first(leaf), positive=positive)
            case Membership(Property() as operand, tuple() as choices):
                return self._write_choice(operand, choices, positive=positive)
            case TextTest(sign, Property() as operand, text):
                fast = _TEXT_SIGNS[sign].format(k=self._bind("k", text))
                return self._write_typed(operand, (str, fast), positive=positive)
            case _:
                operand = cast("Property", only_property(leaf))
                return self._write_untyped(operand, positive=positive)

    def _write_comparison(self, leaf: Comparison, *, positive: bool) -> str:
        operand, literal = cast("Property", leaf.left), cast("Literal", leaf.right)
        value = constant(literal, operand, self._schema)
        if type(value) in _CHECKS:
            fast = _SIGNS[leaf.operator].format(k=self._bind("k", value))
            return self._write_typed(operand, (type(value), fast), positive=positive)
        if leaf.operator.orders or value is OPAQUE:
            return "False"  # unknown: neither null nor a boolean has an order
        is_equal = (leaf.operator is Operator.EQ) is positive
        if value is None:
            return f"{self._fetch(operand)} is {'' if is_equal else 'not '}None"
        if self._is_dated(operand):
            return "False"  # unknown: a dateTime is no boolean
        return f"{self._fetch(operand)} is {is_equal is value}"

    def _write_choice(
        self, operand: Property, choices: tuple[Literal, ...], *, positive: bool
    ) -> str:
        values = [constant(choice, operand, self._schema) for choice in choices]
        checks = {_CHECKS.get(type(value), "") for value in values}
        # Python finds a NaN in a set if it is the same object; the language never does.
        has_nan = any(value != value for value in values)  # noqa: PLR0124
        if len(checks) > 1 or "" in checks or has_nan:
            return self._write_untyped(operand, positive=positive)
        fast = f"v in {self._bind('k', frozenset(values))}"
        return self._write_typed(operand, (type(values[0]), fast), positive=positive)

    def _write_typed(self, operand: Property, fast: tuple[type, str], *, positive: bool) -> str:
        kind, expression = fast
        if kind is not DateTime and self._is_dated(operand):
            # Only a tree made in code has it; strings of such a property are read as dateTimes.
            return self._write_untyped(operand, positive=positive)
        check = _CHECKS[kind].format(fetch=self._fetch(operand))
        answer = f"({expression})" if positive else f"not ({expression})"
        slow = f"v is not None and test_value({self._leaf}, v) is {positive}"
        return f"({answer} if {check} else {slow})"

    def _is_dated(self, operand: Property) -> bool:
        return self._schema.type_of(operand.path) is Type.DATETIME

    def _write_untyped(self, operand: Property, *, positive: bool) -> str:
        return f"test_value({self._leaf}, {self._fetch(operand)}) is {positive}"

    def _fetch(self, operand: Property) -> str:
        """Write how a property is taken from the message `m`."""
        if len(operand.path) > 3:
            return f"fetch(m, {self._bind('p', operand.path)})"
        root, *below = operand.path
        taken = f"m.get({self._bind('p', root)})"
        for name in below:
            key = self._bind("p", name)
            taken = f"(v.get({key}) if type(v := {taken}) is dict else child(v, {key}))"
        return taken

    def _bind(self, prefix: str, value: Value | tuple[str, ...] | frozenset[Value]) -> str:
        name = f"{prefix}{len(self.bindings)}"
        self.bindings[name] = value
        return name
