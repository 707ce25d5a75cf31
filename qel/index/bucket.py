"""Buckets: clauses that wait for the same atoms to hold, and the choice of where a clause waits.

A clause is an AND of atoms. In a small bucket its clauses are simply asked, one after the other.
A bucket that grows is split: each clause goes on to a bucket behind the most selective of its
atoms, with the atoms that are still to be asked, so that buckets form a tree and a clause is
reached only along atoms that hold. A clause that no table can pin stays and is asked whenever
its bucket is visited. An OR takes a clause to several places, with what each leaves to ask.

Where a clause waits is decided when it comes, by what the tables hold then, and once more when
its bucket is split. Nothing is ever rebuilt; an empty bucket goes, with the table it was in.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from types import NoneType
from typing import NamedTuple, TypeAlias, cast

from qel.index.atoms import (
    NUMBER,
    SIDES,
    Atom,
    Atoms,
    Family,
    Post,
    Test,
    is_not_same,
    kind_of,
    pin,
)
from qel.index.bounds import Interval, is_empty
from qel.index.columns import TURN
from qel.index.formula import Shared, alternatives_of, shared_holds
from qel.index.tables import BoundTable, EqualTable, Table, make_table

SPLIT = 12
"""Clauses that a bucket asks one by one."""

DEPTH_MAX = 24
"""Buckets behind each other; a bound on recursion, not one that a sensible filter meets."""

PLACES_MAX = 64
"""Places of one filter beyond which its clauses are not spread further when a bucket splits."""

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

_ONE_SIDED = frozenset((Family.ABOVE, Family.FROM, Family.BELOW, Family.UP_TO))

_KNOWN_KINDS = (object, NoneType)
"""Kinds that ask no more of a value than whether it is there."""

_NOTHING = object()
_ALWAYS: Atom = (is_not_same, TURN, _NOTHING)
"""Stands in a row for an AND of nothing."""


class Clause:
    """A formula, or one way to make it true, where it waits.

    Attributes:
        home: the bucket it waits in, or the clauses that wait in its place.
        members: whose formula it is; those are a clause themselves, the formula as a whole.
    """

    __slots__ = ("home", "members")

    home: Bucket | tuple[Clause, ...]
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


Row: TypeAlias = tuple[Test, int, object, Atoms, Clause]
"""A clause as it is asked: the first atom, taken apart, then those still to be asked."""


class Plan(NamedTuple):
    """Where a clause could wait, and how good that is: less is better."""

    rank: int
    load: int
    spread: int
    steps: tuple[tuple[Post, Atoms], ...]


class KindTables:
    """The tables of a bucket for one property and one kind of value, by family."""

    __slots__ = ("bucket", "equal", "kind", "others", "slot")

    def __init__(self, bucket: Bucket, slot: int, kind: type) -> None:
        self.bucket = bucket
        self.slot = slot
        self.kind = kind
        self.equal: EqualTable[Bucket] = EqualTable()
        self.others: dict[Family, Table[Bucket]] = {}

    def table(self, family: Family) -> Table[Bucket] | None:
        """Give the table of a family."""
        return self.equal if family is Family.EQUAL else self.others.get(family)

    def enter(self, post: Post) -> Bucket:
        """Give the bucket of a place; make it if there is none."""
        table = self.table(post.family)
        if table is None:
            table = self.others[post.family] = make_table(post.family, self.kind)
        bucket = table.get(post.key)
        if bucket is None:
            bucket = Bucket(self, post)
            table.put(post.key, bucket)
        return bucket

    def leave(self, family: Family, key: object) -> None:
        """Forget the bucket of a place; the last one takes all of this with it."""
        table = self.equal if family is Family.EQUAL else self.others[family]
        table.drop(key)
        if not table and family is not Family.EQUAL:
            del self.others[family]
        if not self.equal and not self.others:
            self.bucket.drop_tables(self)


class Bucket:
    """Clauses behind the same atoms, and the tables that lead to the buckets behind those.

    Attributes:
        rows: the clauses that wait here, to be asked one by one.
        probes: by slot and type of value, the tables to look into; None until there are any.
        known: by slot, the tables for any value but null, and those for null.
        size: how many clauses wait here and behind.
    """

    __slots__ = (
        "_family", "_key", "_tables", "_waiting", "known", "probes", "rows", "size",
    )  # fmt: skip

    def __init__(self, tables: KindTables | None = None, post: Post | None = None) -> None:
        self.rows: Collection[Row] = ()
        self.probes: dict[int, dict[type, KindTables]] | None = None
        self.known: dict[int, list[KindTables | None]] | None = None
        self.size = 0
        self._tables = tables
        self._family = Family.ANY if post is None else post.family
        self._key = None if post is None else post.key
        self._waiting: dict[Clause, Row] | None = None

    def unconditional_keys(self) -> Iterable[Hashable] | None:
        """Give all keys behind this bucket if nothing more is asked of a message."""
        if self.probes is not None or self.known is not None:
            return None
        keys: list[Hashable] = []
        for _, _, const, _, clause in self.rows:
            if const is not _NOTHING:
                return None
            keys.append(clause.members.key)
            keys.extend(clause.members.others or ())
        return keys

    def touch(self) -> None:
        """Say that the keys of this bucket, or what they ask, have changed."""
        if self._family in _ONE_SIDED:
            table = cast("KindTables", self._tables).others[self._family]
            cast("BoundTable[Bucket]", table).touch(self._key)

    # --- growing

    def add(self, clause: Clause, rest: Atoms) -> None:
        """Let a clause wait here, or behind, for what is still to be asked."""
        if self._waiting is None:
            self._settle(clause, rest)
            if len(self.rows) > SPLIT:
                self._split()
            return
        plan = self._plan(rest) if rest and self._depth() < DEPTH_MAX else None
        if plan is None or not self._can_spread(clause.members, plan):
            self._settle(clause, rest)
        elif len(plan.steps) == 1:
            post, left = plan.steps[0]
            self._enter(post).add(clause, left)
        else:
            self._spread(clause, plan)

    def _settle(self, clause: Clause, rest: Atoms) -> None:
        row = (*(rest[0] if rest else _ALWAYS), rest[1:], clause)
        if self._waiting is None:
            self.rows = (*self.rows, row)
        else:
            self._waiting[clause] = row
        clause.home = self
        clause.members.places += 1
        self._count(1)
        self.touch()

    def _can_spread(self, members: Members, plan: Plan) -> bool:
        """Tell whether a filter may take so many places: its first time it always may."""
        return members.places == 0 or members.places + len(plan.steps) <= PLACES_MAX

    def _spread(self, clause: Clause, plan: Plan) -> None:
        parts = []
        for post, left in plan.steps:
            part = Clause(clause.members)
            self._enter(post).add(part, left)
            parts.append(part)
        clause.home = tuple(parts)

    def _split(self) -> None:
        rows = self.rows
        self._waiting = {}
        self.rows = self._waiting.values()
        self._count(-len(rows))
        for *first, rest, clause in rows:
            atom = cast("Atom", tuple(first))
            clause.members.places -= 1
            self.add(clause, rest if atom == _ALWAYS else (atom, *rest))

    def _enter(self, post: Post) -> Bucket:
        tables = self._find_tables(post)
        if tables is None:
            tables = KindTables(self, post.slot, post.kind)
            if post.kind in _KNOWN_KINDS:
                self.known = {} if self.known is None else self.known
                pair = self.known.setdefault(post.slot, [None, None])
                pair[post.kind is NoneType] = tables
            else:
                self.probes = {} if self.probes is None else self.probes
                kinds = self.probes.setdefault(post.slot, {})
                kinds[post.kind] = tables
                if post.kind is NUMBER:
                    kinds[int] = tables
        return tables.enter(post)

    def _find_tables(self, post: Post) -> KindTables | None:
        if post.kind in _KNOWN_KINDS:
            pair = self.known.get(post.slot) if self.known else None
            return pair[post.kind is NoneType] if pair else None
        kinds = self.probes.get(post.slot) if self.probes else None
        return kinds.get(post.kind) if kinds else None

    # --- shrinking

    def discard(self, clause: Clause) -> None:
        """Take a clause out that waits here; empty buckets and tables go with it."""
        if self._waiting is None:
            self.rows = tuple([row for row in self.rows if row[-1] is not clause])
        else:
            del self._waiting[clause]
        clause.members.places -= 1
        self._count(-1)
        self.touch()
        self.leave_if_empty()

    def leave_if_empty(self) -> None:
        """Go if nothing waits here or behind, and let the bucket in front do the same."""
        if self.size:
            return
        self.rows, self._waiting, self.probes, self.known = (), None, None, None
        if self._tables is not None:
            self._tables.leave(self._family, self._key)
            self._tables.bucket.leave_if_empty()

    def drop_tables(self, tables: KindTables) -> None:
        """Forget the tables of a property and a kind."""
        if tables.kind in _KNOWN_KINDS:
            known = cast("dict[int, list[KindTables | None]]", self.known)
            known[tables.slot][tables.kind is NoneType] = None
            if known[tables.slot] == [None, None]:
                del known[tables.slot]
            return
        probes = cast("dict[int, dict[type, KindTables]]", self.probes)
        kinds = probes[tables.slot]
        del kinds[tables.kind]
        if tables.kind is NUMBER:
            del kinds[int]
        if not kinds:
            del probes[tables.slot]

    # --- where to wait

    def _plan(self, rest: Atoms) -> Plan | None:
        """Find the best place behind this bucket for a clause; None if nothing pins it."""
        best: Plan | None = None
        for at in range(len(rest)):
            plan = self._plan_atom(rest, at)
            if plan is not None and (best is None or plan[:3] < best[:3]):
                best = plan
        if len(rest) > 1 and (best is None or best.rank >= _RANKS[Family.BETWEEN]):
            for plan in self._plan_intervals(rest):
                if best is None or plan[:3] < best[:3]:
                    best = plan
        return best

    def _plan_atom(self, rest: Atoms, at: int) -> Plan | None:
        others = rest[:at] + rest[at + 1 :]
        alternatives = alternatives_of(rest[at])
        if alternatives:
            return self._plan_alternatives(alternatives, others)
        test, _, const = rest[at]
        found = cast("Shared", const).pin if test is shared_holds else pin(rest[at])
        if not found.posts:
            return None
        left = others if found.is_exact else rest
        family = found.posts[0].family
        if family is Family.ANY and self._is_behind_any(found.posts[0].slot):
            return None
        return self._weigh(_RANKS[family], [(post, left) for post in found.posts])

    def _plan_alternatives(self, alternatives: tuple[Atoms, ...], others: Atoms) -> Plan | None:
        plans = [self._plan(alternative) for alternative in alternatives]
        if not all(plans):
            return None
        good = cast("list[Plan]", plans)
        return Plan(
            max(plan.rank for plan in good),
            sum(plan.load + 1 for plan in good),
            0,
            tuple([(post, left + others) for plan in good for post, left in plan.steps]),
        )

    def _plan_intervals(self, rest: Atoms) -> Iterable[Plan]:
        """Join bounds on the same property to intervals."""
        sides: dict[tuple[int, type], list[int]] = {}
        for at, (test, slot, const) in enumerate(rest):
            if test in SIDES:
                sides.setdefault((slot, kind_of(const)), []).append(at)
        for (slot, kind), places in sides.items():
            interval = _join_bounds([rest[at] for at in places])
            if interval is not None:
                left = tuple([atom for at, atom in enumerate(rest) if at not in places])
                post = Post(slot, kind, Family.BETWEEN, interval)
                steps = [] if is_empty(interval) else [(post, left)]
                yield self._weigh(_RANKS[Family.BETWEEN], steps)

    def _weigh(self, rank: int, steps: list[tuple[Post, Atoms]]) -> Plan:
        if len(steps) == 1:
            table = self._table(steps[0][0])
            if table is None:
                return Plan(rank, 0, 0, tuple(steps))
            # Of many that hold at once, first those that fewer places tell apart: behind them,
            # the others can be told apart and nothing remains to be asked.
            spread = len(table) if rank == _RANKS[Family.ABOVE] else -len(table)
            return Plan(rank, table.load(steps[0][0].key), spread, tuple(steps))
        load = spread = 0
        for post, _ in steps:
            table = self._table(post)
            if table is not None:
                load += table.load(post.key)
                spread -= len(table)
        if len(steps) > CHOICES_MAX:
            rank = max(rank, _RANKS[Family.BETWEEN])
        return Plan(rank, load + len(steps) - 1, spread, tuple(steps))

    def _table(self, post: Post) -> Table[Bucket] | None:
        tables = self._find_tables(post)
        return None if tables is None else tables.table(post.family)

    def path(self) -> Iterator[tuple[KindTables, Family]]:
        """Yield where this bucket is kept, then where that is, up to the first."""
        if self._tables is not None:
            yield self._tables, self._family
            yield from self._tables.bucket.path()

    def _depth(self) -> int:
        return sum(1 for _ in self.path())

    def _is_behind_any(self, slot: int) -> bool:
        """Tell whether being of some kind has led here already."""
        return any(family is Family.ANY and tables.slot == slot for tables, family in self.path())

    def _count(self, change: int) -> None:
        self.size += change
        for tables, _ in self.path():
            tables.bucket.size += change


def remove_members(members: Members) -> None:
    """Take a formula out of the tree for good."""
    remove_clause(members)
    del members.members  # it holds itself, and would never be freed


def touch_clause(clause: Clause) -> None:
    """Say that the keys of a formula have changed, wherever it waits."""
    if isinstance(clause.home, Bucket):
        clause.home.touch()
        return
    for part in clause.home:
        touch_clause(part)


def remove_clause(clause: Clause) -> None:
    """Take a clause out of wherever it waits."""
    home, clause.home = clause.home, ()
    if isinstance(home, Bucket):
        home.discard(clause)
        return
    for part in home:
        remove_clause(part)


def _join_bounds(atoms: list[Atom]) -> Interval | None:
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
