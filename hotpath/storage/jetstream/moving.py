"""Moves everything of a stopped embedded service into a cluster that has nothing yet.

A message gets another number: the cluster's numbers have gaps. All of them are above the numbers
that the topic has had before, so none is ever given twice, and whatever is not in the log any more
keeps its old number in its place. Records come last: a move that ends half-way has made no
subscription that anybody could see, and is begun again under another prefix.
"""

import asyncio
import json
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, cast
from urllib.parse import unquote

from hotpath.clusterports import shard_of
from hotpath.config import Settings
from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress
from hotpath.ports import Commit, LogFailure, MessageLog, Recovered
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.records import JetStreamStore
from hotpath.storage.jetstream.settings import link_options, log_options
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore

READ_BYTES: Final = 4_194_304
#: What the journals say of who claims the shards.
_NODE: Final = "migrate"
#: Commits that are on their way at the same time.
_UNDER_WAY: Final = 64
#: Subscriptions, or dead letters, in one commit.
_PART: Final = 200
#: Records of these kinds hold sequence numbers.
_SUBSCRIPTIONS: Final = "subscriptions"
_STREAMS: Final = "streams"
_CHUNKS: Final = "stream_points"
_STATES: Final = "points"
_MARKS: Final = "point_marks"

Record = dict[str, object]


class MoveRefused(LogFailure):
    """The move cannot begin, or what is there afterwards is not what was there before."""


