"""Why a filter does or does not match a message: which predicates decided, and on what values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from math import isfinite

from qel.datetimes import DateTime
from qel.nodes import And, Leaf, Node, Not, Or, Property, operands, walk
from qel.predicates import message_test
from qel.printer import number_text, path_text, string_text, to_text
from qel.schema import Schema
from qel.values import OPAQUE, Message, Truth, fetch, normalise

LEAVES_MAX = 8
"""So many deciding predicates are kept; a filter of hundreds needs no longer sentence."""

_TEXT_MAX = 100
_WORDS = {True: "true", False: "false", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one predicate made of a message."""

    leaf: Leaf
    """The predicate."""
    truth: Truth
    """Its truth value; None is unknown."""
    because: str
    """A sentence with the values it saw."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a filter made of a message, and which predicates decided that."""

    truth: Truth
    """The filter's truth value; only True matches."""
    outcomes: tuple[Outcome, ...]
    """The deciding predicates in textual order, at most `LEAVES_MAX` of them."""
    because: str
    """One sentence for people."""

    @property
    def leaf(self) -> Leaf:
        """The first of the predicates that decided."""
        return self.outcomes[0].leaf

    @property
    def matches(self) -> bool:
        """Whether the filter lets the message through."""
        return self.truth is True


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The truth of a part, and the leaves that it rests on."""

    truth: Truth
    deciding: tuple[tuple[Leaf, Truth], ...]
    count: int


def explain(root: Node, schema: Schema, message: Message) -> Explanation:
    """Explain a tree's truth value for a message."""
    verdicts: list[_Verdict] = []
    # Backwards, every part comes before the node it belongs to, the leftmost part last.
    for node in reversed(list(walk(root))):
        if isinstance(node, And | Or):
            parts = [verdicts.pop() for _ in node.parts]
            verdicts.append(_decide(parts, stops_at=isinstance(node, Or)))
        elif isinstance(node, Not):
            part = verdicts.pop()
            opposite = None if part.truth is None else not part.truth
            verdicts.append(_Verdict(opposite, part.deciding, part.count))
        else:
            truth = message_test(node, schema)(message)
            verdicts.append(_Verdict(truth, ((node, truth),), 1))
    return _tell(verdicts.pop(), message)


def _decide(parts: list[_Verdict], *, stops_at: bool) -> _Verdict:
    """Join the parts of an OR, which stops at true, or of an AND, which stops at false."""
    truths = [part.truth for part in parts]
    if stops_at in truths:
        return parts[truths.index(stops_at)]
    truth = None if None in truths else not stops_at
    deciding = [part for part in parts if part.truth is truth]
    kept = islice((leaf for part in deciding for leaf in part.deciding), LEAVES_MAX)
    return _Verdict(truth, tuple(kept), sum(part.count for part in deciding))


def _tell(verdict: _Verdict, message: Message) -> Explanation:
    outcomes = tuple(
        Outcome(leaf, truth, _tell_leaf(leaf, truth, message)) for leaf, truth in verdict.deciding
    )
    sentence = "; ".join(outcome.because for outcome in outcomes)
    if verdict.count > len(outcomes):
        sentence += f"; and {verdict.count - len(outcomes)} more"
    return Explanation(verdict.truth, outcomes, sentence)


def _tell_leaf(leaf: Leaf, truth: Truth, message: Message) -> str:
    seen = [
        f"{_shorten(path_text(operand.path))} is {_tell_value(operand, message)}"
        for operand in operands(leaf)
        if isinstance(operand, Property)
    ]
    verdict = f"{_shorten(to_text(leaf))} is {_WORDS[truth]}"
    return f"{verdict}, {' and '.join(seen)}" if seen else verdict


def _tell_value(operand: Property, message: Message) -> str:
    value = normalise(fetch(message, operand.path))
    match value:
        case None | bool():
            return _WORDS[value] if value is not None else "missing or null"
        case DateTime():
            return f"the dateTime {value.isoformat()}"
        case str():
            return _shorten(string_text(value))
        case int() | float():
            return _tell_number(value)
        case _:
            return (
                "of no type that can be compared" if value is OPAQUE else f"a list of {len(value)}"
            )


def _tell_number(value: float) -> str:
    if isinstance(value, int):
        # Python refuses to write integers of thousands of digits.
        return str(value) if value.bit_length() < 1024 else "a number of more than 300 digits"
    return number_text(value) if isfinite(value) else repr(value)


def _shorten(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
