"""What the package offers to those who import it."""

from collections import ChainMap, OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timezone, tzinfo
from types import MappingProxyType

import pytest

import qel
from qel.nodes import And, Bare, Literal, Or, Property

UNLIMITED = qel.Limits(characters=10**7, leaves=10**6, nesting=10**6)


# --- filters as values


def test_filters_are_equal_by_canonical_text_and_schema():
    one = qel.compile_filter("(quality=1)", "variables")
    same = qel.compile_filter("quality  =  1.0", "variables")

    assert one == same
    assert hash(one) == hash(same)
    assert one != qel.compile_filter("quality = 1", "events")
    assert one != qel.compile_filter("quality = 2", "variables")
    assert one != "quality = 1"
    assert repr(one) == "<Filter variables: quality = 1>"


def test_a_filter_knows_the_properties_it_looks_at():
    text = "a.b = 'x' AND NOT (`c.d` IN tags OR 1 < a.b) AND e AND f HAS 'x' AND true"

    compiled = qel.compile_filter(text, "platformEvents")

    assert compiled.properties == {("a", "b"), ("c.d",), ("tags",), ("e",), ("f",)}


def test_a_topic_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="unknown topic 'Variables', expected one of platform"):
        qel.compile_filter("true", "Variables")


def test_a_schema_of_ones_own_takes_the_place_of_a_topic():
    schema = qel.Schema(
        "readings", {"tags": qel.Type.LIST, "ok": qel.Type.BOOLEAN, "extra": qel.Type.ANY}
    )

    compiled = qel.compile_filter("ok AND tags HAS 'x' AND 'y' IN tags AND extra.z = 1", schema)

    assert compiled.matches({"ok": True, "tags": ["x", "y"], "extra": {"z": 1}})
    assert compiled.schema is schema
    assert hash(schema) == hash(qel.Schema("readings", dict(schema.properties)))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("tags = 'x'", "= cannot compare tags, a list, with 'x', a string"),
        ("tags < tags", "< cannot order a list"),
        ("tags STARTS_WITH 'x'", "STARTS_WITH needs a string, tags is a list"),
        ("other.x", "readings have no property other.x"),
    ],
)
def test_lists_have_their_own_rules(text, detail):
    schema = qel.Schema("readings", {"tags": qel.Type.LIST})

    with pytest.raises(qel.QelSchemaError) as caught:
        qel.compile_filter(text, schema)

    assert caught.value.errors[0].detail == detail


def test_a_schema_does_not_change_with_the_mapping_it_was_made_of():
    properties = {"a": qel.Type.STRING}
    schema = qel.Schema("readings", properties)

    properties["b"] = qel.Type.STRING

    assert schema.type_of(("b",)) is None


# --- combining


def test_a_text_cannot_escape_the_condition_it_is_combined_with():
    condition = qel.compile_filter("objectId = 'mine'", "variables")
    text = qel.compile_filter("true OR objectId = 'yours'", "variables")

    both = condition & text

    assert not both.matches({"objectId": "yours"})
    assert str(both) == "objectId = 'mine' AND (true OR objectId = 'yours')"
    assert qel.compile_filter(str(both), "variables") == both


def test_combining_one_filter_gives_it_back():
    one = qel.compile_filter("true", "variables")

    assert qel.all_of([one]) is one


def test_combining_nothing_is_refused():
    with pytest.raises(ValueError, match="no filter"):
        qel.all_of([])


def test_combining_filters_of_two_topics_is_refused():
    with pytest.raises(ValueError, match="different topics"):
        qel.compile_filter("true", "events") & qel.compile_filter("true", "alarms")


def test_a_combination_may_be_larger_than_one_text():
    wide = qel.compile_filter(" OR ".join(["quality = 1"] * 200), "variables")

    both = qel.all_of([wide, wide, wide])

    assert both.matches({"quality": 1})
    assert not both.matches({"quality": 2})


# --- trees


