"""Three nodes on three nats-servers, a feed that goes on while one of each is killed.

    make cluster-demo          or: python -m examples.cluster_demo --seconds 30

Everything runs on free ports of the loopback and is gone afterwards. A publisher counts up through
a load balancer, a reader receives on one subscription through it; the node that serves the
subscription is killed and comes back, then a nats-server. At the end every number that was
accepted must have come; the exit code is 0 when it has.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import aiohttp
from proton import Message

from hotpath.client.errors import ClientError
from hotpath.client.feed import Feed
from hotpath.client.rest import Access, RestClient
from hotpath.model.names import Topic
from tests.support.cluster import Cluster, running_cluster
from tests.support.nats import MISSING
from tests.support.ways import Ways

#: Numbers a second.
RATE: Final = 100
UP, DOWN = "●", "○"
TOPIC: Final = Topic.VARIABLES


@dataclass
class Story:
    """What has happened so far."""

    begun: float = field(default_factory=time.monotonic)
    accepted: set[int] = field(default_factory=set)
    received: dict[int, int] = field(default_factory=dict)
    chapter: str = "all is well"
    last_came: float = 0.0
    gaps: dict[str, float] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    def came(self, number: int) -> None:
        """A number was received."""
        now = time.monotonic()
        if self.last_came:
            gap = now - self.last_came
            self.gaps[self.chapter] = max(self.gaps.get(self.chapter, 0.0), gap)
        self.last_came = now
        self.received[number] = self.received.get(number, 0) + 1

    @property
    def missing(self) -> set[int]:
        """Accepted and not received."""
        return self.accepted - self.received.keys()

    @property
    def duplicates(self) -> int:
        """How many came once more."""
        return sum(self.received.values()) - len(self.received)


class Screen:
    """A status line that is written anew, and lines of what happens above it."""

    def __init__(self, story: Story, *, nodes: Sequence[str], servers: Sequence[str]) -> None:
        self._story = story
        self._names = (*nodes, "|", *servers)
        self._live = sys.stdout.isatty()

    def say(self, text: str) -> None:
        """Something happens."""
        clear = "\r\x1b[K" if self._live else ""
        print(f"{clear}{time.monotonic() - self._story.begun:5.1f} s  {text}", flush=True)

    def show(self) -> None:
        """The status line."""
        story = self._story
        lights = " ".join(
            name if name == "|" else f"{DOWN if name in story.down else UP} {name}"
            for name in self._names
        )
        waiting = time.monotonic() - story.last_came if story.last_came else 0.0
        text = (
            f"{lights}   accepted {len(story.accepted):6}  received {len(story.received):6}  "
            f"last {waiting:4.1f} s ago"
        )
        print(f"\r\x1b[K{text}" if self._live else f"         {text}", end="", flush=True)
        if not self._live:
            print(flush=True)


async def publish(story: Story, url: str, token: str) -> None:
    """Count up, one request after the other; what is not accepted is sent again."""
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=15, connect=2)
    number = 0
    while True:
        number += 1
        facts = {"objectId": "demo", "variable": "count", "value": number}
        while number not in story.accepted:
            # A connection each, so that the balancer gives each request to the next node.
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(f"{url}/messages/{TOPIC.value}", json=facts, headers=headers) as r,
                ):
                    if r.status == 202:
                        story.accepted.add(number)
        await asyncio.sleep(1 / RATE)


async def read(story: Story, feed: Feed) -> None:
    """Receive for ever; the client comes back by itself."""
    async for delivery in feed.deliveries():
        message = Message()
        message.decode(delivery.encoded)
        story.came(int(json.loads(bytes(cast("bytes", message.body)))["value"]))


async def tell(screen: Screen) -> None:
    """Show how it stands."""
    while True:
        screen.show()
        await asyncio.sleep(0.1 if sys.stdout.isatty() else 2.0)


async def play(story: Story, cluster: Cluster, screen: Screen, *, owner: int, beat: float) -> None:
    """What is done to the cluster; `beat` is the time between two acts, seconds."""
    node = cluster.nodes[owner]
    server = cluster.servers.servers[0]
    acts: list[tuple[str, str, Callable[[], object], str]] = [
        ("kill -9 of the node that serves the feed", "down", node.kill, f"node-{owner}"),
        ("the node is started again", "up", node.start, f"node-{owner}"),
        ("kill -9 of a nats-server", "down", server.kill, server.name),
        ("the nats-server is started again", "up", server.start, server.name),
    ]
    await asyncio.sleep(beat)
    for text, direction, act, name in acts:
        screen.say(text)
        story.chapter = text
        if direction == "down":
            story.down.add(name)
        await asyncio.to_thread(act)
        story.down.discard(name) if direction == "up" else None
        await asyncio.sleep(beat if direction == "up" else 1.5 * beat)


async def demonstrate(cluster: Cluster, seconds: float) -> Story:
    """Everything, for about so long."""
    with ExitStack() as stack:
        ports = {
            name: [urlsplit(node.urls[name]).port or 0 for node in cluster.nodes]
            for name in ("http", "amqp")
        }
        balancer = Ways(ports)
        stack.callback(balancer.stop)
        http, amqp = (f"{name}://127.0.0.1:{balancer.ports[name]}" for name in ("http", "amqp"))
        token = cluster.nodes[0].token(tenant="demo")
        story = Story()
        names = [f"node-{node.number}" for node in cluster.nodes]
        screen = Screen(
            story, nodes=names, servers=[server.name for server in cluster.servers.servers]
        )
        async with RestClient(http, lambda: token) as rest:
            access = await rest.create(TOPIC, "objectId = 'demo'", ttl=60, sas_ttl=50)
            # The URL names the node that serves it; the reader comes through the balancer.
            parts = urlsplit(access.url)
            owner = ports["amqp"].index(parts.port) if parts.port in ports["amqp"] else 0
            screen.say(f"a subscription, served by node-{owner}; {RATE} numbers a second")
            feed = Feed(rest, TOPIC, Access(access.identity, amqp + parts.path, access.token))
            await _run(story, cluster, screen, feed=feed, owner=owner, seconds=seconds,
                       publishing=publish(story, http, token))  # fmt: skip
        return story


async def _run(
    story: Story,
    cluster: Cluster,
    screen: Screen,
    *,
    feed: Feed,
    owner: int,
    seconds: float,
    publishing: Coroutine[None, None, None],
) -> None:
    await feed.start()
    reading = asyncio.ensure_future(read(story, feed))
    telling = asyncio.ensure_future(tell(screen))
    sending = asyncio.ensure_future(publishing)
    try:
        await play(story, cluster, screen, owner=owner, beat=seconds / 6)
        sending.cancel()
        deadline = time.monotonic() + 20
        while story.missing and time.monotonic() < deadline:
            await asyncio.wait([reading], timeout=0.1)
    finally:
        for task in (reading, telling, sending):
            task.cancel()
        ends = await asyncio.gather(reading, telling, sending, return_exceptions=True)
        with suppress(ClientError):
            await feed.close()
    for end in ends:
        if isinstance(end, Exception):
            raise end
    screen.say("the end")


def summarise(story: Story) -> int:
    """The numbers at the end; the exit code."""
    print(
        f"\n{len(story.accepted)} numbers accepted, {len(story.received)} received, "
        f"{len(story.missing)} missing, {story.duplicates} came twice"
    )
    for chapter, gap in story.gaps.items():
        print(f"  longest pause of the feed, {chapter}: {gap:.2f} s")
    return 1 if story.missing or not story.received else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m examples.cluster_demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=36.0, help="about how long (36)")
    options = parser.parse_args(arguments)
    if MISSING:
        print(MISSING, file=sys.stderr)
        return 2
    print("starting three nats-servers and three nodes", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="cluster-demo-") as name,
        running_cluster(Path(name), rate_limit="100000/second", log_level="warning") as cluster,
    ):
        return summarise(asyncio.run(demonstrate(cluster, options.seconds)))


if __name__ == "__main__":
    sys.exit(main())
