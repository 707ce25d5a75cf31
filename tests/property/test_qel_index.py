"""The index equals the linear scan: whatever the filters, the messages, and their order.

Filters and messages are built by one set of functions over a source of choices: hypothesis
draws them in the state machine, which shrinks what fails; a seeded generator draws them by the
thousand elsewhere. Their vocabulary is small on purpose, so that messages hit.

`QEL_INDEX_PAIRS` sets how many filter-message pairs the long form compares; `QEL_INDEX_SEED`
where it starts.
"""

import math
import os
import random
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import qel
from qel.checker import check
from qel.index import ScanIndex
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
    leaves,
    operands,
)

PAIRS = int(os.environ.get("QEL_INDEX_PAIRS", "30000"))
SEED = int(os.environ.get("QEL_INDEX_SEED", "1"))

SCHEMAS = [
    qel.Schema(
        "mixed",
        {"s": qel.Type.STRING, "n": qel.Type.NUMBER, "t": qel.Type.DATETIME, "b": qel.Type.BOOLEAN},
        is_open=True,
    ),
    qel.Schema("open", {}, is_open=True),
    qel.Schema(
        "lists", {"s": qel.Type.LIST, "v": qel.Type.ANY, "t": qel.Type.STRING}, is_open=True
    ),
]
NAMES = ["s", "n", "t", "b", "x", "v"]
PATHS = [*((name,) for name in NAMES), ("v", "a"), ("v", "a", "b"), ("x", "a")]
MOMENTS = ["2026-03-01", "2026-03-01T01:00:00+01:00", "2026-03-02T00:00:00Z", "1969-12-31T23:59Z"]
STRINGS = ["", "a", "ab", "abc", "abcd", "abcab", "b", "ba", "cab", "é", "\ud83d\ude00z", *MOMENTS]
NUMBERS = [0, 1, -1, 2, 5, 0.5, -0.0, 5.5, 2**53, 2**53 + 1, 2**63, -(2**63), 10**400, 1e300]
SIGNS = list(Operator)


class Colour(IntEnum):
    RED = 1


class Word(str):
    """A string that lies about itself."""

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

    @property
    def __class__(self):
        raise RuntimeError("asked for its class")


class Unhashable(type):
    """The class of classes that nothing can look up."""

    def __hash__(cls):
        raise RuntimeError("hashed")


class Rude(metaclass=Unhashable):
    """Its class is no key of a dictionary."""


SCALARS = [
    *STRINGS,
    *NUMBERS,
    float(2**53),
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    None,
    *map(qel.parse_datetime, MOMENTS),
    datetime(2026, 3, 1),  # noqa: DTZ001 -- means UTC
    datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 3, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
]
FOREIGN = [b"a", Decimal(1), {1}, Word("ab"), Colour.RED, Nasty(), Rude(), ("a", 1), object()]


class Choices:
    """What is built next: over any function that picks one of a sequence."""

    def __init__(self, pick):
        self.pick = pick

    def chance(self, of):
        return self.pick(range(of)) == 0

    def some(self, most):
        return range(self.pick(range(1, most + 1)))

    def operand(self):
        return Property(self.pick(PATHS)) if self.pick(range(6)) else self.literal()

    def literal(self):
        kind = self.pick(range(8))
        if kind < 3:
            return Literal(self.pick(STRINGS))
        if kind < 6:
            return Literal(self.pick(NUMBERS))
        return Literal(self.pick([True, False, None, math.nan, math.inf]))

    def leaf(self):
        kind = self.pick(range(10))
        operand = self.operand()
        if kind < 5:
            other = self.operand() if self.chance(6) else self.literal()
            sides = (other, operand) if self.chance(5) else (operand, other)
            return Comparison(self.pick(SIGNS), *sides)
        if kind < 7:
            return TextTest(self.pick(list(TextOperator)), operand, self.pick(STRINGS))
        if kind == 7:
            return Membership(operand, tuple(self.literal() for _ in self.some(4)))
        if kind == 8:
            return Membership(self.operand(), Property(self.pick(PATHS)))
        return Bare(operand if isinstance(operand, Property) else Literal(self.pick([True, False])))

    def tree(self, depth=3):
        kind = self.pick(range(8)) if depth else 0
        if kind < 2:
            return self.leaf()
        if kind == 2:
            return Not(self.tree(depth - 1))
        parts = tuple(self.tree(depth - 1) for _ in range(self.pick(range(2, 5))))
        return And(parts) if kind < 6 else Or(parts)

    def filter(self):
        return qel.Filter(self.tree(), self.pick(SCHEMAS))

    def value(self, depth=2):
        kind = self.pick(range(10))
        if kind < 7 or not depth:
            return self.pick(SCALARS)
        if kind == 7:
            return [self.value(depth - 1) for _ in range(self.pick(range(4)))]
        if kind == 8:
            return {self.pick(["a", "b"]): self.value(depth - 1) for _ in range(2)}
        return self.pick(FOREIGN)

    def message(self):
        return {name: self.value() for name in NAMES if not self.chance(5)}


