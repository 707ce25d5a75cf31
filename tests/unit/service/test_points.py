"""Values of points on their way to the log: order, failures, restarts, bounds."""

import asyncio
import json

import pytest

from hotpath.model.errors import LimitReached, LogFull, Unavailable
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import LogFailure
from hotpath.service.points import FLUSH_MS, MARKS, STATES
from hotpath.service.points_read import PointValue
from hotpath.wire.body import body_bytes
from hotpath.wire.jsonbody import encode_json
from tests.support.clock import settle
from tests.unit.service.rig import Rig

TENANT = TenantId("acme")
KEY = TopicKey(TENANT, Topic.POINTS)


def value(text, *, point="p", at_ms=1_000) -> PointValue:
    return PointValue(point, str(text), 0, at_ms)


class PointRig(Rig):
    async def put(self, *values, partition="acme", tenant=TENANT) -> None:
        await self.core.points.publish(tenant, partition, values, via="test")

    async def events(self, key=KEY) -> list[dict]:
        batches = await self.log.read(key, 1, bytes_max=1 << 30)
        stored = [payload for batch in batches for payload in batch.payloads]
        return [json.loads(body_bytes(each)) for each in stored]

    async def changes(self) -> list[tuple[str, int]]:
        return [(event["value"], event["changed"]) for event in await self.events()]

    async def crash(self) -> None:
        points = self.core.points
        points._stop_timer()
        for task in (*points._tasks, points._flushing):
            if task is not None:
                task.cancel()
        await super().crash()


@pytest.fixture
async def rig():
    made = await PointRig().start()
    yield made
    made.log.resume()
    await made.stop()


async def test_a_value_is_stored_as_it_is_sent(rig):
    await rig.put(PointValue("p", "22", 0, 1_764_742_161_915))
    await rig.put(PointValue("p", "23", 1, 1_764_742_168_077))

    [_, stored] = [
        payload for b in await rig.log.read(KEY, 1, bytes_max=1 << 30) for payload in b.payloads
    ]
    assert body_bytes(stored) == (
        b'{"changed":1,"createdAt":"2025-12-03T06:09:21.915Z","id":"p",'
        b'"lastUpdatedAt":"2025-12-03T06:09:28.077Z","qualityOfValue":1,"value":"23"}'
    )


async def test_changed_compares_with_the_latest_value(rig):
    await rig.put(value(1), value(1), value(2), value(1))

    assert await rig.changes() == [("1", 1), ("1", 0), ("2", 1), ("1", 1)]


async def test_an_older_value_is_sent_and_does_not_become_the_latest(rig):
    await rig.put(value("new", at_ms=9), value("old", at_ms=5), value("new", at_ms=9))

    assert await rig.changes() == [("new", 1), ("old", 1), ("new", 0)]
    assert all(event["createdAt"].endswith(".009Z") for event in await rig.events())
    assert (await rig.events())[1]["lastUpdatedAt"].endswith(".005Z")


async def test_partitions_and_tenants_keep_their_points_apart(rig):
    await rig.put(value(1))
    await rig.put(value(1), partition="north")
    await rig.put(value(1), tenant=TenantId("other"), partition="other")

    assert await rig.changes() == [("1", 1), ("1", 1)]
    other = await rig.events(TopicKey(TenantId("other"), Topic.POINTS))
    assert [event["changed"] for event in other] == [1]


async def test_publishers_at_the_same_time_have_one_order(rig):
    await asyncio.gather(*(rig.put(value(n % 2), value(n % 2)) for n in range(20)))

    changes = await rig.changes()
    latest = None
    for text, changed in changes:
        assert changed == int(text != latest)
        latest = text
    assert len(changes) == 40


async def test_a_failed_commit_leaves_no_trace(rig):
    await rig.put(value("a"))
    rig.log.fail_next(LogFailure("disk", full=True))

    with pytest.raises(LogFull):
        await rig.put(value("b"), value("new", point="q"))
    await rig.put(value("a"), value("b"), value("new", point="q"))

    assert await rig.changes() == [("a", 1), ("a", 0), ("b", 1), ("new", 1)]


async def test_values_handed_in_during_a_commit_that_fails_know_nothing_of_it(rig):
    await rig.put(value("a"))
    rig.log.pause()
    rig.log.fail_next(LogFailure("disk"))
    lost = asyncio.ensure_future(rig.put(value("b")))
    await settle()
    kept = asyncio.ensure_future(rig.put(value("a"), value("b")))
    await settle()

    rig.log.resume()

    with pytest.raises(Unavailable):
        await lost
    await rig.clock.advance(1_000)
    await kept
    assert await rig.changes() == [("a", 1), ("a", 0), ("b", 1)]


