"""Harnesses that open, close, kill and reopen a log and a store of each adapter."""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.ports import Commit, MessageLog, RecordStore, Recovered
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from hotpath.storage.jetstream.records import JetStreamStore
from hotpath.storage.memory import MemoryLog, MemoryStore
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from tests.support.nats import MISSING, NatsServer, nats_cluster, nats_server

VARIABLES = TopicKey(TenantId("acme"), Topic.VARIABLES)
ALARMS = TopicKey(TenantId("acme"), Topic.ALARMS)
OTHER_TENANT = TopicKey(TenantId("globex"), Topic.VARIABLES)
SUB = SubscriptionId("sub-1")
OTHER_SUB = SubscriptionId("sub-2")
HOUR_MS = 3_600_000


def append(topic: TopicKey, *payloads: bytes, now_ms: int = 1000) -> Commit:
    """A commit with one append."""
    return Commit(now_ms, appends=[(topic, list(payloads))])


class LogHarness(Protocol):
    """What a conformance test may do to an adapter besides the ports."""

    log: MessageLog
    store: RecordStore
    is_embedded: bool
    """Whether numbers have no gaps and retention drops segments as they were configured."""

    async def start(self) -> Recovered: ...

    async def restart(self) -> Recovered:
        """Close in order and open again."""
        ...

    async def kill_and_restart(self) -> Recovered:
        """Lose everything that is not durable and open again."""
        ...

    async def stop(self) -> None: ...


@dataclass
class MemoryHarness:
    limits: SegmentLimits = field(default_factory=SegmentLimits)

    is_embedded = True

    def __post_init__(self) -> None:
        self.log = MemoryLog(self.limits)
        self.store = MemoryStore()

    async def start(self) -> Recovered:
        return await self.log.open()

    async def restart(self) -> Recovered:
        await self.log.close()
        return await self.log.open()

    async def kill_and_restart(self) -> Recovered:
        self.log.crash()
        return await self.log.open()

    async def stop(self) -> None:
        await self.log.close()


@dataclass
class SqliteHarness:
    """A kill is a copy of the files as they are at that moment: what a dead process leaves."""

    directory: Path
    options: SqliteOptions
    damage: list[str] = field(default_factory=list)
    generation: int = 0

    is_embedded = True

    def __post_init__(self) -> None:
        self._make()
        self._dead: list[SqliteLog] = []

    def _make(self) -> None:
        self.database = SqliteDatabase(self.path, self.options)
        self.log = SqliteLog(self.database, on_damage=self.damage.append)
        self.store = SqliteStore(self.database)

    @property
    def path(self) -> Path:
        return self.directory / f"generation-{self.generation}"

    async def start(self) -> Recovered:
        return await self.log.open()

    async def restart(self) -> Recovered:
        await self.log.close()
        self._make()
        return await self.log.open()

    async def kill_and_restart(self) -> Recovered:
        before = self.path
        self.generation += 1
        shutil.copytree(before, self.path)
        self._dead.append(self.log)
        self._make()
        return await self.log.open()

    async def stop(self) -> None:
        for log in (*self._dead, self.log):
            await log.close()


#: What all tests of this process share; `tests/conftest.py` ends it. A worker of pytest-xdist ends
#: without what is registered with `atexit`.
_shared = ExitStack()


def close_shared() -> None:
    """End what tests of this process have shared."""
    _shared.close()


@cache
def shared_server() -> NatsServer:
    """One nats-server for all tests of this process, until it ends."""
    return _shared.enter_context(nats_server())


@cache
def shared_cluster() -> tuple[tuple[str, ...], int]:
    """Where the conformance suites find JetStream, and with how many copies of everything.

    One server; with NATS_SERVERS=3 in the environment a cluster of three.
    """
    if os.environ.get("NATS_SERVERS", "1") == "1":
        return (shared_server().url,), 1
    directory = _shared.enter_context(TemporaryDirectory(prefix="nats-"))
    return _shared.enter_context(nats_cluster(Path(directory))).urls, 3


_prefixes = count()


def next_prefix() -> str:
    """Begins the names of streams that no other test uses."""
    return f"t{next(_prefixes)}"


class WholeLog(JetStreamLog):
    """A log whose opening claims every shard, as a node does that is alone."""

    async def open(self) -> Recovered:
        recovered = await super().open()
        for part in await asyncio.gather(*map(self.claim, range(self.shards))):
            recovered.progress |= part.progress
            recovered.scheduled += part.scheduled
            recovered.dead |= part.dead
            recovered.dead_sizes |= part.dead_sizes
            recovered.damage += part.damage
        return recovered


@dataclass
class JetStreamHarness:
    """One node alone. A kill leaves the connection as it is, and another node begins."""

    urls: tuple[str, ...]
    options: LogOptions
    damage: list[str] = field(default_factory=list)

    is_embedded = False

    def __post_init__(self) -> None:
        self._dead: list[tuple[JetStreamLog, Link]] = []
        self._make()

    def _make(self) -> None:
        self.link = Link(LinkOptions(self.urls))
        self.log = WholeLog(self.link, self.options, on_damage=self.damage.append)
        self.store = JetStreamStore(self.link, self.options)

    async def start(self) -> Recovered:
        await self.link.open()
        return await self.log.open()

    async def restart(self) -> Recovered:
        await self.log.close()
        await self.link.close()
        self._make()
        return await self.start()

    async def kill_and_restart(self) -> Recovered:
        self._dead.append((self.log, self.link))
        self._make()
        return await self.start()

    async def stop(self) -> None:
        for log, link in (*self._dead, (self.log, self.link)):
            await log.close()
            await link.close()


def memory_harness(_: Path, limits: SegmentLimits) -> LogHarness:
    return MemoryHarness(limits)


def sqlite_harness(directory: Path, limits: SegmentLimits) -> LogHarness:
    # Whether the disk has it is what the fault tests look at.
    return SqliteHarness(directory, SqliteOptions(synchronous="off", limits=limits))


def jetstream_harness(_: Path, __: SegmentLimits) -> LogHarness:
    urls, replicas = shared_cluster()
    return JetStreamHarness(urls, LogOptions(prefix=next_prefix(), shards=4, replicas=replicas))


HARNESSES: dict[str, Callable[[Path, SegmentLimits], LogHarness]] = {
    "memory": memory_harness,
    "sqlite": sqlite_harness,
}
if MISSING:
    print(f"the JetStream adapter is not tested: {MISSING}")
else:
    HARNESSES["jetstream"] = jetstream_harness
