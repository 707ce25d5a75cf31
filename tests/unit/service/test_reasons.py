"""The tree of a filter's truth agrees with the filter, part by part."""

import random

import pytest

import qel
from hotpath.service.reasons import Judge, Reason
from hotpath.wire.jsonbody import encode_json

SEED = 20261121
LEAVES = ["value > 3", "model = 'x'", "quality != null", "variable IN ['a', 'b']", "NOT value = 1"]


def filters(count: int) -> list[str]:
    """Random texts, nested a few levels deep."""
    drawn = random.Random(SEED)

    def text(depth: int) -> str:
        if depth == 0 or drawn.random() < 0.3:
            return drawn.choice(LEAVES)
        joint = drawn.choice([" AND ", " OR "])
        inner = joint.join(text(depth - 1) for _ in range(drawn.randint(2, 4)))
        return drawn.choice(["({})", "NOT ({})"]).format(inner)

    return [text(4) for _ in range(count)]


MESSAGES = [
    {"value": value, "variable": variable, **others}
    for value in (1, 5)
    for variable in ("a", "z")
    for others in ({}, {"model": "x"}, {"model": "y", "quality": 192})
]


def parts(reason: Reason):
    yield reason
    for part in reason.parts:
        yield from parts(part)


def test_every_part_is_true_of_the_message() -> None:
    print("seed", SEED)
    for text in filters(60):
        filter_ = qel.compile_filter(text, "variables")
        judge = Judge(filter_)
        for message in MESSAGES:
            judged = judge.explain(encode_json(b"{}", message))

            assert judged.truth is judged.reason.truth is filter_.truth(message), (text, message)
            leaves = [each for each in parts(judged.reason) if each.kind == "predicate"]
            assert len(leaves) == judge.predicates
            for leaf in leaves:
                alone = qel.compile_filter(leaf.expression, "variables")
                assert alone.truth(message) is leaf.truth


def test_the_tree_has_the_shape_of_the_filter() -> None:
    judge = Judge(qel.compile_filter("value > 3 AND (model = 'x' OR NOT quality = 1)", "variables"))

    reason = judge.explain(encode_json(b"{}", {"value": 9, "quality": 2})).reason

    assert (reason.kind, reason.truth) == ("and", True)
    left, right = reason.parts
    assert (left.expression, left.because) == ("value > 3", "value > 3 is true, value is 9")
    assert (right.kind, [part.truth for part in right.parts]) == ("or", [None, True])
    assert right.parts[1].kind == "not"
    assert right.parts[1].parts[0].expression == "quality = 1"


@pytest.mark.parametrize("stored", [b"", b"\x00", b"\x00\x53\x77\xff"], ids=["empty", "cut", "odd"])
def test_damaged_bytes_are_judged_as_a_message_without_properties(stored: bytes) -> None:
    judge = Judge(qel.compile_filter("value = null", "variables"))

    assert judge.explain(stored).truth is True
