"""The message log on JetStream, shared by all nodes of a cluster."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from hotpath.clusterports import Stop
from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import Bounds, Commit, LogFailure, Recovered
from hotpath.storage.jetstream.following import Following
from hotpath.storage.jetstream.journal import Journals
from hotpath.storage.jetstream.kept import Kept
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.naming import Names, batch_number, first_number
from hotpath.storage.jetstream.options import LogOptions
from hotpath.storage.jetstream.retention import Retention
from hotpath.storage.jetstream.server import JetStream, Stored, StreamSpec
from hotpath.storage.jetstream.topics import TopicStreams
from hotpath.storage.jetstream.writing import GROUP_MAX, Job, Writing
from hotpath.telemetry import get_logger

#: Commits that may wait; a service hands in one at a time.
_WAITING_MAX: Final = 10_000
_REPORTS_MAX: Final = 1_000
_CLOSED: Final = "the log is closed"
_SHARDS: Final = "hotpath-shards"

_log = get_logger("hotpath.jetstream")


class JetStreamLog:
    """A `ShardedLog` over a link that the caller opens before it and closes after it.

    `on_lost` is called in the event loop, as soon as it is known that somebody else has claimed a
    shard; `on_damage` for everything that had to be left out, once each.
    """

    def __init__(
        self,
        link: Link,
        options: LogOptions,
        *,
        node: str = "",
        on_damage: Callable[[str], None] | None = None,
    ) -> None:
        options.check()
        self.on_lost: Callable[[int], None] = lambda _: None
        self._link = link
        self._options = options
        self._on_damage = on_damage or _log_damage
        self._reported: set[str] = set()
        self._names = names = Names(options.prefix, shards=options.shards)
        self._server = server = JetStream(
            link, replicas=options.replicas, duplicate_seconds=options.duplicate_seconds
        )
        self._topics = topics = TopicStreams(
            server, names, options, payload_max=lambda: link.payload_max, on_damage=self._report
        )
        self._journals = Journals(server, names, options, node=node)
        self._kept = Kept(server, names, on_damage=self._report)
        self._retention = Retention(server, names, topics)
        self._writing = Writing(
            names=names,
            options=options,
            topics=topics,
            journals=self._journals,
            kept=self._kept,
            lose=self._lose,
        )
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._following: set[Following] = set()
        self._is_open = False
        self._failing = False

    @property
    def shards(self) -> int:
        """Into how many shards subscriptions are divided."""
        return self._options.shards

    def holds(self, shard: int) -> bool:
        """Whether a shard is claimed here and, as far as is known, not lost."""
        return self._journals.holds(shard)

    # Opening and closing

    async def open(self) -> Recovered:
        """See to the streams; nothing of a shard is recovered. Raises LogFailure."""
        until = self._until()
        if self._link.payload_max < self._options.payload_min:
            raise LogFailure(
                f"the servers take messages of {self._link.payload_max} bytes; set max_payload "
                f"to {self._options.payload_min} at least"
            )
        names = self._names
        shards = str(self._options.shards)
        spec = StreamSpec(
            names.journals, names.all_journals, all_or_none=True, metadata={_SHARDS: shards}
        )
        await self._server.ensure(spec, until)
        found = await self._server.metadata(names.journals, until)
        if found.get(_SHARDS, shards) != shards:
            raise LogFailure(f"the cluster has {found[_SHARDS]} shards, not {shards}")
        await self._server.ensure(StreamSpec(names.kept, names.all_kept, one_each=True), until)
        recovered = Recovered()
        await self._kept.last_beat(recovered, until)
        self._is_open = True
        self._runner = asyncio.ensure_future(self._run())
        return recovered

    async def close(self) -> None:
        """Finish what was handed in and stop following. The link stays open."""
        if not self._is_open:
            return
        done = self._handed_in()
        self._is_open = False
        await asyncio.gather(done, return_exceptions=True)
        for following in list(self._following):
            await following.stop()
        self._following.clear()
        await self._writing.finish()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    # Commits

    def commit(self, work: Commit) -> Awaitable[list[Batch]]:
        """Hand in a commit; it takes effect after all earlier ones."""
        future: asyncio.Future[list[Batch]] = asyncio.get_running_loop().create_future()
        if not self._is_open:
            future.set_exception(LogFailure(_CLOSED))
        elif len(self._waiting) >= _WAITING_MAX:
            future.set_exception(LogFailure("too many commits wait for JetStream"))
        else:
            options = self._options
            seconds = options.failing_seconds if self._failing else options.commit_seconds
            self._waiting.append(Job(work, future, self._server.until(seconds)))
            self._wake.set()
        return future

    def _handed_in(self) -> Awaitable[list[Batch]]:
        """For when everything up to now has ended."""
        return self.commit(Commit(0))

    async def _run(self) -> None:
        """Group after group, and between two of them a journal that has grown."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while group := list(self._gather()):
                await self._write(group)
                await self._renew()

    def _gather(self) -> Iterator[Job]:
        """The commits that go together now."""
        for _ in range(min(len(self._waiting), GROUP_MAX)):
            job = self._waiting.popleft()
            yield job
            if job.ends_group:
                return

    async def _write(self, group: list[Job]) -> None:
        options = self._options
        # Whoever has waited long for others gets a moment of its own.
        until = max(group[0].until, self._server.until(options.failing_seconds))
        try:
            await self._writing.write(group, until)
        except Exception:  # noqa: BLE001 - the edge of the task: a bug must not end all commits
            _log.exception("a commit broke")
            for job in group:
                job.fail(LogFailure("internal error"))
        self._failing = any(job.failure is not None and not job.failure.full for job in group)
        for job in group:
            job.resolve()

    async def _renew(self) -> None:
        """Write one journal anew if one is due."""
        shard = self._journals.overgrown()
        if shard is None or self._failing:
            return
        try:
            if not await self._journals.renew(shard, self._until()):
                self._lose(shard)
        except LogFailure as failure:
            _log.warning("journal not renewed", extra={"reason": failure.detail})

    def _lose(self, shard: int) -> None:
        _log.warning("shard lost", extra={"shard": shard})
        try:
            self.on_lost(shard)
        except Exception:  # noqa: BLE001 - the edge of a callback
            _log.exception("on_lost broke")

    # Shards

    async def claim(self, shard: int) -> Recovered:
        """Take a shard over. Raises LogFailure."""
        self._check_open()
        if not 0 <= shard < self._options.shards:
            raise LogFailure(f"there is no shard {shard}")
        until = self._until()
        # What a later owner copies has a higher number, and is none of this node's business.
        below = await self._kept.next_number(until)
        recovered = await self._journals.claim(shard, until)
        await self._kept.recover_scheduled(shard, recovered, until)
        known = set(self._letters_of(shard))
        self._writing.later(self._kept.sweep(shard, known, below=below, until=until))
        return recovered

    def _letters_of(self, shard: int) -> Iterator[str]:
        """Subjects of a claimed shard's dead letters."""
        state = self._journals.state(shard)
        for subscription, seq in state.all_letters() if state is not None else ():
            yield self._names.letter(subscription, seq)

    async def release(self, shard: int) -> None:
        """Write nothing more for a shard once all that was handed in has ended."""
        self._check_open()
        await self._handed_in()
        self._journals.drop(shard)

    async def begin_topic(self, topic: TopicKey, *, above: int) -> Bounds:
        """Make a topic whose numbers are all above one; what it holds then. Raises LogFailure."""
        self._check_open()
        await self._topics.make(topic, self._until(), above=above)
        return await self.bounds(topic)

    async def follow(
        self,
        topic: TopicKey,
        from_seq: int,
        deliver: Callable[[Batch], None],
        *,
        passed: Callable[[int], None] | None = None,
    ) -> Stop:
        """Deliver every batch from a number on. Raises LogFailure."""
        self._check_open()
        await self._topics.make(topic, self._until())

        def take(stored: Stored) -> None:
            batch = self._topics.decode(topic, stored)
            if batch is not None and batch.end_seq > from_seq:
                self._topics.seen(batch)
                deliver(batch)
            if passed is not None:
                passed(first_number(stored.seq + 1))

        stream, subject = self._names.topic_stream(topic), self._names.topic_subject(topic)
        read = self._server.reader(stream, subject)
        following = Following(self._link, stream, deliver=take, read=read)
        await following.start(batch_number(from_seq))
        self._following.add(following)

        async def stop() -> None:
            self._following.discard(following)
            await following.stop()

        return stop

    # Reading

    async def read(self, topic: TopicKey, from_seq: int, *, bytes_max: int) -> list[Batch]:
        """Batches from a number on; damaged ones are left out and reported."""
        self._check_open()
        return await self._topics.read(topic, from_seq, bytes_max=bytes_max, until=self._until())

    async def bounds(self, topic: TopicKey) -> Bounds:
        """What the topic holds."""
        self._check_open()
        return await self._topics.bounds(topic, self._until())

    async def seek(self, topic: TopicKey, enqueued_ms: int) -> int:
        """Search for a time."""
        self._check_open()
        return await self._topics.seek(topic, enqueued_ms, self._until())

    async def trim(self, *, before_ms: int, bytes_max: int | None) -> dict[TopicKey, Bounds]:
        """Drop the oldest batches, of all topics; one node of a cluster does this."""
        self._check_open()
        return await self._retention.trim(
            before_ms=before_ms, bytes_max=bytes_max, until=self._until()
        )

    async def dead_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int
    ) -> list[DeadLetter]:
        """Dead letters in sequence order, exactly those there are where the shard is claimed."""
        self._check_open()
        until = self._until()
        state = self._journals.state(self._names.shard_of(subscription))
        if state is None:
            return await self._kept.all_letters(
                subscription, from_seq=from_seq, limit=limit, until=until
            )
        letters = state.letters(subscription)
        seqs = sorted(seq for seq in letters if seq >= from_seq)[:limit]
        counts = {seq: letters[seq][0] for seq in seqs}
        found = await self._kept.letters(subscription, seqs, until)
        for letter in found:
            letter.delivery_count = counts.get(letter.seq, 0)
        return found

    def _until(self) -> float:
        return self._server.until(self._options.commit_seconds)

    def _check_open(self) -> None:
        if not self._is_open:
            raise LogFailure(_CLOSED)

    def _report(self, text: str) -> None:
        if text not in self._reported and len(self._reported) < _REPORTS_MAX:
            self._reported.add(text)
            self._on_damage(text)


def _log_damage(text: str) -> None:
    _log.error("log damaged", extra={"what": text})
