"""Retention: the oldest batches of all topics go, the newest of each stays.

Age is looked up by searching a topic for a time. For size, the topic with the oldest batch gives
its oldest portion, again and again, until what is left fits.
"""

from dataclasses import dataclass
from typing import Final

from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Bounds
from hotpath.storage.jetstream.frames import batch_time
from hotpath.storage.jetstream.naming import TENANT, TOPIC, Names, read
from hotpath.storage.jetstream.server import JetStream, StreamSpec, StreamState
from hotpath.storage.jetstream.topics import TopicStreams, bounds_of

_TOPICS: Final = {topic.value: topic for topic in Topic}
#: A portion is this part of a topic's batches, or one of them.
_PORTION: Final = 64
#: Portions that one call removes; the next call goes on.
_PORTIONS_MAX: Final = 1_000


@dataclass(slots=True)
class _Kept:
    """A topic while retention looks at it."""

    key: TopicKey
    spec: StreamSpec
    state: StreamState
    oldest_ms: int = 0

    @property
    def is_droppable(self) -> bool:
        """Whether there is more than the newest batch."""
        return self.state.messages > 1


class Retention:
    """Drops what is too old or too much."""

    def __init__(self, server: JetStream, names: Names, topics: TopicStreams) -> None:
        self._server = server
        self._names = names
        self._topics = topics

    async def trim(
        self, *, before_ms: int, bytes_max: int | None, until: float
    ) -> dict[TopicKey, Bounds]:
        """Drop batches before a time, and the oldest beyond a size. Raises LogFailure."""
        kept = await self._all(until)
        changed: dict[TopicKey, Bounds] = {}
        for topic in kept:
            if topic.is_droppable:
                position = await self._topics.position(
                    topic.spec, topic.state, before_ms, until=until
                )
                await self._drop(topic, position, changed, until=until)
        if bytes_max is not None:
            await self._shrink(kept, bytes_max, changed, until=until)
        return changed

    async def _all(self, until: float) -> list[_Kept]:
        kept = []
        for metadata, state in await self._server.streams(self._names.all_topics, until):
            tenant, name = metadata.get(TENANT), metadata.get(TOPIC)
            if tenant is not None and name in _TOPICS:
                key = TopicKey(TenantId(read(tenant)), _TOPICS[name])
                kept.append(_Kept(key, self._topics.spec(key), state))
        return kept

    async def _drop(
        self, topic: _Kept, below: int, changed: dict[TopicKey, Bounds], *, until: float
    ) -> None:
        """Remove the batches below a number, never the last."""
        below = min(below, topic.state.last)
        if below <= topic.state.first:
            return
        await self._server.purge(topic.spec.name, below=below, until=until)
        state = await self._server.state(topic.spec.name, until)
        if state is not None:
            topic.state = state
            changed[topic.key] = bounds_of(state)

    async def _shrink(
        self, kept: list[_Kept], bytes_max: int, changed: dict[TopicKey, Bounds], *, until: float
    ) -> None:
        excess = sum(topic.state.byte_size for topic in kept) - bytes_max
        if excess <= 0:
            return
        for topic in kept:
            await self._note_oldest(topic, until)
        for _ in range(_PORTIONS_MAX):
            droppable = [topic for topic in kept if topic.is_droppable]
            if excess <= 0 or not droppable:
                return
            oldest = min(droppable, key=lambda topic: topic.oldest_ms)
            before = oldest.state.byte_size
            below = oldest.state.first + _portion(oldest.state, excess)
            await self._drop(oldest, below, changed, until=until)
            await self._note_oldest(oldest, until)
            excess -= before - oldest.state.byte_size

    async def _note_oldest(self, topic: _Kept, until: float) -> None:
        first = await self._server.next(
            topic.spec.name, topic.spec.subjects, topic.state.first, until
        )
        topic.oldest_ms = 0 if first is None else batch_time(first)


def _portion(state: StreamState, excess: int) -> int:
    """How many batches go at once."""
    each = max(state.byte_size // max(state.messages, 1), 1)
    return max(1, min(state.messages // _PORTION, -(-excess // each)))
