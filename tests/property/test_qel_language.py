"""The language's laws, over random trees, texts and messages.

`holds` is a naive tree walk, written apart from the package and without its speed, that says
what a tree means for a message; the compiled forms must agree with it.
"""

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qel
from qel.nodes import (
    And,
    Bare,
    Comparison,
    Literal,
    Membership,
    Not,
    Operator,
    Or,
    Property,
    TextOperator,
    TextTest,
)

SCHEMA = qel.Schema(
    "tests",
    {"s": qel.Type.STRING, "n": qel.Type.NUMBER, "t": qel.Type.DATETIME, "b": qel.Type.BOOLEAN},
    is_open=True,
)
GENEROUS = qel.Limits(characters=10**6, leaves=10**4, nesting=10**4)
NAMES = ["s", "n", "t", "b", "x", "y", "value", "in", "a.b", "with `quotes`", "né\n", "x-1"]
MOMENTS = ["2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", "1969-12-31T23:59Z"]


class Colour(IntEnum):
    RED = 1


class Word(str):
    """A string of a foreign class that lies about itself."""

    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("compared")

    __hash__ = str.__hash__


class Nasty:
    """Raises whatever is asked of it."""

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __hash__(self):
        raise RuntimeError("hashed")

    def __bool__(self):
        raise RuntimeError("asked")

    @property
    def __class__(self):
        raise RuntimeError("asked for its class")


def parse_number(number):
    """Give a number as the parser does: each value has one representation."""
    return qel.parse(f"x = {number!r}").right.value


class Spoilt(Enum):
    """Stands for what hypothesis itself could not bear to look at."""

    NASTY = "nasty"
    HUGE = "huge"


def spoil(value):
    """Put in what stands for something nasty."""
    if type(value) is dict:
        return {name: spoil(inner) for name, inner in value.items()}
    if type(value) is list:
        return [spoil(inner) for inner in value]
    if value is Spoilt.HUGE:
        return 10**5000
    return Nasty() if value is Spoilt.NASTY else value


# --- strategies

strings = st.sampled_from(["", "a", "ab", "b", "soon", *MOMENTS]) | st.text(max_size=5)
numbers = (
    st.sampled_from([0, 1, -1, 5, 2**53, 2**53 + 1, 2**63, 2**64, 10**22, 0.5, 1e300])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
literal_values = strings | numbers.map(parse_number) | st.booleans() | st.none()


names = st.sampled_from(NAMES) | st.text(min_size=1, max_size=4).filter(str.isprintable)
paths = st.lists(names, min_size=1, max_size=5).map(tuple)
likely_paths = st.sampled_from([(name,) for name in NAMES])
properties = st.builds(Property, likely_paths | likely_paths | paths)
literals = st.builds(Literal, literal_values)
operands = properties | properties | literals
leaves = (
    st.builds(Comparison, st.sampled_from(Operator), operands, operands)
    | st.builds(
        Membership, operands, st.lists(literals, min_size=1, max_size=4).map(tuple) | properties
    )
    | st.builds(TextTest, st.sampled_from(TextOperator), operands, strings)
    | st.builds(Bare, properties | st.builds(Literal, st.booleans()))
)


def grow(trees):
    parts = st.lists(trees, min_size=2, max_size=4).map(tuple)
    return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, trees)


trees = st.recursive(leaves, grow, max_leaves=12)

