"""What each node of a cluster does while the same subscriptions are divided among more of them.

At a fixed pace and with batches of a known size: a node that is always busy makes its batches as
large as they become, and what a batch costs is then hidden in what a message costs.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from bench.backlog import broker
from bench.children import Child
from bench.clients import (
    Endpoint,
    Link,
    Login,
    ReceiverReport,
    SenderReport,
    build_clients,
    start_receiver,
)
from bench.cluster_broker import Node, batches_in, joined, keys_in, migrated, servers_up
from bench.errors import RunError
from bench.hotpath_broker import SUBSCRIPTION, TOPIC, address_of, create_many, mint_token, post
from bench.procfs import read_usage
from bench.sizing import Amounts, Storing, Work
from bench.workload import Workload

#: Objects that the subscriptions select; those of readers and of nobody come after them.
OBJECTS: Final = 100
READ_OBJECT: Final = 1_000
NOBODYS: Final = 1_000_000
#: Of those who stand by: nobody publishes it at all.
STANDING_BY: Final = 2_000_000
READERS: Final = 12
IDLE_LINKS: Final = 240
NODES: Final = (1, 2, 3)
ALL_MATCH: Final = "by 32, all match"
#: A node that uses less than this share of a processor has nothing to do, and it has to be so soon.
QUIET_SHARE: Final = 0.08
QUIET_S: Final = 120.0
_ROUNDS: Final = count()


@dataclass(frozen=True, slots=True)
class Load:
    """What is published while the nodes are looked at; nothing, with no rate."""

    name: str
    rate: float = 0.0
    at_once: int = 1
    first_object: int = NOBODYS
    objects: int = OBJECTS
    readers: int = 0
    links: int = 0
    """That stand by."""


LOADS: Final = (
    Load("nothing"),
    Load("links that stand by", first_object=STANDING_BY, links=IDLE_LINKS),
    Load("one by one, for nobody", 200.0),
    Load("by 32, for nobody", 1_600.0, 32),
    Load(ALL_MATCH, 1_600.0, 32, first_object=0),
    Load("by 32, half match", 1_600.0, 32, first_object=0, objects=2 * OBJECTS),
    Load("by 4, all match", 800.0, 4, first_object=0),
    Load("by 32, read", 1_600.0, 32, first_object=READ_OBJECT, objects=1, readers=READERS),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was measured."""

    works: list[Work]
    storing: list[Storing]
    memory: list[tuple[int, int, float]]
    """Nodes, subscriptions, resident bytes of the first node."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster that is up."""

    nodes: Sequence[Node]
    server_pid: int
    server_url: str
    prefix: str
    jwt: str
    subscriptions: int
    publisher: tuple[str, str]
    directory: Path


def divide(
    subscriptions: int, *, matches: int, seconds: float, rounds: int, work_dir: Path
) -> Found:
    """One, two and three nodes with the same subscriptions. Raises RunError."""
    found = Found([], [], [])
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-cl-", dir=work_dir))
        directory = Path(name)
        [server] = stack.enter_context(servers_up(directory / "nats", 1))
        key_dir = keys_in(directory)
        assert server.process is not None
        with joined(directory / "none", nodes=1, servers=server.url, prefix="none",
                    key_dir=key_dir) as up:  # fmt: skip
            found.memory.append((1, 0, float(read_usage(up[0].pid).rss_bytes)))
        data_dir = _fill(directory, subscriptions, matches)
        jwt = mint_token(key_dir)
        stages = []
        for nodes in NODES:
            place, prefix = directory / f"nodes-{nodes}", f"many-{nodes}"
            migrated(data_dir, server.url, prefix)
            up = stack.enter_context(
                joined(place, nodes=nodes, servers=server.url, prefix=prefix, key_dir=key_dir)
            )
            stages.append(
                Stage(
                    nodes=up,
                    server_pid=server.process.pid,
                    server_url=server.url,
                    prefix=prefix,
                    jwt=jwt,
                    subscriptions=subscriptions,
                    publisher=asyncio.run(_publisher(up[0].addresses.http, jwt)),
                    directory=place,
                )
            )
        _look_at(stages, found, matches=matches, seconds=seconds, rounds=rounds)
    return found


