"""Why a filter does or does not match, as a tree: the truth of every part, from the leaves up."""

from dataclasses import dataclass

import qel
from hotpath.wire.properties import Puller
from qel.nodes import And, Node, Not, Or, walk


@dataclass(frozen=True, slots=True)
class Reason:
    """The truth of one part of a filter for one message."""

    kind: str
    """`and`, `or`, `not`, or `predicate` for a leaf."""
    expression: str
    """The part's canonical text, of a leaf; empty for the others."""
    truth: qel.Truth
    """None is unknown."""
    because: str
    """A sentence with the values that a leaf saw; empty for the others."""
    parts: tuple["Reason", ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a filter made of one message."""

    truth: qel.Truth
    because: str
    """The deciding predicates, in one sentence."""
    reason: Reason


class Judge:
    """Explains one filter on many messages."""

    def __init__(self, filter_: qel.Filter) -> None:
        self._filter = filter_
        self._pull = Puller(filter_.properties).pull
        self._nodes: list[tuple[Node, qel.Filter | None]] = [
            (node, None if isinstance(node, And | Or | Not) else qel.Filter(node, filter_.schema))
            # Backwards, every part comes before the node it belongs to, the leftmost part last.
            for node in reversed(list(walk(filter_.root)))
        ]
        self.predicates = sum(leaf is not None for _, leaf in self._nodes)

    def explain(self, stored: bytes) -> Judgement:
        """Judge a stored message, on what the filter sees of it. Never raises."""
        message = self._pull(stored)
        found = self._filter.explain(message)
        return Judgement(found.truth, found.because, self._reason(message))

    def _reason(self, message: qel.Message) -> Reason:
        reasons: list[Reason] = []
        for node, leaf in self._nodes:
            if leaf is not None:
                said = leaf.explain(message)
                reasons.append(Reason("predicate", str(leaf), said.truth, said.because))
                continue
            count = len(node.parts) if isinstance(node, And | Or) else 1
            parts = tuple(reasons.pop() for _ in range(count))
            reasons.append(_join(node, parts))
        return reasons.pop()


def _join(node: Node, parts: tuple[Reason, ...]) -> Reason:
    """The truth of a connective over its parts: three-valued, as in SQL."""
    truths = [part.truth for part in parts]
    if isinstance(node, Not):
        return Reason("not", "", None if truths[0] is None else not truths[0], "", parts)
    stops_at = isinstance(node, Or)
    truth: qel.Truth = not stops_at
    if stops_at in truths:
        truth = stops_at
    elif None in truths:
        truth = None
    return Reason("or" if stops_at else "and", "", truth, "", parts)
