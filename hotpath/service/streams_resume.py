"""Streams at the start of the service: what the store and the log know of them, put together."""

from dataclasses import dataclass, replace
from typing import Final

import qel
from hotpath.auth.sealing import CannotOpen, SealingKey
from hotpath.model.errors import Invalid
from hotpath.model.stream import StreamSpec, StreamStatus
from hotpath.ports import LogFailure, RecordStore, Recovered
from hotpath.service.liveness import Liveness
from hotpath.service.secrets import StreamSecrets, open_secrets
from hotpath.service.settle import Settling
from hotpath.service.streams import Stream, Streams, compile_condition
from hotpath.service.streams_records import (
    STREAM_POINTS,
    STREAMS,
    Record,
    chunk_key,
    read_stream,
    restore_chunk,
)
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import get_logger

#: Why a stream is disabled whose secret was sealed with another key than the service has.
KEY_CHANGED: Final = "its secret cannot be read: the sealing key has changed; rotate it"

_log = get_logger("hotpath.streams")


@dataclass(frozen=True, slots=True)
class StreamRecovery:
    """Brings streams back."""

    streams: Streams
    store: RecordStore
    topics: Topics
    settling: Settling
    liveness: Liveness
    sealing: SealingKey

    async def resume(self, recovered: Recovered) -> set[str]:
        """Bring all streams back; the ids of those that exist, readable or not.

        Raises LogFailure.
        """
        chunks = await self._load_chunks()
        known: set[str] = set()
        for record in await self.store.load(STREAMS):
            identity = str(record.get("id"))
            known.add(identity)
            await self._resume(record, chunks.pop(identity, []), recovered)
        await self._drop(chunks)
        return known

    async def _load_chunks(self) -> dict[str, list[Record]]:
        """Records of points by stream."""
        chunks: dict[str, list[Record]] = {}
        for record in await self.store.load(STREAM_POINTS):
            chunks.setdefault(str(record.get("stream")), []).append(record)
        return chunks

    async def _resume(self, record: Record, chunks: list[Record], recovered: Recovered) -> None:
        """Bring one back; one that cannot be read is not served, and its progress is kept."""
        try:
            stream = self.read(record, chunks)
        except (KeyError, TypeError, ValueError, AttributeError, qel.QelError, Invalid):
            _log.exception("stream unreadable", extra={"stream": record.get("id")})
            return
        self.take_up(stream, recovered, await self.topics.open(stream.spec.key))

    def take_up(self, stream: Stream, recovered: Recovered, topic: TopicLog) -> None:
        """Go on with a stream where the log says that it was."""
        feed = stream.feed
        progress = recovered.progress.get(stream.id)
        if progress is not None:
            feed.resume(progress)
            self.liveness.resume(feed, progress.active_ms)
        else:
            self.liveness.begin(feed)
        dead = recovered.dead.get(stream.id)
        if dead:
            self.settling.resume_dead(feed, dead, recovered.dead_sizes.get(stream.id, {}))
        self.streams.join(stream, topic)

    def read(self, record: Record, chunks: list[Record]) -> Stream:
        """A stream with its points, not taking part yet.

        Raises KeyError, TypeError, ValueError, AttributeError, QelError or Invalid when it is none.
        """
        spec = read_stream(record)
        try:
            secrets = open_secrets(self.sealing, spec.id, record)
        except CannotOpen as error:
            _log.error(
                "a stream's secret cannot be read",
                extra={"stream": spec.id, "reason": str(error)},
            )
            # Unsigned is worse than not at all.
            spec, secrets = _disabled(spec), StreamSecrets()
        stream = self.streams.build(spec, compile_condition(spec.condition), secrets)
        for chunk in chunks:
            restore_chunk(stream.feed, chunk)
        return stream

    async def _drop(self, chunks: dict[str, list[Record]]) -> None:
        """Remove points of streams that were never finished, or not wholly removed."""
        keys = [
            chunk_key(identity, number)
            for identity, records in chunks.items()
            for record in records
            if isinstance(number := record.get("number"), int)
        ]
        try:
            await self.store.delete(STREAM_POINTS, keys)
        except LogFailure as failure:
            _log.warning("points not removed", extra={"reason": failure.detail})


def _disabled(spec: StreamSpec) -> StreamSpec:
    return replace(spec, status=StreamStatus.DISABLED, reason=KEY_CHANGED)
