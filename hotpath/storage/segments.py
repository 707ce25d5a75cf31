"""Segments: the parts of a topic's log that retention drops as a whole.

What both adapters must agree on: when a segment is full, and which ones retention takes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hotpath.model.names import TopicKey


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When a topic begins a new segment."""

    bytes_max: int = 67_108_864
    """Payload bytes after which no further batch is added."""
    age_ms_max: int = 3_600_000
    """Age of the oldest batch after which no further batch is added."""


@dataclass(slots=True)
class Segment:
    """One part of a topic's log; the last of a topic still grows."""

    id: int
    topic: TopicKey
    first_seq: int
    first_ms: int
    last_ms: int
    byte_size: int = 0
    """Bytes of its payloads."""

    def is_full(self, limits: SegmentLimits, now_ms: int) -> bool:
        """Whether the next batch belongs into a new segment."""
        return self.byte_size >= limits.bytes_max or now_ms - self.first_ms >= limits.age_ms_max


def choose_expired(
    topics: Mapping[TopicKey, Sequence[Segment]], *, before_ms: int, bytes_max: int | None
) -> list[Segment]:
    """Segments that retention drops, oldest first; the newest of each topic always stays.

    Args:
        topics: All segments, in order.
        before_ms: Segments whose last batch was enqueued earlier are too old.
        bytes_max: Payload bytes that may remain in all; None is no bound.
    """
    droppable = sorted(
        (segment for segments in topics.values() for segment in segments[:-1]),
        key=lambda segment: (segment.last_ms, segment.id),
    )
    excess = 0
    if bytes_max is not None:
        excess = _total_bytes(topics.values()) - bytes_max
    chosen = []
    for segment in droppable:
        if segment.last_ms >= before_ms and excess <= 0:
            break
        chosen.append(segment)
        excess -= segment.byte_size
    return chosen


def _total_bytes(topics: Iterable[Sequence[Segment]]) -> int:
    return sum(segment.byte_size for segments in topics for segment in segments)