@pytest.mark.parametrize("flushed_ms", [0, FLUSH_MS], ids=["before-the-store", "after-the-store"])
async def test_state_is_exact_after_a_kill(rig, flushed_ms):
    await rig.put(value("a", at_ms=5), value("late", at_ms=3))
    await rig.clock.advance(flushed_ms)
    await rig.put(value("b", point="q"), value("n", point="p"), partition="north")

    await rig.crash()

    await rig.put(value("a", at_ms=6), value("b", point="q"))
    await rig.put(value("b", point="q"), value("m", point="p"), partition="north")
    assert [c for _, c in await rig.changes()] == [1, 1, 1, 1, 0, 1, 0, 1]
    assert (await rig.events())[4]["createdAt"].endswith(".005Z")


async def test_a_kill_in_the_middle_of_a_flush_changes_nothing(rig):
    await rig.put(*(value(n, point=f"p{n}") for n in range(1_200)))
    rig.store.fail_next(LogFailure("disk"))
    await rig.clock.advance(FLUSH_MS)
    await rig.put(value("x", point="p0"))

    await rig.crash()

    await rig.put(value("x", point="p0"), value(1_199, point="p1199"), value(5, point="p1199"))
    assert [c for _, c in (await rig.changes())[-3:]] == [0, 0, 1]


async def test_the_store_holds_what_changed_and_where_the_log_goes_on(rig):
    await rig.put(value("a"), value("b"))
    await rig.clock.advance(FLUSH_MS)

    [record] = await rig.store.load(STATES)
    assert (record["point"], record["value"], record["through"]) == ("p", "b", 3)
    assert await rig.store.load(MARKS) == [{"tenant": "acme", "seq": 3}]


async def test_a_flush_that_fails_is_tried_again(rig):
    await rig.put(value("a"))
    rig.store.fail_next(LogFailure("disk"))
    await rig.clock.advance(FLUSH_MS)
    assert await rig.store.load(MARKS) == []

    await rig.clock.advance(FLUSH_MS)

    assert await rig.store.load(MARKS) == [{"tenant": "acme", "seq": 2}]


async def test_a_clean_stop_leaves_nothing_to_replay(rig):
    await rig.put(value("a"))

    await rig.core.points.close()

    assert await rig.store.load(MARKS) == [{"tenant": "acme", "seq": 2}]


async def test_points_are_bounded_and_the_rest_goes_on():
    rig = await PointRig(points_per_tenant_max=2).start()
    try:
        await rig.put(value(1))
        with pytest.raises(LimitReached, match="2 points at most"):
            await rig.put(value(1), value(1, point="q"), value(1, point="r"))
        results = await asyncio.gather(
            rig.put(value(1, point="q")), rig.put(value(1, point="r")), return_exceptions=True
        )
        await rig.put(value(2), value(2, point="q"))
    finally:
        await rig.stop()
    assert [type(result) for result in results] == [type(None), LimitReached]


async def test_room_that_a_failed_commit_took_is_free_again():
    rig = await PointRig(points_per_tenant_max=1).start()
    try:
        rig.log.fail_next(LogFailure("disk"))
        with pytest.raises(Unavailable):
            await rig.put(value(1))
        await rig.put(value(1, point="q"))
    finally:
        await rig.stop()


async def test_a_tenant_whose_points_cannot_be_read_is_refused_and_tried_again(rig):
    await rig.put(value("a"))
    await rig.crash()
    rig.log.fail_reads()

    with pytest.raises(Unavailable):
        await rig.put(value("a"))
    await rig.put(value("a"))

    assert await rig.changes() == [("a", 1), ("a", 0)]


async def test_what_older_releases_left_in_the_log_is_passed_over(rig):
    await rig.core.publishing.publish(KEY, [b"\x00\x53\x77\x40", encode_json(b"[1]", {})], via="t")

    await rig.put(value("a"))

    assert rig.core.points._tenants[TENANT].table.states["p"].value == "a"


async def test_a_stopping_service_refuses_values(rig):
    await rig.put(value("a"))
    await rig.core.committer.close()

    with pytest.raises(Unavailable):
        await rig.put(value("b"))
