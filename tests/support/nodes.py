"""Nodes of a cluster as tests need them: a link and a log each, on the same streams."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from hotpath.model.names import SubscriptionId
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from tests.support.logs import next_prefix, shared_server
from tests.support.nats import MISSING

needs_server = pytest.mark.skipif(bool(MISSING), reason=MISSING or "a server is there")


@dataclass
class Node:
    """One node's link and log; what it lost and what it found damaged."""

    link: Link
    log: JetStreamLog
    options: LogOptions
    lost: list[int] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def names(self) -> Names:
        return Names(self.options.prefix, shards=self.options.shards)

    def shard_of(self, subscription: SubscriptionId) -> int:
        return self.names.shard_of(subscription)


@dataclass
class Nodes:
    """Makes nodes and ends them."""

    urls: tuple[str, ...]
    options: LogOptions
    made: list[Node] = field(default_factory=list)

    async def add(self, *urls: str, options: LogOptions | None = None) -> Node:
        """Another node, open."""
        options = options or self.options
        link = Link(LinkOptions(urls or self.urls, request_seconds=1.0, silence_seconds=0.5))
        damage: list[str] = []
        log = JetStreamLog(link, options, node=f"n{len(self.made)}", on_damage=damage.append)
        node = Node(link, log, options, damage=damage)
        log.on_lost = node.lost.append
        self.made.append(node)
        await link.open()
        await log.open()
        return node

    async def end(self) -> None:
        """End all nodes."""
        for node in self.made:
            await node.log.close()
            await node.link.close()


@asynccontextmanager
async def nodes_on(*urls: str, **options: object) -> AsyncIterator[Nodes]:
    """Nodes with streams of their own, on the shared server if no other is given."""
    settings = {"prefix": next_prefix(), "shards": 4, **options}
    nodes = Nodes(urls or (shared_server().url,), LogOptions(**settings))
    try:
        yield nodes
    finally:
        await nodes.end()


async def until(look: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not look():
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
