"""Where a run ends, chosen from the seed."""

import random
from dataclasses import dataclass
from typing import Final

#: Named points and the highest visit at which the process is killed there.
NAMED: Final = {
    # The writer's own points.
    "migration": 1,
    "before-append": 40,
    "after-append": 12,
    "before-commit": 12,
    "after-commit": 40,
    "segment-roll": 4,
    "dead-letter": 4,
    # Answers and cursors.
    "gathered": 40,
    "committed-unrouted": 40,
    "answered-unsent": 40,
    "handed-out": 60,
    "completed": 40,
    "abandoned": 10,
    "deferred": 4,
    "dead-letter-copy": 4,
    "cursor-move": 60,
    # Checkpoints: of progress, and of the write-ahead log.
    "snapshot": 12,
    "snapshot-written": 3,
    "journal-trimmed": 3,
    "wal-copy": 3,
    "wal-copied": 3,
    "wal-finished": 3,
    # Control calls.
    "create-unkept": 5,
    "create-kept": 5,
    "delete-kept": 3,
    "reap": 2,
    "reap-kept": 2,
    # A clean stop that does not come to its end.
    "draining": 1,
    "drained": 1,
    "log-closed": 1,
    # Opening after a kill.
    "opening": 1,
    "recovered": 1,
    "resumed": 1,
    # Retention; its run has the data for it.
    "segment-drop": 3,
}
#: What only a fresh directory visits.
FRESH: Final = frozenset({"migration"})
#: Points that need more messages than others.
RETENTION: Final = frozenset({"segment-drop"})
#: Points on the way of a clean stop: the run is told to stop, and killed there.
ENDING: Final = frozenset({"draining", "drained", "log-closed"})
#: Share of points that are named; the others come after a number of protocol events.
NAMED_SHARE: Final = 0.6
EVENTS_MAX: Final = 900


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run ends: the visit of a named point, or a number of protocol events."""

    index: int
    name: str | None
    count: int

    @property
    def label(self) -> str:
        """For reports."""
        return f"#{self.index} {self.name or 'random'}:{self.count}"


def choose(seed: int, index: int) -> Point:
    """The point of a number; each name comes once before any comes twice."""
    rng = random.Random(f"{seed}:{index}")
    if rng.random() >= NAMED_SHARE:
        return Point(index, None, rng.randrange(1, EVENTS_MAX))
    names = sorted(NAMED)
    random.Random(seed).shuffle(names)
    name = names[index % len(names)]
    return Point(index, name, rng.randrange(1, NAMED[name] + 1))