def pairs_of_indexes():
    return qel.FilterIndex(), ScanIndex()


def assert_same(index, scan, message, seed=None):
    found, expected = index.match(message), scan.match(message)
    wrong = found ^ expected
    assert not wrong, [
        (seed, key in found, repr(scan._filters[key].root), scan._filters[key].schema.name)
        for key in wrong
    ]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_index_equals_the_scan_over_many_pairs():
    """Sets of growing size, each changed between messages; the seed of each is in its failure."""
    compared, seed = 0, SEED
    while compared < PAIRS:
        choices = Choices(random.Random(seed).choice)
        index, scan = pairs_of_indexes()
        keys = choices.pick([5, 20, 60, 150])
        for turn in range(30):
            for _ in range(keys // 5 if turn else keys):
                key = choices.pick(range(keys))
                if key in scan and choices.chance(2):
                    scan.remove(key)
                    index.remove(key)
                else:
                    made = choices.filter()
                    scan.add(key, made)
                    index.add(key, made)
            for _ in range(4):
                message = choices.message()
                assert_same(index, scan, message, seed)
                compared += len(scan)
            assert len(index) == len(scan)
            assert index.properties == scan.properties
        for key in list(scan._filters):
            index.remove(key)
        assert is_bare(index), f"seed {seed}"
        seed += 1
    print(f"{compared} pairs, seeds {SEED} to {seed - 1}")


def is_bare(index):
    """Tell whether an emptied index has let go of everything."""
    parts = (index._members, index._columns, index._formulas, index.properties)
    return not any(map(len, parts)) and index._root.size == 0


@st.composite
def drawn(draw, what):
    """Draw what `Choices` builds, choice by choice, so that a failure shrinks."""
    return getattr(Choices(lambda seq: seq[draw(st.integers(0, len(seq) - 1))]), what)()


class IndexMachine(RuleBasedStateMachine):
    """Adds, replaces, removes and matches in any order."""

    keys = st.integers(0, 30)

    @initialize()
    def start(self):
        self.index, self.scan = pairs_of_indexes()

    @rule(key=keys, made=drawn("filter"))
    def add(self, key, made):
        self.index.add(key, made)
        self.scan.add(key, made)

    @rule(keys=st.lists(keys, min_size=1, max_size=20), made=drawn("filter"))
    def add_the_same(self, keys, made):
        for key in keys:
            self.index.add(key, qel.Filter(made.root, made.schema))
            self.scan.add(key, made)

    @rule(
        name=st.sampled_from(["s", "x", "n"]),
        sign=st.sampled_from(SIGNS),
        first=st.integers(0, 10),
        other=drawn("leaf"),
    )
    def add_a_row(self, name, sign, first, other):
        """Enough of a kind to split a bucket."""
        for number in range(15):
            value = float(number) / 2 if name == "n" else "abcabcabcabcabc"[:number]
            leaf = Comparison(sign, Property((name,)), Literal(value))
            made = qel.Filter(And((leaf, other)), SCHEMAS[0])
            self.index.add(first + number, made)
            self.scan.add(first + number, made)

    @rule(key=keys)
    def remove(self, key):
        if key in self.scan:
            self.scan.remove(key)
            self.index.remove(key)
        else:
            with pytest.raises(KeyError):
                self.index.remove(key)

    @rule(message=drawn("message"))
    def match(self, message):
        assert_same(self.index, self.scan, message)

    @invariant()
    def counts_agree(self):
        if hasattr(self, "index"):
            assert len(self.index) == len(self.scan)
            assert self.index.properties == self.scan.properties
            assert len(self.scan) or is_bare(self.index)


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


# --- texts: shapes give what the parser gives


WORDS = """a b.c `x` x t 'it''s' "\\n" '\\ud800' '\\q' 1 -2.5e3 1e999 null TRUE false AND AND or NOT
in HAS starts_with = = != < >= ( ) [ ] , '2026-03-01' 'soon' 7""".split()  # noqa: SIM905 -- easier to read


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_a_shape_that_is_known_gives_the_parsers_tree_and_errors(seed):
    """Each text is asked for as it is and, its shape known by then, with other literals."""
    rng = random.Random(seed)
    schema = qel.Schema("known", {"t": qel.Type.DATETIME, "a": qel.Type.NUMBER}, is_open=True)
    for _ in range(150):
        text = random_text(rng)
        for variant in (text, vary(rng, text), vary(rng, text)):
            assert outcome(lambda text=variant: compiled(text, schema)) == outcome(
                lambda text=variant: parsed(text, schema)
            ), f"seed {seed}: {variant!r}"


def random_text(rng):
    if rng.random() < 0.5:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 12)))
    made = Choices(rng.choice)
    tree = made.tree(2)
    text = qel.to_text(tree) if can_be_written(tree) else "x = 1"
    return text.replace(" ", rng.choice([" ", "  ", "\n"]))


