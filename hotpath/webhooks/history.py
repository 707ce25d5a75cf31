"""What was attempted lately, for people who look for their events: a bounded ring a stream.

Kept in memory only: a restart begins anew. Dead letters are kept by the log, not here.
"""

from collections import deque
from itertools import islice
from typing import Final, NamedTuple

from hotpath.model.errors import Invalid, Violation
from hotpath.webhooks.interface import DeliveryAttempt, Page

DELIVERED: Final = "delivered"
FAILED: Final = "failed"
DEAD_LETTERED: Final = "dead-lettered"


class Entry(NamedTuple):
    """One attempt, as it is kept."""

    number: int
    event_id: str
    point_id: str
    attempt: int
    status: str
    http_status: int | None
    duration_ms: int
    reason: str
    at_ms: int


class History:
    """The attempts of one stream, as many as `size`; the oldest go first."""

    __slots__ = ("_entries",)

    def __init__(self, size: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)

    def add(self, entry: Entry) -> None:
        """Note an attempt. Numbers ascend."""
        self._entries.append(entry)

    def page(self, *, after: str | None, limit: int) -> Page[DeliveryAttempt]:
        """Attempts before that with the id `after`, newest first. Raises Invalid."""
        below = None if after is None else read_mark(after)
        older = (
            entry for entry in reversed(self._entries) if below is None or entry.number < below
        )
        found = list(islice(older, limit + 1))
        following = str(found[limit - 1].number) if len(found) > limit else None
        return Page([_shown(entry) for entry in found[:limit]], following)


def _shown(entry: Entry) -> DeliveryAttempt:
    return DeliveryAttempt(
        id=str(entry.number),
        event_id=entry.event_id,
        point_id=entry.point_id,
        attempt=entry.attempt,
        status=entry.status,
        http_status=entry.http_status,
        duration_ms=entry.duration_ms,
        reason=entry.reason,
        at_ms=entry.at_ms,
    )


def read_mark(after: str) -> int:
    """A page's mark, a number. Raises Invalid."""
    if not after.isascii() or not after.isdecimal() or len(after) > 18:
        raise Invalid([Violation("cursor is not one that this service gave", pointer="/cursor")])
    return int(after)
