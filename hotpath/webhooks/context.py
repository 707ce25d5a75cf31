"""What all streams' deliveries share: the service's parts, the limits, the tasks."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass

from hotpath.ports import Clock, MessageLog
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.settle import Settling
from hotpath.service.streams import Streams
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics
from hotpath.webhooks.address import TargetPolicy
from hotpath.webhooks.connection import Kept
from hotpath.webhooks.dispatch import Dispatcher
from hotpath.webhooks.retry import Schedule
from hotpath.webhooks.target import Dialer


class Tasks:
    """Work that is not waited for, until the end."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Begin it."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel what still runs."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one stream, from the configuration."""

    window: int
    """Events on their way at a time."""
    width: int
    """Requests under way at a time."""
    history: int
    """Attempts that are remembered."""
    lifetime_ms: int
    """Age at which an event that cannot be delivered is given up."""
    disable_after_ms: int
    """Time of failing after which a stream is disabled."""


@dataclass(frozen=True, slots=True)
class Context:
    """Parts of the service that deliveries use."""

    streams: Streams
    delivering: Delivering
    settling: Settling
    committer: Committer
    log: MessageLog
    topics: Topics
    clock: Clock
    metrics: Metrics
    dispatcher: Dispatcher
    dialer: Dialer
    kept: Kept
    policy: TargetPolicy
    schedule: Schedule
    limits: Limits
    draw: random.Random
    """Where jitter comes from."""
    agent: str
    """The `User-Agent` of all requests."""
    tasks: Tasks
