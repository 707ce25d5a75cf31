"""Random numbers for the mass run: the same as `random.Random` gives, drawn in fewer calls.

Half of what making up an input takes are calls of `randrange` and `choice`, which are exact to the
last bit where this need not be.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Dice(random.Random):
    """Draws from small ranges; seeded like its parent."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """As its parent; ranges are far smaller than the 53 bits that are drawn."""
        if stop is None:
            start, stop = 0, start
        if step != 1 or stop <= start:
            return super().randrange(start, stop, step)
        return start + int(self.random() * (stop - start))

    def randint(self, a: int, b: int) -> int:
        """As its parent."""
        return a + int(self.random() * (b - a + 1))

    def choice(self, seq: Sequence[_T]) -> _T:
        """As its parent."""
        return seq[int(self.random() * len(seq))]
