"""Every row and sentence of the language's definition, as data: tests/corpus/qel_cases.json.

A value that JSON has no word for is written as an object with one key that begins with `$`.
"""

import json
from datetime import datetime
from pathlib import Path

import pytest

import qel

CORPUS = Path(__file__).parents[2] / "corpus" / "qel_cases.json"
CASES = json.loads(CORPUS.read_text(encoding="utf-8"))
VALID = [case for case in CASES if "canonical" in case]
WRONG = [case for case in CASES if "errors" in case]


class Foreign:
    """A value whose class has nothing to do with the language, and is nasty about it."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __getattr__(self, name):
        raise RuntimeError("touched")


SPECIAL = {
    "$instant": qel.parse_datetime,
    "$datetime": datetime.fromisoformat,
    "$float": float,
    "$opaque": lambda _: Foreign(),
}


def revive(value):
    if isinstance(value, list):
        return [revive(element) for element in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)) in SPECIAL:
        ((kind, text),) = value.items()
        return SPECIAL[kind](text)
    return {name: revive(element) for name, element in value.items()}


def by_name(case):
    return case["name"]


@pytest.mark.parametrize("case", VALID, ids=by_name)
def test_valid_text_has_its_canonical_form(case):
    compiled = qel.compile_filter(case["expr"], case["topic"])

    assert str(compiled) == case["canonical"]
    again = qel.parse(case["canonical"], qel.Limits(characters=100_000))
    assert again == compiled.root
    assert qel.to_text(again) == case["canonical"]


@pytest.mark.parametrize("case", VALID, ids=by_name)
def test_messages_get_their_truth_value(case):
    compiled = qel.compile_filter(case["expr"], case["topic"])

    for row in case["messages"]:
        message = revive(row["message"])
        assert compiled.truth(message) is row["truth"], row
        assert compiled.matches(message) is (row["truth"] is True), row
        assert compiled.explain(message).truth is row["truth"], row


@pytest.mark.parametrize("case", VALID, ids=by_name)
def test_a_negated_text_has_the_opposite_truth_value(case):
    compiled = qel.compile_filter(
        f"NOT ({case['expr']})", case["topic"], qel.Limits(5000, 300, 100)
    )

    for row in case["messages"]:
        message = revive(row["message"])
        opposite = None if row["truth"] is None else not row["truth"]
        assert compiled.truth(message) is opposite, row
        assert compiled.matches(message) is (opposite is True), row


@pytest.mark.parametrize("case", WRONG, ids=by_name)
def test_wrong_text_gives_all_its_errors_with_their_places(case):
    with pytest.raises(qel.QelError) as caught:
        qel.compile_filter(case["expr"], case["topic"])

    found = caught.value.errors
    assert len(found) == len(case["errors"]), found
    for error, expected in zip(found, case["errors"], strict=True):
        assert expected["detail"] in error.detail
        assert (error.line, error.column) == (expected["line"], expected["column"]), error
        if "suggestion" in expected:
            assert error.suggestion == expected["suggestion"]
