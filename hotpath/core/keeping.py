"""Keeping the cycle collector's passes short while subscriptions come by the thousand.

A pass of the collector walks all objects that it watches, and nothing else runs meanwhile. A
hundred thousand subscriptions are several million objects, so a full pass over them takes a
second, and a pass over the newest still takes many milliseconds. They live long and form no
cycles that outlive them: reference counting frees them. So, while there are many, those that
came lately are collected once and then put out of the collector's sight, a few at a time; when
few are left, all come back into its sight, because then a full pass is short.

What else is alive at such a moment goes out of sight too. It is freed as always when nothing
refers to it; only what is in a cycle by then waits until there are few subscriptions again.
"""

from __future__ import annotations

import gc
from typing import Final

#: With fewer filters the collector's passes are short without any of this.
MANY: Final = 1_000

#: Filters that come between two moments. Some sixty objects each: a pass of about a millisecond.
STEP: Final = 100


class Keeping:
    """How many filters the process holds, and what the collector is told of them."""

    __slots__ = ("_held", "_is_hiding", "_new", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self._held = 0
        self._new = 0
        self._is_hiding = False

    def count_added(self) -> None:
        """One filter more. Every now and then this takes about a millisecond."""
        self._held += 1
        self._new += 1
        if self._new >= STEP and self._held >= MANY and self.is_on:
            self._new = 0
            self._is_hiding = True
            gc.collect(1)
            gc.freeze()

    def count_removed(self) -> None:
        """One filter less."""
        self._held -= 1
        if self._is_hiding and self._held < MANY // 2:
            self._is_hiding = False
            gc.unfreeze()


#: The collector belongs to the process, and so does this.
KEEPING: Final = Keeping()
