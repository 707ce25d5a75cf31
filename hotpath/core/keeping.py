"""Keeping the cycle collector's passes short, whatever there is in memory.

A pass of the collector walks objects, and nothing else runs meanwhile: for twenty thousand young
ones that is 10 to 30 ms, for all objects of a process with thousands of connections or
subscriptions up to a second. Nearly all that is made here is freed by reference counting, or stays.
So the collector looks at each object once, early, and what is left after that goes out of its sight:

    pass        when there are STEP more objects than at the last: about a quarter of a millisecond.
                Not more: where as many old objects go as new ones come, thousands of waits and of
                messages, the difference grows slowly, and all the new ones are walked
    full pass   over everything, when what stays has doubled, in a second in which there was next to
                nothing to do; without such a second when what stays is eight times as much

What comes with filters and with connections is known to stay and to form no cycles that outlive it,
so it does not bring a full pass nearer: subscriptions come by the hundred thousand, and connections by
the thousand when somebody means ill, which is no time to stop for half a second.

What is out of sight is freed as always when nothing refers to it; only a cycle that began to live
before a pass and ended after it stays until the next full pass. Nothing that comes and goes in
numbers leaves such a cycle (`tests/amqp/test_release.py`), so there is no hurry.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

#: Objects made, less those freed, between two passes.
STEP: Final = 250
#: The number of blocks is looked at once in so many passes: that takes a tenth of a millisecond.
LOOK: Final = 256
#: It is quiet when the thread has worked for so much of so many seconds.
QUIET_SHARE: Final = 0.05
QUIET_S: Final = 1.0
#: So many times as much has to stay when it never is.
URGENT: Final = 8
#: With fewer blocks of memory a full pass is not worth a thought.
FEW: Final = 500_000
#: Blocks of memory that come with a filter, and with a connection that has a link.
BLOCKS_A_FILTER: Final = 60
BLOCKS_A_CONNECTION: Final = 150

#: Calls something back after so many seconds, in the thread that called `start`; from whatever thread.
Later = Callable[[float, Callable[[], None]], object]


class Keeping:
    """What stays in this process, and what the collector is told of it.

    Args:
        blocks: How many blocks of memory the process has.
        worked_s: Seconds that the calling thread has worked.

    Attributes:
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
        "_seen_s",
        "_thread",
        "_worked_s",
        "spent_s",
    )

    def __init__(
        self,
        blocks: Callable[[], int] = sys.getallocatedblocks,
        worked_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._blocks = blocks
        self._worked_s = worked_s
        self._later: Later | None = None
        self._old_threshold = gc.get_threshold()
        self._known = self._base = self._passes = 0
        self._is_due = False
        self._thread = threading.get_ident()
        self._began_s = self.spent_s = self._seen_s = 0.0

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
            self._is_due = self._has_grown(2)
            if self._is_due:
                self._seen_s = -math.inf
                self._later(0, self._collect_when_quiet)

    def _has_grown(self, times: int) -> bool:
        return self._blocks() - self._known > times * self._base + FEW

    def _collect_when_quiet(self) -> None:
        """Look at everything now, or ask again later, or not at all if there is less by now."""
        self._is_due = False
        if self._later is None or not self._has_grown(2):
            return
        worked_s = self._worked_s()
        quiet = worked_s - self._seen_s < QUIET_SHARE * QUIET_S
        if quiet or self._has_grown(URGENT):
            self._collect_all()
        else:
            self._is_due, self._seen_s = True, worked_s
            self._later(QUIET_S, self._collect_when_quiet)

    def _collect_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._passes = 0
        # Connections that only stand have less than was said: below nothing, all would be much.
        self._base = max(self._blocks() - self._known, 0)


#: The collector belongs to the process, and so does this.
KEEPING: Final = Keeping()
