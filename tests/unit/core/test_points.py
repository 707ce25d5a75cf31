"""Sets of points, and which streams get which values."""

import pytest

from hotpath.core.locks import FOREVER, LockTable
from hotpath.core.points import CHUNK, EVERYTHING, SCHEMA, PointFeed, PointRouter
from hotpath.core.router import Router
from hotpath.core.subscription import Subscription
from hotpath.model.message import Batch
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import SubscriptionSpec
from hotpath.wire.jsonbody import encode_json
from qel import compile_filter

KEY = TopicKey(TenantId("acme"), Topic.POINTS)


def make_feed(name="s", *points, partition="acme", filter_=EVERYTHING, since=1) -> PointFeed:
    spec = SubscriptionSpec(
        id=SubscriptionId(name),
        tenant=KEY.tenant,
        topic=KEY.topic,
        filter="true",
        condition=None,
        ttl_ms=0,
        sas_ttl_ms=0,
        start_seq=1,
        created_ms=0,
    )
    locks = LockTable(lock_ms=None, deliveries_max=None, first_serial=0)
    feed = PointFeed(spec, filter_, partition=partition, locks=locks, ready_max=100, locks_max=100)
    feed.points.add(points, since=since)
    return feed


def batch_of(*points, first_seq=1, partition="acme", **body) -> Batch:
    payloads = [
        encode_json(
            b'{"value":"' + str(body.get("value", 1)).encode() + b'"}',
            {"id": point, "partitionId": partition},
        )
        for point in points
    ]
    return Batch(KEY, first_seq, enqueued_ms=0, payloads=payloads)


def routed(router: PointRouter, batch: Batch) -> dict[str, list[int]]:
    return {feed.spec.id: seqs for feed, seqs in router.route(batch).items()}


def test_a_value_goes_to_the_streams_that_hold_its_point():
    router = PointRouter()
    for feed in (make_feed("one", "p", "q"), make_feed("two", "q"), make_feed("none")):
        router.add(feed)

    assert routed(router, batch_of("p", "q", "r")) == {"one": [1, 2], "two": [2]}
    assert len(router) == 3


def test_a_value_logged_before_its_point_was_added_is_not_the_streams():
    router, feed = PointRouter(), make_feed("s", "p", since=3)
    router.add(feed)

    batch = batch_of("p", "p", "p", "p")

    assert routed(router, batch) == {"s": [3, 4]}
    assert list(router.matching(feed, batch)) == [3, 4]


@pytest.mark.parametrize(
    ("published", "held", "taken"),
    [
        ("acme", "acme", True),
        ("acme", "north", True),
        ("north", "north", True),
        ("north", "acme", False),
        ("north", "south", False),
    ],
)
def test_a_stream_gets_its_own_partition_and_the_tenants(published, held, taken):
    router = PointRouter()
    router.add(make_feed("s", "p", partition=held))

    assert bool(routed(router, batch_of("p", partition=published))) is taken


def test_a_condition_narrows_what_a_stream_gets():
    condition = compile_filter("value = 'hot'", SCHEMA)
    router = PointRouter()
    router.add(make_feed("s", "p", filter_=condition))

    assert routed(router, batch_of("p", value="cold")) == {}
    assert routed(router, batch_of("p", value="hot")) == {"s": [1]}


def test_a_deleted_stream_gets_nothing_and_its_chunks_go():
    router, feed = PointRouter(), make_feed("s", *(f"p{n}" for n in range(CHUNK * 5)))
    router.add(feed)

    router.remove(feed)

    assert routed(router, batch_of("p1")) == {}
    while router.index_next():
        assert routed(router, batch_of("p1")) == {}
    assert len(router._index) == 0


def test_a_stream_gets_everything_while_the_index_is_being_built():
    router = PointRouter()
    for name in ("one", "two"):
        router.add(make_feed(name, *(f"p{n}" for n in range(CHUNK * 3))))
    batch = batch_of("p1", f"p{CHUNK * 2}", "other")
    everything = {"one": [1, 2], "two": [1, 2]}

    assert routed(router, batch) == everything
    while router.index_next():
        assert routed(router, batch) == everything
    assert routed(router, batch) == everything
    assert (len(router._index), router._direct) == (6, {})


def test_a_stream_that_ends_while_the_index_is_being_built_is_gone():
    router, feed = PointRouter(), make_feed("s", *(f"p{n}" for n in range(CHUNK * 3)))
    router.add(feed)
    router.index_next()

    router.remove(feed)
    while router.index_next():
        pass

    assert (len(router._index), router._direct) == (0, {})


