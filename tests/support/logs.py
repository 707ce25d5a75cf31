"""Harnesses that open, close, kill and reopen a log and a store of each adapter."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.ports import Commit, MessageLog, RecordStore, Recovered
from hotpath.storage.memory import MemoryLog, MemoryStore
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore

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


def memory_harness(_: Path, limits: SegmentLimits) -> LogHarness:
    return MemoryHarness(limits)


def sqlite_harness(directory: Path, limits: SegmentLimits) -> LogHarness:
    # Whether the disk has it is what the fault tests look at.
    return SqliteHarness(directory, SqliteOptions(synchronous="off", limits=limits))


HARNESSES: dict[str, Callable[[Path, SegmentLimits], LogHarness]] = {
    "memory": memory_harness,
    "sqlite": sqlite_harness,
}
