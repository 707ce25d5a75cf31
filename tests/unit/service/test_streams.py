"""Streams: what they get, what survives a kill, and what is told of their status."""

import json

import pytest

from hotpath.auth.rights import Principal
from hotpath.auth.sealing import SealingKey
from hotpath.model.errors import NotFound
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.model.stream import StreamStatus
from hotpath.ports import LogFailure
from hotpath.service.points_read import PointValue
from hotpath.service.secrets import SecretValue
from hotpath.service.streams import NewStream, Stream
from hotpath.service.streams_resume import KEY_CHANGED
from hotpath.wire.body import body_bytes
from tests.support.clock import settle
from tests.unit.service.rig import Reader, Rig

TENANT = TenantId("acme")
PRINCIPAL = Principal(TENANT, "tester", frozenset({"hotpath.subscribe"}))
URL = "https://hooks.example.com/"


class StreamRig(Rig):
    async def stream(self, *points, secret=None, principal=PRINCIPAL) -> Stream:
        kept = None if secret is None else SecretValue(secret)
        return await self.core.streams.create(principal, NewStream("acme", URL, points, kept))

    async def put(self, *points, **options) -> None:
        values = [PointValue(point, str(n), 0, 1_000 + n) for n, point in enumerate(points)]
        await self.core.points.publish(TENANT, "acme", values, via="test", **options)

    def same(self, stream: Stream) -> Stream:
        [found] = [each for each in self.core.streams.live() if each.id == stream.id]
        return found

    def received(self, reader: Reader, seqs) -> list[str]:
        return [json.loads(body_bytes(reader.payload(seq)))["id"] for seq in seqs]

    async def crash(self) -> None:
        sealing = self.core.sealing
        points = self.core.points
        points._stop_timer()
        for task in (*points._tasks, points._flushing):
            if task is not None:
                task.cancel()
        await self.abandon()
        self.log.crash()
        self.core = type(self.core)(self.settings, log=self.log, store=self.store, clock=self.clock)
        self.core.sealing = sealing
        await self.start()


@pytest.fixture
async def rig():
    made = await StreamRig().start()
    yield made
    await made.stop()


async def read(rig, stream):
    reader = rig.read(stream.subscription)
    return rig.received(reader, await reader.read_all())


async def test_a_stream_gets_the_values_of_its_points_from_its_creation_on(rig):
    await rig.put("p")
    stream = await rig.stream("p", "q")
    await rig.put("p", "other", "q")

    assert await read(rig, stream) == ["p", "q"]


async def test_a_stream_that_nobody_reads_gets_everything_later(rig):
    stream = await rig.stream("p")
    for _ in range(30):
        await rig.put(*["p", "x"] * 20)

    assert await read(rig, stream) == ["p"] * 600


async def test_a_point_that_is_added_counts_from_then_on_also_after_a_kill(rig):
    stream = await rig.stream("p")
    await rig.put("p", "q")
    await rig.core.streams.add_points(stream, ["q"])
    await rig.put("q", "p")

    await rig.crash()

    assert await read(rig, rig.same(stream)) == ["p", "q", "p"]


async def test_a_removed_points_values_are_dropped_also_after_a_kill(rig):
    stream = await rig.stream("p", "q")
    await rig.put("p", "q", "p")
    await rig.core.streams.remove_points(stream, ["p"])
    await rig.put("p", "q")

    await rig.crash()

    assert await read(rig, rig.same(stream)) == ["q", "q"]


async def test_what_was_pulled_before_a_point_was_removed_is_not_held_any_more(rig):
    stream = await rig.stream("p")
    await rig.put("p")
    reader = rig.read(stream.subscription)
    [seq] = reader.pull()
    streams = rig.core.streams
    before = streams.holds(stream, "p", seq)

    await streams.remove_points(stream, ["p"])
    removed = streams.holds(stream, "p", seq)
    await streams.add_points(stream, ["p"])
    await rig.put("p")

    assert (before, removed, streams.holds(stream, "p", seq)) == (True, False, False)
    [later] = reader.pull()
    assert streams.holds(stream, "p", later)