@dataclass(slots=True)
class Renumbering:
    """Old numbers of one topic and their new ones: runs that keep their inner order."""

    olds: list[int] = field(default_factory=list)
    news: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Of each run, the old number behind its last."""
    next_old: int = 1
    next_new: int = 1

    def add(self, old: int, new: int, count: int) -> None:
        """So many messages have moved."""
        if self.olds and self.ends[-1] == old and self.news[-1] + old - self.olds[-1] == new:
            self.ends[-1] = old + count
            return
        self.olds.append(old)
        self.news.append(new)
        self.ends.append(old + count)

    def new(self, old: int) -> int:
        """The new number; of what was never in the log, the first one behind it."""
        if old >= self.next_old:
            return self.next_new
        at = bisect_right(self.olds, old) - 1
        if at < 0:
            return old
        if old < self.ends[at]:
            return self.news[at] + old - self.olds[at]
        return self.news[at + 1] if at + 1 < len(self.news) else self.next_new


@dataclass(slots=True)
class Moved:
    """What has been moved."""

    counts: Counter[str] = field(default_factory=Counter)
    topics: dict[str, int] = field(default_factory=dict)
    """Messages of each topic."""

    def as_document(self) -> dict[str, object]:
        """For a line of JSON."""
        return {**self.counts, "topics": self.topics}


class Move:
    """One move; `work` once."""

    def __init__(
        self,
        source: tuple[SqliteLog, SqliteStore],
        target: tuple[JetStreamLog, JetStreamStore],
        *,
        said: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.moved = Moved()
        self._log, self._store = source
        self._to, self._to_store = target
        self._say = said
        self._numbers: dict[TopicKey, Renumbering] = {}
        self._topic_of: dict[SubscriptionId, TopicKey] = {}

    async def work(self, recovered: Recovered) -> Moved:
        """Move all of it, then compare. Raises MoveRefused, LogFailure.

        `recovered` is what the source told at its opening; both logs are open.
        """
        if recovered.damage:
            raise MoveRefused(f"the data is damaged: {'; '.join(recovered.damage[:3])}")
        records = await self._store.everything()
        await self._check_empty(records)
        self._note_topics(records)
        for topic in self._log.topics():
            await self._move_topic(topic)
        held = [await self._to.claim(shard) for shard in range(self._to.shards)]
        if any(each.progress or each.dead or each.scheduled for each in held):
            raise MoveRefused("the cluster has subscriptions already; name another prefix")
        await self._move_progress(recovered)
        await self._move_dead(recovered)
        await self._move_rest(recovered)
        for shard in range(self._to.shards):
            await self._to.release(shard)
        await self._move_records(records)
        await self._compare(recovered, records)
        return self.moved

    async def _check_empty(self, records: Iterable[str]) -> None:
        for kind in {_SUBSCRIPTIONS, _STREAMS, *records}:
            if await self._to_store.load(kind):
                raise MoveRefused(f"the cluster has {kind} already; name another prefix")

    def _note_topics(self, records: dict[str, list[tuple[str, Record]]]) -> None:
        for _, record in records.get(_SUBSCRIPTIONS, []):
            topic = TopicKey(TenantId(str(record["tenant"])), Topic(str(record["topic"])))
            self._topic_of[SubscriptionId(str(record["id"]))] = topic
        for _, record in records.get(_STREAMS, []):
            topic = TopicKey(TenantId(str(record["tenant"])), Topic.POINTS)
            self._topic_of[SubscriptionId(str(record["id"]))] = topic

    # Messages

    async def _move_topic(self, topic: TopicKey) -> None:
        bounds = await self._log.bounds(topic)
        made = await self._to.begin_topic(topic, above=bounds.next_seq)
        if made.first_seq != made.next_seq:
            raise MoveRefused(f"the cluster has messages of {topic.topic.value} already")
        numbers = self._numbers[topic] = Renumbering(next_old=bounds.next_seq)
        under_way: deque[tuple[Batch, Awaitable[list[Batch]]]] = deque()
        count = 0
        async for batch in _batches(self._log, topic, bounds.first_seq):
            work = Commit(batch.enqueued_ms, appends=[(topic, batch.payloads or ())])
            under_way.append((batch, self._to.commit(work)))
            count += batch.count
            if len(under_way) >= _UNDER_WAY:
                await _arrived(numbers, *under_way.popleft())
        while under_way:
            await _arrived(numbers, *under_way.popleft())
        numbers.next_new = (await self._to.bounds(topic)).next_seq
        name = f"{topic.tenant}/{topic.topic.value}"
        self.moved.topics[name] = count
        self.moved.counts["messages"] += count
        self._say(f"{name}: {count} messages")

    def _new(self, name: SubscriptionId, old: int) -> int:
        topic = self._topic_of.get(name)
        numbers = None if topic is None else self._numbers.get(topic)
        return old if numbers is None else numbers.new(old)

    # Subscriptions

    def _renumbered(self, name: SubscriptionId, progress: Progress) -> Progress:
        """Progress in new numbers."""

        def new(old: int) -> int:
            return self._new(name, old)

        return replace(
            progress,
            horizon=new(progress.horizon),
            unsettled=set(map(new, progress.unsettled)),
            settled=set(map(new, progress.settled)),
            counts={new(seq): count for seq, count in progress.counts.items()},
            deferred=set(map(new, progress.deferred)),
            counted_to=new(progress.counted_to),
            modified={new(seq): raw for seq, raw in progress.modified.items()},
        )

    async def _move_progress(self, recovered: Recovered) -> None:
        wanted = [
            (name, self._renumbered(name, progress))
            for name, progress in recovered.progress.items()
            if name in self._topic_of
        ]
        for at in range(0, len(wanted), _PART):
            await self._to.commit(Commit(0, snapshots=wanted[at : at + _PART]))
        self.moved.counts["subscriptions and streams with progress"] = len(wanted)
        self._say(f"progress of {len(wanted)} subscriptions and streams")

    async def _move_dead(self, recovered: Recovered) -> None:
        for name, letters in recovered.dead.items():
            if name not in self._topic_of:
                continue
            async for part in _letters(self._log, name):
                moved = [(name, self._renumbered_letter(name, letter)) for letter in part]
                counts = [
                    (name, self._new(name, letter.seq), letters[letter.seq])
                    for letter in part
                    if letters.get(letter.seq)
                ]
                await self._to.commit(Commit(0, dead=moved, dead_updates=counts))
                self.moved.counts["dead letters"] += len(part)

    def _renumbered_letter(self, name: SubscriptionId, letter: DeadLetter) -> DeadLetter:
        return DeadLetter(
            self._new(name, letter.seq),
            enqueued_ms=letter.enqueued_ms,
            payload=letter.payload,
            reason=letter.reason,
            description=letter.description,
        )

    async def _move_rest(self, recovered: Recovered) -> None:
        """Scheduled messages under their numbers, and how long the service has been up."""
        for at in range(0, len(recovered.scheduled), _PART):
            part = recovered.scheduled[at : at + _PART]
            await self._to.commit(Commit(0, scheduled=part))
        self.moved.counts["scheduled messages"] = len(recovered.scheduled)
        if recovered.alive_ms is not None:
            await self._to.commit(Commit(0, alive_ms=recovered.alive_ms))

    # Records

    def _renumbered_record(self, kind: str, key: str, record: Record) -> Record:
        match kind:
            case "subscriptions" | "streams":
                name = SubscriptionId(str(record["id"]))
                return {**record, "start_seq": self._new(name, _integer(record["start_seq"]))}
            case "stream_points":
                name = SubscriptionId(str(record["stream"]))
                since = json.loads(str(record["since"]))
                new = {point: self._new(name, int(seq)) for point, seq in since.items()}
                return {**record, "since": json.dumps(new)}
            case "points" | "point_marks":
                field_name = "through" if kind == _STATES else "seq"
                numbers = self._numbers.get(TopicKey(_tenant_of(key), Topic.POINTS))
                old = _integer(record[field_name])
                return {**record, field_name: old if numbers is None else numbers.new(old)}
            case _:
                return record

    async def _move_records(self, records: dict[str, list[tuple[str, Record]]]) -> None:
        # Whoever sees a subscription must be able to read what belongs to it.
        order = sorted(records, key=lambda kind: kind in (_SUBSCRIPTIONS, _STREAMS))
        for kind in order:
            wanted = [
                (key, self._renumbered_record(kind, key, record)) for key, record in records[kind]
            ]
            for at in range(0, len(wanted), _PART):
                await self._to_store.put_many(kind, wanted[at : at + _PART])
            self.moved.counts[kind.replace("_", " ")] = len(wanted)
            self._say(f"{kind.replace('_', ' ')}: {len(wanted)}")

    # Afterwards

    async def _compare(
        self, recovered: Recovered, records: dict[str, list[tuple[str, Record]]]
    ) -> None:
        """Read everything back and compare it with the source. Raises MoveRefused."""
        for topic in self._numbers:
            before = await _digest(self._log, topic)
            after = await _digest(self._to, topic)
            _expect(f"{topic.tenant}/{topic.topic.value}", before, after)
        for kind, wanted in records.items():
            found = len(await self._to_store.load(kind))
            _expect(kind, len(wanted), found)
        there = Recovered()
        for shard in range(self._to.shards):
            part = await self._to.claim(shard)
            there.progress |= part.progress
            there.dead |= part.dead
            there.scheduled += part.scheduled
            await self._to.release(shard)
        for name, progress in recovered.progress.items():
            if name in self._topic_of:
                shard = shard_of(name, self._to.shards)
                _expect(
                    f"progress of {name} in shard {shard}",
                    self._renumbered(name, progress),
                    there.progress.get(name),
                )
        wanted_dead = {
            name: {self._new(name, seq): count for seq, count in letters.items()}
            for name, letters in recovered.dead.items()
            if name in self._topic_of and letters
        }
        _expect("dead letters", wanted_dead, {n: kept for n, kept in there.dead.items() if kept})
        _expect("scheduled messages", len(recovered.scheduled), len(there.scheduled))


async def migrate(settings: Settings, *, said: Callable[[str], None]) -> Moved:
    """Move the data directory that settings name to the servers that they name.

    Raises MoveRefused, LogFailure.
    """
    options = log_options(settings)
    database = SqliteDatabase(settings.data_dir)
    log = SqliteLog(database)
    link = Link(link_options(settings, name="hotpath migrate"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        recovered = await log.open()
        stack.push_async_callback(link.close)
        await link.open()
        target = JetStreamLog(link, options, node=_NODE)
        stack.push_async_callback(target.close)
        await target.open()
        stores = (log, SqliteStore(database)), (target, JetStreamStore(link, options))
        return await Move(*stores, said=said).work(recovered)


async def _arrived(numbers: Renumbering, batch: Batch, answer: Awaitable[list[Batch]]) -> None:
    """Note the new numbers of a batch; one that was too large for one message has several."""
    at = batch.first_seq
    for part in await answer:
        numbers.add(at, part.first_seq, part.count)
        at += part.count
    if at != batch.end_seq:
        raise MoveRefused(f"of {batch!r} {at - batch.first_seq} messages were stored")


async def _batches(log: MessageLog, topic: TopicKey, at: int) -> AsyncIterator[Batch]:
    while batches := await log.read(topic, at, bytes_max=READ_BYTES):
        for batch in batches:
            yield batch
        at = batches[-1].end_seq


async def _letters(log: MessageLog, name: SubscriptionId) -> AsyncIterator[list[DeadLetter]]:
    at = 0
    while letters := await log.dead_letters(name, from_seq=at, limit=_PART):
        yield letters
        at = letters[-1].seq + 1


async def _digest(log: MessageLog, topic: TopicKey) -> tuple[int, str]:
    """Number of messages, and a digest of all of them with their times."""
    count, digest = 0, blake2b(digest_size=16)
    async for batch in _batches(log, topic, 1):
        for payload in batch.payloads or ():
            digest.update(b"%d %d " % (batch.enqueued_ms, len(payload)))
            digest.update(payload)
            count += 1
        await asyncio.sleep(0)
    return count, digest.hexdigest()


def _expect(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise MoveRefused(f"{what}: {str(found)[:200]} in the cluster, {str(wanted)[:200]} before")


def _tenant_of(key: str) -> TenantId:
    """The tenant in the key of a point's record."""
    return TenantId(unquote(key.partition("/")[0]))


def _integer(value: object) -> int:
    return int(cast("int", value))
