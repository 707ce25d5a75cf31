"""Topics that are fed by following the log, which all nodes append to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from typing_extensions import override

from hotpath.clusterports import ShardedLog, Stop
from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import LogFailure
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import get_logger

#: How long it may take to get to where the log stands, seconds.
REACH_S: Final = 5.0

_log = get_logger("hotpath.cluster.topics")


@dataclass(slots=True)
class _Followed:
    """A topic that is being followed, or is about to be."""

    opening: "asyncio.Task[TopicLog]"
    stop: Stop | None = None
    idle: bool = False
    """Nobody has subscribed to it, as was seen a while ago."""
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)


class FollowedTopics(Topics):
    """Every topic that somebody subscribes to here is followed once; the others are not.

    Attributes:
        on_batches: Gets what the log has become longer by.
    """

    def __init__(self, log: ShardedLog, *, tail_bytes_max: int) -> None:
        super().__init__(log, tail_bytes_max=tail_bytes_max)
        self.on_batches: Callable[[list[Batch]], None] = lambda _: None
        self._followed: dict[TopicKey, _Followed] = {}

    @property
    def followed(self) -> int:
        """How many topics are followed."""
        return len(self._followed)

    @override
    async def prepare(self, key: TopicKey) -> None:
        """What is appended is routed wherever somebody follows."""

    @override
    async def open(self, key: TopicKey) -> TopicLog:
        """The topic; from the first use on it is followed. Raises LogFailure."""
        followed = self._followed.get(key)
        if followed is None:
            followed = _Followed(asyncio.ensure_future(self._follow(key)))
            self._followed[key] = followed
        followed.idle = False
        return await asyncio.shield(followed.opening)

    async def _follow(self, key: TopicKey) -> TopicLog:
        try:
            bounds = await self.log.bounds(key)
            topic = TopicLog(key, first_seq=bounds.first_seq, next_seq=bounds.next_seq)
            self._topics[key] = topic
            stop = await cast("ShardedLog", self.log).follow(
                key,
                bounds.next_seq,
                lambda batch: self.on_batches([batch]),
                passed=lambda seq: self._passed(topic, seq),
            )
        except BaseException:
            self._topics.pop(key, None)
            self._followed.pop(key, None)
            raise
        self._followed[key].stop = stop
        return topic

    def _passed(self, topic: TopicLog, seq: int) -> None:
        """Everything below a number has been routed."""
        topic.routed_to = max(topic.routed_to, seq)
        followed = self._followed.get(topic.key)
        if followed is None or not followed.waiting:
            return
        for wanted, future in followed.waiting:
            if wanted <= topic.routed_to and not future.done():
                future.set_result(None)
        followed.waiting = [each for each in followed.waiting if not each[1].done()]

    async def reach(self, key: TopicKey, seq: int) -> TopicLog:
        """The topic, once everything below a number has been routed. Raises LogFailure.

        A log that is shorter, because its servers have lost its end, is waited for up to that.
        """
        topic = await self.open(key)
        if topic.routed_to >= seq:
            return topic
        next_seq = (await self.log.bounds(key)).next_seq
        if next_seq < seq:
            _log.error("a log is shorter than it was", extra={"topic": key, "next": next_seq})
            seq = next_seq
        followed = self._followed.get(key)
        if topic.routed_to >= seq or followed is None:
            return topic
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        followed.waiting.append((seq, future))
        try:
            async with asyncio.timeout(REACH_S):
                await future
        except TimeoutError:
            raise LogFailure(
                f"{key.tenant}/{key.topic.value} cannot be read up to its end"
            ) from None
        return topic

    async def catch_up(self, key: TopicKey) -> TopicLog:
        """The topic, once everything that is in its log by now has been routed. Raises LogFailure."""
        return await self.reach(key, (await self.log.bounds(key)).next_seq)

    async def refresh(self) -> dict[TopicKey, int]:
        """Where the logs begin of those topics that have lost something. Raises LogFailure."""
        begins: dict[TopicKey, int] = {}
        for topic in list(self):
            first_seq = (await self.log.bounds(topic.key)).first_seq
            if first_seq > topic.first_seq:
                begins[topic.key] = first_seq
        return begins

    async def leave_idle(self) -> None:
        """Stop following what nobody has subscribed to since the last time."""
        for key, followed in list(self._followed.items()):
            topic = self._topics.get(key)
            if topic is None or followed.stop is None or topic.subscriptions:
                followed.idle = False
            elif followed.idle:
                await self._leave(key, followed.stop)
            else:
                followed.idle = True

    async def _leave(self, key: TopicKey, stop: Stop) -> None:
        del self._followed[key]
        self._topics.pop(key, None)
        await stop()
        _log.info("topic not followed any more", extra={"topic": key})

    async def close(self) -> None:
        """Follow nothing any more."""
        for followed in list(self._followed.values()):
            followed.opening.cancel()
            await asyncio.gather(followed.opening, return_exceptions=True)
            if followed.stop is not None:
                await followed.stop()
        self._followed.clear()
