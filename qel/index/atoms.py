"""Atoms: what a predicate asks of one value of a message, and which tables can keep it.

An atom is a tuple of a test, a slot and a constant; it holds if `test(values[slot], constant)`.
A test is two-valued: it says whether its predicate is *definitely true*. That a predicate is
*definitely false*, which is what a NOT asks for, is a test of its own; so no test ever has to
tell false from unknown, and a NOT is exact.

Atoms are plain tuples, because there are hundreds of thousands of them, and most tests are
functions of Python's own `operator` module, because those cost half of any function written
here. They are safe and exact by the `View` that a slot has of its property (see
`qel.index.columns`): values are of exact built-in types, and in the slot of a number there is
nothing but numbers, NaN standing for all else, which is neither equal nor in any order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias, cast

from qel.datetimes import DateTime
from qel.nodes import Operator, TextOperator
from qel.values import match_text

Test: TypeAlias = Callable[[Any, Any], bool]
Atom: TypeAlias = tuple[Test, int, object]
Atoms: TypeAlias = tuple[Atom, ...]

NUMBER = float
"""Stands for both types of number where a kind of value is named."""


class View(IntEnum):
    """How a slot shows a property."""

    PLAIN = 1
    """The value, reduced to an exact built-in type."""
    NUMBER = 2
    """An int or a float; NaN if the value is none."""
    MOMENT = 3
    """Of a property declared dateTime: a `DateTime`, or NaN if the value is none."""


class Family(IntEnum):
    """How a place in a table is found."""

    EQUAL = 1
    """The value is the key."""
    ELEMENT = 2
    """The value is a list that holds the key, a pair of kind and element."""
    PREFIX = 3
    SUFFIX = 4
    HAS = 5
    BETWEEN = 6
    """Two bounds: lower, whether it is open, upper, whether it is closed."""
    PRESENT = 7
    """The value is not null."""
    ABOVE = 8
    """Greater than the key."""
    FROM = 9
    """Greater than the key or equal."""
    BELOW = 10
    UP_TO = 11
    NAN = 12
    ANY = 13
    """The value is of the kind; the atom itself is still to be asked."""


class Post(NamedTuple):
    """A place in the tables of a bucket."""

    slot: int
    kind: type
    family: Family
    key: object


class Pin(NamedTuple):
    """Where an atom is looked up."""

    posts: tuple[Post, ...]
    """A message that makes the atom hold reaches at least one of them. Empty: nowhere."""
    is_exact: bool
    """Whether a message that reaches one makes the atom hold."""


NOWHERE = Pin((), is_exact=False)

equals = operator.eq
is_same = operator.is_
is_not_same = operator.is_not


def _test_of(kinds: tuple[type, ...], holds: Callable[[Any, Any], bool]) -> Test:
    """Make a test for values of some exact types; values of others may be anything."""

    def test(value: object, constant: object) -> bool:
        return type(value) in kinds and holds(value, constant)

    return test


_TEXT = (str,)
_NUMBERS = (int, float)
_MOMENT = (DateTime,)

# Python finds a NaN in a set if it is the same object; no constant is one.
is_in: Test = lambda value, choices: value in choices  # noqa: E731 -- a test like all others
text_in = _test_of(_TEXT, is_in)
text_not_in = _test_of(_TEXT, lambda text, choices: text not in choices)
number_not_in = _test_of(_NUMBERS, lambda number, choices: number not in choices)
moment_not_in = _test_of(_MOMENT, lambda moment, choices: moment not in choices)
starts = _test_of(_TEXT, str.startswith)
starts_not = _test_of(_TEXT, lambda text, prefix: not text.startswith(prefix))
ends = _test_of(_TEXT, str.endswith)
ends_not = _test_of(_TEXT, lambda text, suffix: not text.endswith(suffix))


def has(value: object, wanted: str) -> bool:
    """Tell whether a value is a string with a part, or a list with an element."""
    if type(value) is str:
        return wanted in value
    return type(value) is list and match_text(TextOperator.HAS, value, wanted) is True


def has_not(value: object, wanted: str) -> bool:
    """Tell whether a value is a string without a part, or a list without an element."""
    if type(value) is str:
        return wanted not in value
    return type(value) is list and match_text(TextOperator.HAS, value, wanted) is False


def _negate(holds: Callable[[Any, Any], bool]) -> Test:
    """Make the test of an order of numbers being false, which NaN makes it."""
    return _test_of(_NUMBERS, lambda number, bound: not holds(number, bound))


_SIGNS: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
}
_OPPOSITES = {
    Operator.EQ: Operator.NE,
    Operator.NE: Operator.EQ,
    Operator.LT: Operator.GE,
    Operator.LE: Operator.GT,
    Operator.GT: Operator.LE,
    Operator.GE: Operator.LT,
}
"""What an operator's being false means where every two values have an order."""

_TEXT_SIGNS = {sign: _test_of(_TEXT, holds) for sign, holds in _SIGNS.items()}
_TEXT_SIGNS[Operator.EQ] = equals
_NUMBER_IS_NOT = _test_of(_NUMBERS, operator.ne)
_MOMENT_IS_NOT = _test_of(_MOMENT, operator.ne)
_NOT_IN_ORDER = {sign: _negate(holds) for sign, holds in _SIGNS.items() if sign.orders}


