"""Streams and their points as records, and back."""

import json
from collections.abc import Iterable
from typing import Final, cast

from hotpath.core.points import Chunk, PointFeed
from hotpath.model.names import SubscriptionId, TenantId, Topic
from hotpath.model.stream import StreamSpec, StreamStatus
from hotpath.model.subscription import SubscriptionSpec

STREAMS: Final = "streams"
#: One record a chunk of a stream's points, under `<stream>/<number>`.
STREAM_POINTS: Final = "stream_points"

Record = dict[str, object]


def stream_record(spec: StreamSpec, secrets: Record) -> Record:
    """A stream as a record; `secrets` are sealed."""
    return {
        "id": spec.id,
        "tenant": spec.tenant,
        "partition_id": spec.partition,
        "webhook_url": spec.webhook_url,
        "created_ms": spec.created_ms,
        "updated_ms": spec.updated_ms,
        "start_seq": spec.start_seq,
        "creator": spec.creator,
        "condition": spec.condition,
        "status": spec.status.value,
        "reason": spec.reason,
        "status_ms": spec.status_ms,
        **secrets,
    }


def read_stream(record: Record) -> StreamSpec:
    """A record as a stream. Raises KeyError, TypeError or ValueError when it is none."""
    condition = record["condition"]
    return StreamSpec(
        id=SubscriptionId(str(record["id"])),
        tenant=TenantId(str(record["tenant"])),
        partition=str(record["partition_id"]),
        webhook_url=str(record["webhook_url"]),
        created_ms=_integer(record["created_ms"]),
        updated_ms=_integer(record["updated_ms"]),
        start_seq=_integer(record["start_seq"]),
        creator=str(record["creator"]),
        condition=None if condition is None else str(condition),
        status=StreamStatus(str(record["status"])),
        reason=str(record["reason"]),
        status_ms=_integer(record["status_ms"]),
    )


def _integer(value: object) -> int:
    return int(cast("int", value))


def subscription_of(spec: StreamSpec) -> SubscriptionSpec:
    """The subscription behind a stream. It is never idle, and nobody gets a token for it."""
    return SubscriptionSpec(
        id=spec.id,
        tenant=spec.tenant,
        topic=Topic.POINTS,
        filter="true",
        condition=spec.condition,
        ttl_ms=0,
        sas_ttl_ms=0,
        start_seq=spec.start_seq,
        created_ms=spec.created_ms,
        creator=spec.creator,
    )


def chunk_key(stream: str, number: int) -> str:
    """The key of a chunk's record."""
    return f"{stream}/{number}"


def chunk_records(
    stream: str, chunks: Iterable[tuple[int, dict[str, int]]]
) -> list[tuple[str, Record]]:
    """Chunks of points (number, ids with their first sequence numbers) as records."""
    return [
        (
            chunk_key(stream, number),
            {"stream": stream, "number": number, "since": json.dumps(since)},
        )
        for number, since in chunks
    ]


def contents(chunks: Iterable[Chunk]) -> list[tuple[int, dict[str, int]]]:
    """What `chunk_records` wants of live chunks."""
    return [(chunk.number, chunk.since) for chunk in chunks]


def restore_chunk(feed: PointFeed, record: Record) -> None:
    """Give a chunk back to its stream. Raises KeyError, TypeError or ValueError."""
    since = json.loads(str(record["since"]))
    feed.points.restore(
        _integer(record["number"]), {str(point): _integer(seq) for point, seq in since.items()}
    )
