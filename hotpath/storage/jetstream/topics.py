"""The streams of topics: appending, reading, times, and what retention leaves.

A topic's stream is made when somebody first appends or follows. Enqueued times: a node never gives
an earlier time than one it has seen in the topic, and looks again what others have appended when it
notices that they do. Between nodes whose clocks differ, batches of the same second may still stand
in the other order.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from secrets import token_hex
from typing import Final

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Bounds, LogFailure
from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.frames import (
    BATCH_OVERHEAD,
    batch_time,
    decode_batch,
    encode_batch,
)
from hotpath.storage.jetstream.naming import (
    BATCH_NUMBERS,
    TENANT,
    TOPIC,
    Names,
    batch_number,
    first_number,
    topic_name,
    written,
)
from hotpath.storage.jetstream.options import LogOptions
from hotpath.storage.jetstream.server import (
    JetStream,
    Stored,
    StreamSpec,
    StreamState,
)

#: How often a topic is asked for the last time that another node has given, seconds.
_LOOK_AGAIN_S: Final = 1.0
_INDEX_BYTES: Final = 4


@dataclass(slots=True)
class _Topic:
    """What this node knows of a topic."""

    key: TopicKey
    stream: str
    subject: str
    last: int
    """The highest number of a batch that was seen."""
    time_ms: int = 0
    """The latest enqueued time that was seen."""
    is_stale: bool = True
    """Whether others may have given later times since somebody looked."""
    looked_at: float = 0.0


class TopicStreams:
    """All topics' streams, as one node uses them."""

    def __init__(
        self,
        server: JetStream,
        names: Names,
        options: LogOptions,
        *,
        payload_max: Callable[[], int],
        on_damage: Callable[[str], None],
    ) -> None:
        self._server = server
        self._names = names
        self._options = options
        self._payload_max = payload_max
        self._on_damage = on_damage
        self._topics: dict[TopicKey, _Topic] = {}
        self._writer = token_hex(8)
        self._numbers = count(1)

    def spec(self, key: TopicKey) -> StreamSpec:
        """The stream of a topic, as it is made."""
        metadata = {TENANT: written(key.tenant), TOPIC: key.topic.value}
        return StreamSpec(
            self._names.topic_stream(key), self._names.topic_subject(key), metadata=metadata
        )

    async def make(self, key: TopicKey, until: float, *, above: int = 0) -> None:
        """See to it that a topic has a stream; a new one with numbers above one. Raises LogFailure."""
        if key not in self._topics:
            spec = self.spec(key)
            if above:
                spec = replace(spec, first=batch_number(above) + 1)
            state = await self._server.ensure(spec, until)
            self._topics.setdefault(key, _Topic(key, spec.name, spec.subjects, state.last))

    def seen(self, batch: Batch) -> None:
        """Note a batch that came in from anywhere."""
        topic = self._topics.get(batch.topic)
        if topic is not None:
            topic.last = max(topic.last, batch_number(batch.first_seq))
            topic.time_ms = max(topic.time_ms, batch.enqueued_ms)

    # Appending

    def cut(self, payloads: Sequence[bytes]) -> list[Sequence[bytes]]:
        """An append as the batches it is stored in: nearly always one.

        Raises LogFailure for a message that no server takes.
        """
        room = self._payload_max() - BATCH_OVERHEAD
        if len(payloads) <= BATCH_NUMBERS and sum(map(len, payloads)) < room - _INDEX_BYTES * len(
            payloads
        ):
            return [payloads]
        parts: list[Sequence[bytes]] = []
        part: list[bytes] = []
        size = 0
        for payload in payloads:
            cost = len(payload) + _INDEX_BYTES
            if cost > room:
                raise LogFailure(f"a message of {len(payload)} bytes is more than NATS takes")
            if part and (size + cost > room or len(part) == BATCH_NUMBERS):
                parts.append(part)
                part, size = [], 0
            part.append(payload)
            size += cost
        return [*parts, part]

    async def append(
        self,
        key: TopicKey,
        payloads: Sequence[bytes],
        *,
        now_ms: int,
        until: float,
        name: str = "",
    ) -> Batch:
        """Append one batch to a prepared topic. Raises LogFailure.

        One whose `name` has been appended within the duplicate window, by whichever node, is not
        appended again. The message is sent in the loop's next turn, so that appends keep their order.
        """
        topic = self._topics[key]
        if not payloads:
            return Batch(key, self._next_seq(topic), enqueued_ms=now_ms, payloads=())
        enqueued_ms = topic.time_ms = max(now_ms, topic.time_ms)
        body = encode_batch(topic.subject, payloads, enqueued_ms)
        name = name or f"{self._writer}-{next(self._numbers)}"
        ack = await self._server.store(topic.subject, body, name=name, until=until)
        now = asyncio.get_running_loop().time()
        if ack.seq > topic.last + 1 and now - topic.looked_at >= _LOOK_AGAIN_S:
            # Others append too: before the next append their times are looked at.
            topic.is_stale = True
        topic.last = max(topic.last, ack.seq)
        return Batch(key, first_number(ack.seq), enqueued_ms=enqueued_ms, payloads=payloads)

    async def prepare(self, key: TopicKey, until: float) -> None:
        """See to it that a topic can be appended to. Raises LogFailure."""
        await self.make(key, until)
        topic = self._topics[key]
        if topic.is_stale:
            await self._look(topic, until)

    async def _look(self, topic: _Topic, until: float) -> None:
        """Find the last batch's time."""
        found = await self._server.last(topic.stream, topic.subject, until)
        topic.time_ms = max(topic.time_ms, 0 if found is None else batch_time(found))
        topic.is_stale = False
        topic.looked_at = asyncio.get_running_loop().time()

    def _next_seq(self, topic: _Topic) -> int:
        return first_number(topic.last + 1) if topic.last else 1

    # Reading

    async def _known(self, key: TopicKey, until: float) -> _Topic | None:
        """A topic if it has a stream."""
        topic = self._topics.get(key)
        if topic is None:
            spec = self.spec(key)
            state = await self._server.state(spec.name, until)
            if state is None:
                return None
            topic = _Topic(key, spec.name, spec.subjects, state.last)
            topic = self._topics.setdefault(key, topic)
        return topic

    async def read(
        self, key: TopicKey, from_seq: int, *, bytes_max: int, until: float
    ) -> list[Batch]:
        """Batches from the one that holds a number on. Raises LogFailure."""
        topic = await self._known(key, until)
        found: list[Batch] = []
        size, at = 0, max(batch_number(from_seq), 1)
        while topic is not None and not (found and size >= bytes_max):
            room = bytes_max - size + BATCH_OVERHEAD
            part = await self._part(topic, at, bytes_max=room, until=until)
            if not part:
                break
            at = part[-1].seq + 1
            for batch in self._decode(key, part):
                if batch.end_seq > from_seq and not (found and size >= bytes_max):
                    found.append(batch)
                    size += batch.byte_size
            if at > topic.last:
                break
        return found

    async def _part(self, topic: _Topic, at: int, *, bytes_max: int, until: float) -> list[Stored]:
        """Messages from a number on; from the leader where another server has none yet."""
        part = await self._server.read(
            topic.stream, topic.subject, at, until=until, bytes_max=bytes_max
        )
        if part or at > topic.last:
            return part
        following = await self._server.next(topic.stream, topic.subject, at, until)
        return [] if following is None else [following]

    def _decode(self, key: TopicKey, part: Sequence[Stored]) -> list[Batch]:
        batches = []
        for stored in part:
            batch = self.decode(key, stored)
            if batch is not None:
                batches.append(batch)
        return batches

    def decode(self, key: TopicKey, stored: Stored) -> Batch | None:
        """A message as its batch; None when it is damaged, which is reported."""
        try:
            return decode_batch(key, stored)
        except Damaged as error:
            first = first_number(stored.seq)
            self._on_damage(f"{topic_name(key)}: messages from {first} on: {error}")
            return None

    async def bounds(self, key: TopicKey, until: float) -> Bounds:
        """What a topic holds, as its leader has it. Raises LogFailure."""
        state = await self._server.state(self.spec(key).name, until)
        if state is None or not state.last:
            return Bounds(1, 1)
        topic = self._topics.get(key)
        if topic is not None:
            topic.last = max(topic.last, state.last)
        return bounds_of(state)

    # Times

    async def seek(self, key: TopicKey, enqueued_ms: int, until: float) -> int:
        """The first number enqueued at or after a time, or the next one. Raises LogFailure."""
        spec = self.spec(key)
        state = await self._server.state(spec.name, until)
        if state is None or not state.messages:
            return 1 if state is None else bounds_of(state).next_seq
        found = await self.position(spec, state, enqueued_ms, until=until)
        return bounds_of(state).next_seq if found > state.last else first_number(found)

    async def position(
        self, spec: StreamSpec, state: StreamState, enqueued_ms: int, *, until: float
    ) -> int:
        """The first message of a stream that is not before a time, or the one after the last.

        The steps grow from the first message on, because retention seldom has to go far.
        """
        low, high = state.first, state.last + 1
        step = 1
        while low < high:
            middle = min(low + step - 1, (low + high) // 2)
            found = await self._at(spec, middle, until)
            if found is None:
                return high
            if batch_time(found) >= enqueued_ms:
                # Numbers between the two have been removed.
                high, step = middle, high
            else:
                low, step = found.seq + 1, 2 * step
        return low

    async def _at(self, spec: StreamSpec, seq: int, until: float) -> Stored | None:
        part = await self._server.read(
            spec.name, spec.subjects, seq, until=until, bytes_max=1, count=1
        )
        return part[0] if part else await self._server.next(spec.name, spec.subjects, seq, until)


def bounds_of(state: StreamState) -> Bounds:
    """Sequence numbers of a stream that has had messages."""
    return Bounds(first_number(state.first), first_number(state.last + 1))
