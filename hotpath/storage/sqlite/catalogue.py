"""What the writer thread knows of topics and segments, so that a commit need not ask."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.storage.segments import Segment


@dataclass(slots=True)
class TopicLog:
    """A topic's row and its segments in order; the last one grows."""

    id: int
    segments: list[Segment] = field(default_factory=list)
    sealed: bool = False
    """The last segment is damaged or must not grow for another reason."""


@dataclass(slots=True)
class Catalogue:
    """All topics, and the last identifiers in use. Owned by the writer thread."""

    topics: dict[TopicKey, TopicLog] = field(default_factory=dict)
    last_topic_id: int = 0
    last_segment_id: int = 0
    last_journal_id: int = 0
    oldest_journal_id: int = 0
    """No journal row has a lower number."""
    first_deltas: dict[SubscriptionId, int] = field(default_factory=dict)
    """Journal row of the first delta since its last snapshot, by subscription."""

    def segments(self) -> dict[TopicKey, list[Segment]]:
        """Segments by topic."""
        return {key: topic.segments for key, topic in self.topics.items()}

    def journal_floor(self, snapshots: Iterable[SubscriptionId], *, default: int) -> int:
        """Journal rows below this are needless once there are these snapshots."""
        covered = set(snapshots)
        needed = (row for name, row in self.first_deltas.items() if name not in covered)
        return min(needed, default=default)


def batch_table(segment_id: int) -> str:
    """Name of the table that holds a segment's batches."""
    return f"batches_{int(segment_id)}"