def test_removing_a_stream_that_is_not_there_is_harmless():
    PointRouter().remove(make_feed())


def test_messages_without_an_id_go_nowhere():
    router, feed = PointRouter(), make_feed("s", "p")
    router.add(feed)
    batch = Batch(KEY, 1, enqueued_ms=0, payloads=[b"\x00", encode_json(b"[]", {"id": 5})])

    assert router.route(batch) == {}
    assert list(router.matching(feed, batch)) == []


def test_only_streams_can_be_added():
    other = Subscription.__new__(Subscription)
    with pytest.raises(TypeError):
        PointRouter().add(other)
    assert list(PointRouter().matching(other, batch_of("p"))) == []


def test_a_released_batch_matches_nothing():
    router, feed = PointRouter(), make_feed("s", "p")
    router.add(feed)
    batch = batch_of("p")
    batch.release()

    assert router.route(batch) == {}
    assert router.matching(feed, batch) == ()


def test_other_topics_match_one_subscription_by_its_filter():
    spec = make_feed().spec
    locks = LockTable(lock_ms=1, deliveries_max=None, first_serial=0)
    feed = Subscription(
        spec, compile_filter("id = 'p'", SCHEMA), locks=locks, ready_max=1, locks_max=1
    )

    assert list(Router().matching(feed, batch_of("q", "p"))) == [2]


class TestPointSet:
    def test_points_that_are_there_stay_as_they_are(self):
        points = make_feed("s", "p", since=5).points

        points.add(["p", "q"], since=9)

        assert (points.since("p"), points.since("q")) == (5, 9)
        assert list(points) == ["p", "q"]
        assert len(points) == 2

    def test_a_change_of_one_point_changes_one_chunk(self):
        points = make_feed("s", *(f"p{n}" for n in range(1_000))).points

        assert len(points.add(["new"], since=1)) == 1
        [chunk] = points.remove(["p5"])
        assert "p5" not in chunk.since
        assert max(len(chunk.since) for chunk in points.chunks.values()) <= CHUNK

    def test_room_in_a_chunk_is_used_again(self):
        points = make_feed("s", *(f"p{n}" for n in range(CHUNK))).points
        points.remove(["p0", "p1"])

        points.add(["a", "b"], since=1)

        assert len(points.chunks) == 1

    def test_an_empty_chunk_goes(self):
        points = make_feed("s", "p").points

        [chunk] = points.remove(["p", "never was"])

        assert (chunk.since, points.chunks, len(points)) == ({}, {}, 0)

    def test_what_would_be_left_is_told_without_a_change(self):
        points = make_feed("s", "p", "q").points

        assert points.without(["p", "other"]) == {0: {"q": 1}}
        assert "p" in points

    def test_pages_are_in_the_order_of_the_ids(self):
        points = make_feed("s", "c", "a", "d", "b").points

        assert points.page(after="", limit=2) == ["a", "b"]
        assert points.page(after="b", limit=5) == ["c", "d"]

    def test_stored_chunks_come_back_and_new_ones_do_not_take_their_numbers(self):
        points = make_feed().points

        points.restore(4, {"p": 7})
        points.restore(5, {"p": 8})
        points.add([f"n{n}" for n in range(CHUNK)], since=9)

        assert points.since("p") == 7
        assert sorted(points.chunks) == [4, 6]

    @pytest.mark.parametrize("odd", [None, 5, ["p"]])
    def test_what_is_no_id_is_no_point(self, odd):
        assert make_feed("s", "p").points.since(odd) is None


class TestEndlessLocks:
    def make(self):
        table = LockTable(lock_ms=None, deliveries_max=None, first_serial=0)
        holding = table.lock(batch_of("p"), (1,), receiver="edge", now_ms=0)
        return table, holding

    def test_a_lock_ends_with_its_receiver_alone(self):
        table, holding = self.make()

        assert holding.until_ms == FOREVER
        assert table.next_deadline() is None
        assert table.expire(10**15) == []
        assert table.drop_receiver("edge") == 1
        assert table.locked == 0

    def test_a_failure_is_counted_and_the_lock_stays(self):
        table, holding = self.make()

        assert [table.count_failure(1) for _ in range(30)][-1] == 30
        assert table.held(1, holding.serial) is holding
        assert table.changed_counts == {1: 30}

    def test_a_renewed_lock_has_no_end_either(self):
        table, holding = self.make()

        assert table.renew(1, holding, now_ms=5).until_ms == FOREVER
