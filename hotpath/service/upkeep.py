"""Regular work: heartbeats, checkpoints of all progress, and retention."""

import asyncio
from typing import Final

from hotpath.model.names import TopicKey
from hotpath.ports import Clock, LogFailure, MessageLog, TimerHandle
from hotpath.service.commit import Committer
from hotpath.service.liveness import BEAT_MS
from hotpath.service.topics import Topics
from hotpath.telemetry import get_logger

#: Every so many heartbeats, progress is written in full.
BEATS_PER_CHECKPOINT: Final = 2
#: Every so many heartbeats, old segments are dropped.
BEATS_PER_TRIM: Final = 3

_log = get_logger("hotpath.upkeep")


class Upkeep:
    """Beats as long as the service is up."""

    def __init__(
        self,
        *,
        log: MessageLog,
        topics: Topics,
        committer: Committer,
        clock: Clock,
        retention_ms: int,
        retention_bytes: int | None,
    ) -> None:
        self._log = log
        self._topics = topics
        self._committer = committer
        self._clock = clock
        self._retention_ms = retention_ms
        self._retention_bytes = retention_bytes
        self._beats = 0
        self._timer: TimerHandle | None = None
        self._trimming: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with a heartbeat now."""
        self._beat()

    def _beat(self) -> None:
        checkpoint = self._beats % BEATS_PER_CHECKPOINT == 1
        self._committer.beat(checkpoint=checkpoint, counts=self._counts())
        if self._beats % BEATS_PER_TRIM == 0 and self._trimming is None:
            self._trimming = asyncio.ensure_future(self._trim())
        self._beats += 1
        self._timer = self._clock.call_at(self._clock.ticks_ms() + BEAT_MS, self._beat)

    def _counts(self) -> bool:
        """Whether the heartbeat is this one's to note."""
        return True

    async def _trim(self) -> None:
        """Drop what is older or more than is to be kept."""
        try:
            changed = await self._drop_old()
        except LogFailure as failure:
            _log.error("retention failed", extra={"reason": failure.detail})
        else:
            for key, first_seq in changed.items():
                self._begin_at(key, first_seq)
                _log.info("old messages dropped", extra={"topic": key, "first": first_seq})
        finally:
            self._trimming = None

    async def _drop_old(self) -> dict[TopicKey, int]:
        """Where the logs begin now that have become shorter. Raises LogFailure."""
        before_ms = self._clock.now_ms() - self._retention_ms
        changed = await self._log.trim(before_ms=before_ms, bytes_max=self._retention_bytes)
        return {key: bounds.first_seq for key, bounds in changed.items()}

    def _begin_at(self, key: TopicKey, first_seq: int) -> None:
        """A topic's log begins at `first_seq` now: what its subscriptions had below is gone."""
        topic = self._topics.get(key)
        if topic is None:
            return
        topic.first_seq = first_seq
        for subscription in topic.subscriptions.values():
            if subscription.lose_below(first_seq):
                self._committer.touch(subscription)

    async def stop(self) -> None:
        """Stop beating; the last beat goes with the last commit."""
        if self._timer is not None:
            self._timer.cancel()
        if self._trimming is not None:
            await self._trimming
        self._committer.beat(checkpoint=True, counts=self._counts())