def test_a_connective_needs_two_parts():
    with pytest.raises(ValueError, match="And needs at least two parts"):
        And((Bare(Literal(True)),))


def test_connectives_of_one_kind_merge():
    a, b, c = (Bare(Property((name,))) for name in "abc")

    assert And((And((a, b)), c)) == And((a, b, c))
    assert Or((a, Or((b, c)))) == Or((a, b, c))
    assert And((Or((a, b)), c)).parts == (Or((a, b)), c)


def test_a_boolean_literal_is_no_number():
    assert Literal(True) != Literal(1)
    assert Literal(1) == Literal(1.0)
    assert Literal(1) != 1


def test_trees_compare_by_structure():
    assert qel.parse("a AND b") == qel.parse(" a\nAND (b)")
    assert qel.parse("a AND b") != qel.parse("a OR b")
    assert qel.parse("NOT a") != qel.parse("a")
    assert qel.parse("NOT a") != "NOT a"
    assert hash(qel.parse("NOT a AND b")) == hash(qel.parse("(NOT (a)) AND b"))


def test_trees_are_readable_in_a_log():
    assert str(qel.parse("a and (b or c)")) == "a AND (b OR c)"
    assert repr(qel.parse("not a")) == "<Not NOT a>"
    assert str(Property(("a", "in"))) == "a.`in`"


DEEP = {
    "nots": "NOT " * 4_000 + "a",
    "parentheses": "(" * 4_000 + "a" + ")" * 4_000,
    "and-or": "(a AND (b OR " * 2_000 + "a" + "))" * 2_000,
    "not-and": "NOT (a AND " * 2_000 + "b" + ")" * 2_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_nothing_overflows_a_stack_however_deep(text):
    tree, same = qel.parse(text, UNLIMITED), qel.parse(text, UNLIMITED)

    assert tree == same
    assert hash(tree) == hash(same)
    assert repr(tree)
    compiled = qel.compile_filter(text, "platformEvents", UNLIMITED)
    combined = compiled & compiled
    message = {"a": True, "b": True}
    assert combined.matches(message) is (combined.truth(message) is True)
    assert combined.explain(message).truth is combined.truth(message)
    assert combined.truth({}) is None


def test_wide_filters_are_evaluated_without_being_compiled():
    text = " OR ".join(f"value={number}" for number in range(256))
    compiled = qel.compile_filter(text, "variables")

    assert compiled.matches({"value": 255})
    assert not compiled.matches({"value": 256})
    assert compiled.truth({"value": "x"}) is None


# --- messages


class Loud(Mapping):
    """A mapping that raises whatever it is asked for."""

    def __getitem__(self, name):
        raise RuntimeError(name)

    def __iter__(self):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError

    def get(self, name, default=None):
        raise RuntimeError(name)


class Sly(dict):
    """A dict whose own `get` must not be called below the top."""

    def get(self, name, default=None):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "nested",
    [
        {"x": "a"},
        OrderedDict(x="a"),
        Sly(x="a"),
        ChainMap({}, {"x": "a"}),
        MappingProxyType({"x": "a"}),
    ],
    ids=lambda nested: type(nested).__name__,
)
def test_any_mapping_is_reached_into(nested):
    compiled = qel.compile_filter("value.x = 'a'", "variables")

    assert compiled.matches({"value": nested})
    assert compiled.truth(MappingProxyType({"value": nested})) is True


