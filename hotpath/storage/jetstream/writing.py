"""Commits as they are made durable: a group at a time, in steps.

Copies of dead letters and scheduled messages come first, then appends, then the journals' entries,
then removals: a death in between leaves something twice, never something lost. Commits that wait
at the same time go through the steps together, but for one that removes something: it is the last
of its group. Each commit fails or succeeds by itself.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Commit, LogFailure
from hotpath.storage.jetstream.journal import Journals
from hotpath.storage.jetstream.kept import Kept
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LogOptions
from hotpath.storage.jetstream.shardstate import (
    Kind,
    Record,
    checked_record,
    delta_record,
    forgotten_record,
    letters_record,
    progress_record,
)
from hotpath.storage.jetstream.topics import TopicStreams
from hotpath.telemetry import get_logger

GROUP_MAX: Final = 256
#: Appends with names of their own that are on their way at the same time: single messages, whose
#: order nobody has chosen.
NAMED_AT_ONCE: Final = 32

_log = get_logger("hotpath.jetstream")


@dataclass(slots=True)
class Job:
    """A commit that waits; `until` is when it is given up."""

    work: Commit
    future: asyncio.Future[list[Batch]]
    until: float
    batches: dict[int, list[Batch]] = field(default_factory=dict)
    """By the place of the append."""
    failure: LogFailure | None = None

    @property
    def ends_group(self) -> bool:
        """Whether it removes what a later commit may add."""
        work = self.work
        return bool(work.dead_removals or work.scheduled_removals or work.forgotten)

    def fail(self, failure: LogFailure) -> None:
        """Note why it fails; the first reason counts."""
        self.failure = self.failure or failure

    def resolve(self) -> None:
        """Answer whoever waits; one who has given up is passed over."""
        if self.future.done():
            return
        if self.failure is not None:
            self.future.set_exception(self.failure)
        else:
            parts = (self.batches.get(n, []) for n in range(len(self.work.appends)))
            self.future.set_result([batch for part in parts for batch in part])


class Writing:
    """Takes groups of commits through the steps."""

    def __init__(
        self,
        *,
        names: Names,
        options: LogOptions,
        topics: TopicStreams,
        journals: Journals,
        kept: Kept,
        lose: Callable[[int], None],
    ) -> None:
        self._names = names
        self._options = options
        self._topics = topics
        self._journals = journals
        self._kept = kept
        self._lose = lose
        self._later: set[asyncio.Task[None]] = set()

    async def write(self, group: Sequence[Job], until: float) -> None:
        """Make a group durable; each job knows afterwards whether it failed."""
        await self._each(group, self._copy, until)
        await self._append(group, until)
        await self._settle(group, until)
        await self._each(group, self._remove, until)

    async def finish(self) -> None:
        """Wait for what goes on in the background."""
        await asyncio.gather(*self._later, return_exceptions=True)

    async def _each(
        self,
        group: Sequence[Job],
        step: Callable[[Job, float], Coroutine[None, None, None]],
        until: float,
    ) -> None:
        """One step for every commit that has not failed."""

        async def one(job: Job) -> None:
            try:
                await step(job, until)
            except LogFailure as failure:
                job.fail(failure)

        await asyncio.gather(*(one(job) for job in group if job.failure is None))

    # Copies

    async def _copy(self, job: Job, until: float) -> None:
        work = job.work
        held = [item for item in work.dead if self._journals.holds(self._names.shard_of(item[0]))]
        if held:
            await self._kept.copy(held, until)
        if work.scheduled:
            await self._kept.keep_scheduled(work.scheduled, until)

    # Appends

    async def _append(self, group: Sequence[Job], until: float) -> None:
        """Append topic by topic; within each in the order of the commits."""
        by_topic: dict[TopicKey, list[tuple[Job, int]]] = {}
        for job in group:
            for place, (topic, _) in enumerate(job.work.appends):
                by_topic.setdefault(topic, []).append((job, place))
        await asyncio.gather(
            *(self._append_in_order(places, until) for places in by_topic.values())
        )

    async def _append_in_order(self, places: Iterable[tuple[Job, int]], until: float) -> None:
        width = self._options.in_flight
        slots = asyncio.Semaphore(max(width, NAMED_AT_ONCE))
        flying: set[asyncio.Task[None]] = set()
        for job, place in places:
            if not await self._prepare(job, place, until):
                continue
            if width == 1 and place not in job.work.once:
                await self._append_one(job, place, until)
                continue
            await slots.acquire()
            task = asyncio.ensure_future(self._append_one(job, place, until))
            flying.add(task)
            task.add_done_callback(flying.discard)
            task.add_done_callback(lambda _: slots.release())
        await asyncio.gather(*flying)

    async def _prepare(self, job: Job, place: int, until: float) -> bool:
        """Make the topic of an append ready; whether the append is still wanted then."""
        if job.failure is None:
            try:
                await self._topics.prepare(job.work.appends[place][0], until)
            except LogFailure as failure:
                job.fail(failure)
        return job.failure is None

    async def _append_one(self, job: Job, place: int, until: float) -> None:
        work = job.work
        topic, payloads = work.appends[place]
        name = work.once.get(place, "")
        try:
            for part in self._topics.cut(payloads):
                batch = await self._topics.append(
                    topic, part, now_ms=work.now_ms, until=until, name=name
                )
                job.batches.setdefault(place, []).append(batch)
        except LogFailure as failure:
            job.fail(failure)

    # Journals

    async def _settle(self, group: Sequence[Job], until: float) -> None:
        """One run of entries a shard, with what all commits have for it."""
        by_shard: dict[int, list[tuple[Job, list[Record]]]] = {}
        for job in (job for job in group if job.failure is None):
            for shard, records in self._records(job.work).items():
                by_shard.setdefault(shard, []).append((job, records))
        wanted = {
            shard: [record for _, own in parts for record in own]
            for shard, parts in by_shard.items()
        }
        for shard, outcome in (await self._journals.add(wanted, until)).items():
            if outcome is False:
                self._lose(shard)
            elif isinstance(outcome, LogFailure):
                for job, _ in by_shard[shard]:
                    job.fail(outcome)
        for job in group:
            self._kept.copied(job.work.dead)

    def _records(self, work: Commit) -> dict[int, list[Record]]:
        """What a commit has for the journals of shards that are held."""
        by_shard: dict[int, list[Record]] = {}
        for record in _all_records(work):
            if record.subscription is not None:
                shard = self._names.shard_of(record.subscription)
                by_shard.setdefault(shard, []).append(record)
        # Whoever keeps, or takes away, what is scheduled must be its owner when that is told.
        topics = {topic for topic, _ in work.scheduled_removals}
        for topic in topics.union(message.topic for message in work.scheduled):
            shard = self._names.shard_of_schedule(topic)
            if shard not in by_shard:
                by_shard[shard] = [checked_record()]
        return {n: records for n, records in by_shard.items() if self._journals.holds(n)}

    # Removals

    async def _remove(self, job: Job, until: float) -> None:
        work = job.work
        due = [
            item
            for item in work.scheduled_removals
            if self._journals.holds(self._names.shard_of_schedule(item[0]))
        ]
        if due:
            await self._kept.remove_scheduled(due, until)
        if work.alive_ms is not None:
            await self._kept.beat(work.alive_ms, until)
        if work.dead_removals or work.forgotten:
            self.later(self._clear(work, until))

    async def _clear(self, work: Commit, until: float) -> None:
        """Remove copies of dead letters, which nothing tells of any more."""
        gone = [
            item
            for item in work.dead_removals
            if self._journals.holds(self._names.shard_of(item[0]))
        ]
        await self._kept.remove_letters(gone, until)
        for subscription in work.forgotten:
            if self._journals.holds(self._names.shard_of(subscription)):
                await self._kept.remove_all_letters(subscription, until)

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Let something go on in the background; what fails there is swept up some other time."""

        async def run() -> None:
            try:
                await work
            except LogFailure as failure:
                _log.info("clearing up is left for later", extra={"reason": failure.detail})

        task = asyncio.ensure_future(run())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _all_records(work: Commit) -> Iterable[Record]:
    """What a commit has for journals, in the order in which it takes effect."""
    for subscription, progress in work.snapshots:
        yield progress_record(subscription, progress)
    for subscription, delta in work.progress:
        yield delta_record(subscription, delta)
    for subscription, letter in work.dead:
        yield letters_record(Kind.BURIED, subscription, (letter.seq, 0, len(letter.payload)))
    for subscription, seq, delivery_count in work.dead_updates:
        yield letters_record(Kind.COUNTED, subscription, (seq, delivery_count))
    for subscription, seq in work.dead_removals:
        yield letters_record(Kind.UNBURIED, subscription, (seq,))
    for subscription in work.forgotten:
        yield forgotten_record(subscription)
