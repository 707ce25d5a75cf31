"""The sorted tables and those of strings, each against the obvious way."""

import random
from itertools import chain

import pytest

from qel.datetimes import DateTime
from qel.index.atoms import NUMBER, Family
from qel.index.bounds import BLOCK, LOCATORS, IntervalTable, SortedTable, is_empty, is_within
from qel.index.tables import make_table


class Box:
    size = 1

    def __init__(self, key, asks=True):
        self.key = key
        self.asks = asks

    def unconditional_keys(self):
        return None if self.asks else [self.key]


def fill(table, keys, asks=True):
    for key in keys:
        table.put(key, Box(key, asks))
    return table


def found(boxes):
    return sorted(box.key for box in boxes)


def find(table, value):
    """Give the keys of what is found, and of what is taken at once."""
    taken = set()
    return sorted([*found(table.find(value, taken)), *taken])


NUMBERS = [0, -0.5, 1, 1.5, 2**53, 2**53 + 1, 10**400, -(10**400), 1e300, -1e300, 5e-324, 2.5, -7]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sorted_table_keeps_its_order_through_changes(seed):
    rng = random.Random(seed)
    table, keys = SortedTable(), set()
    for _ in range(4 * BLOCK):
        key = rng.randrange(3 * BLOCK)
        if key in keys:
            table.drop(key)
            keys.remove(key)
        else:
            table.put(key, key)
            keys.add(key)
    edge = rng.randrange(3 * BLOCK)

    assert len(table) == len(keys)
    assert [key for key, _ in table.items()] == sorted(keys)
    assert [*chain(*table.before(edge, inclusive=True))] == sorted(k for k in keys if k <= edge)
    assert [*chain(*table.before(edge, inclusive=False))] == sorted(k for k in keys if k < edge)
    assert [*chain(*table.after(edge, inclusive=True))] == sorted(k for k in keys if k >= edge)
    assert [*chain(*table.after(edge, inclusive=False))] == sorted(k for k in keys if k > edge)
    assert table.get(edge) == (edge if edge in keys else None)
    assert table.get(10**9) is None


def test_a_sorted_table_can_be_emptied_and_filled_again():
    table = fill(SortedTable(), range(3 * BLOCK))

    for key in range(3 * BLOCK):
        table.drop(key)

    assert not table
    assert table.get(1) is None
    assert fill(table, [2, 1]).get(1).key == 1


@pytest.mark.parametrize("kind", [NUMBER, DateTime, str], ids=["number", "dateTime", "string"])
def test_intervals_are_found_by_every_value_in_them(kind):
    rng = random.Random(11)
    make = {
        NUMBER: lambda: rng.choice([*NUMBERS, rng.uniform(-9, 9), rng.randrange(-9, 9)]),
        DateTime: lambda: DateTime(rng.choice([0, -5, 2**62, -(2**70), 2**70, rng.randrange(99)])),
        str: lambda: "".join(rng.choice("ab\ud800é") for _ in range(rng.randrange(12))),
    }[kind]
    table, keys = IntervalTable(kind), set()
    while len(keys) < 600:
        low, high = sorted([make(), make()])
        key = (low, rng.random() < 0.5, high, rng.random() < 0.5)
        if key not in keys and not is_empty(key):
            keys.add(key)
            table.put(key, Box(key))
    for _ in range(2):
        for _ in range(150):
            value = make()
            assert found(table.holding(value)) == sorted(k for k in keys if is_within(k, value))
        for key in list(keys)[: len(keys) * 3 // 4]:
            assert table.get(key).key == key
            table.drop(key)
            keys.remove(key)
            assert table.get(key) is None
    for key in keys:
        table.drop(key)

    assert len(table) == 0
    assert table.holding(make()) == []


def test_many_intervals_at_one_place_are_told_apart():
    """Beyond the range of floats all numbers have the same place on the line."""
    table, huge = IntervalTable(NUMBER), 10**400
    for number in range(50):
        key = (huge + number, False, huge + number + 5, False)
        table.put(key, Box(key))

    assert len(table.holding(huge + 20)) == 5


@pytest.mark.parametrize("kind", LOCATORS, ids=lambda kind: kind.__name__)
def test_a_place_never_falls_when_the_value_rises(kind):
    values = {
        NUMBER: sorted([*NUMBERS, float("inf"), float("-inf"), 0.1, -0.1, 2.0**53]),
        DateTime: sorted(DateTime(number) for number in (-(2**80), -1, 0, 1, 2**63, 2**80)),
        str: sorted(
            ["", "\0", "a", "a\0", "aaaaaaaaaa", "aaaaaaaaab", "é", "\ud800", "\ue000", "😀"]
        ),
    }[kind]
    places = [LOCATORS[kind](value) for value in values]

    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] < 2**64