moments = st.datetimes(
    timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
)
scalars = (
    literal_values
    | st.floats()
    | st.sampled_from([math.nan, math.inf, -math.inf])
    | st.sampled_from(MOMENTS).map(qel.parse_datetime)
    | moments
)
foreign = st.sampled_from(
    [b"a", Decimal(1), {1, 2}, object(), *Spoilt, Word("a"), Colour.RED, ("a", 1)]
)
values = st.recursive(
    scalars | foreign,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
complete = st.fixed_dictionaries(
    {
        "s": strings,
        "n": numbers | st.floats(),
        "t": moments | st.sampled_from(MOMENTS),
        "b": st.booleans(),
        "x": values,
        "y": values,
        "value": scalars | st.lists(scalars, max_size=3),
    }
)
messages = complete | complete | st.dictionaries(names, values, max_size=8)


# --- the reference

KINDS = [(bool, "b"), (qel.DateTime, "t"), (int, "n"), (float, "n"), (str, "s"), (list, "l")]


def plain(value):
    """Give a value's kind and the value without its foreign class; kind None: unfit."""
    actual = type(value)
    if actual is datetime:
        return "t", qel.DateTime.from_datetime(value)
    if actual is tuple:
        return "l", list(value)
    if actual is Word:
        return "s", str.__str__(value)
    kind = next((kind for base, kind in KINDS if issubclass(actual, base)), None)
    return kind, value


def look_up(path, message):
    value = message
    for name in path:
        value = value.get(name) if type(value) is dict else None
    return value


def read(operand, message):
    if isinstance(operand, Literal):
        return plain(operand.value)
    kind, value = plain(look_up(operand.path, message))
    if operand.path == ("t",) and kind is not None:
        moment = qel.parse_datetime(value) if kind == "s" else value if kind == "t" else None
        return ("t" if moment is not None else None), moment
    if operand.path in [("s",), ("eventType",)] and kind == "t":
        return None, value
    return kind, value


def is_null(operand):
    return operand == Literal(None)


def equal(left, right):
    (left_kind, left_value), (right_kind, right_value) = left, right
    if {left_kind, right_kind} == {"s", "t"}:
        pair = [qel.parse_datetime(v) if k == "s" else v for k, v in (left, right)]
        return None if None in pair else int(pair[0]) == int(pair[1])
    if left_kind is None or left_kind != right_kind:
        return None
    if left_kind != "l":
        return left_value == right_value
    if len(left_value) != len(right_value):
        return False
    truths = [equal_elements(*pair) for pair in zip(left_value, right_value, strict=True)]
    return False if False in truths else None if None in truths else True


def equal_elements(left, right):
    if left is None or right is None:
        return left is right
    left, right = plain(left), plain(right)
    return None if "l" in (left[0], right[0]) else equal(left, right)


def less(left, right):
    (left_kind, left_value), (right_kind, right_value) = left, right
    if {left_kind, right_kind} == {"s", "t"}:
        pair = [qel.parse_datetime(v) if k == "s" else v for k, v in (left, right)]
        return None if None in pair else int(pair[0]) < int(pair[1])
    if left_kind != right_kind or left_kind not in ("s", "n", "t"):
        return None
    return left_value < right_value


def negate(truth):
    return None if truth is None else not truth


def any_of(truths):
    truths = list(truths)
    return True if True in truths else None if None in truths else False


def compares(sign, left, right, message):
    if is_null(left) or is_null(right):
        other = left if is_null(right) else right
        value = other.value if isinstance(other, Literal) else look_up(other.path, message)
        return {Operator.EQ: value is None, Operator.NE: value is not None}.get(sign)
    a, b = read(left, message), read(right, message)
    match sign:
        case Operator.EQ:
            return equal(a, b)
        case Operator.NE:
            return negate(equal(a, b))
        case Operator.LT:
            return less(a, b)
        case Operator.GT:
            return less(b, a)
        case Operator.LE:
            return any_of([less(a, b), equal(a, b)]) if less(a, b) is not None else None
        case Operator.GE:
            return any_of([less(b, a), equal(a, b)]) if less(b, a) is not None else None


def is_member(leaf, message):
    if isinstance(leaf.choices, tuple):
        return any_of(compares(Operator.EQ, leaf.operand, one, message) for one in leaf.choices)
    kind, elements = read(leaf.choices, message)
    if kind != "l":
        return None
    if is_null(leaf.operand):
        return any_of(element is None for element in elements)
    wanted = read(leaf.operand, message)
    return any_of(equal(wanted, plain(element)) for element in elements)


def holds_text(leaf, message):
    kind, value = read(leaf.operand, message)
    if kind == "l" and leaf.operator is TextOperator.HAS:
        return any(
            equal(plain(one), ("s", leaf.text)) is True for one in value if plain(one)[0] == "s"
        )
    if kind != "s":
        return None
    found = {
        TextOperator.HAS: value.find(leaf.text) >= 0,
        TextOperator.STARTS_WITH: value[: len(leaf.text)] == leaf.text,
        TextOperator.ENDS_WITH: value[max(0, len(value) - len(leaf.text)) :] == leaf.text,
    }
    return found[leaf.operator]


def holds(node, message):
    match node:
        case And(parts):
            return negate(any_of(negate(holds(part, message)) for part in parts))
        case Or(parts):
            return any_of(holds(part, message) for part in parts)
        case Not(part):
            return negate(holds(part, message))
        case Comparison(sign, left, right):
            return compares(sign, left, right, message)
        case Membership():
            return is_member(node, message)
        case TextTest():
            return holds_text(node, message)
        case Bare(operand):
            kind, value = read(operand, message)
            return value if kind == "b" else None


def truth(node, message):
    return qel.Filter(node, SCHEMA).truth(message)


# --- the properties


@given(trees)
@settings(max_examples=100, deadline=None)
def test_a_tree_survives_being_written_and_read(tree):
    written = qel.to_text(tree)

    assert qel.parse(written, GENEROUS) == tree
    assert qel.to_text(qel.parse(written, GENEROUS)) == written
    assert hash(qel.parse(written, GENEROUS)) == hash(tree)


WORDS = """a b.c `x` 'it''s' "\\n" '\\ud800' 1 -2.5e3 null TRUE false AND or NOT in HAS = != < >= ( ) [ ]
, . == && '"""
LIKELY = st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join)


