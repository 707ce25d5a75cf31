"""Webhook streams in a cluster: known on every node, live where their shard is served.

What is changed is changed by the owner. The others have a stream as its records tell of it, made
when somebody asks for it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, cast

from typing_extensions import override

import qel
from hotpath.auth.rights import Principal
from hotpath.auth.sealing import CannotOpen
from hotpath.cluster.relay.frames import Damaged, NotServed, write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.cluster.service.shelf import StreamShelf
from hotpath.cluster.service.topics import FollowedTopics
from hotpath.clusterports import SharedRecordStore
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unavailable
from hotpath.model.names import SubscriptionId, TenantId
from hotpath.model.stream import StreamSpec
from hotpath.ports import LogFailure, Recovered
from hotpath.service.secrets import SecretValue
from hotpath.service.stream import NewStream, Stream
from hotpath.service.streams import Streams, read_mark
from hotpath.service.streams_records import STREAM_POINTS, STREAMS, Record, chunk_key
from hotpath.service.streams_resume import StreamRecovery
from hotpath.telemetry import get_logger

_ADD, _REMOVE, _ROTATE, _DELETE = "stream.add", "stream.remove", "stream.rotate", "stream.delete"
#: A secret on its way between nodes is sealed for nothing else.
_ON_THE_WAY: Final = "on the way"

_log = get_logger("hotpath.cluster.streams")


class ShardedStreams(Streams):
    """All streams there are; those of this node's shards are live."""

    def connect(
        self, neighbours: Neighbours, store: SharedRecordStore, recovery: StreamRecovery
    ) -> None:
        """Name the other nodes; before anything else is asked."""
        self._neighbours = neighbours
        self._shared = store
        self._followed = cast("FollowedTopics", self._topics)
        self._recovery = recovery
        self._shelf = StreamShelf()
        self._shown: dict[SubscriptionId, Stream] = {}
        self._live: dict[int, dict[SubscriptionId, Stream]] = {}
        self._taken: dict[int, asyncio.Lock] = {}
        self._expected: dict[int, Recovered] = {}
        self._adopting: set[asyncio.Task[None]] = set()
        for name, answer in (
            (_ADD, self._answer_add),
            (_REMOVE, self._answer_remove),
            (_ROTATE, self._answer_rotate),
            (_DELETE, self._answer_delete),
        ):
            neighbours.answer(name, answer)

    # Definitions

    async def load(self) -> None:
        """Learn all definitions. Raises LogFailure."""
        for record in await self._store.load(STREAMS):
            self._shelf.put(STREAMS, str(record.get("id")), record)
        for record in await self._store.load(STREAM_POINTS):
            stream, number = record.get("stream"), record.get("number")
            if isinstance(stream, str) and isinstance(number, int):
                self._shelf.put(STREAM_POINTS, chunk_key(stream, number), record)

    def changed(self, kind: str, key: str, record: Record | None) -> None:
        """A record was written on some node."""
        identity = self._shelf.put(kind, key, record)
        self._shown.pop(identity, None)
        shard = self._neighbours.shard_of(identity)
        is_new = kind == STREAMS and record is not None and identity not in self._streams
        if is_new and shard in self._taken:
            task = asyncio.ensure_future(self._adopt_new(shard, identity))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def adopted(self) -> None:
        """Wait until what was created by now is served, if it is to be served here."""
        if self._adopting:
            await asyncio.wait(self._adopting)

    # What is asked on any node

    def _find(self, identity: SubscriptionId) -> Stream | None:
        """A stream: live, or as its records tell of it."""
        found = self._streams.get(identity) or self._shown.get(identity)
        if found is not None:
            return found
        record = self._shelf.record(identity)
        stream = None if record is None else self._read(record)
        if stream is not None:
            self._shown[identity] = stream
        return stream

    def _read(self, record: Record) -> Stream | None:
        """A stream as its records tell of it; None when they cannot be read."""
        identity = SubscriptionId(str(record.get("id")))
        try:
            return self._recovery.read(record, self._shelf.chunks(identity))
        except (KeyError, TypeError, ValueError, AttributeError, qel.QelError, Invalid, CannotOpen):
            _log.exception("stream unreadable", extra={"stream": identity})
            return None

    @override
    def get(self, principal: Principal, partition: str, identity: str) -> Stream:
        """As alone."""
        stream = self._find(SubscriptionId(identity))
        if (
            stream is None
            or stream.spec.partition != partition
            or not principal.sees(stream.feed.spec)
        ):
            raise NotFound(f"there is no stream {identity}")
        return stream

    @override
    def list_own(
        self, principal: Principal, partition: str, *, after: str | None, limit: int, points: int
    ) -> tuple[list[Stream], str | None]:
        """As alone."""
        mark = None if after is None else read_mark(after)
        page: list[Stream] = []
        for _, identity in self._shelf.marks(principal.tenant, partition, after=mark):
            stream = self._find(identity)
            if stream is None or not principal.sees(stream.feed.spec):
                continue
            points -= len(stream.feed.points)
            if len(page) == limit or (page and points < 0):
                return page, f"{page[-1].spec.created_ms}.{page[-1].id}"
            page.append(stream)
        return page, None

    def is_live(self, stream: Stream) -> bool:
        """Whether this is the stream itself, served here."""
        return self._streams.get(stream.id) is stream

    def live_one(self, identity: str) -> Stream:
        """A stream that is served here. Raises NotFound, NotServed."""
        stream = self._streams.get(SubscriptionId(identity))
        if stream is not None:
            return stream
        if identity not in self._shelf:
            raise NotFound(f"there is no stream {identity}")
        raise NotServed("the stream is not served here yet")

    # Changes

    @override
    async def create(self, principal: Principal, wanted: NewStream) -> Stream:
        """As alone; all nodes know it when this returns."""
        if self._shelf.counts[principal.tenant] >= self._settings.streams_per_tenant_max:
            raise LimitReached("this tenant has as many streams as are allowed")
        self._check_room(principal.tenant, len(set(wanted.points)))
        stream = await super().create(principal, wanted)
        if not self._neighbours.serves(self._neighbours.shard_of(stream.id)):
            # Somebody else has its shard by now, and finds it among the records.
            self._drop([stream])
        await self._neighbours.spread(self._shared.written)
        return stream

    @override
    async def _begin(self, principal: Principal, wanted: NewStream) -> StreamSpec:
        spec = await super()._begin(principal, wanted)
        if not self._neighbours.serves(self._neighbours.shard_of(spec.id)):
            raise Unavailable("this node serves nothing now; try again later")
        await self._catch_up(spec)
        return spec

    @override
    def _new_id(self) -> SubscriptionId:
        return self._neighbours.own_id()

    async def _catch_up(self, spec: StreamSpec) -> None:
        """Route what is in the log by now: a point gets what comes after. Raises Unavailable."""
        try:
            await self._followed.catch_up(spec.key)
        except LogFailure as failure:
            raise Unavailable("the log cannot be read now; try again later") from failure

    def _check_room(self, tenant: TenantId, count: int) -> None:
        limit = self._settings.stream_points_per_tenant_max
        if self._shelf.points[tenant] + count > limit:
            raise LimitReached("this tenant has as many points in streams as are allowed")

    @override
    async def add_points(self, stream: Stream, points: Sequence[str]) -> None:
        """As alone, wherever the stream is served."""
        fresh = [point for point in dict.fromkeys(points) if point not in stream.feed.points]
        self._check_points(len(stream.feed.points) + len(fresh))
        self._check_room(stream.spec.tenant, len(fresh))
        await self._ask(stream, _ADD, list(points))

    async def _answer_add(self, _: int, items: list[object]) -> bytes:
        stream = self.live_one(as_text(items[0]))
        await self._catch_up(stream.spec)
        await super().add_points(stream, [as_text(each) for each in as_list(items[1])])
        return await self._changed_all()

    @override
    async def remove_points(self, stream: Stream, points: Iterable[str]) -> None:
        """As alone, wherever the stream is served."""
        await self._ask(stream, _REMOVE, list(points))

    async def _answer_remove(self, _: int, items: list[object]) -> bytes:
        stream = self.live_one(as_text(items[0]))
        await super().remove_points(stream, [as_text(each) for each in as_list(items[1])])
        return await self._changed_all()

    @override
    async def rotate(self, stream: Stream, secret: SecretValue, *, overlap_ms: int) -> None:
        """As alone, wherever the stream is served."""
        sealed = self._sealing.seal(secret.reveal(), bound_to=_ON_THE_WAY)
        await self._ask(stream, _ROTATE, sealed, overlap_ms)

    async def _answer_rotate(self, _: int, items: list[object]) -> bytes:
        stream, sealed = self.live_one(as_text(items[0])), items[1]
        if not isinstance(sealed, bytes):
            raise Damaged("a secret is no bytes")
        try:
            secret = SecretValue(self._sealing.open(sealed, bound_to=_ON_THE_WAY))
        except CannotOpen as error:
            raise Unavailable("the nodes have different keys for webhook secrets") from error
        await super().rotate(stream, secret, overlap_ms=as_int(items[2]))
        return await self._changed_all()

    @override
    async def delete(self, stream: Stream) -> None:
        """As alone, wherever the stream is served."""
        await self._ask(stream, _DELETE)

    async def _answer_delete(self, _: int, items: list[object]) -> bytes:
        await super().delete(self.live_one(as_text(items[0])))
        return await self._changed_all()

    async def _ask(self, stream: Stream, name: str, *items: object) -> list[object]:
        shard = self._neighbours.shard_of(stream.id)
        answer = await self._neighbours.ask(shard, name, stream.id, *items)
        fresh = self._find(stream.id)
        if fresh is not None and fresh is not stream and not self.is_live(stream):
            # The caller goes on with what it has.
            stream.spec, stream.feed, stream.secrets = fresh.spec, fresh.feed, fresh.secrets
        return answer

    async def _changed_all(self) -> bytes:
        """All nodes know what was changed."""
        await self._neighbours.spread(self._shared.written)
        return write_items()

    # Shards

    async def take(self, shard: int, recovered: Recovered) -> set[str]:
        """Bring a shard's streams to life; the ids of them. Raises LogFailure."""
        lock = self._taken[shard] = asyncio.Lock()
        async with lock:
            own = [each for each in self._shelf if self._neighbours.shard_of(each) == shard]
            for identity in own:
                await self._adopt(shard, identity, recovered)
        return set(own)

    async def _adopt_new(self, shard: int, identity: SubscriptionId) -> None:
        """Serve a stream whose shard has moved here while it was being created."""
        lock = self._taken.get(shard)
        if lock is None:
            return
        async with lock:
            try:
                await self._adopt(shard, identity, self._expected.get(shard, Recovered()))
            except LogFailure as failure:
                _log.error("not served yet", extra={"id": identity, "reason": failure.detail})
                return
        stream = self._streams.get(identity)
        if stream is not None and self._neighbours.serves(shard):
            self.on_started(stream)

    async def _adopt(
        self,
        shard: int,
        identity: SubscriptionId,
        recovered: Recovered,
    ) -> None:
        """Bring one to life, unless it is, or is gone by now. Raises LogFailure."""
        record = self._shelf.record(identity)
        stream = None if record is None else self._read(record)
        if stream is None:
            return
        progress = recovered.progress.get(identity)
        seq = stream.spec.start_seq if progress is None else progress.horizon
        topic = await self._followed.reach(stream.spec.key, seq)
        if shard in self._taken and identity not in self._streams and identity in self._shelf:
            self._recovery.take_up(stream, recovered, topic)

    def expect(self, shard: int, rest: Recovered) -> None:
        """There is progress of streams that are not known yet."""
        self._expected[shard] = rest

    @override
    def enlist(self, stream: Stream) -> None:
        super().enlist(stream)
        shard = self._neighbours.shard_of(stream.id)
        self._live.setdefault(shard, {})[stream.id] = stream
        self._shown.pop(stream.id, None)

    @override
    def _delist(self, stream: Stream) -> None:
        super()._delist(stream)
        self._live.get(self._neighbours.shard_of(stream.id), {}).pop(stream.id, None)

    def start(self, shard: int) -> None:
        """Deliver."""
        for stream in list(self._live.get(shard, {}).values()):
            self.on_started(stream)

    def pause(self, shard: int) -> None:
        """Deliver nothing more; what is under way comes again."""
        for stream in list(self._live.get(shard, {}).values()):
            self.on_ended(stream)

    def close_feeds(self, shard: int) -> None:
        """Deliver nothing more."""
        self.pause(shard)

    def let_go(self, shard: int) -> None:
        """Forget the live state of a shard; its definitions stay."""
        self._taken.pop(shard, None)
        self._expected.pop(shard, None)
        self._drop(list(self._live.pop(shard, {}).values()))

    def _drop(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            if not self.is_live(stream):
                continue
            self._delist(stream)
            self._leave(stream)
            self._delivering.close_all(stream.feed)
            self.on_ended(stream)
        self._committer.discard([stream.feed for stream in streams])