def can_be_written(tree):
    """Tell whether all numbers of a tree have a text."""
    found = [part for leaf in leaves(tree) for part in operands(leaf)]
    for leaf in leaves(tree):
        if isinstance(leaf, Membership) and isinstance(leaf.choices, tuple):
            found += leaf.choices
    values = [part.value for part in found if isinstance(part, Literal)]
    return all(abs(one) < 10**300 for one in values if isinstance(one, int | float))


def vary(rng, text):
    """Put other literals into a text."""
    strings = ["'a'", "'2026-03-01'", "'\\ud800'", "'soon'", '"it\'s"', "'\\q'"]
    numbers = ["0", "1e999", "-0", "2.50", "9007199254740993"]
    words = []
    for word in text.split(" "):
        if word[:1] in "'\"" and word[-1:] == word[:1] and len(word) > 1:
            words.append(rng.choice(strings))
        elif word.lstrip("-").isdigit():
            words.append(rng.choice(numbers))
        else:
            words.append(word)
    return (" " * rng.randrange(3)).join(["", " ".join(words)])


def compiled(text, schema):
    made = qel.compile_filter(text, schema)
    return places(made.root), repr(made.root), made.properties


def places(root):
    """Give all positions in a tree; trees are equal without them."""
    found = []
    for leaf in leaves(root):
        parts = [leaf, *operands(leaf)]
        if isinstance(leaf, Membership) and isinstance(leaf.choices, tuple):
            parts += leaf.choices
        found += [getattr(part, "at", None) for part in parts]
    return found


def parsed(text, schema):
    root = qel.parse(text)
    faults = check(root, schema)
    if faults:
        raise qel.QelSchemaError(fault.locate(text) for fault in faults)
    made = qel.Filter(root, schema)
    return places(root), repr(root), made.properties


def outcome(make):
    try:
        return make()
    except qel.QelError as error:
        return type(error), error.errors
