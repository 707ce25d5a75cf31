"""Streams as the records tell of them, whoever serves them: for calls on any node."""

import json
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from typing import Final, cast

from hotpath.model.names import SubscriptionId, TenantId
from hotpath.model.stream import StreamSpec
from hotpath.service.streams_records import STREAMS, Record, read_stream
from hotpath.telemetry import get_logger

Place = tuple[TenantId, str]
Mark = tuple[int, SubscriptionId]

_NOTHING: Final[dict[int, Record]] = {}

_log = get_logger("hotpath.cluster.streams")


class StreamShelf:
    """Records of streams and of their points, in the order of the streams' creation.

    Attributes:
        counts: Streams of each tenant.
        points: Points in streams of each tenant.
    """

    def __init__(self) -> None:
        self._records: dict[SubscriptionId, Record] = {}
        self._specs: dict[SubscriptionId, StreamSpec] = {}
        self._chunks: dict[SubscriptionId, dict[int, Record]] = {}
        self._sizes: Counter[SubscriptionId] = Counter()
        self._places: dict[Place, list[Mark]] = {}
        self.counts: Counter[TenantId] = Counter()
        self.points: Counter[TenantId] = Counter()

    def __iter__(self) -> Iterator[SubscriptionId]:
        return iter(list(self._records))

    def __contains__(self, identity: object) -> bool:
        return identity in self._records

    def record(self, identity: SubscriptionId) -> Record | None:
        """The definition of a stream."""
        return self._records.get(identity)

    def chunks(self, identity: SubscriptionId) -> list[Record]:
        """The points of a stream."""
        return list(self._chunks.get(identity, _NOTHING).values())

    def marks(self, tenant: TenantId, partition: str, *, after: Mark | None) -> list[Mark]:
        """The streams of a partition behind a place, oldest first."""
        own = self._places.get((tenant, partition), [])
        return own[0 if after is None else bisect_right(own, after) :]

    # Changes

    def put(self, kind: str, key: str, record: Record | None) -> SubscriptionId:
        """A record of a stream, or of its points, was written or (None) removed: whose."""
        if kind == STREAMS:
            identity = SubscriptionId(key)
            self._put_stream(identity, record)
            return identity
        name, _, number = key.rpartition("/")
        self._put_chunk(SubscriptionId(name), int(number), record)
        return SubscriptionId(name)

    def _put_stream(self, identity: SubscriptionId, record: Record | None) -> None:
        before = self._specs.pop(identity, None)
        if before is not None:
            self._withdraw(before)
        if record is None:
            self._records.pop(identity, None)
            return
        self._records[identity] = record
        try:
            spec = self._specs[identity] = read_stream(record)
        except (KeyError, TypeError, ValueError):
            _log.exception("stream unreadable", extra={"stream": identity})
            return
        insort(self._places.setdefault((spec.tenant, spec.partition), []), _mark(spec))
        self.counts[spec.tenant] += 1
        self.points[spec.tenant] += self._sizes[identity]

    def _withdraw(self, spec: StreamSpec) -> None:
        own = self._places[spec.tenant, spec.partition]
        del own[bisect_left(own, _mark(spec))]
        if not own:
            del self._places[spec.tenant, spec.partition]
        self.counts[spec.tenant] -= 1
        self.points[spec.tenant] -= self._sizes[spec.id]

    def _put_chunk(self, identity: SubscriptionId, number: int, record: Record | None) -> None:
        chunks = self._chunks.setdefault(identity, {})
        change = _size(record) - _size(chunks.get(number))
        if record is None:
            chunks.pop(number, None)
        else:
            chunks[number] = record
        if not chunks:
            del self._chunks[identity]
        self._sizes[identity] += change
        if not self._sizes[identity]:
            del self._sizes[identity]
        spec = self._specs.get(identity)
        if spec is not None:
            self.points[spec.tenant] += change


def _mark(spec: StreamSpec) -> Mark:
    return spec.created_ms, spec.id


def _size(record: Record | None) -> int:
    """How many points a record has."""
    if record is None:
        return 0
    try:
        return len(cast("dict[str, int]", json.loads(str(record["since"]))))
    except (KeyError, ValueError, TypeError):
        return 0
