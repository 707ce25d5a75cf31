"""What serves the shards of a node, and where each shard is on its way."""

import asyncio
from enum import Enum
from typing import Protocol

from hotpath.cluster.leases import Lease
from hotpath.ports import Recovered


class Serving(Protocol):
    """What serves the shards of this node."""

    async def begin(self, shard: int, recovered: Recovered) -> None:
        """Serve a shard from now on."""
        ...

    async def end(self, shard: int) -> None:
        """Stop serving a shard, and make durable what was handed in for it."""
        ...

    def drop(self, shard: int) -> None:
        """The shard is another node's: forget it at once, and confirm nothing of it any more."""
        ...

    def pause(self, shard: int) -> None:
        """Hand out nothing of a shard until `resume`; receivers keep what they have."""
        ...

    def resume(self, shard: int) -> None:
        """Go on with a shard."""
        ...


class Phase(Enum):
    """Where a shard is, seen from this node."""

    FREE = "free"
    TAKING = "taking"
    HELD = "held"
    GIVING = "giving"


class ShardState:
    """One shard on this node."""

    __slots__ = ("epoch", "failures", "lease", "paused", "phase", "retry_ms", "task", "upset")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.phase = Phase.FREE
        self.epoch = 0
        self.paused = False
        #: Lost again while it was being taken.
        self.upset = False
        self.failures = 0
        self.retry_ms = 0
        self.task: asyncio.Task[None] | None = None