def attempt(make, *arguments):
    try:
        return make(*arguments)
    except qel.QelError as error:
        return error


@given(st.text() | LIKELY | st.text(st.characters(categories=["Cs", "Cc", "Nd", "Zs", "Po"])))
@settings(max_examples=120, deadline=None)
def test_any_text_gives_a_tree_or_a_qel_error(text):
    result = attempt(qel.parse, text)

    if isinstance(result, qel.QelError):
        assert len(result.errors) == 1
        assert result.errors[0].line >= 1
        assert result.errors[0].column >= 1
        assert result.errors[0].detail in str(result)
    else:
        assert qel.parse(qel.to_text(result), GENEROUS) == result


@given(LIKELY, st.sampled_from(list(qel.TOPICS)))
@settings(max_examples=120, deadline=None)
def test_any_text_gives_a_filter_or_a_qel_error(text, topic):
    result = attempt(qel.compile_filter, text, topic)

    if isinstance(result, qel.QelError):
        assert 1 <= len(result.errors) <= 20
    else:
        assert result.truth({}) in (True, False, None)


@given(trees, messages)
@settings(max_examples=120, deadline=None)
def test_compiled_forms_agree_with_the_naive_walk(tree, message):
    compiled, message = qel.Filter(tree, SCHEMA), spoil(message)
    expected = holds(tree, message)

    assert compiled.truth(message) is expected
    assert compiled.matches(message) is (expected is True)
    assert compiled.explain(message).truth is expected
    assert qel.Filter(Not(tree), SCHEMA).matches(message) is (expected is False)


@given(leaves, messages)
@settings(max_examples=120, deadline=None)
def test_single_predicates_agree_with_the_naive_walk(leaf, message):
    compiled, message = qel.Filter(leaf, SCHEMA), spoil(message)
    expected = holds(leaf, message)

    assert compiled.truth(message) is expected
    assert compiled.matches(message) is (expected is True)
    assert qel.Filter(Not(leaf), SCHEMA).matches(message) is (expected is False)