def _fill(directory: Path, subscriptions: int, matches: int) -> Path:
    """A data directory of a service alone with so many subscriptions to a hundred objects."""
    data_dir = directory / "data"
    with broker(data_dir, directory / "embedded.log") as up:
        load = _workload(subscriptions, matches)
        asyncio.run(create_many(up.addresses.http, mint_token(data_dir), load, prefix=""))
    return data_dir


def _workload(subscriptions: int, fan_out: int) -> Workload:
    return Workload(fan_out=fan_out, subscriptions=subscriptions, message_bytes=323, seconds=1,
        rate=None, window=1_000, credit=1_000, connections=subscriptions, settle="second")  # fmt: skip


async def _publisher(http: str, jwt: str) -> tuple[str, str]:
    headers = {"Authorization": f"Bearer {jwt}"}
    async with aiohttp.ClientSession(http, headers=headers) as session:
        made = await post(session, f"/publishers/{TOPIC}", {"sasTokenTTL": 300})
    return address_of(made["connectionURL"]), made["sasToken"]


def _look_at(
    stages: Sequence[Stage], found: Found, *, matches: int, seconds: float, rounds: int
) -> None:
    """All loads on all clusters, in turn: a slow minute of the machine hits all of them."""
    for stage in stages:
        # Streams, filters and indexes are made at the first message.
        _publish(stage, Load("warm", 1_600.0, 32, first_object=0), seconds=1.0)
        _until_quiet([node.pid for node in stage.nodes])
        rss = float(read_usage(stage.nodes[0].pid).rss_bytes)
        found.memory.append((len(stage.nodes), stage.subscriptions, rss))
    for load in LOADS * rounds:
        for stage in stages:
            works, storing = _measure(stage, load, matches=matches, seconds=seconds)
            found.works.extend(works)
            if not load.readers and not load.links:
                found.storing.append(storing)
            used = ", ".join(f"{work.cpu_us / 1e6:.2f}" for work in works)
            line = f"{load.name}: {len(works)} nodes used {used} s in {storing.seconds:.1f} s"
            print(line, file=sys.stderr, flush=True)


def _until_quiet(pids: Sequence[int]) -> None:
    """Wait until the nodes have nothing left to do of their start, such as counting backlogs.

    Raises RunError when that takes too long.
    """
    until = time.monotonic() + QUIET_S
    while True:
        before = [read_usage(pid) for pid in pids]
        time.sleep(1.0)
        used = [read_usage(pid).cpu_since(at) for pid, at in zip(pids, before, strict=True)]
        if max(used) < QUIET_SHARE:
            return
        if time.monotonic() > until:
            raise RunError(f"the nodes do not come to rest: {max(used):.2f} s in a second")


@dataclass(slots=True)
class _Links:
    """Receivers at each node, by its place."""

    children: list[tuple[int, int, Child]]
    """The node, how many links, and the client."""

    def of(self, node: int) -> int:
        return sum(links for at, links, _ in self.children if at == node)

    def finish(self, messages: int) -> None:
        """Wait for everything to have come and to be settled. Raises RunError."""
        for _, links, child in self.children:
            child.tell(str(messages * links))
        for _, links, child in self.children:
            report = ReceiverReport.parse(child.finish(60.0))
            if report.settled != messages * links or report.error:
                raise RunError(f"{report.settled} of {messages * links} settled {report.error}")


def _measure(
    stage: Stage, load: Load, *, matches: int, seconds: float
) -> tuple[list[Work], Storing]:
    """One load: what every node did and used, and the server. Raises RunError."""
    # Those of an earlier round still want theirs.
    shifted = READ_OBJECT + next(_ROUNDS) if load.readers else load.first_object
    shares = _shares(stage)
    with _receivers(stage, load.readers or load.links, shifted) as links:
        pids = [*(node.pid for node in stage.nodes), stage.server_pid]
        batches = asyncio.run(batches_in(stage.server_url, stage.prefix))
        begun, before = time.monotonic(), [read_usage(pid) for pid in pids]
        messages = _publish(stage, load, seconds=seconds, first_object=shifted)
        if load.readers:
            links.finish(messages)
        time.sleep(0.5)
        used = [1e6 * read_usage(pid).cpu_since(at) for pid, at in zip(pids, before, strict=True)]
        took = time.monotonic() - begun
        batches = asyncio.run(batches_in(stage.server_url, stage.prefix)) - batches
    selected = _selected(messages, load) * matches
    works = []
    for at, cpu_us in enumerate(used[:-1]):
        read = messages * links.of(at) if load.readers else 0
        amounts = Amounts(
            seconds=took,
            taken_batches=batches if at == 0 else 0,
            taken=messages if at == 0 else 0,
            read_batches=batches,
            read=messages,
            matches=selected * shares[at] + read,
            deliveries=read,
            link_seconds=took * links.of(at),
        )
        works.append(Work(load.name, len(stage.nodes), at, amounts, max(cpu_us, 1.0)))
    return works, Storing(len(stage.nodes), took, batches, max(used[-1], 1.0))


