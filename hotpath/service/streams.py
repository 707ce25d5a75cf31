"""Webhook streams: their definitions, their points, their secrets and how they fare.

A stream is a `Subscription` on the tenant's `points` log, with the same cursor and settlement as
any other; what it lets through is a set of point ids that may change (`core.points`). The edge
that delivers registers `on_started`, `on_ended` and `on_changed`, and then attaches to each
stream's subscription like any receiver.

A change of points takes effect between two commits: values logged before a point was added are not
the stream's, values logged after it are; what was not delivered when a point is removed is dropped.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final
from uuid import uuid4

import qel
from hotpath.auth.rights import Principal
from hotpath.auth.sealing import SealingKey
from hotpath.config import Settings
from hotpath.core.locks import LockTable
from hotpath.core.points import EVERYTHING, SCHEMA, Chunk, PointFeed, PointRouter
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unavailable, Violation
from hotpath.model.names import SubscriptionId, TenantId
from hotpath.model.stream import StreamSpec, StreamStatus
from hotpath.ports import Clock, LogFailure, RecordStore
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.liveness import Liveness
from hotpath.service.secrets import SecretValue, StreamSecrets
from hotpath.service.settle import Settling
from hotpath.service.stream import NewStream, StatusChange, Stream
from hotpath.service.streams_records import (
    STREAM_POINTS,
    STREAMS,
    chunk_key,
    chunk_records,
    contents,
    stream_record,
    subscription_of,
)
from hotpath.service.topics import TopicLog, Topics
from hotpath.telemetry import Metrics, get_logger

__all__ = ["NewStream", "StatusChange", "Stream", "Streams", "compile_condition"]

#: Points taken in between two turns of the event loop: some milliseconds of work.
POINTS_A_TURN: Final = 4_096
#: Chunks that a change brings into the index itself.
CHUNKS_AT_ONCE: Final = 2

_log = get_logger("hotpath.streams")


class Streams:
    """All streams. `on_*` are set once by the edge that delivers; they must not block or raise.

    Attributes:
        on_started: A stream was created (not called for those there were at the start).
        on_ended: A stream was deleted; its receivers have been told already.
        on_changed: Its points, secrets or status changed, whoever changed them.
        announce: Tells the tenant that a stream's status changed.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: RecordStore,
        topics: Topics,
        committer: Committer,
        delivering: Delivering,
        settling: Settling,
        liveness: Liveness,
        sealing: SealingKey,
        lock_table: Callable[[], LockTable],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._committer = committer
        self._delivering = delivering
        self._settling = settling
        self._liveness = liveness
        self._sealing = sealing
        self._lock_table = lock_table
        self._clock = clock
        self._metrics = metrics
        self._streams: dict[SubscriptionId, Stream] = {}
        # In order of creation, for pages.
        self._by_partition: dict[tuple[TenantId, str], list[tuple[int, SubscriptionId]]] = {}
        # With those that are being created.
        self._counts: Counter[TenantId] = Counter()
        self._point_counts: Counter[TenantId] = Counter()
        self._indexing: asyncio.Task[None] | None = None
        self.on_started: Callable[[Stream], None] = lambda _: None
        self.on_ended: Callable[[Stream], None] = lambda _: None
        self.on_changed: Callable[[Stream], None] = lambda _: None
        self.announce: Callable[[StatusChange], None] = lambda _: None

    # What the delivering edge asks

    def live(self) -> Iterable[Stream]:
        """All streams there are, of all tenants, disabled ones too."""
        return list(self._streams.values())

    def holds(self, stream: Stream, point_id: str, seq: int) -> bool:
        """Whether the value `seq` of a point still belongs to the stream.

        False for what was pulled before the point was removed (also when the point was added
        again later): the edge settles it as completed and does not send it.
        """
        since = stream.feed.points.since(point_id)
        return since is not None and seq >= since

    def secrets(self, stream: Stream) -> list[SecretValue]:
        """What signs now: the current secret first, then an older one while its overlap lasts.

        Empty when the stream has none. `SecretValue.reveal()` gives the text as the caller of the
        API wrote it (perhaps with `whsec_` before it); `repr` and `str` do not show it.
        """
        return stream.secrets.signing(self._clock.now_ms())

    async def report(self, stream: Stream, status: StreamStatus, reason: str) -> None:
        """Change the status, durably; announce it as a platform event.

        Nothing happens when status and reason are those the stream has, or when it is gone.
        Otherwise `updatedAt` moves, and a changed status goes out as a platform event of the
        tenant with `eventType` `stream.statusChanged` and `streamId`, `status`, `reason`,
        `previous`. When the store cannot be written, that is logged, and the change is written
        with the next one.
        """
        if stream.deleted or (status, reason) == (stream.status, stream.reason):
            return
        previous, now_ms = stream.spec, self._clock.now_ms()
        stream.spec = replace(
            previous,
            status=status,
            reason=reason,
            updated_ms=now_ms,
            status_ms=now_ms if status is not previous.status else previous.status_ms,
        )
        if status is not previous.status:
            self._metrics.streams.labels(previous.status.value).dec()
            self._metrics.streams.labels(status.value).inc()
            self.announce(StatusChange(stream.spec, previous.status))
        self.on_changed(stream)
        async with stream.changing:
            if stream.id not in self._streams:
                return  # deleted meanwhile
            try:
                await self._write(stream)
            except LogFailure as failure:
                _log.error("status not written", extra={"reason": failure.detail})

    # What callers of the API ask

    def get(self, principal: Principal, partition: str, identity: str) -> Stream:
        """One of the caller's own streams in a partition. Raises NotFound."""
        stream = self._streams.get(SubscriptionId(identity))
        own = (
            stream is not None
            and stream.spec.partition == partition
            and principal.sees(stream.feed.spec)
        )
        if stream is None or not own:
            raise NotFound(f"there is no stream {identity}")
        return stream

    def list_own(
        self, principal: Principal, partition: str, *, after: str | None, limit: int, points: int
    ) -> tuple[list[Stream], str | None]:
        """The caller's streams in a partition, oldest first, and where the next page begins.

        A page ends also when its streams have more than `points` points together. Raises Invalid
        when `after` is no mark of a page.
        """
        own = self._by_partition.get((principal.tenant, partition), [])
        start = 0 if after is None else bisect_right(own, read_mark(after))
        page: list[Stream] = []
        for _, identity in islice(own, start, None):
            stream = self._streams[identity]
            if not principal.sees(stream.feed.spec):
                continue
            points -= len(stream.feed.points)
            if len(page) == limit or (page and points < 0):
                return page, f"{page[-1].spec.created_ms}.{page[-1].id}"
            page.append(stream)
        return page, None

    async def create(self, principal: Principal, wanted: NewStream) -> Stream:
        """Create a stream; durable when this returns.

        Raises:
            Invalid: too many points, or the caller's condition does not fit points.
            LimitReached: the tenant has too many streams, or points in streams.
            Unavailable: the store cannot be written.
        """
        condition = compile_condition(principal.condition)
        points = list(dict.fromkeys(wanted.points))
        self._check_points(len(points))
        spec = await self._begin(principal, wanted)
        stream = self.build(spec, condition, StreamSecrets(wanted.secret))
        topic = self._topics.get(spec.key)
        if topic is None:
            raise Unavailable("the log cannot be read now; try again later")
        if self._counts[spec.tenant] >= self._settings.streams_per_tenant_max:
            raise LimitReached("this tenant has as many streams as are allowed")
        self._counts[spec.tenant] += 1
        self._liveness.begin(stream.feed)
        self._topics.add(stream.feed, topic)
        try:
            await self._add_points(stream, points)
            await self._write(stream)
        except BaseException as failure:
            self._leave(stream)
            self._committer.forget(spec.id)
            if isinstance(failure, LogFailure):
                raise _unwritten() from failure
            raise
        self._committer.touch(stream.feed)
        self.enlist(stream)
        self.on_started(stream)
        return stream

    async def _begin(self, principal: Principal, wanted: NewStream) -> StreamSpec:
        """The definition of a new stream, which begins where its topic stands."""
        now_ms = self._clock.now_ms()
        spec = StreamSpec(
            id=self._new_id(),
            tenant=principal.tenant,
            partition=wanted.partition,
            webhook_url=wanted.webhook_url,
            created_ms=now_ms,
            updated_ms=now_ms,
            start_seq=0,
            creator=principal.subject,
            condition=principal.condition,
            status_ms=now_ms,
        )
        try:
            topic = await self._topics.open(spec.key)
        except LogFailure as failure:
            raise Unavailable("the log cannot be read now; try again later") from failure
        return replace(spec, start_seq=topic.routed_to)

    def _new_id(self) -> SubscriptionId:
        return SubscriptionId(str(uuid4()))

    async def add_points(self, stream: Stream, points: Sequence[str]) -> None:
        """Add points; those that are there already stay as they are. Durable when this returns.

        Raises Invalid, LimitReached, NotFound or Unavailable; then the stream is as before.
        """
        async with stream.changing:
            self._check_there(stream)
            fresh = [point for point in dict.fromkeys(points) if point not in stream.feed.points]
            self._check_points(len(stream.feed.points) + len(fresh))
            before_ms = self._touch(stream)
            try:
                await self._write(stream)
                await self._add_points(stream, fresh)
            except BaseException as failure:
                self._untouch(stream, before_ms)
                if isinstance(failure, LogFailure):
                    raise _unwritten() from failure
                raise
        self.on_changed(stream)

    async def _add_points(self, stream: Stream, points: Sequence[str]) -> None:
        """Let points belong to a stream from now on; the index first, so that no value is missed.

        Raises LimitReached or LogFailure; then none of them belongs to it.
        """
        tenant, feed = stream.spec.tenant, stream.feed
        if self._point_counts[tenant] + len(points) > self._settings.stream_points_per_tenant_max:
            raise LimitReached("this tenant has as many points in streams as are allowed")
        self._point_counts[tenant] += len(points)
        topic = self._topics.get(stream.spec.key)
        changed: dict[int, None] = {}
        try:
            for start in range(0, len(points), POINTS_A_TURN):
                since = stream.spec.start_seq if topic is None else topic.routed_to
                chunks = feed.points.add(points[start : start + POINTS_A_TURN], since=since)
                self._reindex(topic, chunks)
                changed.update(dict.fromkeys(chunk.number for chunk in chunks))
                await asyncio.sleep(0)
            chunks = [feed.points.chunks[number] for number in changed]
            await self._store.put_many(STREAM_POINTS, chunk_records(stream.id, contents(chunks)))
        except BaseException:
            self._reindex(topic, feed.points.remove(points))
            self._point_counts[tenant] -= len(points)
            raise

    async def remove_points(self, stream: Stream, points: Iterable[str]) -> None:
        """Remove points; ids that are not there are passed over. Durable when this returns.

        Raises NotFound or Unavailable; then the stream is as before.
        """
        async with stream.changing:
            self._check_there(stream)
            gone = [point for point in dict.fromkeys(points) if point in stream.feed.points]
            before_ms = self._touch(stream)
            left = stream.feed.points.without(gone)
            try:
                await self._write(stream)
                # The store first: were it the other way round, a failure would leave a gap.
                await self._store.put_many(STREAM_POINTS, chunk_records(stream.id, left.items()))
            except LogFailure as failure:
                self._untouch(stream, before_ms)
                raise _unwritten() from failure
            self._reindex(self._topics.get(stream.spec.key), stream.feed.points.remove(gone))
            self._point_counts[stream.spec.tenant] -= len(gone)
        await self._forget_chunks(stream, [number for number, since in left.items() if not since])
        self.on_changed(stream)

    async def rotate(self, stream: Stream, secret: SecretValue, *, overlap_ms: int) -> None:
        """Sign with a new secret, and with the old one too for a while.

        Raises NotFound or Unavailable; then nothing has changed.
        """
        async with stream.changing:
            self._check_there(stream)
            before_ms, old = self._touch(stream), stream.secrets
            until_ms = self._clock.now_ms() + overlap_ms
            stream.secrets = old.rotated(secret, until_ms=until_ms)
            try:
                await self._write(stream)
            except LogFailure as failure:
                self._untouch(stream, before_ms)
                stream.secrets = old
                raise _unwritten() from failure
        self.on_changed(stream)

    async def delete(self, stream: Stream) -> None:
        """End a stream, its backlog and dead letters with it. Raises NotFound or Unavailable."""
        async with stream.changing:
            self._check_there(stream)
            try:
                await self._store.delete(STREAMS, [stream.id])
            except LogFailure as failure:
                raise _unwritten() from failure
            chunks = list(stream.feed.points.chunks)
            self._delist(stream)
            self._leave(stream)
        self._committer.forget(stream.id)
        self._delivering.close_all(stream.feed)
        _log.info("stream ended", extra={"stream": stream.id})
        self.on_ended(stream)
        await self._forget_chunks(stream, chunks)

    # State

    def build(
        self, spec: StreamSpec, condition: qel.Filter | None, secrets: StreamSecrets
    ) -> Stream:
        """A stream that nobody knows yet, without points."""
        feed = PointFeed(
            subscription_of(spec),
            condition or EVERYTHING,
            partition=spec.partition,
            locks=self._lock_table(),
            ready_max=self._settings.ready_max,
            locks_max=self._settings.locks_max,
        )
        return Stream(spec, feed, secrets)

    def join(self, stream: Stream, topic: TopicLog) -> None:
        """Let a stream of an earlier start take part again."""
        self._counts[stream.spec.tenant] += 1
        self._point_counts[stream.spec.tenant] += len(stream.feed.points)
        self._topics.add(stream.feed, topic)
        self.index_by_and_by()
        self.enlist(stream)

    def enlist(self, stream: Stream) -> None:
        """Let callers find a stream."""
        spec = stream.spec
        self._streams[spec.id] = stream
        own = self._by_partition.setdefault((spec.tenant, spec.partition), [])
        insort(own, (spec.created_ms, spec.id))
        self._metrics.streams.labels(spec.status.value).inc()

    def _delist(self, stream: Stream) -> None:
        spec = stream.spec
        del self._streams[spec.id]
        own = self._by_partition[spec.tenant, spec.partition]
        del own[bisect_left(own, (spec.created_ms, spec.id))]
        if not own:
            del self._by_partition[spec.tenant, spec.partition]
        self._metrics.streams.labels(spec.status.value).dec()

    def _leave(self, stream: Stream) -> None:
        """Take a stream out of its topic, and out of the counts."""
        stream.feed.deleted = True
        self._topics.remove(stream.feed)
        self.index_by_and_by()
        self._settling.forget(stream.feed)
        self._counts[stream.spec.tenant] -= 1
        self._point_counts[stream.spec.tenant] -= len(stream.feed.points)

    def _touch(self, stream: Stream) -> int:
        """Note a change; when the one before it was."""
        before_ms = stream.spec.updated_ms
        stream.spec = replace(stream.spec, updated_ms=self._clock.now_ms())
        return before_ms

    @staticmethod
    def _untouch(stream: Stream, before_ms: int) -> None:
        """The change has failed; what else has changed meanwhile stays."""
        stream.spec = replace(stream.spec, updated_ms=before_ms)

    async def _write(self, stream: Stream) -> None:
        """Make the definition durable. Raises LogFailure."""
        sealed = stream.secrets.sealed(self._sealing, stream.id)
        await self._store.put(STREAMS, stream.id, stream_record(stream.spec, sealed))

    def _reindex(self, topic: TopicLog | None, chunks: Sequence[Chunk]) -> None:
        """Bring changed chunks into the index: one or two at once, more of them by and by."""
        router = None if topic is None else topic.router
        if not isinstance(router, PointRouter):
            return
        if len(chunks) <= CHUNKS_AT_ONCE:
            for chunk in chunks:
                router.reindex(chunk)
        else:
            router.reindex_later(chunks)
            self.index_by_and_by()

    def index_by_and_by(self) -> None:
        """Bring into the index, or take out of it, what was put off; until that is done."""
        if self._indexing is None:
            self._indexing = asyncio.ensure_future(self._index())

    async def _index(self) -> None:
        try:
            more = True
            while more:
                more = any(_index_next(topic) for topic in self._topics)
                await asyncio.sleep(0)
        finally:
            self._indexing = None

    async def close(self) -> None:
        """End what is done by and by."""
        if self._indexing is not None:
            self._indexing.cancel()
            await asyncio.gather(self._indexing, return_exceptions=True)

    async def _forget_chunks(self, stream: Stream, numbers: Iterable[int]) -> None:
        """Remove records that say nothing any more; if that fails, the next start does."""
        keys = [chunk_key(stream.id, number) for number in numbers]
        try:
            await self._store.delete(STREAM_POINTS, keys)
        except LogFailure as failure:
            _log.warning("points not removed", extra={"reason": failure.detail})

    def _check_points(self, count: int) -> None:
        limit = self._settings.points_per_stream_max
        if count > limit:
            detail = f"a stream has {limit} points at most"
            raise Invalid([Violation(detail, "/pointIds")])

    @staticmethod
    def _check_there(stream: Stream) -> None:
        if stream.deleted:
            raise NotFound(f"there is no stream {stream.id}")


def compile_condition(condition: str | None) -> qel.Filter | None:
    """The filter that a caller's rights add to points. Raises Invalid when it does not fit."""
    if condition is None:
        return None
    try:
        return qel.compile_filter(condition, SCHEMA)
    except qel.QelError as error:
        detail = f"the condition of your token does not fit points: {error.errors[0].detail}"
        raise Invalid([Violation(detail)]) from error


def _index_next(topic: TopicLog) -> bool:
    return isinstance(topic.router, PointRouter) and topic.router.index_next()


def _unwritten() -> Unavailable:
    return Unavailable("the store cannot be written now; try again later")


def read_mark(after: str) -> tuple[int, SubscriptionId]:
    """Where a page begins. Raises Invalid."""
    created, separator, identity = after.partition(".")
    if not separator or not created.isascii() or not created.isdecimal() or len(created) > 18:
        raise Invalid([Violation("the cursor is not one that this service gave", "page[cursor]")])
    return int(created), SubscriptionId(identity)
