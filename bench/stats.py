"""Medians, spreads and ratios of a handful of rounds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds of one measurement say together."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def relative(self) -> float:
        """Width of the range over the median; 0 when the median is 0."""
        return (self.high - self.low) / self.median if self.median else 0.0


def summarise(values: Sequence[float]) -> Spread:
    """Median and range.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("nothing to summarise")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times as large ours is, round by round: each pair ran one after the other.

    Raises:
        ValueError: If the two differ in length, are empty, or a round of theirs is 0.
    """
    if len(ours) != len(theirs):
        raise ValueError("a ratio needs the same rounds on both sides")
    if not all(theirs):
        raise ValueError("a ratio to zero says nothing")
    return summarise([one / other for one, other in zip(ours, theirs, strict=True)])
