"""Keeping the cycle collector's passes short, whatever there is in memory.

A pass of the collector walks objects, and nothing else runs meanwhile: for twenty thousand young
ones that is 10 to 30 ms, for all objects of a process with thousands of connections or
subscriptions up to a second. Nearly all that is made here is freed by reference counting, or stays.
So the collector looks at each object once, early, and what is left after that goes out of its sight:

    pass        when there are STEP more objects than at the last: about a quarter of a millisecond.
                Not more: where as many old objects go as new ones come, thousands of waits and of
                messages, the difference grows slowly, and all the new ones are walked
    full pass   over everything, when what stays has doubled, or after very many passes; while there is
                more to do than time it waits until what stays is eight times as much

What comes with filters and with connections is known to stay and to form no cycles that outlive it,
so it does not bring a full pass nearer: subscriptions come by the hundred thousand, and connections by
the thousand when somebody means ill, which is no time to stop for half a second.

What is out of sight is freed as always when nothing refers to it; only a cycle that began to live
before a pass and ended after it stays until the next full pass.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

#: Objects made, less those freed, between two passes.
STEP: Final = 250
#: The number of blocks is looked at once in so many passes: that takes a tenth of a millisecond.
LOOK: Final = 256
#: So many times as much has to stay when it is not calm.
URGENT: Final = 8
#: With fewer blocks of memory a full pass is not worth a thought.
FEW: Final = 500_000
#: After so many passes one over everything, at the earliest.
PASSES: Final = 40_000
#: Blocks of memory that come with a filter, and with a connection that has a link.
BLOCKS_A_FILTER: Final = 60
BLOCKS_A_CONNECTION: Final = 150

#: Calls something back soon, from whatever thread.
Later = Callable[[Callable[[], None]], object]


class Keeping:
    """What stays in this process, and what the collector is told of it.

    Args:
        blocks: How many blocks of memory the process has.

    Attributes:
        is_calm: Says whether nobody would have to wait longer for a full pass.
        spent_s: Seconds that passes have taken of the thread that called `start`.
    """

    __slots__ = (
        "_base",
        "_began_s",
        "_blocks",
        "_is_due",
        "_known",
        "_later",
        "_old_threshold",
        "_passes",
        "_thread",
        "is_calm",
        "spent_s",
    )

    def __init__(self, blocks: Callable[[], int] = sys.getallocatedblocks) -> None:
        self._blocks = blocks
        self._later: Later | None = None
        self.is_calm: Callable[[], bool] = _always
        self._old_threshold = gc.get_threshold()
        self._known = self._base = self._passes = 0
        self._is_due = False
        self._thread = threading.get_ident()
        self._began_s = self.spent_s = 0.0

    def add_known(self, blocks: int) -> None:
        """So many blocks of memory have come that stay, or have gone if it is negative."""
        self._known += blocks

    def start(self, later: Later) -> None:
        """From now on; `later` has the full passes done."""
        self.stop()
        self._old_threshold = gc.get_threshold()
        self._later = later
        self._thread = threading.get_ident()
        self._collect_all()
        gc.set_threshold(STEP, *self._old_threshold[1:])
        gc.callbacks.append(self._on_pass)

    def stop(self) -> None:
        """Leave the collector as it was found."""
        if self._later is not None:
            self._later = None
            self.is_calm = _always
            gc.callbacks.remove(self._on_pass)
            gc.set_threshold(*self._old_threshold)
            gc.unfreeze()

    def _on_pass(self, phase: str, about: dict[str, int]) -> None:
        """The collector begins or ends a pass, in any thread."""
        if phase == "start":
            self._began_s = time.thread_time()
            return
        if threading.get_ident() == self._thread:
            self.spent_s += time.thread_time() - self._began_s
        if about["generation"] != 0:
            return
        gc.freeze()
        self._passes += 1
        if self._passes % LOOK == 0 and not self._is_due and self._later is not None:
            self._is_due = self._is_much()
            if self._is_due:
                self._later(self._collect_all)

    def _is_much(self) -> bool:
        growth = 1 if self.is_calm() else URGENT // 2
        if self._blocks() - self._known > 2 * growth * self._base + FEW:
            return True
        return self._passes > growth * max(PASSES, 2 * (self._base + self._known) // STEP)

    def _collect_all(self) -> None:
        self._is_due = False
        if self._later is None:
            return
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._passes = 0
        # Connections that only stand have less than was said: below nothing, all would be much.
        self._base = max(self._blocks() - self._known, 0)


def _always() -> bool:
    """Where nobody says otherwise."""
    return True


#: The collector belongs to the process, and so does this.
KEEPING: Final = Keeping()
