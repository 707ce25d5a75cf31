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

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from itertools import chain
from types import NoneType
from typing import TypeAlias, cast

from qel.index.atoms import NUMBER, Atoms, Family, Post
from qel.index.clauses import (
    ALWAYS,
    Clause,
    Members,
    Row,
    atoms_of,
    make_row,
    renew_row,
    row_keys,
)
from qel.index.columns import TURN, Columns
from qel.index.planning import Plan, Seen, choose
from qel.index.tables import BoundTable, EqualTable, Found, Table, make_table
from qel.index.taking import Values

SPLIT = 12
"""Clauses that a bucket asks one by one."""

DEPTH_MAX = 24
"""Buckets behind each other; a bound on recursion, not one that a sensible filter meets."""

PLACES_MAX = 64
"""Places of one filter beyond which its clauses are not spread further when a bucket splits."""

_ONE_SIDED = frozenset((Family.ABOVE, Family.FROM, Family.BELOW, Family.UP_TO))

_KNOWN_KINDS = (object, NoneType)
"""Kinds that ask no more of a value than whether it is there."""

Find: TypeAlias = Callable[[object, Found], "Iterable[Bucket]"]
LookUp: TypeAlias = Callable[[object], "Bucket | None"]


def _no_bucket(_: object) -> None:
    return None