TEXTS = ["", "a", "ab", "abc", "abab", "bab", "babab", "cab", "xyz", "abcabcabc", "é"]
HOLDS = {
    Family.PREFIX: str.startswith,
    Family.SUFFIX: str.endswith,
    Family.HAS: str.__contains__,
    Family.EQUAL: str.__eq__,
    Family.ABOVE: str.__gt__,
    Family.FROM: str.__ge__,
    Family.BELOW: str.__lt__,
    Family.UP_TO: str.__le__,
}


@pytest.mark.parametrize("family", HOLDS, ids=lambda family: family.name)
@pytest.mark.parametrize("more", [0, 700], ids=["few", "many"])
@pytest.mark.parametrize("asks", [True, False], ids=["asking", "unconditional"])
def test_a_table_of_strings_finds_what_holds_and_nothing_else(family, more, asks):
    keys = [*TEXTS, *(f"{number:03}" for number in range(more))]
    table = fill(make_table(family, str), keys, asks)
    holds = HOLDS[family]

    for value in [*TEXTS, "abcab" * 20, "123", "0", "a" * 500]:
        assert find(table, value) == sorted(key for key in keys if holds(value, key))
    for key in keys:
        table.drop(key)
    assert len(table) == 0
    assert find(table, "abc") == []


def test_a_table_tells_how_much_is_behind_an_atom():
    assert fill(make_table(Family.EQUAL, str), ["a"]).load("a") == 1
    assert fill(make_table(Family.EQUAL, str), ["a"]).load("b") == 0
    key = (1, True, 2, True)
    assert fill(make_table(Family.BETWEEN, NUMBER), [key]).load(key) == 1
    assert make_table(Family.BETWEEN, NUMBER).load(key) == 0


def test_bounds_that_most_values_are_beyond_weigh_more():
    low, high = fill(make_table(Family.ABOVE, NUMBER), range(100)), make_table(Family.ABOVE, NUMBER)
    fill(high, range(1000, 1100))

    for table in (low, high):
        for _ in range(50):
            list(table.find(500, set()))

    assert low.load(1) > 50
    assert high.load(1) == 0


def test_what_was_noted_of_many_bounds_is_forgotten_when_one_changes():
    table = fill(make_table(Family.ABOVE, NUMBER), range(3 * BLOCK), asks=False)
    assert find(table, 10**6) == [*range(3 * BLOCK)]

    table.get(7).key = -7
    table.touch(7)
    table.drop(8)
    table.put(-1, Box(-1))

    assert find(table, 10**6) == [-7, -1, *range(7), *range(9, 3 * BLOCK)]


def test_nothing_is_beyond_or_between_for_nan():
    nan = float("nan")

    assert not list(fill(make_table(Family.BELOW, NUMBER), [1]).find(nan, set()))
    assert not list(fill(make_table(Family.BETWEEN, NUMBER), [(1, True, 2, True)]).find(nan, set()))
    assert len(list(fill(make_table(Family.NAN, NUMBER), [None]).find(nan, set()))) == 1
    assert not list(fill(make_table(Family.NAN, NUMBER), [None]).find(1.0, set()))
