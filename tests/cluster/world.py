"""Several nodes in one process, with the time, the network and the log in a test's hands."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.events import OwnershipEvent
from hotpath.cluster.membership import Membership, NodeIdTaken, Timings
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.serving import Phase
from hotpath.cluster.sharding import assign
from hotpath.ports import Clock, LogFailure, Recovered
from hotpath.service.clock import sleep_until
from tests.support.clock import ManualClock, settle
from tests.support.coordination import Bucket, MemoryCoordination


class NodeClock:
    """A node's clocks: its wall clock is off, its timers stop while it is frozen."""

    def __init__(self, clock: ManualClock, wall_offset_ms: int) -> None:
        self._clock = clock
        self._wall_offset_ms = wall_offset_ms
        self._ticks_offset_ms = wall_offset_ms * 7 + 12_345
        self.frozen = False
        self._late: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._wall_offset_ms

    def ticks_ms(self) -> int:
        return self._clock.ticks_ms() + self._ticks_offset_ms

    def call_at(self, ticks_ms, callback):
        def due():
            if self.frozen:
                self._late.append(callback)
            else:
                callback()

        return self._clock.call_at(ticks_ms - self._ticks_offset_ms, due)

    def thaw(self) -> None:
        self.frozen = False
        late, self._late = self._late, []
        for callback in late:
            callback()


@dataclass
class Journals:
    """What the shared log keeps: who claimed each shard last, and what took effect."""

    claimed_by: dict[int, "FakeLog"] = field(default_factory=dict)
    written: list[tuple[int, str, int]] = field(default_factory=list)
    """Shard, node and the epoch that it believed to have."""


class FakeLog:
    """One node's access to the journals; just what ownership needs of a `ShardedLog`."""

    def __init__(self, journals: Journals, clock: Clock, name: str) -> None:
        self._journals = journals
        self._clock = clock
        self.name = name
        self.on_lost: Callable[[int], None] = lambda _: None
        self.cut = False
        self.claims = 0
        self.claim_ms = 0
        self.refusals = 0

    async def claim(self, shard: int) -> Recovered:
        self.claims += 1
        await self._travel()
        if self.refusals > 0:
            self.refusals -= 1
            raise LogFailure("no quorum")
        if self.claim_ms:
            await sleep_until(self._clock, self._clock.ticks_ms() + self.claim_ms)
        self._journals.claimed_by[shard] = self
        return Recovered()

    async def release(self, shard: int) -> None:
        await self._travel()

    async def _travel(self) -> None:
        if self.cut:
            await sleep_until(self._clock, self._clock.ticks_ms() + 1_000)
            raise LogFailure("no answer")

    def write(self, shard: int, epoch: int) -> bool:
        """Settle something; whether it took effect."""
        if self.cut:
            return False
        if self._journals.claimed_by.get(shard) is not self:
            self.on_lost(shard)
            return False
        self._journals.written.append((shard, self.name, epoch))
        return True


class FakeServing:
    """What serves the shards of a node: notes who is served."""

    def __init__(self) -> None:
        self.serving: dict[int, str] = {}
        self.calls: list[tuple[str, int]] = []
        self.end_ms = 0
        self.clock: Clock | None = None

    async def begin(self, shard: int, recovered: Recovered) -> None:
        assert shard not in self.serving
        self.serving[shard] = "serving"
        self.calls.append(("begin", shard))

    async def end(self, shard: int) -> None:
        self.calls.append(("end", shard))
        if self.end_ms and self.clock is not None:
            await sleep_until(self.clock, self.clock.ticks_ms() + self.end_ms)
        self.serving.pop(shard, None)

    def drop(self, shard: int) -> None:
        self.calls.append(("drop", shard))
        self.serving.pop(shard, None)

    def pause(self, shard: int) -> None:
        self.serving[shard] = "paused"

    def resume(self, shard: int) -> None:
        assert self.serving[shard] == "paused"
        self.serving[shard] = "serving"