@pytest.mark.parametrize(
    "message", [Loud(), None, 5, {"value": Loud()}], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("text", ["value.x = 'a'", "value.x.y.z.w = 1", "value.x = value.y"])
def test_a_message_that_raises_has_no_properties(message, text):
    compiled = qel.compile_filter(text, "variables")

    assert compiled.truth(message) is None
    assert not compiled.matches(message)
    assert "missing or null" in compiled.explain(message).because
    assert qel.compile_filter("value.x = null", "variables").matches(message)


class NowhereZone(tzinfo):
    def utcoffset(self, moment):
        raise RuntimeError


def test_a_datetime_whose_zone_raises_is_opaque():
    compiled = qel.compile_filter("timestamp > '2026-01-01'", "variables")
    message = {"timestamp": datetime(2026, 3, 1, tzinfo=NowhereZone())}

    assert compiled.truth(message) is None
    assert compiled.explain(message).because.endswith(
        "is unknown, timestamp is of no type that can be compared"
    )
    assert qel.compile_filter("timestamp != null", "variables").matches(message)


# --- instants


def test_an_instant_of_milliseconds():
    assert qel.DateTime.from_milliseconds(1500) == qel.parse_datetime("1970-01-01T00:00:01.5Z")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("2026-03-01T10:00:00.120+02:00", "2026-03-01T08:00:00.12Z"),
        ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.000000001Z"),
        ("0001-01-01T00:00:00+01:00", "before year 1"),
        ("9999-12-31T23:59:59-01:00", "after year 9999"),
    ],
)
def test_an_instant_is_written_in_utc(text, written):
    instant = qel.parse_datetime(text)

    assert instant.isoformat() == written
    assert str(instant) == repr(instant) == f"DateTime({written!r})"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        datetime(2026, 3, 1, 12),  # noqa: DTZ001 -- without a zone it is UTC
        datetime.fromisoformat("2026-03-01T13:00:00+01:00").astimezone(timezone.max),
    ],
)
def test_an_instant_of_a_datetime(moment):
    assert qel.DateTime.from_datetime(moment) == qel.parse_datetime("2026-03-01T12:00Z")


# --- explanations

EXPLAINED = [
    ("quality > 3", {"quality": 2}, "quality > 3 is false, quality is 2"),
    ("quality > 3", {}, "quality > 3 is unknown, quality is missing or null"),
    ("NOT quality > 3", {"quality": 2.5}, "quality > 3 is false, quality is 2.5"),
    ("quality > 3", {"quality": float("nan")}, "quality > 3 is false, quality is nan"),
    ("quality > 3", {"quality": 10**400}, "quality > 3 is true, quality is a number of more than 300 digits"),
    ("model = 'a'", {"model": "\ud800\n"}, r"model = 'a' is false, model is '\ud800\n'"),
    ("value = 'a'", {"value": [1, 2]}, "value = 'a' is unknown, value is a list of 2"),
    ("value = 'a'", {"value": {}}, "value = 'a' is unknown, value is of no type that can be compared"),
    ("value", {"value": True}, "value is true, value is true"),
    ("value = 'a'", {"value": qel.parse_datetime("2026-03-01")}, "value = 'a' is unknown, value is the dateTime 2026-03-01T00:00:00Z"),
    ("model = value", {"model": "a", "value": "b"}, "model = value is false, model is 'a' and value is 'b'"),
    ("true AND false", {}, "false is false"),
    ("quality = 1 AND model = 'a'", {"quality": 1, "model": "b"}, "model = 'a' is false, model is 'b'"),
    ("quality = 1 OR model = 'a'", {"quality": 1}, "quality = 1 is true, quality is 1"),
    (
        "quality = 1 OR model = 'a'",
        {"quality": 2, "model": "b"},
        "quality = 1 is false, quality is 2; model = 'a' is false, model is 'b'",
    ),
    ("quality = 1 AND model = 'a'", {"quality": 1}, "model = 'a' is unknown, model is missing or null"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "because"), EXPLAINED)
def test_an_explanation_names_the_predicate_that_decided(text, message, because):
    compiled = qel.compile_filter(text, "variables")

    explanation = compiled.explain(message)

    assert explanation.because == because
    assert explanation.matches is compiled.matches(message)
    assert explanation.leaf == explanation.outcomes[0].leaf
    assert str(explanation.leaf) in because


def test_an_explanation_has_a_bounded_length():
    text = " OR ".join([f"model = '{'x' * 200}'"] * 15)
    compiled = qel.compile_filter(text, "variables")

    explanation = compiled.explain({"model": "y" * 100_000})

    assert len(explanation.outcomes) == 8
    assert explanation.because.endswith("…; and 7 more")
    assert len(explanation.because) < 2500