async def test_settled_values_stay_settled_and_failures_stay_counted_after_a_kill(rig):
    stream = await rig.stream("p", "q")
    await rig.put("p", "q", "p")
    reader = rig.read(stream.subscription)
    first, second, third = reader.pull()
    reader.complete(second)
    counts = [rig.core.settling.fail(stream.subscription, *reader.held(first)) for _ in range(25)]
    await settle(50)

    await rig.crash()

    again = rig.read(rig.same(stream).subscription)
    assert sorted(await again.read_all()) == [first, third]
    assert counts[-1] == 25
    assert again.count(first) == 25


async def test_a_failure_of_a_lock_that_was_lost_is_not_counted(rig):
    stream = await rig.stream("p")
    await rig.put("p")
    reader = rig.read(stream.subscription)
    [seq] = reader.pull()
    reader.complete(seq)

    assert rig.core.settling.fail(stream.subscription, *reader.held(seq)) is None


async def test_what_a_receiver_holds_stays_held_past_any_lock(rig):
    stream = await rig.stream("p")
    await rig.put("p")
    reader = rig.read(stream.subscription)
    [seq] = reader.pull()

    await rig.clock.advance(rig.settings.lock_seconds * 5_000)

    assert reader.complete(seq) == []


async def test_streams_are_never_idle(rig):
    stream = await rig.stream("p")
    await rig.clock.advance(120_000)

    assert await rig.core.admin.reap() == 0
    assert rig.core.admin.next_expiry_ms() is None
    assert rig.core.admin.subscriptions() == []
    assert rig.same(stream) is stream


async def test_the_feed_of_a_stream_is_nobodys_to_attach_to(rig):
    stream = await rig.stream("p")

    assert rig.core.admin.find(Topic.POINTS, stream.id) is None
    with pytest.raises(NotFound):
        rig.core.admin.get(PRINCIPAL, Topic.POINTS, stream.id)


async def test_everything_of_a_stream_comes_back(rig):
    stream = await rig.stream(*(f"p{n}" for n in range(300)), secret="old")
    streams = rig.core.streams
    await streams.rotate(stream, SecretValue("new"), overlap_ms=60_000)
    await streams.remove_points(stream, [f"p{n}" for n in range(0, 300, 2)])
    await streams.report(stream, StreamStatus.FAILING, "it answers 500")

    await rig.crash()

    again = rig.same(stream)
    assert again.spec == stream.spec
    assert sorted(again.feed.points) == sorted(stream.feed.points)
    assert [each.reveal() for each in rig.core.streams.secrets(again)] == ["new", "old"]
    assert rig.core.streams.get(PRINCIPAL, "acme", stream.id) is again


async def test_a_creation_that_was_cut_short_leaves_nothing(rig):
    rig.store.fail_next(LogFailure("disk"), after=1)
    with pytest.raises(Exception, match="store cannot be written"):
        await rig.stream("p")
    assert len(await rig.store.load("stream_points")) == 1

    await rig.crash()

    assert list(rig.core.streams.live()) == []
    assert await rig.store.load("stream_points") == []
    assert rig.log._kept.progress == {}


async def test_a_stream_whose_secret_cannot_be_opened_sends_nothing_and_says_why(rig):
    stream = await rig.stream("p", secret="x")
    await rig.crash()
    await rig.abandon()
    rig.core = type(rig.core)(rig.settings, log=rig.log, store=rig.store, clock=rig.clock)
    rig.core.sealing = SealingKey(b"?" * 32)
    await rig.start()

    again = rig.same(stream)
    assert (again.status, again.reason) == (StreamStatus.DISABLED, KEY_CHANGED)
    assert rig.core.streams.secrets(again) == []


@pytest.mark.parametrize("change", [{"status": "odd"}, {"created_ms": None}, {"condition": "x ="}])
async def test_a_record_that_cannot_be_read_is_left_alone(rig, change):
    stream = await rig.stream("p")
    [record] = await rig.store.load("streams")
    await rig.store.put("streams", stream.id, {**record, **change})
    await settle(50)

    await rig.crash()

    assert list(rig.core.streams.live()) == []
    assert stream.id in rig.log._kept.progress