class KindTables:
    """The tables of a bucket for one property and one kind of value, by family.

    Attributes:
        look_up: gives the bucket of a value in the table for equality.
        finds: what else finds buckets for a value: one function of each other table.
        size: how many clauses wait behind.
    """

    __slots__ = (
        "_others",
        "bucket",
        "columns",
        "equal",
        "finds",
        "kind",
        "look_up",
        "size",
        "slot",
    )

    def __init__(self, bucket: Bucket, post: Post, columns: Columns) -> None:
        self.bucket = bucket
        self.columns = columns
        self.slot = post.slot
        self.kind = post.kind
        self.size = 0
        self.equal: EqualTable[Bucket] = EqualTable()
        # A list has no hash; nothing is looked up by being equal to one.
        self.look_up: LookUp = _no_bucket if post.kind is list else self.equal.get
        self.finds: tuple[Find, ...] = ()
        self._others: dict[Family, Table[Bucket]] = {}

    def table(self, family: Family) -> Table[Bucket] | None:
        """Give the table of a family."""
        return self.equal if family is Family.EQUAL else self._others.get(family)

    def enter(self, post: Post) -> Bucket:
        """Give the bucket of a place; make it if there is none."""
        table = self.table(post.family)
        if table is None:
            table = self._others[post.family] = make_table(post.family, self.kind)
            self.finds = (*self.finds, table.find)
        bucket = table.get(post.key)
        if bucket is None:
            bucket = Bucket(self.columns, self, post)
            table.put(post.key, bucket)
        return bucket

    def leave(self, family: Family, key: object) -> None:
        """Forget the bucket of a place; the last one takes all of this with it."""
        table = self.equal if family is Family.EQUAL else self._others[family]
        table.drop(key)
        if not table and family is not Family.EQUAL:
            del self._others[family]
            self.finds = tuple([other.find for other in self._others.values()])
        if not self.equal and not self._others:
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
        "_columns", "_family", "_key", "_seen", "_tables", "_waiting", "known", "probes", "rows",
        "size",
    )  # fmt: skip

    def __init__(
        self, columns: Columns, tables: KindTables | None = None, post: Post | None = None
    ) -> None:
        self.rows: Collection[Row] = ()
        self.probes: dict[int, dict[type, KindTables]] | None = None
        self.known: dict[int, list[KindTables | None]] | None = None
        self.size = 0
        self._tables = tables
        self._family = Family.ANY if post is None else post.family
        self._key = None if post is None else post.key
        self._waiting: dict[Clause, Row] | None = None
        self._seen: Seen | None = None
        self._columns = columns

    def unconditional_keys(self) -> Iterable[Hashable] | None:
        """Give all keys behind this bucket if nothing more is asked of a message."""
        if self.probes is not None or self.known is not None:
            return None
        if any(atoms_of(row) for row in self.rows):
            return None
        return chain.from_iterable(map(row_keys, self.rows))

    def behind_known(self, values: Values, found: Found) -> Iterator[Bucket]:
        """Find the buckets of all that is asked of a value's being null or not."""
        for slot, pair in (self.known or {}).items():
            tables = pair[values[slot] is None]
            if tables is not None:
                yield from tables.equal.values()
                for find in tables.finds:
                    yield from find(None, found)

    def renew(self, clause: Clause) -> None:
        """Report the keys of a clause that waits here as they are now."""
        if self._waiting is None:
            self.rows = tuple([renew_row(row) if row[-1] is clause else row for row in self.rows])
        else:
            self._waiting[clause] = renew_row(self._waiting[clause])
        self._touch()

    def _touch(self) -> None:
        """Say that the keys of this bucket, or what they ask, have changed."""
        if self._family in _ONE_SIDED:
            table = cast("KindTables", self._tables).table(self._family)
            cast("BoundTable[Bucket]", table).touch(self._key)

    # --- growing

    def add(self, clause: Clause, rest: Atoms) -> None:
        """Let a clause wait here, or behind, for what is still to be asked."""
        if self._waiting is None:
            self._settle(clause, rest)
            if len(self.rows) > SPLIT:
                self._split()
            return
        plan = choose(rest, self) if rest and self._depth() < DEPTH_MAX else None
        if plan is None or not self._can_spread(clause.members, plan):
            self._settle(clause, rest)
        elif len(plan.steps) == 1:
            post, left = plan.steps[0]
            self._enter(post).add(clause, left)
        else:
            self._spread(clause, plan)

    def _settle(self, clause: Clause, rest: Atoms) -> None:
        first, others = (rest[0], rest[1:]) if rest else (ALWAYS, rest)
        if others and others[-1][1] != TURN:
            others = self._columns.twin(others)
        row = make_row(clause, first, others)
        if self._waiting is None:
            self.rows = (*self.rows, row)
        else:
            self._waiting[clause] = row
        clause.home = self
        clause.members.places += 1
        self._count(1)
        self._touch()

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
        self._seen = Seen(map(atoms_of, rows))
        for row in rows:
            clause = row[-1]
            clause.members.places -= 1
            self.add(clause, atoms_of(row))
        self._seen = None

    def _enter(self, post: Post) -> Bucket:
        tables = self._find_tables(post)
        if tables is None:
            tables = KindTables(self, post, self._columns)
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
        self._touch()
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

    def share(self, post: Post) -> float:
        """Estimate how often a message that reaches the bucket reaches a place behind it."""
        tables = self._find_tables(post)
        load, total = (0, 0) if self._seen is None else self._seen.count(post)
        if tables is not None:
            table = tables.table(post.family)
            load += 0 if table is None else table.load(post.key)
            total += tables.size
        return (load + 1) / (total + 1)

    def bounds(self, post: Post) -> tuple[int, int]:
        """Tell how many bounds a message was beyond lately, and how many there are."""
        tables = self._find_tables(post)
        table = None if tables is None else tables.table(post.family)
        return (0, 0) if table is None else (table.load(post.key), len(table))

    def is_behind_any(self, slot: int) -> bool:
        """Tell whether being of some kind has led here already."""
        return any(family is Family.ANY and tables.slot == slot for tables, family in self.path())

    def path(self) -> Iterator[tuple[KindTables, Family]]:
        """Yield where this bucket is kept, then where that is, up to the first."""
        if self._tables is not None:
            yield self._tables, self._family
            yield from self._tables.bucket.path()

    def _depth(self) -> int:
        return sum(1 for _ in self.path())

    def _count(self, change: int) -> None:
        self.size += change
        for tables, _ in self.path():
            tables.size += change
            tables.bucket.size += change
