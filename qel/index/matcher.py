"""The index: many filters, and the question which of them a message matches.

What a message costs follows from the properties that filters look at and from the filters that
match, not from how many there are. See docs/filter-index.md for how, and for what is dear.
"""

from __future__ import annotations

from collections.abc import Hashable, Set
from typing import Generic, TypeVar, cast

from qel.compiler import Filter
from qel.explain import Explanation
from qel.index.atoms import Atoms
from qel.index.bucket import Bucket
from qel.index.clauses import Members, remove_members
from qel.index.columns import Columns, Turn
from qel.index.formula import Formulas
from qel.values import Message

K = TypeVar("K", bound=Hashable)


class FilterIndex(Generic[K]):
    """Filters by key, and the question which of them a message matches.

    Filters come and go at any time between two questions, each at its own cost. Filters that
    say the same are kept once, whatever the number of their keys. Not to be shared by threads.
    """

    def __init__(self) -> None:
        self._kept: dict[K, tuple[Filter, Members]] = {}
        self._named: dict[tuple[str, ...], int] = {}
        self._columns = Columns()
        self._formulas = Formulas(self._columns)
        self._members: dict[Atoms | None, Members] = {}
        self._root = Bucket(self._columns)
        self._turn = Turn()

    def add(self, key: K, filter: Filter) -> None:  # noqa: A002 -- the word of the public API
        """Add a filter under a key; a filter that the key had before is replaced."""
        if key in self._kept:
            self.remove(key)
        self._kept[key] = filter, self._join(key, filter)
        named = self._named
        for path in filter.properties:
            named[path] = named.get(path, 0) + 1

    def remove(self, key: K) -> None:
        """Remove a key and its filter.

        Raises:
            KeyError: there is no such key.
        """
        kept, members = self._kept.pop(key)
        self._leave(key, members)
        if not len(self._kept) & (len(self._kept) - 1):
            # A dictionary never shrinks by itself.
            self._kept, self._members = dict(self._kept), dict(self._members)
        for path in kept.properties:
            self._named[path] -= 1
            if not self._named[path]:
                del self._named[path]

    # A call costs as much as all that is asked of a filter: this is one loop without any.
    def match(self, message: Message) -> set[K]:  # noqa: C901, PLR0912
        """Give the keys of all filters that a message makes true, in a new set. Never raises."""
        columns = self._columns
        taken = columns.present(message) if columns.is_wide else None
        values, present = taken or (columns.values(message), None)
        if self._formulas.shared:
            self._turn.start(message, values)
        found: set[Hashable] = set()
        reached = [self._root]
        for bucket in reached:  # grows while it is walked
            for test, slot, const, rest, key, others, _ in bucket.rows:
                if test(values[slot], const):
                    for test, slot, const in rest:  # noqa: PLW2901 -- the row is done with
                        if not test(values[slot], const):
                            break
                    else:
                        found.add(key)
                        if others is not None:
                            found |= others
            if bucket.probes is not None:
                probes = bucket.probes
                if present is not None and len(present) < len(probes):
                    probes = {slot: probes[slot] for slot in present if slot in probes}
                for slot, kinds in probes.items():
                    value = values[slot]
                    tables = kinds.get(type(value))
                    if tables is not None:
                        behind = tables.look_up(value)
                        if behind is not None:
                            reached.append(behind)
                        for find in tables.finds:
                            reached.extend(find(value, found))
            if bucket.known is not None:
                reached.extend(bucket.behind_known(values, found))
        if self._formulas.shared:
            self._turn.end()
        return cast("set[K]", found)

    def explain(self, message: Message, key: K) -> Explanation:
        """Tell why a message does or does not match the filter of a key.

        Raises:
            KeyError: there is no such key.
        """
        return self._kept[key][0].explain(message)

    @property
    def properties(self) -> Set[tuple[str, ...]]:
        """The paths that the filters look at: a live view, each while any filter needs it."""
        return self._named.keys()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def _join(self, key: K, joining: Filter) -> Members:
        """Let a key join those whose filter says the same, or be the first of them."""
        formula = self._formulas.build(joining.root, joining.schema)
        members = self._members.get(formula)
        if members is None:
            members = self._members[formula] = Members(formula, key)
            if formula is not None:
                self._formulas.keep(formula)
                self._root.add(members, formula)
        else:
            members.join(key)
        self._formulas.sweep()
        return members

    def _leave(self, key: K, members: Members) -> None:
        if members.leave(key):
            return
        del self._members[members.atoms]
        remove_members(members)
        if members.atoms is not None:
            self._formulas.release(members.atoms)