class Node:
    """One node."""

    def __init__(self, world: "World", name: str, run: int) -> None:
        self.name = name
        self.world = world
        self.clock = NodeClock(world.clock, world.offsets.get(name, 0))
        self.seat = MemoryCoordination(world.bucket, self.clock)
        self.log = FakeLog(world.journals, self.clock, f"{name}/{run}")
        self.serving = FakeServing()
        self.serving.clock = self.clock
        self.membership = Membership(
            self.seat, self.clock, NodeCard(name, f"{name}-run{run}"), timings=world.timings
        )
        self.ownership = Ownership(
            membership=self.membership,
            coordination=self.seat,
            log=self.log,
            serving=self.serving,
            clock=self.clock,
            shards=world.shards,
        )
        self.ownership.on_event = self._note
        self.events: list[OwnershipEvent] = []
        self.alive = True
        self.starting: asyncio.Task[None] | None = None

    def _note(self, event: OwnershipEvent) -> None:
        self.events.append(event)
        # Not raised here: what calls this would take it for a fault of its own.
        self.world.look()

    async def start(self) -> None:
        try:
            await self.membership.join()
            await self.ownership.start()
        except (LogFailure, NodeIdTaken):
            self.alive = False
            await self.ownership.abandon()

    def serves(self, shard: int) -> bool:
        """Whether it would hand out a message, or confirm one, if asked now."""
        return (
            self.alive
            and self.serving.serving.get(shard) == "serving"
            and self.ownership.serves(shard)
        )

    def cut(self) -> None:
        self.seat.cut = self.log.cut = True

    def heal(self) -> None:
        self.log.cut = False
        self.seat.heal()

    def freeze(self) -> None:
        self.clock.frozen = self.seat.frozen = True

    def thaw(self) -> None:
        self.seat.frozen = False
        self.clock.thaw()
        self.seat.thaw()


class World:
    """All nodes, what they agree through and what they write to."""

    def __init__(self, *, shards: int = 8, timings: Timings | None = None, offsets=None) -> None:
        self.clock = ManualClock()
        self.bucket = Bucket()
        self.journals = Journals()
        self.shards = shards
        self.timings = timings or Timings()
        self.offsets = offsets or {}
        self.nodes: dict[str, Node] = {}
        self.all: list[Node] = []
        self.runs = 0
        self.faults: list[str] = []

    def make(self, name: str) -> Node:
        """A node that has not started yet."""
        self.runs += 1
        return Node(self, name, self.runs)

    async def start(self, *names: str, prepare: Callable[[Node], None] = lambda _: None) -> None:
        for name in names:
            node = self.make(name)
            prepare(node)
            self.nodes[name] = node
            self.all.append(node)
            node.starting = asyncio.ensure_future(node.start())
        await settle()

    async def kill(self, name: str) -> None:
        node = self.nodes.pop(name)
        node.alive = False
        node.seat.gone()
        node.starting.cancel()
        await asyncio.gather(node.starting, return_exceptions=True)
        await node.ownership.abandon()

    async def stop(self, name: str, *, within_ms: int = 10_000) -> None:
        node = self.nodes.pop(name)
        stopping = asyncio.ensure_future(node.ownership.stop(within_ms=within_ms))
        for _ in range(within_ms // 50 + 80):
            if stopping.done():
                break
            await self.advance(50)
        await stopping
        node.alive = False

    async def advance(self, milliseconds: int, *, step: int = 50) -> None:
        """Go on in small steps; nothing may be wrong at any of them."""
        while milliseconds > 0:
            await self.clock.advance(min(step, milliseconds))
            milliseconds -= step
            self.check()

    def check(self) -> None:
        """No two nodes serve a shard, nor believe to have it in the same epoch; ever so far."""
        self.look()
        assert self.faults == []

    def look(self) -> None:
        """Note what is wrong at this moment."""
        for shard in range(self.shards):
            servers = [node.name for node in self.all if node.serves(shard)]
            if len(servers) > 1:
                self.faults.append(f"shard {shard} is served by {servers}")
            epochs = [
                node.ownership.epoch(shard)
                for node in self.all
                if node.alive and node.ownership.phase(shard) is Phase.HELD
            ]
            if len(epochs) != len(set(epochs)):
                self.faults.append(f"shard {shard}: epochs {epochs}")

    def write_everywhere(self) -> None:
        """Every node that believes to serve a shard settles something."""
        for node in self.all:
            for shard in list(node.serving.serving) if node.alive else ():
                if node.serves(shard):
                    node.log.write(shard, node.ownership.epoch(shard))

    def check_written(self) -> None:
        """What took effect for a shard came from one node an epoch, and epochs only rose."""
        latest: dict[int, tuple[int, str]] = {}
        for shard, name, epoch in self.journals.written:
            before = latest.get(shard, (0, name))
            assert epoch > before[0] or (epoch, name) == before, (shard, before, epoch, name)
            latest[shard] = (epoch, name)

    def placed(self) -> dict[int, str]:
        """The node that serves each shard."""
        return {
            shard: node.name
            for node in self.all
            for shard in range(self.shards)
            if node.serves(shard)
        }

    def wanted(self) -> dict[int, str]:
        """Where the shards belong, with the nodes that are there."""
        owners = enumerate(assign(self.shards, list(self.nodes)))
        return {shard: name for shard, name in owners if name is not None}

    async def close(self) -> None:
        for name in list(self.nodes):
            await self.kill(name)