@given(trees, st.dictionaries(st.text(max_size=3), foreign) | foreign | st.none())
@settings(max_examples=120, deadline=None)
def test_nothing_a_message_holds_can_raise(tree, message):
    compiled, message = qel.Filter(tree, SCHEMA), spoil(message)

    assert compiled.truth(message) in (True, False, None)
    assert compiled.matches(message) in (True, False)
    assert compiled.explain(message).because


@given(trees, trees, messages)
@settings(max_examples=120, deadline=None)
def test_laws_of_three_valued_logic(a, b, message):
    def same(left, right):
        assert truth(left, message) is truth(right, message)

    yes, no = Bare(Literal(True)), Bare(Literal(False))
    same(Not(And((a, b))), Or((Not(a), Not(b))))
    same(Not(Or((a, b))), And((Not(a), Not(b))))
    same(Not(Not(a)), a)
    same(And((a, b)), And((b, a)))
    same(Or((a, b)), Or((b, a)))
    same(And((a, yes)), a)
    same(Or((a, no)), a)
    same(And((a, no)), no)
    same(Or((a, yes)), yes)
    same(And((a, Or((a, b)))), a)
    same(And((a, a)), a)


@given(operands, st.lists(literals, min_size=2, max_size=4), messages)
@settings(max_examples=120, deadline=None)
def test_in_is_an_or_of_equalities(operand, choices, message):
    equalities = [Comparison(Operator.EQ, operand, choice) for choice in choices]

    assert truth(Membership(operand, tuple(choices)), message) is truth(
        Or(tuple(equalities)), message
    )


@given(operands, operands, messages)
@settings(max_examples=120, deadline=None)
def test_not_equal_is_the_negation_of_equal(left, right, message):
    differ = Comparison(Operator.NE, left, right)
    same = Comparison(Operator.EQ, left, right)

    assert truth(differ, message) is truth(Not(same), message)
    assert truth(same, message) is truth(Comparison(Operator.EQ, right, left), message)


@given(properties, messages)
@settings(max_examples=100, deadline=None)
def test_null_tests_are_never_unknown(operand, message):
    assert truth(Comparison(Operator.EQ, operand, Literal(None)), message) in (True, False)
    assert truth(Comparison(Operator.NE, operand, Literal(None)), message) in (True, False)


@given(trees, trees, messages)
@settings(max_examples=100, deadline=None)
def test_a_combination_matches_what_both_match(a, b, message):
    left, right = qel.Filter(a, SCHEMA), qel.Filter(b, SCHEMA)
    both = left & right

    assert both.matches(message) is (left.matches(message) and right.matches(message))
    assert qel.parse(str(both), GENEROUS) == both.root
    assert both.properties == left.properties | right.properties


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | trees), max_size=12),
    st.lists(messages, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_an_index_answers_like_its_filters(changes, asked):
    index, filters = qel.FilterIndex(), {}
    for key, tree in changes:
        if tree is None and key in filters:
            index.remove(key)
            del filters[key]
        elif tree is not None:
            filters[key] = qel.Filter(tree, SCHEMA)
            index.add(key, filters[key])

    assert len(index) == len(filters)
    assert index.properties == {path for one in filters.values() for path in one.properties}
    for message in asked:
        assert index.match(message) == {key for key, one in filters.items() if one.matches(message)}


@given(moments)
@settings(max_examples=120, deadline=None)
def test_an_instant_survives_being_written_and_read(moment):
    instant = qel.DateTime.from_datetime(moment)

    if "0001-01-02" < moment.isoformat() < "9999-12-30":
        assert qel.parse_datetime(instant.isoformat()) == instant
    assert qel.parse_datetime(moment.isoformat()) == instant


@pytest.mark.parametrize("number", [0, -1, 2**64, 2**64 - 1, 10**22, 10**23, 1e22, 1e-7, 5e-324])
def test_each_number_has_one_text(number):
    assert qel.to_text(Literal(number)) == qel.to_text(Literal(parse_number(number)))
