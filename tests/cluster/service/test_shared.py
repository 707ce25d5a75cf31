"""What is once in the cluster: rights, schedules, points and streams, from whichever node."""

import asyncio
import json

import pytest

from hotpath.model.errors import Invalid, NotFound
from hotpath.model.names import Topic, TopicKey
from hotpath.model.stream import StreamStatus
from hotpath.ports import LogFailure
from hotpath.service.points_read import PointValue
from hotpath.service.secrets import SecretValue
from hotpath.service.stream import NewStream
from hotpath.wire.body import body_bytes
from tests.cluster.service.nodes import KEY, PRINCIPAL, TENANT, message, running_nodes, until

pytestmark = pytest.mark.slow

POINTS = TopicKey(TENANT, Topic.POINTS)


def keys(node):
    return {kept.key.name: kept.retired_ms is None for kept in node.core.keys.all()}


# Rights


async def test_nodes_that_start_together_sign_with_one_key(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b", "c") as nodes:
        signing = {node.core.ring.current.secret for node in nodes.nodes.values()}

        assert len(signing) == 1


async def test_keys_that_one_node_makes_and_retires_count_on_all_at_once(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        retired = []
        for node in nodes.nodes.values():
            node.core.keys.on_retired = lambda name=node.name: retired.append(name)

        made = await nodes["a"].core.keys.add("spare", "acme")
        assert nodes["b"].core.ring.get("spare") == made.key
        with pytest.raises(Invalid):
            await nodes["b"].core.keys.add("spare", None)

        await nodes["b"].core.keys.retire("spare")
        assert [node.core.ring.get("spare") for node in nodes.nodes.values()] == [None, None]
        assert sorted(set(retired)) == ["a", "b"]

        await nodes["a"].core.keys.remove("spare")
        assert [keys(node) for node in nodes.nodes.values()] == [{"hotpath": True}] * 2
        with pytest.raises(NotFound):
            await nodes["b"].core.keys.remove("spare")


async def test_tokens_revoked_on_one_node_are_worthless_on_all_at_once(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["a"].create()
        told = []
        for node in nodes.nodes.values():
            node.core.revoking.on_revoked = lambda name=node.name: told.append(name)
        revoke = nodes["b"].core.revoking.revoke_subscription

        both = await asyncio.gather(
            revoke(PRINCIPAL, Topic.VARIABLES, spec.id),
            nodes["a"].core.revoking.revoke_subscription(PRINCIPAL, Topic.VARIABLES, spec.id),
        )

        generations = [n.core.admin.directory.get(spec.id).generation for n in nodes.nodes.values()]
        assert generations == [2, 2], "each revocation counts"
        assert max(each.generation for each in both) == 2
        assert set(told) == {"a", "b"}
        live = nodes["a"].core.topics.subscriptions[spec.id]
        assert live.spec.generation == 2


async def test_publishers_are_known_and_gone_on_all_nodes_at_once(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["a"].core.publishers.open(PRINCIPAL, Topic.VARIABLES, ttl_minutes=5)
        assert nodes["b"].core.publishers.get(spec.id) == spec

        await nodes["b"].core.revoking.delete_publisher(PRINCIPAL, Topic.VARIABLES, spec.id)
        assert nodes["a"].core.publishers.get(spec.id) is None


# Schedules


async def test_a_scheduled_message_comes_once_whoever_took_it(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["a"].create()
        now_ms = nodes["a"].core.clock.now_ms()
        numbers = [
            await node.core.scheduling.keep(KEY, [(message(n), now_ms + 400)])
            for n, node in enumerate(nodes.nodes.values())
        ]
        assert len({number for each in numbers for number in each}) == 2

        reader = nodes["b"].read(spec)
        await until(lambda: len(reader.values) == 2)
        await nodes["a"].publish(9)
        await until(lambda: message(9) in reader.values)
        assert sorted(reader.values) == sorted(map(message, (0, 1, 9)))


async def test_a_scheduled_message_is_withdrawn_from_any_node(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        later_ms = nodes["a"].core.clock.now_ms() + 3_600_000
        for node in nodes.nodes.values():
            (number,) = await node.core.scheduling.keep(KEY, [(message(1), later_ms)])
            for other in nodes.others(node):
                assert await other.core.scheduling.withdraw(KEY, [number])
                assert not await node.core.scheduling.withdraw(KEY, [number])


async def test_what_was_scheduled_comes_once_when_its_node_is_gone(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["b"].create()
        (keeper,) = [n for n in nodes.nodes.values() if n.core.scheduling._is_here(KEY)]
        (other,) = nodes.others(keeper)
        due_ms = keeper.core.clock.now_ms() + 700
        await other.core.scheduling.keep(KEY, [(message(1), due_ms)])

        await nodes.kill(keeper)

        await until(lambda: other.serves(spec))
        reader = other.read(spec)
        await until(lambda: reader.values == [message(1)])
        await other.publish(2)
        await until(lambda: len(reader.values) >= 2)
        assert reader.values == [message(1), message(2)]


async def test_what_became_due_and_could_not_leave_the_schedule_comes_once(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["b"].create()
        (keeper,) = [n for n in nodes.nodes.values() if n.core.scheduling._is_here(KEY)]
        (other,) = nodes.others(keeper)
        (number,) = await keeper.core.scheduling.keep(
            KEY, [(message(1), keeper.core.clock.now_ms() + 300)]
        )

        async def fail(*_):
            raise LogFailure("the journal cannot be written")

        keeper.log._writing._kept.remove_scheduled = fail
        reader = other.read(spec)
        await until(lambda: reader.values == [message(1)])
        again = [n for n in nodes.nodes.values() if n is not keeper]
        await nodes.kill(keeper)

        await until(lambda: again[0].core.scheduling._is_here(KEY))
        await until(lambda: (KEY, number) not in again[0].core.scheduling._releasing)
        assert not await again[0].core.scheduling.withdraw(KEY, [number])
        batches = await again[0].core.log.read(KEY, 1, bytes_max=10_000)
        stored = [payload for batch in batches for payload in batch.payloads]
        assert stored == [message(1)]


# Points


async def events(node):
    batches = await node.core.log.read(POINTS, 1, bytes_max=10_000_000)
    bodies = [json.loads(body_bytes(stored)) for b in batches for stored in b.payloads]
    return [(body["id"], body["value"], body["changed"]) for body in bodies]


async def test_changed_is_right_whichever_nodes_take_the_values_and_after_a_takeover(
    server, tmp_path
):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        at_ms = nodes["a"].core.clock.now_ms()

        async def publish(node, text):
            value = PointValue("p", text, 0, at_ms)
            await node.core.points.publish(TENANT, "acme", [value], via="test")

        await publish(nodes["a"], "1")
        await publish(nodes["b"], "1")
        await publish(nodes["a"], "2")
        await publish(nodes["b"], "2")
        (keeper,) = [
            n
            for n in nodes.nodes.values()
            if n.core.neighbours.serves(n.core.points._shard("acme"))
        ]
        (other,) = nodes.others(keeper)
        await nodes.kill(keeper)
        await until(lambda: other.core.neighbours.serves(other.core.points._shard("acme")))
        await publish(other, "2")
        await publish(other, "3")

        assert await events(other) == [
            ("p", "1", 1),
            ("p", "1", 0),
            ("p", "2", 1),
            ("p", "2", 0),
            ("p", "2", 0),
            ("p", "3", 1),
        ]


# Streams


WANTED = NewStream("acme", "https://hooks.example.com/x", ["p1", "p2"], SecretValue("s"))


def shown(node, stream):
    return node.core.streams.get(PRINCIPAL, "acme", stream.id)


def points(node, stream):
    return sorted(shown(node, stream).feed.points)


async def test_streams_are_the_same_on_all_nodes_and_live_on_one(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        a, b = nodes["a"], nodes["b"]
        made = [await node.core.streams.create(PRINCIPAL, WANTED) for node in (a, b, a)]

        pages = [
            node.core.streams.list_own(PRINCIPAL, "acme", after=None, limit=2, points=10)
            for node in (a, b)
        ]
        assert [each.id for each in pages[0][0]] == [each.id for each in pages[1][0]]
        assert pages[0][1] == pages[1][1] is not None
        assert {each.id for each in a.core.streams.live()} == {made[0].id, made[2].id}
        assert {each.id for each in b.core.streams.live()} == {made[1].id}


async def test_a_stream_is_changed_and_deleted_from_any_node(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        a, b = nodes["a"], nodes["b"]
        stream = await a.core.streams.create(PRINCIPAL, WANTED)

        asked = shown(b, stream)
        await b.core.streams.add_points(asked, ["p3"])
        assert sorted(asked.feed.points) == ["p1", "p2", "p3"], "as the call answers"
        assert points(a, stream) == points(b, stream) == ["p1", "p2", "p3"]
        await b.core.streams.remove_points(shown(b, stream), ["p1", "never"])
        assert points(a, stream) == points(b, stream) == ["p2", "p3"]
        await b.core.streams.rotate(shown(b, stream), SecretValue("new"), overlap_ms=60_000)
        signing = [n.core.streams.secrets(shown(n, stream)) for n in (a, b)]
        assert [[each.reveal() for each in secrets] for secrets in signing] == [["new", "s"]] * 2

        await a.core.streams.report(stream, StreamStatus.FAILING, "slow")
        await until(lambda: shown(b, stream).status is StreamStatus.FAILING)
        await b.core.streams.delete(shown(b, stream))
        for node in (a, b):
            with pytest.raises(NotFound):
                shown(node, stream)
        assert list(a.core.streams.live()) == []


async def test_limits_of_points_count_what_other_nodes_serve(server, tmp_path):
    limits = {"points_per_stream_max": 3, "stream_points_per_tenant_max": 5}
    async with running_nodes(server, tmp_path, "a", "b", **limits) as nodes:
        a, b = nodes["a"], nodes["b"]
        stream = await a.core.streams.create(PRINCIPAL, WANTED)
        with pytest.raises(Invalid) as refused:
            await b.core.streams.add_points(shown(b, stream), ["p3", "p4"])
        assert refused.value.violations[0].pointer == "/pointIds"

        await b.core.streams.create(PRINCIPAL, WANTED)
        with pytest.raises(Exception, match="as many points in streams"):
            await b.core.streams.create(PRINCIPAL, WANTED)


async def test_who_takes_a_stream_over_starts_its_deliveries_and_the_other_ends_them(
    server, tmp_path
):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        heard = []
        for node in nodes.nodes.values():
            streams = node.core.streams
            streams.on_started = lambda s, n=node.name: heard.append((n, "started", s.id))
            streams.on_ended = lambda s, n=node.name: heard.append((n, "ended", s.id))
        stream = await nodes["a"].core.streams.create(PRINCIPAL, WANTED)
        value = PointValue("p1", "1", 0, 1)
        await nodes["b"].core.points.publish(TENANT, "acme", [value], via="test")
        await until(lambda: stream.feed.ready_count == 1)

        await nodes.stop(nodes["a"])

        await until(lambda: ("b", "started", stream.id) in heard)
        assert ("a", "ended", stream.id) in heard
        assert heard.index(("a", "ended", stream.id)) < heard.index(("b", "started", stream.id))
        taken = nodes["b"].core.streams.get(PRINCIPAL, "acme", stream.id)
        await until(lambda: taken.feed.backlog(10**12) == 1)
        assert nodes["b"].core.streams.holds(taken, "p1", 10**12)
