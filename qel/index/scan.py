"""The linear index: asks every filter. Slow, plainly right, and so the oracle for any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Set
from typing import Generic, TypeVar

from qel.compiler import Filter
from qel.explain import Explanation
from qel.values import Message

K = TypeVar("K", bound=Hashable)


class ScanIndex(Generic[K]):
    """Filters by key, and the question which of them a message matches."""

    def __init__(self) -> None:
        self._filters: dict[K, Filter] = {}
        self._named: Counter[tuple[str, ...]] = Counter()

    def add(self, key: K, filter: Filter) -> None:  # noqa: A002 -- the word of the public API
        """Add a filter under a key; a filter that the key had before is replaced."""
        if key in self._filters:
            self.remove(key)
        self._filters[key] = filter
        self._named.update(filter.properties)

    def remove(self, key: K) -> None:
        """Remove a key and its filter.

        Raises:
            KeyError: there is no such key.
        """
        for path in self._filters.pop(key).properties:
            self._named[path] -= 1
            if not self._named[path]:
                del self._named[path]

    def match(self, message: Message) -> set[K]:
        """Give the keys of all filters that a message makes true. Never raises."""
        return {key for key, one in self._filters.items() if one.matches(message)}

    def explain(self, message: Message, key: K) -> Explanation:
        """Tell why a message does or does not match the filter of a key.

        Raises:
            KeyError: there is no such key.
        """
        return self._filters[key].explain(message)

    @property
    def properties(self) -> Set[tuple[str, ...]]:
        """The paths that the filters look at: a live view, each while any filter needs it."""
        return self._named.keys()

    def __len__(self) -> int:
        return len(self._filters)

    def __contains__(self, key: object) -> bool:
        return key in self._filters
