"""Which streams get which point values: sets of point ids, and the index over all of them.

A stream's points may be a hundred thousand, and change one by one. They are kept in chunks of up
to `CHUNK` ids; each chunk is one filter (`id IN [...]`) of the tenant's filter index, so that a
change costs one chunk and a value costs a look-up, however many points there are. With each id
stands from which sequence number on it belongs to the stream: what was logged before a point was
added is not the stream's, also when the log is read again after a restart.

A message says with its properties `id` and `partitionId` whose value it is. Values published
without a partition belong to the tenant's own one, which every stream of the tenant may read.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Final

import qel
from hotpath.core.locks import LockTable
from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.subscription import SubscriptionSpec
from hotpath.wire.properties import Puller
from qel import FilterIndex, Schema, Type
from qel.nodes import Literal, Membership, Property

#: Ids of one chunk at most: what a change of one id puts into the index anew.
CHUNK: Final = 128

#: What a `condition` on points may name.
SCHEMA: Final = Schema(
    "points",
    {
        "id": Type.STRING,
        "partitionId": Type.STRING,
        "value": Type.STRING,
        "changed": Type.NUMBER,
        "qualityOfValue": Type.NUMBER,
        "createdAt": Type.DATETIME,
        "lastUpdatedAt": Type.DATETIME,
    },
)
#: The filter of a stream whose creator has no condition.
EVERYTHING: Final = qel.compile_filter("true", SCHEMA)

_ID: Final = Property(("id",))
_PATHS: Final = frozenset({("id",), ("partitionId",)})


class Chunk:
    """Some points of one stream, and since which sequence number each is one.

    Attributes:
        feed: Whose points.
        number: Names the chunk among those of its stream.
        since: Point ids to sequence numbers.
    """

    __slots__ = ("feed", "number", "since")

    def __init__(self, feed: "PointFeed", number: int) -> None:
        self.feed = feed
        self.number = number
        self.since: dict[str, int] = {}

    def as_filter(self) -> qel.Filter:
        """The chunk as a filter, made as a tree: an id is never part of a text."""
        choices = tuple(map(Literal, self.since))
        return qel.Filter(Membership(_ID, choices), SCHEMA, properties=frozenset({_ID.path}))


class PointSet:
    """The points of one stream, in the order of their adding."""

    __slots__ = ("_feed", "_next", "_roomy", "_where", "chunks")

    def __init__(self, feed: "PointFeed") -> None:
        self._feed = feed
        self._next = 0
        self._where: dict[str, Chunk] = {}
        # Chunks that are not full, the one begun last at the end.
        self._roomy: dict[int, Chunk] = {}
        self.chunks: dict[int, Chunk] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __contains__(self, point: object) -> bool:
        return point in self._where

    def since(self, point: object) -> int | None:
        """From which sequence number on a point belongs to the stream, or None: it does not."""
        if not isinstance(point, str):
            return None
        chunk = self._where.get(point)
        return None if chunk is None else chunk.since[point]

    def page(self, *, after: str, limit: int) -> list[str]:
        """The lowest ids behind `after`, in order."""
        return nsmallest(limit, (point for point in self._where if point > after))

    def add(self, points: Iterable[str], *, since: int) -> list[Chunk]:
        """Add points; those that are there stay as they are. The chunks that have changed."""
        changed: dict[int, Chunk] = {}
        for point in points:
            if point not in self._where:
                chunk = self._chunk_with_room()
                chunk.since[point] = since
                self._where[point] = chunk
                changed[chunk.number] = chunk
                if len(chunk.since) >= CHUNK:
                    del self._roomy[chunk.number]
        return list(changed.values())

    def _chunk_with_room(self) -> Chunk:
        if self._roomy:
            return next(reversed(self._roomy.values()))
        chunk = Chunk(self._feed, self._next)
        self._next += 1
        self.chunks[chunk.number] = self._roomy[chunk.number] = chunk
        return chunk

    def without(self, points: Iterable[str]) -> dict[int, dict[str, int]]:
        """What the chunks that hold any of some points would hold without them."""
        left: dict[int, dict[str, int]] = {}
        for point in points:
            chunk = self._where.get(point)
            if chunk is not None:
                left.setdefault(chunk.number, dict(chunk.since)).pop(point, None)
        return left

    def remove(self, points: Iterable[str]) -> list[Chunk]:
        """Remove points; the chunks that have changed, perhaps empty and then gone."""
        changed: dict[int, Chunk] = {}
        for point in points:
            chunk = self._where.pop(point, None)
            if chunk is not None:
                del chunk.since[point]
                self._roomy[chunk.number] = changed[chunk.number] = chunk
        for chunk in changed.values():
            if not chunk.since:
                del self.chunks[chunk.number], self._roomy[chunk.number]
        return list(changed.values())

    def restore(self, number: int, since: Mapping[str, int]) -> None:
        """Take over a chunk as it was stored."""
        self._next = max(self._next, number + 1)
        fresh = {point: seq for point, seq in since.items() if point not in self._where}
        if not fresh:
            return
        chunk = self.chunks[number] = Chunk(self._feed, number)
        chunk.since = fresh
        self._where.update(dict.fromkeys(fresh, chunk))
        if len(fresh) < CHUNK:
            self._roomy[number] = chunk


class PointFeed(Subscription):
    """A subscription whose messages are the values of a set of points.

    Attributes:
        points: The set.
        partitions: The partitions whose values it may get.
    """

    __slots__ = ("partitions", "points")

    def __init__(
        self,
        spec: SubscriptionSpec,
        filter_: qel.Filter,
        *,
        partition: str,
        locks: LockTable,
        ready_max: int,
        locks_max: int,
    ) -> None:
        super().__init__(spec, filter_, locks=locks, ready_max=ready_max, locks_max=locks_max)
        self.points = PointSet(self)
        self.partitions = frozenset({partition, str(spec.tenant)})

    def takes(self, since: int | None, seq: int, found: Mapping[str, object]) -> bool:
        """Whether the value `seq` is the stream's; `since` is when its point became one of it."""
        if since is None or seq < since or found.get("partitionId") not in self.partitions:
            return False
        return self.filter is EVERYTHING or self.filter.matches(found)


