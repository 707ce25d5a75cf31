"""The log of settlements: every entry of every shard's journal, as it is written.

An entry names its writer and the entry before it. From a claim on, every entry must be the
claimant's until somebody else claims: else two nodes have settled for the same subscriptions at
the same time. And what a subscription has settled never becomes unsettled, whoever writes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.following import Following
from hotpath.storage.jetstream.frames import decode_entry
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LinkOptions
from hotpath.storage.jetstream.server import JetStream, Stored
from hotpath.storage.jetstream.shardstate import Kind, Record, read_records

_WRITER_BYTES: Final = 8


@dataclass(slots=True)
class _Shard:
    """What is known of one journal."""

    last: int = 0
    owner: bytes | None = None
    epoch: int = 0


class JournalWatch:
    """Reads along, and judges."""

    def __init__(self, urls: Sequence[str], *, prefix: str) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._shards: dict[str, _Shard] = {}
        self._cursors: dict[str, int] = {}
        self._settlers: dict[str, list[tuple[str, int, bytes]]] = {}
        self._marks: set[bytes] = set()
        self._link = Link(LinkOptions(tuple(urls), name="journal-watch"))
        names = Names(prefix, shards=0)
        server = JetStream(self._link, replicas=0, duplicate_seconds=0)
        read = server.reader(names.journals, names.all_journals)
        self._following = Following(self._link, names.journals, deliver=self.take, read=read)

    async def start(self) -> None:
        """Begin with the first entry there is. Raises LogFailure."""
        await self._link.open()
        await self._following.start(1)

    async def stop(self) -> None:
        """End."""
        await self._following.stop()
        await self._link.close()

    def take(self, stored: Stored) -> None:
        """One entry."""
        self.counts["journal entries"] += 1
        shard = self._shards.setdefault(stored.subject, _Shard())
        try:
            entry = decode_entry(stored)
            records = list(read_records(entry.records))
        except Damaged as error:
            self.violations.append(f"{stored.subject} entry {stored.seq}: {error}")
            return
        if shard.last and entry.previous != shard.last:
            # It was removed before it was read, with a journal that was written anew; the shard may
            # have been claimed there.
            self.counts["journal entries not seen"] += 1
            shard.owner, shard.epoch = None, shard.epoch + 1
        shard.last = stored.seq
        writer = entry.writer[:_WRITER_BYTES]
        if any(record.kind is Kind.CLAIMED for record in records):
            shard.owner, shard.epoch = writer, shard.epoch + 1
            self.counts["shards claimed"] += 1
        elif shard.owner is None:
            shard.owner = writer
        elif shard.owner != writer:
            self.violations.append(
                f"{stored.subject} entry {stored.seq}: {writer.hex()} writes in the time of "
                f"{shard.owner.hex()}"
            )
        for record in records:
            self._settled(stored.subject, shard, record, writer=writer)

    def _settled(self, subject: str, shard: _Shard, record: Record, *, writer: bytes) -> None:
        name = record.subscription
        if name is None or record.kind not in (Kind.DELTA, Kind.PROGRESS):
            return
        # A journal that is written anew says again what still counts of it.
        mark = blake2b(record.raw, digest_size=12).digest()
        if mark in self._marks:
            return
        self._marks.add(mark)
        self.counts["settlements logged"] += 1
        settlers = self._settlers.setdefault(name, [])
        if not settlers or settlers[-1][1:] != (shard.epoch, writer):
            settlers.append((subject, shard.epoch, writer))
        delta = record.delta
        if delta is None:
            return
        if delta.cursor < self._cursors.get(name, 0):
            self.violations.append(
                f"{name}: its cursor went back from {self._cursors[name]} to {delta.cursor}"
            )
        self._cursors[name] = max(delta.cursor, self._cursors.get(name, 0))

    def check(self) -> None:
        """One settler an epoch, and epochs in order, for every subscription."""
        for name, settlers in self._settlers.items():
            for (_, before, first), (_, after, then) in pairwise(settlers):
                if after < before or (after == before and first != then):
                    self.violations.append(f"{name}: two nodes settled in epoch {after}")
        self.counts["subscriptions settled"] = len(self._settlers)
        self.counts["subscriptions settled by several nodes in turn"] = sum(
            len({writer for _, _, writer in settlers}) > 1 for settlers in self._settlers.values()
        )
