"""Formulas: a filter as an AND of atoms, without NOT, built so that equal parts are shared.

A NOT is pushed down to the predicates: a tree is definitely true if enough predicates are
definitely true or, below an odd number of NOTs, definitely false, and each of both is an atom.
What remains is AND and OR over two-valued atoms, exact under three-valued logic. Constants are
folded, nested ANDs and ORs of one kind are joined. An OR, and a predicate that no plain atom
says, is a `Shared` object: there is one for all filters that have it, and it is asked at most
once for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, cast

from qel.index.atoms import NOWHERE, Atom, Atoms
from qel.index.columns import TURN, Columns, Turn
from qel.index.translate import Question, Translator
from qel.nodes import And, Leaf, Node, Not, Or
from qel.program import Program
from qel.schema import Schema

DEPTH_MAX: Final = 100
"""Trees that are nested deeper (only code can make them) are asked as a whole."""


class Shared:
    """A part of filters that is asked at most once for each message.

    Attributes:
        key: what it means; there is one object for equal keys.
        users: how many filters and other shared parts hold it.
        alternatives: for an OR, the ANDs of which one must hold; else empty.
        pin: where it can be looked up, unless it is an OR.
        slots: the slots it looks at by itself.
        number: the turn it was asked in last.
        answer: what the answer was.
    """

    __slots__ = ("_ask", "alternatives", "answer", "key", "number", "pin", "slots", "users")

    def __init__(self, key: object, alternatives: tuple[Atoms, ...] = ()) -> None:
        self.key = key
        self.users = 0
        self.alternatives = alternatives
        self.pin = NOWHERE
        self.slots: tuple[int, ...] = ()
        self._ask: Callable[[Turn], bool] | None = None
        self.number = 0
        self.answer = False

    @classmethod
    def of(cls, key: object, question: Question) -> Shared:
        """Make a shared predicate."""
        made = cls(key)
        made._ask, made.pin, made.slots = question.ask, question.pin, question.slots
        return made

    def holds(self, turn: Turn) -> bool:
        """Ask, whatever was answered before."""
        if self._ask is not None:
            return self._ask(turn)
        values = turn.values
        for alternative in self.alternatives:
            for test, slot, const in alternative:
                if not test(values[slot], const):
                    break
            else:
                return True
        return False


def shared_holds(turn: Turn, shared: Shared) -> bool:
    """Ask a shared part, or give what was answered for the same message: the test of its atom."""
    if shared.number != turn.number:
        shared.answer = shared.holds(turn)
        shared.number = turn.number
    return shared.answer


class Formulas:
    """Builds formulas over some columns, and knows the parts that they share.

    Attributes:
        shared: those parts, by what they mean.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.shared: dict[object, Shared] = {}
        self._new_shared: list[Shared] = []
        # All filters of a topic have the same schema.
        self._translator: Translator | None = None

    def __len__(self) -> int:
        return len(self.shared)

    def build(self, root: Node, schema: Schema) -> Atoms | None:
        """Give the atoms that must all hold for a tree to be true; None: it never is.

        What is built and not kept goes with the next `sweep`.
        """
        translator = self._translator
        if translator is None or translator.schema is not schema:
            translator = self._translator = Translator(schema, self._columns.slot)
        try:
            return self._all_of(root, translator, wanted=True, depth=0)
        except _TooDeepError:
            program = Program(root, schema)
            question = Question(lambda turn: program.is_true(turn.message))
            return (self._share((root, schema), lambda key: Shared.of(key, question)),)

    def keep(self, atoms: Iterable[Atom]) -> None:
        """Count one more user of the columns and shared parts of some atoms."""
        for _, slot, const in atoms:
            if slot:
                self._columns.keep(slot)
                continue
            shared = cast("Shared", const)
            shared.users += 1
            if shared.users == 1:
                for alternative in shared.alternatives:
                    self.keep(alternative)
                for own in shared.slots:
                    self._columns.keep(own)

    def release(self, atoms: Iterable[Atom]) -> None:
        """Count one user less; what nobody uses is forgotten."""
        for _, slot, const in atoms:
            if slot:
                self._columns.release(slot)
                continue
            shared = cast("Shared", const)
            shared.users -= 1
            if not shared.users:
                del self.shared[shared.key]
                for alternative in shared.alternatives:
                    self.release(alternative)
                for own in shared.slots:
                    self._columns.release(own)

    def sweep(self) -> None:
        """Forget what was built since the last time and is not kept."""
        while self._new_shared:
            shared = self._new_shared.pop()
            if not shared.users:
                del self.shared[shared.key]
        self._columns.sweep()

    def _all_of(
        self, node: Node, translator: Translator, *, wanted: bool, depth: int
    ) -> Atoms | None:
        """Give the atoms of a node's being definitely true, or definitely false."""
        if depth > DEPTH_MAX:
            raise _TooDeepError
        if isinstance(node, Not):
            return self._all_of(node.part, translator, wanted=not wanted, depth=depth + 1)
        if not isinstance(node, (And, Or)):
            return self._leaf(node, translator, wanted=wanted)
        found = [
            self._all_of(part, translator, wanted=wanted, depth=depth + 1) for part in node.parts
        ]
        return _join(found) if isinstance(node, And) is wanted else self._any_of(found)

    def _any_of(self, found: list[Atoms | None]) -> Atoms | None:
        """Join alternatives; one that is itself nothing but an OR joins in with its own."""
        joined: dict[Atoms, None] = {}
        for atoms in found:
            if atoms is None:
                continue
            if not atoms:
                return ()
            inner = alternatives_of(atoms[0]) if len(atoms) == 1 else ()
            joined.update(dict.fromkeys(inner or (atoms,)))
        alternatives = tuple(joined)
        if len(alternatives) < 2:
            return alternatives[0] if alternatives else None
        return (self._share(alternatives, lambda key: Shared(key, alternatives)),)

    def _leaf(self, leaf: Leaf, translator: Translator, *, wanted: bool) -> Atoms | None:
        said = translator.translate(leaf, wanted=wanted)
        if isinstance(said, Question):
            question = said
            key = (leaf, wanted, translator.types(leaf))
            return (self._share(key, lambda key: Shared.of(key, question)),)
        if isinstance(said, tuple):
            return (self._columns.twin(said),)
        return () if said else None

    def _share(self, key: object, make: Callable[[object], Shared]) -> Atom:
        shared = self.shared.get(key)
        if shared is None:
            shared = self.shared[key] = make(key)
            self._new_shared.append(shared)
        return shared_holds, TURN, shared


class _TooDeepError(Exception):
    """The tree is nested too deeply to be taken apart."""


def alternatives_of(atom: Atom) -> tuple[Atoms, ...]:
    """Give the alternatives of an atom that is an OR; none for all others."""
    test, _, const = atom
    return cast("Shared", const).alternatives if test is shared_holds else ()


def _join(found: list[Atoms | None]) -> Atoms | None:
    joined: dict[Atom, None] = {}
    for atoms in found:
        if atoms is None:
            return None
        for atom in atoms:
            joined[atom] = None
    if TURN in [slot for _, slot, _ in joined]:
        # What costs more is asked last.
        return tuple(sorted(joined, key=_is_shared))
    return tuple(joined)


def _is_shared(atom: Atom) -> bool:
    return atom[0] is shared_holds
