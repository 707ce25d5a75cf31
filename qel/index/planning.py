"""Where a clause waits: which of its atoms is looked up first.

Decided by the family of the atoms, then by how seldom a message reaches the place: in a table of
many filters about as often as the place's share of them, because filters ask for what there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

from qel.index.atoms import (
    ANY_KINDS,
    SIDES,
    Atom,
    Atoms,
    Family,
    Pin,
    Post,
    Test,
    equals,
    is_not_same,
    kind_of,
    pin,
)
from qel.index.bounds import Interval, is_empty
from qel.index.formula import Shared, alternatives_of, shared_holds

CHOICES_MAX = 16
"""An atom with more places than this is a second choice."""

_RANKS = {
    Family.EQUAL: 0,
    Family.ELEMENT: 0,
    Family.PREFIX: 1,
    Family.SUFFIX: 1,
    Family.HAS: 1,
    Family.BETWEEN: 2,
    Family.PRESENT: 3,
    Family.NAN: 3,
    Family.ABOVE: 4,
    Family.FROM: 4,
    Family.BELOW: 4,
    Family.UP_TO: 4,
    Family.ANY: 5,
}
"""How selective a family is. What at most one bucket answers comes before what many do, and
what many do is then found in the buckets behind it."""

_EQUAL = _RANKS[Family.EQUAL]
_BETWEEN = _RANKS[Family.BETWEEN]
_BOUND = _RANKS[Family.ABOVE]

Steps: TypeAlias = tuple[tuple[Post, Atoms], ...]
Lot: TypeAlias = tuple[int, type]
"""The places on one property for one kind of value."""


class Plan(NamedTuple):
    """Where a clause could wait, and how good that is: less is better."""

    rank: int
    reach: float
    """How often a message reaches it, in parts of one; for a bound, with how many others."""
    spread: int
    steps: Steps


class Ground(Protocol):
    """What a plan has to know of the bucket it is made for."""

    def share(self, post: Post) -> float:
        """Estimate how often a message that reaches the bucket reaches a place behind it."""

    def bounds(self, post: Post) -> tuple[int, int]:
        """Tell how many bounds a message was beyond lately, and how many there are."""

    def is_behind_any(self, slot: int) -> bool:
        """Tell whether being of some kind has led here already."""


class Seen:
    """The places that the clauses of a bucket ask for, while it is split and has no tables."""

    __slots__ = ("_lots", "_posts")

    def __init__(self, rows: Iterable[Atoms] = ()) -> None:
        self._posts: Counter[Post] = Counter()
        self._lots: Counter[Lot] = Counter()
        for atoms in rows:
            posts = set(_posts(atoms))
            self._posts.update(posts)
            self._lots.update([post[:2] for post in posts])

    def count(self, post: Post) -> tuple[int, int]:
        """Tell how many ask for a place, and for all places on the same property."""
        return self._posts[post], self._lots[post[:2]]


def choose(rest: Atoms, ground: Ground) -> Plan | None:
    """Find the best place for a clause; None if nothing pins it."""
    best: Plan | None = None
    for at, atom in enumerate(rest):
        if best is not None and _LEAST_RANKS.get(atom[0], 0) > best.rank:
            continue
        plan = _plan_atom(rest, at, ground)
        if plan is not None and (best is None or plan[:3] < best[:3]):
            best = plan
    if len(rest) > 1 and (best is None or best.rank >= _BETWEEN):
        for plan in _plan_intervals(rest, ground):
            if best is None or plan[:3] < best[:3]:
                best = plan
    return best


_LEAST_RANKS: dict[Test, int] = {
    **dict.fromkeys(SIDES, _BOUND),
    **dict.fromkeys(ANY_KINDS, _RANKS[Family.ANY]),
    is_not_same: _RANKS[Family.PRESENT],
}
"""Tests of which it is known, without a closer look, that they cannot be better."""


def _posts(atoms: Atoms) -> Iterator[Post]:
    """Yield places of some atoms, and of a few alternatives; a large filter is not all looked at."""
    for atom in atoms[:CHOICES_MAX]:
        yield from _pin(atom).posts[:CHOICES_MAX]
        for alternative in alternatives_of(atom)[:CHOICES_MAX]:
            for part in alternative[:CHOICES_MAX]:
                yield from _pin(part).posts[:CHOICES_MAX]


def _pin(atom: Atom) -> Pin:
    test, _, const = atom
    return cast("Shared", const).pin if test is shared_holds else pin(atom)


def _plan_atom(rest: Atoms, at: int, ground: Ground) -> Plan | None:
    others = rest[:at] + rest[at + 1 :]
    test, slot, const = rest[at]
    if test is equals:
        post = Post(slot, kind_of(const), Family.EQUAL, const)
        return Plan(_EQUAL, ground.share(post), 0, ((post, others),))
    alternatives = alternatives_of(rest[at])
    if alternatives:
        return _plan_alternatives(alternatives, others, ground)
    found = _pin(rest[at])
    if not found.posts:
        return None
    left = others if found.is_exact else rest
    family = found.posts[0].family
    if family is Family.ANY and ground.is_behind_any(found.posts[0].slot):
        return None
    return _weigh(_RANKS[family], tuple([(post, left) for post in found.posts]), ground)


def _plan_alternatives(
    alternatives: tuple[Atoms, ...], others: Atoms, ground: Ground
) -> Plan | None:
    plans = [choose(alternative, ground) for alternative in alternatives]
    if not all(plans):
        return None
    good = cast("list[Plan]", plans)
    rank = max(plan.rank for plan in good)
    # To take many places for what many messages reach is no better than to ask.
    places = len(good) if rank >= _BOUND else 0
    return Plan(
        rank,
        sum(plan.reach for plan in good) + places,
        0,
        tuple([(post, left + others) for plan in good for post, left in plan.steps]),
    )


def _plan_intervals(rest: Atoms, ground: Ground) -> Iterable[Plan]:
    """Join bounds on the same property to intervals."""
    sides: dict[Lot, list[int]] = {}
    for at, (test, slot, const) in enumerate(rest):
        if test in SIDES:
            sides.setdefault((slot, kind_of(const)), []).append(at)
    for (slot, kind), places in sides.items():
        interval = _join_bounds([rest[at] for at in places])
        if interval is not None:
            left = tuple([atom for at, atom in enumerate(rest) if at not in places])
            post = Post(slot, kind, Family.BETWEEN, interval)
            yield _weigh(_BETWEEN, () if is_empty(interval) else ((post, left),), ground)


def _weigh(rank: int, steps: Steps, ground: Ground) -> Plan:
    if rank == _BOUND:
        loads, sizes = zip(*[ground.bounds(post) for post, _ in steps], strict=True)
        # Of many that hold at once, first those that fewer places tell apart: behind them,
        # the others can be told apart and nothing remains to be asked.
        return Plan(rank, sum(loads) + len(steps) - 1, sum(sizes), steps)
    reach = sum([ground.share(post) for post, _ in steps])
    if len(steps) > CHOICES_MAX:
        rank = max(rank, _BETWEEN)
    return Plan(rank, reach, 0, steps)


def _join_bounds(atoms: Sequence[Atom]) -> Interval | None:
    """Join bounds to one interval; None if they are all on one side."""
    lows = [
        (const, SIDES[test] is Family.ABOVE)
        for test, _, const in atoms
        if SIDES[test] in (Family.ABOVE, Family.FROM)
    ]
    highs = [
        (const, SIDES[test] is Family.UP_TO)
        for test, _, const in atoms
        if SIDES[test] in (Family.BELOW, Family.UP_TO)
    ]
    if not lows or not highs:
        return None
    # The largest lower bound, open if two are equal; the smallest upper, open if two are equal.
    return *max(lows), *min(highs)
