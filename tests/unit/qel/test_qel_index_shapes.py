"""Filters that differ only in their literals: the same tree, the same errors, without parsing."""

import pytest

import qel
from qel import compiler, shapes
from qel.lexer import tokenize
from qel.shapes import Shapes

CASES = [
    ("a = 'x'", "a = 'it''s'"),
    ("a = 1 AND b >= -2.50 OR NOT (c = null)", "a = 9007199254740993 AND b >= 0 OR NOT (c = null)"),
    ("a IN ['x', 2, true]", "a IN ['yy', 30, true]"),
    ("'x' IN a.b", "'long' IN a.b"),
    ("a HAS 'x' AND b STARTS_WITH 'y'", "a HAS '' AND b STARTS_WITH '\\u00e9'"),
    ("x AND true", "x AND  true"),
    ("`a b`.c != false", "`a b`.c  !=  false"),
    ("a IN b", "a   IN b"),
]


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Start with no shape known."""
    made = Shapes()
    monkeypatch.setattr(compiler, "_SHAPES", made)
    return made


def compiled(text):
    return qel.compile_filter(text, "platformEvents")


@pytest.mark.parametrize(("first", "second"), CASES)
def test_a_later_text_of_a_shape_gives_the_parsers_tree(known, first, second):
    compiled(first)

    made = compiled(second)

    assert len(known) == 1
    assert made.root == qel.parse(second)
    assert made.properties == qel.Filter(qel.parse(second), qel.TOPICS["platformEvents"]).properties
    assert str(made) == qel.to_text(qel.parse(second))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a = 1", "a = 1e999"),
        ("a = 'x'", "a = '\\q'"),
        ("a = 'x' AND b = 2", "a = '\\ud800' AND b = 1e999"),
        ("eventTime > '2026-03-01'", "eventTime > 'soon'"),
        ("eventTime IN ['2026-03-01']", "eventTime  IN ['2026-02-30']"),
        ("a = 1 AND eventTime > '2026-03-01'", "a = 1 AND eventTime > 'x'"),
    ],
)
def test_a_wrong_literal_in_a_known_shape_is_the_same_error(monkeypatch, right, wrong):
    with pytest.raises(qel.QelError) as unknown:
        compiled(wrong)
    compiled(right)

    with pytest.raises(qel.QelError) as caught:
        compiled(wrong)

    assert type(caught.value) is type(unknown.value)
    assert caught.value.errors == unknown.value.errors
    compiled(right)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 'x'", "a = 1"), ("a = null", "a = true"), ("a = b", "a = c"), ("a < 1", "a > 1"),
        ("a = 'b'", "a = b"), ("`a b` = 1", "`a  b` = 1"),
    ],
)  # fmt: skip
def test_what_differs_in_more_than_a_value_is_another_shape(known, one, other):
    assert compiled(one) != compiled(other)
    assert len(known) == 2


def test_a_shape_is_checked_for_each_schema():
    assert compiled("quality = 'high'")

    with pytest.raises(qel.QelSchemaError, match="cannot compare"):
        qel.compile_filter("quality = 'high'", "variables")
    with pytest.raises(qel.QelSchemaError, match="cannot compare"):
        qel.compile_filter("quality = 'low'", "variables")
    assert compiled("quality = 'high'")


def test_limits_hold_for_a_known_shape():
    compiled("a = 1 OR b = 2")

    with pytest.raises(qel.QelLimitError):
        qel.compile_filter("a = 1 OR b = 2", "platformEvents", qel.Limits(leaves=1))


def test_shapes_are_bounded(monkeypatch, known):
    monkeypatch.setattr(shapes, "SHAPES_MAX", 3)
    for number in range(10):
        compiled(f"a{number} = 1")
    assert len(known) == 3

    compiled(" OR ".join(["a = 1"] * 100))
    assert len(known) == 3


def test_schemas_of_a_shape_are_bounded():
    made = Shapes()
    lexemes = tokenize("t = '2026-03-01'")
    root, _ = made.build_tree(lexemes, 16)
    _, shape = made.build_tree(lexemes, 16)

    for number in range(20):
        schema = qel.Schema(f"schema {number}", {"t": qel.Type.DATETIME})
        assert shape.check(root, schema) == []

    assert len(shape._to_check) <= shapes.SCHEMAS_MAX
