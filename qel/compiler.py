"""The whole way from a filter text to something that can be asked: parse, check, compile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from typing_extensions import override

from qel import nodes
from qel.checker import check
from qel.codegen import Predicate, make_predicate
from qel.errors import Fault, QelSchemaError
from qel.explain import Explanation, explain
from qel.lexer import DEFAULT_LIMITS, Limits, tokenize
from qel.nodes import And, Node
from qel.printer import to_text
from qel.program import Program
from qel.schema import Schema, resolve_schema
from qel.shapes import Shapes
from qel.values import Message, Truth

_SHAPES = Shapes()


@final
class Filter:
    """A checked expression that messages can be asked against.

    An immutable value: filters are equal if their canonical texts and schemas are. What costs
    time or memory (the canonical text, the compiled forms) is made when first needed.

    Attributes:
        root: the expression's tree.
        schema: what it was checked against.
        properties: paths of all properties that the filter looks at. A message needs no others.
    """

    __slots__ = ("_predicate", "_program", "_text", "properties", "root", "schema")

    root: Node
    schema: Schema
    properties: frozenset[tuple[str, ...]]

    def __init__(
        self,
        root: Node,
        schema: Schema,
        *,
        properties: frozenset[tuple[str, ...]] | None = None,
    ) -> None:
        """Make a filter of a tree.

        Args:
            root: the expression's tree.
            schema: what it was checked against.
            properties: those of the tree, if they are known already.
        """
        self.root = root
        self.schema = schema
        self.properties = nodes.properties(root) if properties is None else properties
        self._text: str | None = None
        self._program: Program | None = None
        self._predicate: Predicate | None = None

    def matches(self, message: Message) -> bool:
        """Tell whether a message makes the filter true. Never raises."""
        predicate = self._predicate
        if predicate is None:
            predicate = self._predicate = make_predicate(self.root, self.schema, self._evaluator())
        return predicate(message)

    def truth(self, message: Message) -> Truth:
        """Tell whether the filter is true, false or, as None, unknown. Never raises."""
        program = self._evaluator()
        if program.is_true(message):
            return True
        return False if program.is_false(message) else None

    def explain(self, message: Message) -> Explanation:
        """Tell which predicates decide about a message, and on what values. Never raises."""
        return explain(self.root, self.schema, message)

    def __and__(self, other: Filter) -> Filter:
        """Give the filter that matches what both match."""
        return all_of((self, other))

    @override
    def __str__(self) -> str:
        """Give the canonical text."""
        if self._text is None:
            self._text = to_text(self.root)
        return self._text

    @override
    def __repr__(self) -> str:
        return f"<Filter {self.schema.name}: {self}>"

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return str(self) == str(other) and self.schema == other.schema

    @override
    def __hash__(self) -> int:
        return hash(str(self))

    def _evaluator(self) -> Program:
        if self._program is None:
            self._program = Program(self.root, self.schema)
        return self._program


def compile_filter(text: str, schema: Schema | str, limits: Limits = DEFAULT_LIMITS) -> Filter:
    """Make a filter of a text.

    Args:
        text: an expression of the language.
        schema: what the messages have, or the name of one of the four topics.
        limits: how large the text may be.

    Raises:
        QelError: the text is no expression, past a limit, or does not fit the schema.
        ValueError: there is no topic of that name.
    """
    resolved = resolve_schema(schema)
    try:
        root, shape = _SHAPES.build_tree(tokenize(text, limits), len(text))
    except Fault as fault:
        raise fault.to_error(text) from None
    faults = check(root, resolved) if shape is None else shape.check(root, resolved)
    if faults:
        raise QelSchemaError(fault.locate(text) for fault in faults)
    return Filter(root, resolved, properties=None if shape is None else shape.properties)


def all_of(filters: Iterable[Filter]) -> Filter:
    """Give the filter that matches what all of some filters match.

    The trees are joined, never the texts, so that no text can widen what another allows. The
    result is a filter like any other, but may be larger than the limits on one text.

    Raises:
        ValueError: there is no filter, or they have different schemas.
    """
    given = list(filters)
    if not given:
        raise ValueError("there is no filter to combine")
    schema = given[0].schema
    if any(one.schema != schema for one in given):
        raise ValueError("filters on different topics cannot be combined")
    if len(given) == 1:
        return given[0]
    return Filter(And(tuple(one.root for one in given)), schema)
