"""The index as a whole: what it shares, what it gives back, and what hostile sets do to it."""

import gc
import random
import tracemalloc
from collections.abc import Mapping

import pytest

import qel
from bench.index.adversarial import adversarial
from qel.index import ScanIndex
from qel.index import bucket as buckets

OPEN = qel.Schema("open", {}, is_open=True)


def compiled(text, schema=OPEN):
    return qel.compile_filter(text, schema)


def index_of(texts, schema=OPEN):
    index = qel.FilterIndex()
    for key, text in enumerate(texts):
        index.add(key, compiled(text, schema))
    return index


def test_a_result_does_not_change_when_the_index_does():
    index = index_of(["a = 1"])
    before = index.match({"a": 1})

    index.add("new", compiled("a = 1"))
    index.remove(0)
    before.add("mine")

    assert before == {0, "mine"}
    assert index.match({"a": 1}) == {"new"}


@pytest.mark.parametrize(
    "texts",
    [
        ["a = 1 AND c = 2", "a = 1 and (c = 2)", "1 = a AND c = 2.0"],
        ["NOT (a = 1)", "a != 1"],
        ["NOT (s < 'x')", "s >= 'x'"],
        ["a = 1 OR (c = 2 OR d = 3)", "a = 1 OR c = 2 OR d = 3"],
        ["NOT (a = 1 OR b < 'x')", "a != 1 AND b >= 'x'"],
        ["false", "false AND a = 1"],
    ],
)
def test_filters_that_say_the_same_are_kept_once(texts):
    index = index_of(
        texts, qel.Schema("s", {"s": qel.Type.STRING, "b": qel.Type.STRING}, is_open=True)
    )

    assert len(index) == len(texts)
    assert len(index._members) == 1


def test_the_same_text_on_other_types_is_not_the_same():
    index = qel.FilterIndex()
    text = "t = '2026-03-01'"
    index.add("dated", compiled(text, qel.Schema("x", {"t": qel.Type.DATETIME})))
    index.add("text", compiled(text, qel.Schema("x", {"t": qel.Type.STRING})))

    assert index.match({"t": "2026-03-01T00:00Z"}) == {"dated"}
    assert index.match({"t": "2026-03-01"}) == {"dated", "text"}


def test_a_shared_part_is_asked_once_for_each_message(monkeypatch):
    index = index_of([f"(a < b OR c = 1) AND NOT (d = {number})" for number in range(30)])
    asked = []
    real = qel.index.formula.Shared.holds
    monkeypatch.setattr(
        qel.index.formula.Shared, "holds", lambda one, turn: asked.append(one) or real(one, turn)
    )

    assert len(index.match({"a": 1, "b": 2, "c": 2, "d": 50})) == 30
    assert len(asked) == len(set(map(id, asked)))


def test_keys_of_the_same_filter_come_and_go():
    index = index_of(["a = 1"] * 100)
    assert index.match({"a": 1}) == set(range(100))

    for key in range(99):
        index.remove(key)
        assert len(index.match({"a": 1})) == 99 - key

    assert index.match({"a": 1}) == {99}
    index.remove(99)
    assert index.match({"a": 1}) == set()
    assert not index._members


def test_explain_speaks_of_the_filter_that_was_added():
    index = index_of(["1 = a", "a = 1"])

    assert index.explain({"a": 2}, 0).because == "1 = a is false, a is 2"
    assert index.explain({"a": 2}, 1).because == "a = 1 is false, a is 2"
    with pytest.raises(KeyError):
        index.explain({}, 2)


def test_a_slot_that_was_freed_is_used_again():
    index = qel.FilterIndex()
    for number in range(50):
        index.add(0, compiled(f"property{number} = {number} AND value.x{number} > 1"))
        assert index.match({f"property{number}": number, "value": {f"x{number}": 2}}) == {0}

    assert len(index._columns._columns) < 8


def test_a_name_that_can_never_matter_takes_no_slot():
    index = index_of([f"false AND p{number} = 1 AND p{number} < q" for number in range(20)])

    assert len(index._columns) == 0
    assert len(index._formulas) == 0
    assert len(index.properties) == 21


# --- messages


