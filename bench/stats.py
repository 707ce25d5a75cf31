"""Medians, spreads and ratios of a handful of rounds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import NamedTuple

#: Up to so many pairs all sign flips are tried; of more, a sample is.
EXACT_MAX = 14
SAMPLES = 10_000


class Interval(NamedTuple):
    """Where a figure most likely is."""

    low: float
    high: float


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


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("nothing to rank")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def sign_flip(differences: Sequence[float], chance: Random) -> float:
    """How often a mean as far from 0 comes when each difference may as well have the other sign.

    The two-sided permutation test for pairs: exact for few of them, else from a sample.

    Raises:
        ValueError: If there is no difference to look at.
    """
    if not differences:
        raise ValueError("nothing to compare")
    count = len(differences)
    observed = abs(sum(differences)) * (1 - 1e-12)  # the same sum in another order counts as equal
    if count <= EXACT_MAX:
        sums = (
            abs(sum(sign * one for sign, one in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=count)
        )
        return float(sum(each >= observed for each in sums) / 2**count)
    hits = sum(
        abs(sum(one if chance.random() < 0.5 else -one for one in differences)) >= observed
        for _ in range(SAMPLES)
    )
    return (hits + 1) / (SAMPLES + 1)


def bootstrap(values: Sequence[float], chance: Random) -> Interval:
    """The 95 % interval of the mean, from samples with replacement.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("nothing to draw from")
    means = [statistics.fmean(chance.choices(values, k=len(values))) for _ in range(SAMPLES)]
    return Interval(percentile(means, 2.5), percentile(means, 97.5))