def text_test(sign: Operator, *, wanted: bool) -> Test:
    """Give the test of a comparison with a string, in a plain slot."""
    return _TEXT_SIGNS[sign if wanted else _OPPOSITES[sign]]


def moment_test(sign: Operator, *, wanted: bool) -> Test:
    """Give the test of a comparison with a dateTime, in a slot of moments."""
    said = sign if wanted else _OPPOSITES[sign]
    return _MOMENT_IS_NOT if said is Operator.NE else _SIGNS[said]


def number_test(sign: Operator, *, wanted: bool) -> tuple[Test, View]:
    """Give the test of a comparison with a number, and the view of its slot.

    What NaN can pass must tell NaN from what is no number.
    """
    if sign in (Operator.EQ, Operator.NE):
        if (sign is Operator.EQ) is wanted:
            return equals, View.NUMBER
        return _NUMBER_IS_NOT, View.PLAIN
    return (_SIGNS[sign], View.NUMBER) if wanted else (_NOT_IN_ORDER[sign], View.PLAIN)


CHOICE_TESTS: dict[tuple[type, bool], tuple[Test, View]] = {
    (str, True): (text_in, View.PLAIN),
    (str, False): (text_not_in, View.PLAIN),
    (NUMBER, True): (is_in, View.NUMBER),
    (NUMBER, False): (number_not_in, View.PLAIN),
    (DateTime, True): (is_in, View.MOMENT),
    (DateTime, False): (moment_not_in, View.MOMENT),
}
"""Kind of all the literals of a list, and whether IN is to be true or false, to its test."""

PART_TESTS: dict[tuple[TextOperator, bool], Test] = {
    (TextOperator.HAS, True): has,
    (TextOperator.HAS, False): has_not,
    (TextOperator.STARTS_WITH, True): starts,
    (TextOperator.STARTS_WITH, False): starts_not,
    (TextOperator.ENDS_WITH, True): ends,
    (TextOperator.ENDS_WITH, False): ends_not,
}

_SIDES: dict[Operator, Family] = {
    Operator.LT: Family.BELOW,
    Operator.LE: Family.UP_TO,
    Operator.GT: Family.ABOVE,
    Operator.GE: Family.FROM,
}
SIDES: dict[Test, Family] = {
    **{_SIGNS[sign]: family for sign, family in _SIDES.items()},
    **{_TEXT_SIGNS[sign]: family for sign, family in _SIDES.items()},
}
"""The tests for one bound: two of them on one slot make an interval."""

_EXACT: dict[Test, Family] = {
    **SIDES,
    equals: Family.EQUAL,
    is_same: Family.EQUAL,
    is_not_same: Family.PRESENT,
    starts: Family.PREFIX,
    ends: Family.SUFFIX,
}
_OR_NAN: dict[Test, Family] = {
    test: _SIDES[_OPPOSITES[sign]] for sign, test in _NOT_IN_ORDER.items()
}
ANY_KINDS: dict[Test, tuple[type, ...]] = {
    _TEXT_SIGNS[Operator.NE]: (str,),
    text_not_in: (str,),
    starts_not: (str,),
    ends_not: (str,),
    has_not: (str, list),
    _NUMBER_IS_NOT: (NUMBER,),
    number_not_in: (NUMBER,),
    _MOMENT_IS_NOT: (DateTime,),
    moment_not_in: (DateTime,),
}
"""Tests that many values pass, but only of some kinds."""


def pin(atom: Atom) -> Pin:
    """Tell where an atom is looked up; an atom of another module's test is nowhere."""
    test, slot, constant = atom
    family = _EXACT.get(test)
    if family is not None:
        kind = object if family is Family.PRESENT else kind_of(constant)
        return Pin((Post(slot, kind, family, constant),), is_exact=True)
    if test is is_in or test is text_in:
        posts = [
            Post(slot, kind_of(one), Family.EQUAL, one)
            for one in cast("frozenset[object]", constant)
        ]
        return Pin(tuple(posts), is_exact=True)
    if test is has:
        element = Post(slot, list, Family.ELEMENT, (str, constant))
        return Pin((Post(slot, str, Family.HAS, constant), element), is_exact=True)
    if test in _OR_NAN:
        beyond = Post(slot, NUMBER, _OR_NAN[test], constant)
        return Pin((beyond, Post(slot, NUMBER, Family.NAN, None)), is_exact=True)
    return any_kind(slot, ANY_KINDS[test]) if test in ANY_KINDS else NOWHERE


def any_kind(slot: int, kinds: Iterable[type]) -> Pin:
    """Pin an atom that can only hold for some kinds of values, and has to be asked then."""
    return Pin(tuple([Post(slot, kind, Family.ANY, None) for kind in kinds]), is_exact=False)


def kind_of(value: object) -> type:
    """Give the kind of a normalised value: its type, and one for both types of number."""
    return NUMBER if type(value) is int else type(value)