# --- the index


def test_an_index_holds_filters_by_key():
    index = qel.FilterIndex()
    index.add("hot", qel.compile_filter("value > 80", "variables"))
    index.add("any", qel.compile_filter("true", "variables"))

    assert index.match({"value": 81}) == {"hot", "any"}
    assert index.match({"value": 1}) == {"any"}
    assert len(index) == 2
    assert "hot" in index
    assert "cold" not in index
    assert index.explain({"value": 1}, "hot").because == "value > 80 is false, value is 1"


def test_removing_a_key_that_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        qel.FilterIndex().remove("hot")


def test_adding_a_key_again_replaces_its_filter():
    index = qel.FilterIndex()
    index.add("hot", qel.compile_filter("value > 80", "variables"))

    index.add("hot", qel.compile_filter("quality > 80", "variables"))

    assert index.match({"value": 81}) == set()
    assert set(index.properties) == {("quality",)}


def test_an_index_knows_the_properties_that_any_filter_needs():
    index = qel.FilterIndex()
    needed = index.properties
    index.add(1, qel.compile_filter("value > 80 AND quality = 1", "variables"))
    index.add(2, qel.compile_filter("value.x > 80 OR quality = 2", "variables"))
    assert needed == {("value",), ("value", "x"), ("quality",)}

    index.remove(1)
    assert needed == {("value", "x"), ("quality",)}

    index.remove(2)
    assert needed == set()


# --- errors and limits


def test_an_error_is_rendered_with_a_caret():
    with pytest.raises(qel.QelError) as caught:
        qel.compile_filter("quality = 1 AND\n\tobjectid = 'a'", "variables")

    assert str(caught.value) == (
        "line 2, column 2: variables have no property objectid (did you mean objectId?)\n"
        "   objectid = 'a'\n"
        "   ^"
    )


def test_a_long_line_is_cut_around_the_caret():
    text = " OR ".join(["quality = 1"] * 10 + ["colour = 1"] + ["quality = 1"] * 10)

    with pytest.raises(qel.QelError) as caught:
        qel.compile_filter(text, "variables")

    line, caret = caught.value.errors[0].excerpt.split("\n")
    assert len(line) < 130
    assert line[caret.index("^") :].startswith("colour")
    assert line.strip().startswith("…")
    assert line.endswith("…")


def test_at_most_twenty_errors_are_reported():
    with pytest.raises(qel.QelSchemaError) as caught:
        qel.compile_filter(" OR ".join(["colour = 1"] * 30), "variables")

    assert len(caught.value.errors) == 20


@pytest.mark.parametrize(
    ("text", "limits", "detail"),
    [
        ("true", qel.Limits(characters=3), "the limit is 3 characters"),
        ("a OR b", qel.Limits(leaves=1), "the limit is 1 leaf predicates"),
        ("NOT a", qel.Limits(nesting=0), "the limit is 0 levels of nesting"),
        ("(NOT a) OR NOT (b)", qel.Limits(nesting=1), "the limit is 1 levels of nesting"),
    ],
)
def test_limits_are_configurable(text, limits, detail):
    with pytest.raises(qel.QelLimitError) as caught:
        qel.parse(text, limits)

    assert detail in caught.value.errors[0].detail
    assert qel.parse(text)


def test_each_kind_of_error_has_its_class():
    for text, kind in (("(", qel.QelSyntaxError), ("quality", qel.QelSchemaError)):
        with pytest.raises(kind):
            qel.compile_filter(text, "variables")


def test_numbers_with_thousands_of_zeros_are_read():
    tree = qel.parse("a = " + "0" * 5000 + "7", UNLIMITED)

    assert str(tree) == "a = 7"
    with pytest.raises(qel.QelError, match="too large"):
        qel.parse("a = " + "9" * 5000, UNLIMITED)