class Raising(Mapping):
    """Raises whatever is asked."""

    def __getitem__(self, name):
        raise RuntimeError(name)

    def __iter__(self):
        raise RuntimeError("iterated")

    def __len__(self):
        raise RuntimeError("measured")


class Key(str):
    """A key that raises when it is compared."""

    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("compared")

    __hash__ = str.__hash__


class Lookalike(dict):
    """A dictionary that answers otherwise than it holds."""

    def get(self, name, default=None):
        return {"a": 1, "n": {"x": 1}}.get(name, default)


class Unhashable(type):
    def __hash__(cls):
        raise RuntimeError("hashed")


class Rude(metaclass=Unhashable):
    pass


@pytest.mark.parametrize(
    "message",
    [
        {},
        Raising(),
        Lookalike(),
        {Key("a"): 1, "b": 2},
        {"a": Rude(), "b": 2},
        {"n": {Key("x"): 1}, "a": 1},
        {"n": Lookalike(x=1), "a": Rude()},
        {"n": [1], "a": (1,)},
        {"n": {"x": None}},
        {"n": None},
        {1: 2, None: 3, "a": 1},
    ],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("more", [0, 30], ids=["narrow", "wide"])
def test_no_message_makes_it_raise_or_differ(message, more):
    texts = [
        "a = 1",
        "b = 2",
        "n.x = 1",
        "n.x = null",
        "a != null",
        "NOT (a = 1)",
        "a < b",
        "a > 0",
    ]
    texts += [f"p{number} = 1 OR a = {number}" for number in range(more)]
    texts += [f"p{number} = null AND a = 1" for number in range(more)]
    index, scan = index_of(texts), ScanIndex()
    for key, text in enumerate(texts):
        scan.add(key, compiled(text))

    assert index.match(message) == scan.match(message)


def test_a_message_is_let_go():
    class Watched(dict):
        pass

    index = index_of(["a < b OR a = 1"])
    gc.disable()
    try:
        for _ in range(3):
            index.match({"a": [], "b": 2})
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(100):
            index.match({"a": [], "b": 2})
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()


# --- adversarial sets


@pytest.mark.parametrize("workload", [*adversarial(60)], ids=lambda workload: workload.name)
def test_an_adversarial_set_is_matched_right(workload):
    index, scan = index_of(workload.filters, workload.topic), ScanIndex()
    for key, text in enumerate(workload.filters):
        scan.add(key, compiled(text, workload.topic))

    for message in workload.messages[:3]:
        assert index.match(message) == scan.match(message)
    for key in range(len(workload.filters)):
        index.remove(key)
    assert index.match(workload.messages[0]) == set()
    assert len(index._columns) == len(index._formulas) == index._root.size == 0


def test_ors_of_ors_do_not_multiply_the_places_of_a_filter():
    """Spread without a bound, the four ORs of one filter would take 32⁴ places."""
    index = qel.FilterIndex()
    for number in range(40):
        ors = [
            " OR ".join(f"{name} = {leaf}" for leaf in range(number, number + 32))
            for name in "abcd"
        ]
        index.add(number, compiled(" AND ".join(f"({one})" for one in ors), OPEN))

    assert index._root.size <= 40 * (32 + buckets.PLACES_MAX)
    assert index.match(dict.fromkeys("abcd", 31)) == set(range(32))


def test_a_tree_of_any_depth_is_taken():
    tree = qel.parse("a = 1")
    for level in range(5000):
        kind = qel.nodes.And if level % 2 else qel.nodes.Or
        tree = qel.nodes.Not(kind((tree, qel.parse("b = 1"))))
    deep = qel.Filter(tree, OPEN)
    index = qel.FilterIndex()
    index.add(1, deep)
    index.add(2, deep)

    for message in ({"a": 1, "b": 1}, {"a": 2, "b": 2}, {}):
        assert index.match(message) == ({1, 2} if deep.matches(message) else set())
    index.remove(1)
    index.remove(2)
    assert len(index._formulas) == 0


def test_buckets_behind_buckets_end_somewhere(monkeypatch):
    monkeypatch.setattr(buckets, "DEPTH_MAX", 2)
    texts = ["a = 1 AND b = 1 AND c = 1 AND d = 1 AND e > " + str(number) for number in range(99)]
    index = index_of(texts)

    assert index.match(dict.fromkeys("abcd", 1) | {"e": 9.5}) == set(range(10))
    for key in range(99):
        index.remove(key)
    assert index._root.size == 0


# --- memory


def churn(index, filters, rounds):
    """Fill and empty an index; give the memory in use when it is empty, after each round."""
    used = []
    for _ in range(rounds):
        for key, one in enumerate(filters):
            index.add(key, one)
        for key in range(len(filters)):
            index.remove(key)
        gc.collect()
        used.append(tracemalloc.get_traced_memory()[0])
    return used


@pytest.mark.slow
def test_memory_is_given_back_when_filters_go():
    rng = random.Random(5)
    texts = [
        f"objectId = 'obj-{rng.randrange(700)}' AND value > {rng.random():.4f} AND value < 2"
        f" OR variable HAS '{rng.randrange(10**6)}' OR value.p{rng.randrange(900)} = null"
        for _ in range(1000)
    ]
    filters = [compiled(text, "variables") for text in texts]
    index = qel.FilterIndex()
    churn(index, filters, 1)
    tracemalloc.start()
    try:
        used = churn(index, filters, 4)
    finally:
        tracemalloc.stop()

    assert used[-1] - used[1] < 3_000, used


@pytest.mark.slow
def test_tables_shrink_when_most_filters_go():
    tracemalloc.start()
    try:
        index = index_of([f"a = {number}" for number in range(6_000)])
        full = tracemalloc.get_traced_memory()[0]
        for key in range(5_990):
            index.remove(key)
        gc.collect()
        rest = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert index.match({"a": 5_995}) == {5_995}
    assert rest < full / 10, (rest, full)


@pytest.mark.slow
def test_the_same_filter_100_000_times_is_one():
    one = compiled("value >= 0 AND quality >= 0", "variables")
    index = qel.FilterIndex()
    for key in range(100_000):
        index.add(key, one)

    assert len(index.match({"value": 1, "quality": 1})) == 100_000
    assert len(index._members) == 1
    for key in range(100_000):
        index.remove(key)
    assert len(index) == 0


# --- many that match at once


def test_keys_behind_many_bounds_are_taken_together_and_stay_right():
    """Blocks of bounds with nothing more to ask note their keys; every change must reach them."""
    index, scan = qel.FilterIndex(), ScanIndex()
    rng = random.Random(3)

    def add(key, text):
        for one in (index, scan):
            one.add(key, compiled(text))

    for key in range(1200):
        add(key, f"a > {key / 2} AND b >= {key % 3}")
    for _ in range(300):
        match rng.randrange(5):
            case 0:
                key = rng.choice([*scan._filters])
                index.remove(key)
                scan.remove(key)
            case 1:
                add(
                    rng.randrange(2000),
                    f"a > {rng.randrange(1200) / 2} AND b >= {rng.randrange(3)}",
                )
            case 2:
                add(rng.randrange(2000), f"a > {rng.randrange(600)} AND b >= 1 AND c != null")
            case 3:
                add(rng.randrange(2000), f"a > {rng.randrange(600)} AND b >= 1 AND c < d")
            case _:
                message = {"a": rng.randrange(700), "b": rng.randrange(4), "d": 2}
                message |= rng.choice([{}, {"c": 1}])
                assert index.match(message) == scan.match(message)


def test_a_key_that_joins_or_leaves_the_same_filter_is_seen_behind_a_bound():
    index = index_of([f"a > {number}" for number in range(700)])
    assert len(index.match({"a": 1000})) == 700

    index.add("twin", compiled("a > 5"))
    assert "twin" in index.match({"a": 1000})

    index.remove(5)
    assert 5 not in index.match({"a": 1000})
    assert "twin" in index.match({"a": 1000})

    index.add("first", compiled("a > 6 OR a > 7"))
    index.add("second", compiled("a > 7 OR a > 6"))
    index.add("third", compiled("a > 6 OR a > 7"))
    assert {"first", "second", "third"} <= index.match({"a": 1000})
    index.remove("first")
    assert "first" not in index.match({"a": 1000})