class PointRouter:
    """The streams of one tenant, and the matching of batches of values against their points.

    Building the index takes its time, so it is done a chunk at a time (`index_next`). A stream that
    is not wholly in it yet is asked directly, one look-up a value.
    """

    __slots__ = ("_direct", "_dropped", "_feeds", "_index", "_puller", "_waiting")

    def __init__(self) -> None:
        self._index: FilterIndex[Chunk] = FilterIndex()
        self._feeds: dict[Subscription, None] = {}
        self._puller = Puller(_PATHS)
        # Chunks to bring into the index, how many of each stream, and chunks to take out of it.
        self._waiting: deque[Chunk] = deque()
        self._direct: dict[PointFeed, int] = {}
        self._dropped: deque[Chunk] = deque()

    def __len__(self) -> int:
        return len(self._feeds)

    def add(self, subscription: Subscription) -> None:
        """Let a stream take part from the next batch on. Raises TypeError for any other feed."""
        if not isinstance(subscription, PointFeed):
            raise TypeError("only streams read the values of points")
        self._feeds[subscription] = None
        self._pull_also()
        self.reindex_later(subscription.points.chunks.values())

    def remove(self, subscription: Subscription) -> None:
        """Take a stream out; its chunks leave the index later."""
        if subscription in self._feeds and isinstance(subscription, PointFeed):
            del self._feeds[subscription]
            self._direct.pop(subscription, None)
            self._pull_also()
            self._dropped.extend(subscription.points.chunks.values())

    def _pull_also(self) -> None:
        """Read out of the messages what some stream's condition names."""
        named = frozenset().union(_PATHS, *(feed.filter.properties for feed in self._feeds))
        self._puller = Puller(named)

    def reindex(self, chunk: Chunk) -> None:
        """Bring a changed chunk into the index at once, or take an empty one out."""
        if chunk.since and chunk.feed in self._feeds:
            self._index.add(chunk, chunk.as_filter())
        elif chunk in self._index:
            self._index.remove(chunk)

    def reindex_later(self, chunks: Iterable[Chunk]) -> None:
        """Bring changed chunks into the index when `index_next` comes to them."""
        for chunk in chunks:
            self._waiting.append(chunk)
            self._direct[chunk.feed] = self._direct.get(chunk.feed, 0) + 1

    def index_next(self) -> bool:
        """Do a piece of what was put off, a millisecond or two; whether there is more."""
        if self._dropped:
            chunk = self._dropped.popleft()
            if chunk in self._index:
                self._index.remove(chunk)
        elif self._waiting:
            chunk = self._waiting.popleft()
            self.reindex(chunk)
            left = self._direct.get(chunk.feed, 0) - 1
            if left > 0:
                self._direct[chunk.feed] = left
            else:
                self._direct.pop(chunk.feed, None)
        return bool(self._dropped or self._waiting)

    def route(self, batch: Batch) -> dict[Subscription, list[int]]:
        """The streams that get values of `batch`, each with their sequence numbers."""
        if batch.payloads is None or not self._feeds:
            return {}
        hits: dict[Subscription, list[int]] = {}
        pull = self._puller.pull
        for seq, payload in enumerate(batch.payloads, batch.first_seq):
            found = pull(payload)
            point = found.get("id")
            for feed in self._candidates(found):
                if feed.takes(feed.points.since(point), seq, found):
                    hits.setdefault(feed, []).append(seq)
        return hits

    def _candidates(self, found: Mapping[str, object]) -> list[PointFeed]:
        """The streams whose index entries match, and those that must be asked."""
        direct = self._direct
        matched = self._index.match(found)
        if not direct:
            return [chunk.feed for chunk in matched if chunk.feed in self._feeds]
        indexed = [c.feed for c in matched if c.feed in self._feeds and c.feed not in direct]
        return [*indexed, *direct]

    def matching(self, subscription: Subscription, batch: Batch) -> Sequence[int]:
        """Sequence numbers of the values of `batch` that are one stream's."""
        if batch.payloads is None or not isinstance(subscription, PointFeed):
            return ()
        pull, points = self._puller.pull, subscription.points
        matched: list[int] = []
        for seq, payload in enumerate(batch.payloads, batch.first_seq):
            found = pull(payload)
            if subscription.takes(points.since(found.get("id")), seq, found):
                matched.append(seq)
        return matched
