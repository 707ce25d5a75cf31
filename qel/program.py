"""The evaluator for trees of any size: a program of branches, no recursion.

Three-valued logic by two two-valued questions. A tree is *true* if the tree with every NOT
pushed down to its leaves has enough leaves that are definitely true (or, under an odd number
of NOTs, definitely false); it is *false* if the same holds of its negation; else *unknown*.
Each question is a row of steps, one for each leaf in textual order: ask the leaf, and go on at
one place if it answers as wanted, at another if not. So evaluation stops as soon as the answer
is known, and needs no stack.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from qel.nodes import And, Node, Not, Or, leaves
from qel.predicates import MessageTest, ValueTest, message_test, value_test
from qel.schema import Schema
from qel.values import Message, Truth

_YES, _NO = -1, -2
_FOLLOWING = -3  # the step after this part, known only when the parts behind it are laid out


class _Step(NamedTuple):
    leaf: int
    wanted: bool
    hit: int
    miss: int


_Steps: TypeAlias = tuple[_Step, ...]


class Program:
    """A tree that can be evaluated; everything in it is built when it is first needed."""

    __slots__ = ("_is_false", "_is_true", "_root", "_schema", "_tests", "_value_tests")

    def __init__(self, root: Node, schema: Schema) -> None:
        self._root = root
        self._schema = schema
        self._tests: tuple[MessageTest, ...] | None = None
        self._value_tests: tuple[ValueTest, ...] | None = None
        self._is_true: _Steps | None = None
        self._is_false: _Steps | None = None

    def is_true(self, message: Message) -> bool:
        """Tell whether a message makes the tree true."""
        if self._is_true is None:
            self._is_true = _lay_out(self._root, wanted=True)
        return self._run(self._is_true, message)

    def is_false(self, message: Message) -> bool:
        """Tell whether a message makes the tree false, which is not the same as not true."""
        if self._is_false is None:
            self._is_false = _lay_out(self._root, wanted=False)
        return self._run(self._is_false, message)

    def test_message(self, leaf: int, message: Message) -> Truth:
        """Decide one leaf, by its number from the left, for a message."""
        return self._message_tests()[leaf](message)

    def test_value(self, leaf: int, value: object) -> Truth:
        """Decide one leaf that has one property, by its number, for the property's value."""
        if self._value_tests is None:
            self._value_tests = tuple(value_test(leaf, self._schema) for leaf in leaves(self._root))
        return self._value_tests[leaf](value)

    def _message_tests(self) -> tuple[MessageTest, ...]:
        if self._tests is None:
            self._tests = tuple(message_test(leaf, self._schema) for leaf in leaves(self._root))
        return self._tests

    def _run(self, steps: _Steps, message: Message) -> bool:
        tests = self._message_tests()
        at = 0
        while at >= 0:
            leaf, wanted, hit, miss = steps[at]
            at = hit if tests[leaf](message) is wanted else miss
        return at == _YES


def _lay_out(root: Node, *, wanted: bool) -> _Steps:
    """Lay out the steps from the last leaf to the first, so that each knows what follows it."""
    last_first: list[_Step] = []
    count = sum(1 for _ in leaves(root))
    pending: list[tuple[Node, bool, int, int]] = [(root, wanted, _YES, _NO)]
    while pending:
        node, polarity, hit, miss = pending.pop()
        following = count - len(last_first)
        hit = following if hit == _FOLLOWING else hit
        miss = following if miss == _FOLLOWING else miss
        if isinstance(node, Not):
            pending.append((node.part, not polarity, hit, miss))
        elif isinstance(node, And | Or):
            needs_all = isinstance(node, And) is polarity
            onward = (_FOLLOWING, miss) if needs_all else (hit, _FOLLOWING)
            pending.extend((part, polarity, *onward) for part in node.parts[:-1])
            pending.append((node.parts[-1], polarity, hit, miss))
        else:
            last_first.append(_Step(following - 1, polarity, hit, miss))
    return tuple(reversed(last_first))
