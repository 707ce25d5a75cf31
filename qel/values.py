"""Run-time values: how they are taken from a message, and what comparing them means.

Messages come from anywhere, so nothing here trusts a value: only exact built-in types are
compared, subclasses are first reduced to the built-in they extend (their own methods are
never called), and everything else is `OPAQUE`: present, but of no type the language knows.
No function here raises, whatever the message holds.

The rules, for operands that are not the literal `null`:

- A missing property, a null value, an opaque value, and a mapping make a comparison unknown.
- Two strings, two numbers (booleans are none), two booleans, two dateTimes, two lists fit.
- A dateTime and a string fit if the string is an ISO 8601 dateTime; then instants compare.
- Anything else does not fit: unknown.
- `<`, `<=`, `>`, `>=` need strings (by code point), numbers or dateTimes.
- Numbers compare exactly. NaN equals nothing and orders with nothing: the comparison is false,
  so `NOT (x < 5)` and `x != 5` are true of it.
- Lists are equal if they have the same length and equal elements; two null elements are
  equal, a null and another are not; an element that is a list or a mapping is unknown.
- `IN` a list property is an OR of `=` over its elements, false if there are none.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import Any, TypeAlias, cast

from qel.datetimes import DateTime, parse_datetime
from qel.nodes import Operator, TextOperator
from qel.schema import Type

Message: TypeAlias = Mapping[str, object]
Truth: TypeAlias = bool | None


class Opaque(Enum):
    """The type of the one value that stands for all that have no type in the language."""

    OPAQUE = "opaque"


OPAQUE = Opaque.OPAQUE

Element: TypeAlias = str | int | float | bool | DateTime | Opaque | None
Value: TypeAlias = Element | Sequence[object]

_SIGNS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
}


def fetch(message: Message, path: tuple[str, ...]) -> object:
    """Take a property from a message; None if it is missing, or null, or its mapping raises."""
    try:
        value = message.get(path[0])
    except Exception:  # noqa: BLE001 -- a message of a foreign class may raise anything
        return None
    for name in path[1:]:
        if value is None:
            return None
        value = child(value, name)
    return value


def child(container: object, name: str) -> object:
    """Take a name from a nested mapping; None if there is none, or it is no mapping."""
    kind = type(container)
    try:
        if kind is dict or issubclass(kind, dict):
            return dict.get(cast("dict[str, object]", container), name)
        if issubclass(kind, Mapping):
            return cast("Message", container).get(name)
    except Exception:  # noqa: BLE001 -- a mapping of a foreign class may raise anything
        return None
    return None


def normalise(value: object) -> Value:
    """Reduce a value to an exact built-in type, a DateTime, a sequence, None or OPAQUE."""
    kind = type(value)
    if (
        kind is str
        or kind is int
        or kind is float
        or kind is bool
        or kind is DateTime
        or kind is NoneType
        or kind is list
    ):
        return value  # type: ignore[return-value]  # all of them are a Value
    try:
        return _reduce(value, kind)
    except Exception:  # noqa: BLE001 -- for example a time zone of a foreign class
        return OPAQUE


def read_as(declared: Type, value: object) -> Value:
    """Normalise the value of a property of a declared type.

    A property declared dateTime reads strings as ISO 8601 and is opaque if it holds anything
    else. One declared string never is a dateTime. All other types show at run time.
    """
    normal = normalise(value)
    if declared is Type.DATETIME and normal is not None:
        instant = parse_datetime(normal) if type(normal) is str else normal
        return instant if type(instant) is DateTime else OPAQUE
    if declared is Type.STRING and type(normal) is DateTime:
        return OPAQUE
    return normal


def compare(sign: Operator, left: Value, right: Value) -> Truth:
    """Compare two normalised values."""
    left_kind, right_kind = type(left), type(right)
    if left_kind is not right_kind:
        if _is_number(left_kind) and _is_number(right_kind):
            return _SIGNS[sign](left, right)
        if left_kind is DateTime and right_kind is str:
            right = parse_datetime(right)  # type: ignore[arg-type]
        elif left_kind is str and right_kind is DateTime:
            left = parse_datetime(left)  # type: ignore[arg-type]
        else:
            return None
        return None if left is None or right is None else _SIGNS[sign](left, right)
    if left_kind is list:
        return _compare_lists(sign, left, right)  # type: ignore[arg-type]
    if left_kind is NoneType or left_kind is Opaque or (left_kind is bool and sign.orders):
        return None
    return _SIGNS[sign](left, right)


def contains(container: Value, wanted: Value, *, wants_null: bool = False) -> Truth:
    """Tell whether a list holds a value, as an OR of `=` over its elements.

    Args:
        container: the list; anything else is unknown.
        wanted: the value to find.
        wants_null: the value is the literal `null`, which finds null elements.
    """
    if type(container) is not list:
        return None
    answer: Truth = False
    for element in container:
        equal = element is None if wants_null else compare(Operator.EQ, wanted, normalise(element))
        if equal:
            return True
        if equal is None:
            answer = None
    return answer


def match_text(sign: TextOperator, value: Value, text: str) -> Truth:
    """Apply HAS, STARTS_WITH or ENDS_WITH; HAS also asks for an element of a list."""
    if type(value) is list and sign is TextOperator.HAS:
        return any(type(found) is str and found == text for found in map(normalise, value))
    if type(value) is not str:
        return None
    match sign:
        case TextOperator.HAS:
            return text in value
        case TextOperator.STARTS_WITH:
            return value.startswith(text)
        case TextOperator.ENDS_WITH:  # pragma: no branch -- exhaustive
            return value.endswith(text)


_REDUCTIONS: tuple[tuple[type, Callable[[Any], Value]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime, DateTime.from_datetime),
    (list, list.copy),
    (tuple, lambda value: list(tuple.__iter__(value))),
)
"""How a subclass is reduced: by the built-in type's own method, whatever it has overridden."""


def _reduce(value: object, kind: type) -> Value:
    for base, reduce in _REDUCTIONS:
        if issubclass(kind, base):
            return reduce(value)
    return OPAQUE


def _compare_lists(sign: Operator, left: list[object], right: list[object]) -> Truth:
    if sign.orders:
        return None
    equal = _equal_lists(left, right)
    return equal if equal is None or sign is Operator.EQ else not equal


def _equal_lists(left: list[object], right: list[object]) -> Truth:
    if len(left) != len(right):
        return False
    answer: Truth = True
    for ours, theirs in zip(left, right, strict=False):
        equal = _equal_elements(normalise(ours), normalise(theirs))
        if equal is False:
            return False
        if equal is None:
            answer = None
    return answer


def _equal_elements(ours: Value, theirs: Value) -> Truth:
    if ours is None or theirs is None:
        return ours is theirs
    if type(ours) is list or type(theirs) is list:
        # Lists are of scalars; going deeper would let a message choose the depth of a stack.
        return None
    return compare(Operator.EQ, ours, theirs)


def _is_number(kind: type) -> bool:
    return kind is int or kind is float
