"""What happens to a cluster in a round, and how it is mended."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.support.cluster import Cluster, Node, routes_between, way
from tests.support.nats import NatsServer

#: How long what was taken away stays away, seconds.
AWAY_S: Final = (0.5, 3.0)
CUT_S: Final = (1.0, 7.0)
PAUSED_S: Final = (1.0, 6.0)

#: Kinds of rounds by weight.
WEIGHTS: Final = {
    "kill a node": 30,
    "kill two nodes": 8,
    "kill a server": 18,
    "kill a node and a server": 4,
    "stop a node": 14,
    "stop a server": 4,
    "cut a node off": 8,
    "stall a node's ways": 8,
    "cut one way": 2,
    "let a node stand still": 4,
    "part a server": 8,
    "part two servers": 4,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One round's fault."""

    kind: str
    nodes: tuple[int, ...]
    server: int
    seconds: float

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.kind} (nodes {self.nodes}, server {self.server}, {self.seconds:.1f} s)"


def choose(rng: random.Random, *, nodes: int, servers: int, only: str = "") -> Fault:
    """What happens next; `only` is part of the names of kinds that may be chosen."""
    weights = {kind: weight for kind, weight in WEIGHTS.items() if only in kind}
    kind = rng.choices(list(weights), list(weights.values()))[0]
    low, high = AWAY_S
    if any(word in kind for word in ("cut", "stall", "part")):
        low, high = CUT_S
    elif "still" in kind:
        low, high = PAUSED_S
    count = 2 if kind == "kill two nodes" else 1
    chosen = tuple(rng.sample(range(nodes), count))
    return Fault(kind, chosen, rng.randrange(servers), rng.uniform(low, high))


class Faults:
    """Carries faults out."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def carry_out(self, fault: Fault) -> None:
        """Do it, wait, and mend it; everybody is started again at the return."""
        nodes = [self._cluster.nodes[number] for number in fault.nodes]
        server = self._cluster.servers.servers[fault.server]
        match fault.kind:
            case "kill a node" | "kill two nodes":
                await self._kill(nodes, [], fault.seconds)
            case "kill a server":
                await self._kill([], [server], fault.seconds)
            case "kill a node and a server":
                await self._kill(nodes, [server], fault.seconds)
            case "stop a node":
                await asyncio.to_thread(nodes[0].stop, seconds=40)
                await asyncio.sleep(fault.seconds)
                await _restart(nodes, [])
            case "stop a server":
                await asyncio.to_thread(server.stop)
                await asyncio.sleep(fault.seconds)
                await _restart([], [server])
            case "let a node stand still":
                nodes[0].signal(signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                nodes[0].signal(signal.SIGCONT)
            case _:
                await self._partition(fault)

    async def _kill(self, nodes: list[Node], servers: list[NatsServer], seconds: float) -> None:
        ends: list[Callable[[], None]] = [
            *(node.kill for node in nodes),
            *(server.kill for server in servers),
        ]
        await asyncio.gather(*(asyncio.to_thread(end) for end in ends))
        await asyncio.sleep(seconds)
        await _restart(nodes, servers)

    async def _partition(self, fault: Fault) -> None:
        ways = self._cluster.ways
        assert ways is not None
        names = self._names(fault)
        (ways.stall if "stall" in fault.kind else ways.cut)(names)
        await asyncio.sleep(fault.seconds)
        ways.mend(names)

    def _names(self, fault: Fault) -> list[str]:
        """The ways that are taken away."""
        others = [n for n in range(len(self._cluster.servers.servers)) if n != fault.server]
        match fault.kind:
            case "cut one way":
                return [way(fault.nodes[0], fault.server)]
            case "part a server":
                # Nodes and clients still reach it, and it reaches no other server.
                return routes_between(fault.server, others)
            case "part two servers":
                return routes_between(fault.server, others[:1])
        return self._cluster.ways_of(fault.nodes[0])


async def _restart(nodes: list[Node], servers: list[NatsServer]) -> None:
    starts: list[Awaitable[object]] = [asyncio.to_thread(each.start) for each in servers]
    starts += [asyncio.to_thread(node.start) for node in nodes]
    await asyncio.gather(*starts)
