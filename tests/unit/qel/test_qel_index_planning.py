"""Where filters wait: at the place that the fewest messages reach, and nowhere needless."""

import pytest

import qel
from bench.index.workloads import make_plant

OPEN = qel.Schema("open", {}, is_open=True)
FIVE_NS = "1970-01-01T00:00:00.000000005Z"


def index_of(texts, schema=OPEN):
    index = qel.FilterIndex()
    for key, text in enumerate(texts):
        index.add(key, qel.compile_filter(text, schema))
    return index


def looked_at(index):
    """Give the paths that are looked up for every message."""
    columns = index._columns._columns
    return {columns[slot][0] for slot in index._root.probes}


@pytest.mark.parametrize(
    "text",
    [
        "type = 'x' AND id = '{}'",
        "id = '{}' AND type = 'x'",
        "shift = '{3}' AND id = '{}'",
        "shift = '{3}' AND id IN ['{}', 'a{}', 'b{}']",
        "shift = '{3}' AND (id = '{}' OR id = 'a{}')",
        "ready AND id = '{}'",
        "load > {} AND id = '{}'",
    ],
)
def test_filters_wait_at_the_property_that_tells_them_apart(text):
    index = index_of(
        text.replace("{}", str(number)).replace("{3}", str(number % 3)) for number in range(200)
    )

    assert looked_at(index) == {("id",)}


def test_filters_that_share_one_value_are_told_apart_behind_it():
    texts = [f"id = '{number}'" for number in range(20)]
    index = index_of([*texts, *(f"id = '0' AND shift = '{number}'" for number in range(200))])

    assert looked_at(index) == {("id",)}
    assert index.match({"id": "0", "shift": "7"}) == {0, 27}


def test_plant_filters_cost_a_message_one_look():
    plant = make_plant(2000, 1, 1)

    assert looked_at(index_of(plant.filters, plant.topic)) == {("objectId",)}


def test_equal_parts_of_filters_are_one_object():
    index = index_of(f"id = '{number}' AND quality >= 192 AND ok" for number in range(100))
    seconds = {id(members.atoms[1]) for members in index._members.values()}

    assert len(seconds) == 1


def test_a_slot_that_comes_again_does_not_mean_what_it_meant():
    index = qel.FilterIndex()
    index.add(1, qel.compile_filter("t = 5", qel.Schema("n", {"t": qel.Type.NUMBER})))
    index.remove(1)
    index.add(2, qel.compile_filter(f"t = '{FIVE_NS}'", qel.Schema("d", {"t": qel.Type.DATETIME})))

    assert index.match({"t": FIVE_NS}) == {2}
    assert index.match({"t": 5}) == set()


def test_more_keys_of_a_filter_are_reported_wherever_it_waits():
    text = "(a = 1 OR b = 2 OR c > 3) AND d = 4"
    index = index_of([*(f"(a = {n} OR b = {n}) AND d = {n}" for n in range(9, 60)), text])
    message = {"a": 1, "b": 2, "c": 9, "d": 4}

    assert index.match(message) == {51}
    for key in (100, 101):
        index.add(key, qel.compile_filter(text, OPEN))
    assert index.match(message) == {51, 100, 101}
    index.remove(51)
    assert index.match(message) == {100, 101}
    index.remove(101)
    assert index.match(message) == {100}
