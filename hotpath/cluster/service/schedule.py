"""Scheduled messages in a cluster: the owner of a topic's shard keeps them."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

from typing_extensions import override

from hotpath.cluster.relay.frames import write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text, read_numbers, write_numbers
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.model.chance import random_bits
from hotpath.model.errors import HotpathError, Unavailable
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Recovered, Scheduled
from hotpath.service.publish import Published
from hotpath.service.schedule import Scheduling
from hotpath.telemetry import get_logger

_KEEP, _WITHDRAW = "schedule.keep", "schedule.withdraw"
#: Two runs of nodes draw the same mark for their numbers once in two to this.
MARK_BITS: Final = 10

_log = get_logger("hotpath.cluster.schedule")


class ShardedScheduling(Scheduling):
    """Keeps what this node's shards have, and has the rest kept by its owner.

    A tenant's limit counts what one node keeps of its topics.
    """

    def connect(self, neighbours: Neighbours) -> None:
        """Name the other nodes; before anything is scheduled."""
        self._neighbours = neighbours
        self._rest, self._modulus = random_bits(MARK_BITS), 1 << MARK_BITS
        self._tasks: set[asyncio.Task[None]] = set()
        neighbours.answer(_KEEP, self._answer_keep)
        neighbours.answer(_WITHDRAW, self._answer_withdraw)

    def _is_here(self, topic: TopicKey) -> bool:
        return self._neighbours.serves(self._neighbours.shard_of_topic(topic))

    @override
    async def keep(self, topic: TopicKey, messages: Sequence[tuple[bytes, int]]) -> list[int]:
        """As alone."""
        if self._is_here(topic):
            return await super().keep(topic, messages)
        shard = self._neighbours.shard_of_topic(topic)
        rows = [list(each) for each in messages]
        (numbers,) = await self._neighbours.ask(shard, _KEEP, topic.tenant, topic.topic.value, rows)
        return read_numbers(numbers)

    async def _answer_keep(self, _: int, items: list[object]) -> bytes:
        rows = [as_list(row) for row in as_list(items[2])]
        messages = [(_bytes(row[0]), as_int(row[1])) for row in rows]
        return write_items(write_numbers(await super().keep(_topic(items), messages)))

    @override
    async def withdraw(self, topic: TopicKey, numbers: Sequence[int]) -> bool:
        """As alone."""
        if self._is_here(topic):
            return await super().withdraw(topic, numbers)
        shard = self._neighbours.shard_of_topic(topic)
        (done,) = await self._neighbours.ask(
            shard, _WITHDRAW, topic.tenant, topic.topic.value, write_numbers(numbers)
        )
        return done is True

    async def _answer_withdraw(self, _: int, items: list[object]) -> bytes:
        return write_items(await super().withdraw(_topic(items), read_numbers(items[2])))

    @override
    def schedule(self, topic: TopicKey, payload: bytes, *, due_ms: int, done: Published) -> int:
        """As alone; 0 for what another node keeps, and numbers."""
        if self._is_here(topic):
            return super().schedule(topic, payload, due_ms=due_ms, done=done)
        self._spawn(self._keep_elsewhere(topic, payload, due_ms, done=done))
        return 0

    async def _keep_elsewhere(
        self, topic: TopicKey, payload: bytes, due_ms: int, *, done: Published
    ) -> None:
        error: HotpathError | None = None
        try:
            await self.keep(topic, [(payload, due_ms)])
        except HotpathError as fault:
            error = fault
        except Exception:  # noqa: BLE001 - the edge of the task
            _log.exception("a message was not scheduled")
            error = Unavailable("internal error")
        done(error)

    @override
    def _release(self, message: Scheduled) -> None:
        """As alone, but not while the shard may be somebody else's."""
        if self._is_here(message.topic):
            super()._release(message)
        else:
            self._put_off(message)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Shards

    async def take(self, shard: int, recovered: Recovered) -> set[str]:
        """Go on with what is scheduled in a shard."""
        del shard
        self.resume(recovered.scheduled)
        return set()

    def pause(self, shard: int) -> None:
        """Whoever asks, asks whether the shard is served."""

    def close_feeds(self, shard: int) -> None:
        """Nobody reads a schedule."""

    def expect(self, shard: int, rest: Recovered) -> None:
        """There are no subscriptions here."""

    def start(self, shard: int) -> None:
        """Nobody waits for a schedule."""

    def let_go(self, shard: int) -> None:
        """Forget what is scheduled in a shard."""
        self.give_up(lambda topic: self._neighbours.shard_of_topic(topic) == shard)


def _topic(items: list[object]) -> TopicKey:
    return TopicKey(TenantId(as_text(items[0])), Topic(as_text(items[1])))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
