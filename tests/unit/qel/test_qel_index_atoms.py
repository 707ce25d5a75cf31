"""Every kind of predicate is found through a table, at its edges, and with NOT before it."""

import math
from datetime import UTC, datetime
from enum import IntEnum

import pytest

import qel
from qel.index import ScanIndex

MOMENT = qel.parse_datetime("2026-03-01")
MIDNIGHT = datetime(2026, 3, 1)  # noqa: DTZ001 -- means UTC
SCHEMA = qel.Schema(
    "tests",
    {"s": qel.Type.STRING, "n": qel.Type.NUMBER, "t": qel.Type.DATETIME, "b": qel.Type.BOOLEAN},
    is_open=True,
)


class Colour(IntEnum):
    RED = 5


class Word(str):
    """A string that lies about itself."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


VALUES = [
    None, "", "a", "ab", "abc", "abcd", "bc", "2026-03-01", "2026-03-01T00:00:00Z", "2026-03-02",
    0, -0.0, 1, 1.0, 4, 5, 5.0, 5.5, 6, 2**53, 2**53 + 1, float(2**53), 2**64, -(10**400), 10**400,
    math.nan, math.inf, -math.inf, True, False, MOMENT, datetime(2026, 3, 1, tzinfo=UTC),
    MIDNIGHT, qel.DateTime(5), [], ["a"], ["abc", 5], [None], [True], [1], [MOMENT],
    [["a"]], ("a", 5), {"a": 1}, Colour.RED, Word("abc"), b"a", object(), [object(), math.nan],
]  # fmt: skip

PREDICATES = [
    *(f"{name} {sign} {literal}"
      for name, literal in [("s", "'abc'"), ("n", "5"), ("n", "5.5"), ("t", "'2026-03-01'"),
                            ("x", "'abc'"), ("x", "5"), ("x", "'2026-03-01'"),
                            ("x", "9007199254740993"), ("x", "9007199254740992"), ("x", "1e300")]
      for sign in ("=", "!=", "<", "<=", ">", ">=")),
    "b", "b = true", "b != true", "x = false", "x", "x = null", "x != null", "t = null", "n != null",
    "x STARTS_WITH ''", "x STARTS_WITH 'a'", "s STARTS_WITH 'abc'", "x ENDS_WITH ''",
    "x ENDS_WITH 'bc'", "x HAS ''", "x HAS 'b'", "x HAS 'bc'", "x HAS 'abc'", "x HAS 'abcd'",
    "s IN ['abc', 'a']", "n IN [5, 6, 2.5]", "t IN ['2026-03-01', '2026-03-02T00:00:00Z']",
    "x IN ['abc', 5, true, null, '2026-03-01']", "x IN ['abc', 'a']", "x IN [1, 0]",
    "t IN ['2026-03-01', null]", "'a' IN x", "5 IN x", "1 IN x", "true IN x", "null IN x",
    "'2026-03-01' IN x", "x > 4 AND x < 6", "x >= 5 AND x <= 5", "x > 5 AND x < 5",
    "x > 'a' AND x <= 'abc'", "t >= '2026-03-01' AND t < '2026-03-02'", "x = x", "x < n", "s IN x",
    "x > 4 AND x > 5 AND x <= 6 AND x < 7", "x > 6 AND x < 4",
]  # fmt: skip


def filters(text):
    """A predicate as it is and below NOT, alone and beside others."""
    plain = qel.parse(text)
    for root in (plain, qel.nodes.Not(plain)):
        yield qel.Filter(root, SCHEMA)
        yield qel.Filter(qel.nodes.And((root, qel.parse("k = 1"))), SCHEMA)
        yield qel.Filter(qel.nodes.Or((root, qel.parse("k = 2"))), SCHEMA)
        yield qel.Filter(qel.nodes.Not(qel.nodes.Or((root, qel.parse("k = 3")))), SCHEMA)


def fill(*texts):
    """Make indexes that also hold enough of each kind for every table to be there."""
    index, scan = qel.FilterIndex(), ScanIndex()
    others = [
        template.replace("{}", str(number))
        for number in range(10, 30)
        for template in (
            "x = 'k{}'", "x = {}", "x > {} AND x < 1{}", "x > 'k{}'", "x STARTS_WITH 'q{}'",
            "x ENDS_WITH 'q{}'", "x HAS 'qq{}'", "x <= 7{}", "NOT (n > {})", "t < '20{}-01-01'",
        )
    ]  # fmt: skip
    for key, text in enumerate([*texts, *others]):
        for variant, one in enumerate(filters(text)):
            index.add((key, variant), one)
            scan.add((key, variant), one)
    return index, scan


@pytest.fixture(scope="module")
def everything():
    return fill(*PREDICATES)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {value!s:.20}")
def test_every_predicate_is_found_at_its_edges(everything, value):
    index, scan = everything

    for name in ("x", "s", "n", "t", "b"):
        for message in ({name: value}, {name: value, "k": 1}, {name: value, "n": 5, "x": value}):
            assert index.match(message) == scan.match(message)


@pytest.mark.parametrize("text", PREDICATES)
def test_a_predicate_alone_in_its_index_is_found(text):
    for one in filters(text):
        index = qel.FilterIndex()
        index.add("key", one)
        for value in VALUES:
            message = {"x": value, "s": value, "n": value, "t": value, "b": value}
            assert index.match(message) == ({"key"} if one.matches(message) else set())


@pytest.mark.parametrize(
    "text",
    [
        "x = 'k{}'", "x = {}", "x IN ['a{}', 'b{}']", "x STARTS_WITH 'a{}'", "x ENDS_WITH 'a{}'",
        "x HAS 'a{}'", "x > {}", "x < {}", "x >= 'a{}'", "x > {} AND x < 1{}", "p{} = null",
        "p{} != null", "p{}", "'a{}' IN x", "'2026-03-01' < p{}", "NOT (x != {})", "NOT (x < {})",
        "NOT (p{} = 1)", "a = 1 AND (x = {} OR y = {})", "p{} IN [1, 'a', null]",
    ],
)  # fmt: skip
def test_what_pins_is_never_asked_for_other_values(text):
    index = qel.FilterIndex()

    for number in range(40):
        index.add(number, qel.compile_filter(text.replace("{}", str(number)), SCHEMA))

    assert not index._root.rows


@pytest.mark.parametrize("text", ["true", "NOT (false)", "1 = 1", "'a' < 'b' OR x = {}"])
def test_what_is_always_true_matches_everything(text):
    index = qel.FilterIndex()
    index.add(1, qel.compile_filter(text.replace("{}", "1"), SCHEMA))

    assert index.match({}) == {1}


@pytest.mark.parametrize("text", ["false", "1 = 'a'", "x < null AND y = 1", "NOT (null < 1)"])
def test_what_is_never_true_matches_nothing(text):
    index = qel.FilterIndex()
    index.add(1, qel.Filter(qel.parse(text), SCHEMA))

    assert index.match({"x": 1, "y": 1}) == set()
    assert 1 in index

    index.remove(1)
    assert len(index) == 0