def _selected(messages: int, load: Load) -> int:
    """How many of the messages are about an object that the subscriptions select."""
    if load.first_object:
        return 0
    rounds, rest = divmod(messages, load.objects)
    return rounds * OBJECTS + min(rest, OBJECTS)


def _publish(stage: Stage, load: Load, *, seconds: float, first_object: int | None = None) -> int:
    """Messages that were accepted at the first node; none without a rate. Raises RunError."""
    if not load.rate:
        # What a node uses then is next to nothing, and the clock of processor time is coarse.
        time.sleep(3 * seconds)
        return 0
    address, token = stage.publisher
    first = load.first_object if first_object is None else first_object
    command = [str(build_clients() / "load-send"), "--server", stage.nodes[0].addresses.amqp]
    command += ["--address", address, "--seconds", str(seconds), "--size", "323"]
    command += ["--window", "4000", "--rate", str(load.rate), "--at-once", str(load.at_once)]
    command += ["--objects", str(load.objects), "--first-object", str(first), "--user", "bench"]
    log = stage.directory / "load-send.log"
    with Child(command, log=log, environment={"BENCH_TOKEN": token}) as sender:
        report = SenderReport.parse(sender.finish(60 + seconds))
    if report.refused or report.error:
        raise RunError(f"{report.refused} messages refused {report.error}")
    return report.accepted


def _shares(stage: Stage) -> list[float]:
    """The share of all subscriptions that each node serves."""
    counts = asyncio.run(_served([node.addresses.http for node in stage.nodes]))
    return [count / sum(counts) for count in counts]


async def _served(urls: Sequence[str]) -> list[float]:
    found = []
    for url in urls:
        async with aiohttp.ClientSession(url) as session, session.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        [count] = [line.split()[1] for line in lines if line.startswith("hotpath_subscriptions ")]
        found.append(float(count))
    return found


@contextmanager
def _receivers(stage: Stage, count: int, of_object: int) -> Iterator[_Links]:
    """So many links to subscriptions to an object, each at the node that serves it."""
    with ExitStack() as stack:
        links = _Links([])
        made = asyncio.run(_subscribed(stage, count, of_object)) if count else []
        for at, node in enumerate(stage.nodes):
            served = [link for netloc, link in made if netloc == node.addresses.amqp]
            own = [replace(link, connection=place) for place, link in enumerate(served)]
            if not own:
                continue
            place = Path(tempfile.mkdtemp(prefix="links-", dir=stage.directory))
            end = Endpoint(node.addresses.amqp, "", Login(), Login(user="bench"), tuple(own),
                           node.pid, "second")  # fmt: skip
            child = stack.enter_context(start_receiver(end, _workload(len(own), len(own)), place))
            links.children.append((at, len(own), child))
        if sum(number for _, number, _ in links.children) != count:
            raise RunError("a subscription is served nowhere")
        yield links


async def _subscribed(stage: Stage, count: int, of_object: int) -> list[tuple[str, Link]]:
    """Subscriptions, created on all nodes in turn: where each is served, and its link."""
    found: list[tuple[str, Link]] = []
    headers = {"Authorization": f"Bearer {stage.jwt}"}
    body = {**SUBSCRIPTION, "filter": f"objectId = 'obj-{of_object:08d}'"}
    for at, node in enumerate(stage.nodes):
        async with aiohttp.ClientSession(node.addresses.http, headers=headers) as session:
            for _ in range(at, count, len(stage.nodes)):
                made = await post(session, f"/subscriptions/{TOPIC}", body)
                url = made["connectionURL"]
                link = Link(0, address_of(url), made["sasToken"])
                found.append((urlsplit(url).netloc, link))
    return found
