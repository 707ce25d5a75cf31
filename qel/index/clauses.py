"""Clauses: formulas, or parts of them, where they wait in the tree; and how they are asked.

A clause is an AND of atoms. In a bucket it is a `Row`, laid out for the loop that asks it: the
first atom taken apart, then the atoms still to be asked, then what to report if all hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Protocol, TypeAlias

from qel.index.atoms import Atom, Atoms, Test, is_not_same
from qel.index.columns import TURN

_NOTHING = object()
ALWAYS: Atom = (is_not_same, TURN, _NOTHING)
"""Stands in a row for an AND of nothing."""


class Home(Protocol):
    """Where a clause waits."""

    def discard(self, clause: Clause) -> None:
        """Take a clause out that waits here."""

    def renew(self, clause: Clause) -> None:
        """Report the keys of a clause as they are now."""


class Clause:
    """A formula, or one way to make it true, where it waits.

    Attributes:
        home: the bucket it waits in, or the clauses that wait in its place.
        members: whose formula it is; those are a clause themselves, the formula as a whole.
    """

    __slots__ = ("home", "members")

    home: Home | tuple[Clause, ...]
    members: Members

    def __init__(self, members: Members) -> None:
        self.home = ()
        self.members = members


class Members(Clause):
    """The keys of all filters that say the same.

    Attributes:
        atoms: the formula; None if nothing makes it true.
        key: the key of one of them.
        others: the keys of all others; None if there are none.
        places: how many buckets it waits in.
    """

    __slots__ = ("atoms", "key", "others", "places")

    def __init__(self, atoms: Atoms | None, key: Hashable) -> None:
        self.home = ()
        self.members = self
        self.atoms = atoms
        self.key = key
        self.others: set[Hashable] | None = None
        self.places = 0

    def join(self, key: Hashable) -> None:
        """Let one more key say the same."""
        if self.others is None:
            self.others = set()
        self.others.add(key)
        renew(self)

    def leave(self, key: Hashable) -> bool:
        """Let a key go, unless it is the last; tell whether it went."""
        others = self.others
        if others is None:
            return False
        if key != self.key:
            others.discard(key)
        else:
            self.key = others.pop()
        if not others:
            self.others = None
        elif not len(others) & (len(others) - 1):
            self.others = set(others)  # a set never shrinks by itself
        renew(self)
        return True


Row: TypeAlias = tuple[Test, int, object, Atoms, Hashable, set[Hashable] | None, Clause]
"""A clause as it is asked: its first atom, the other atoms, and its keys.

The keys are copied from the members: whoever matches is reported without a look at more objects
than the row itself.
"""


def make_row(clause: Clause, first: Atom, rest: Atoms) -> Row:
    """Lay out a clause."""
    members = clause.members
    return (*first, rest, members.key, members.others, clause)


def renew_row(row: Row) -> Row:
    """Lay out the clause of a row again, with its keys as they are now."""
    test, slot, const, rest, _, _, clause = row
    return make_row(clause, (test, slot, const), rest)


def atoms_of(row: Row) -> Atoms:
    """Give all that a row asks."""
    test, slot, const, rest, *_ = row
    return rest if const is _NOTHING else ((test, slot, const), *rest)


def row_keys(row: Row) -> Iterator[Hashable]:
    """Yield all keys of a row."""
    yield row[4]
    yield from row[5] or ()


def renew(clause: Clause) -> None:
    """Say that the keys of a formula have changed, wherever it waits."""
    if not isinstance(clause.home, tuple):
        clause.home.renew(clause)
        return
    for part in clause.home:
        renew(part)


def remove_members(members: Members) -> None:
    """Take a formula out of the tree for good."""
    _remove_clause(members)
    del members.members  # it holds itself, and would never be freed


def _remove_clause(clause: Clause) -> None:
    home, clause.home = clause.home, ()
    if not isinstance(home, tuple):
        home.discard(clause)
        return
    for part in home:
        _remove_clause(part)