async def test_points_that_cannot_be_read_keep_their_stream_from_being_served(rig):
    stream = await rig.stream("p")
    await rig.store.put(
        "stream_points", f"{stream.id}/0", {"stream": stream.id, "number": 0, "since": "[]"}
    )

    await rig.crash()

    assert list(rig.core.streams.live()) == []


# Status


async def events(rig):
    key = TopicKey(TENANT, Topic.PLATFORM_EVENTS)
    batches = await rig.log.read(key, 1, bytes_max=1 << 20)
    return [json.loads(body_bytes(p)) for batch in batches for p in batch.payloads]


async def test_a_change_of_status_is_a_platform_event(rig):
    stream = await rig.stream("p")
    watch = await rig.create(
        "eventType = 'stream.statusChanged' AND status = 'failing'", topic=Topic.PLATFORM_EVENTS
    )
    heard = []
    rig.core.streams.on_changed = heard.append

    await rig.core.streams.report(stream, StreamStatus.FAILING, "500")
    await rig.core.streams.report(stream, StreamStatus.FAILING, "500")
    await rig.core.streams.report(stream, StreamStatus.FAILING, "502")
    await rig.core.streams.report(stream, StreamStatus.ACTIVE, "")
    await settle(50)

    told = [(e["status"], e["reason"], e["previous"], e["severity"]) for e in await events(rig)]
    assert told == [("failing", "500", "active", "warning"), ("active", "", "failing", "info")]
    assert {e["streamId"] for e in await events(rig)} == {stream.id}
    assert len(await rig.read(watch).read_all()) == 1
    assert len(heard) == 3


async def test_a_status_moves_updated_at_and_outlives_a_store_that_fails(rig):
    stream = await rig.stream("p")
    await rig.clock.advance(5_000)
    rig.store.fail_next(LogFailure("disk"))

    await rig.core.streams.report(stream, StreamStatus.DISABLED, "410")
    assert stream.status is StreamStatus.DISABLED
    assert stream.spec.updated_ms == stream.spec.created_ms + 5_000
    await rig.core.streams.add_points(stream, ["q"])

    await rig.crash()
    assert rig.same(stream).reason == "410"


async def test_nothing_is_reported_of_a_deleted_stream(rig):
    stream = await rig.stream("p")
    await rig.core.streams.delete(stream)

    await rig.core.streams.report(stream, StreamStatus.FAILING, "500")

    assert await events(rig) == []
    assert await rig.store.load("streams") == []
    for change in (
        rig.core.streams.add_points(stream, ["q"]),
        rig.core.streams.remove_points(stream, ["p"]),
        rig.core.streams.rotate(stream, SecretValue("x"), overlap_ms=0),
        rig.core.streams.delete(stream),
    ):
        with pytest.raises(NotFound):
            await change


async def test_a_status_that_cannot_be_announced_is_kept_all_the_same(rig):
    stream = await rig.stream("p")
    rig.log.fail_next(LogFailure("disk"))

    await rig.core.streams.report(stream, StreamStatus.FAILING, "500")
    await settle(50)

    assert await events(rig) == []
    assert stream.status is StreamStatus.FAILING
    await rig.clock.advance(1_000)


async def test_edges_hear_of_streams_that_come_and_go(rig):
    streams, heard = rig.core.streams, []
    streams.on_started = lambda stream: heard.append(("started", stream.id))
    streams.on_changed = lambda stream: heard.append(("changed", stream.id))
    streams.on_ended = lambda stream: heard.append(("ended", stream.id))

    stream = await rig.stream("p")
    reader = rig.read(stream.subscription)
    await streams.add_points(stream, ["q"])
    await streams.delete(stream)

    assert [what for what, _ in heard] == ["started", "changed", "ended"]
    assert reader.closed == 1
