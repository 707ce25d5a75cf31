"""Subscriptions on several nodes: known everywhere, served by one of them at a time."""

import asyncio

import pytest

from hotpath.model.errors import NotFound
from hotpath.model.names import Topic
from tests.cluster.service.nodes import KEY, PRINCIPAL, message, running_nodes, until

pytestmark = pytest.mark.slow


def known(node, spec):
    return node.core.admin.directory.get(spec.id)


async def test_what_one_node_creates_all_know_at_once_and_one_serves(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b", "c") as nodes:
        for node in list(nodes.nodes.values()):
            spec = await node.create()

            assert [known(each, spec) for each in nodes.nodes.values()] == [spec] * 3
            assert nodes.owner(spec) is node, "who creates it serves it"


async def test_what_any_node_publishes_comes_once_in_one_order(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        first, second = await nodes["a"].create(), await nodes["b"].create()
        readers = [nodes["a"].read(first), nodes["b"].read(first), nodes["b"].read(second)]
        for n in range(20):
            await nodes["ab"[n % 2]].publish(n)

        await until(lambda: len(readers[0].values) + len(readers[1].values) >= 20)
        await until(lambda: len(readers[2].values) >= 20)
        await nodes["a"].publish(99)
        await until(lambda: message(99) in readers[2].values)
        await until(lambda: len(readers[0].values) + len(readers[1].values) >= 21)

        competing = readers[0].values + readers[1].values
        assert sorted(competing) == sorted(map(message, [*range(20), 99]))
        assert readers[2].values == [*map(message, range(20)), message(99)]


async def test_a_subscription_gets_nothing_from_before_its_creation(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        await nodes["a"].create()
        for n in range(30):
            await nodes["a"].publish(-n - 1)
            spec = await nodes["b"].create(f"value >= {-n - 1} AND value < 0")
            await nodes["a"].publish(-n - 1)

            reader = nodes["b"].read(spec)
            await until(lambda reader=reader: len(reader.values) == 1)
            assert nodes["b"].core.topics.subscriptions[spec.id].matched_total == 1


async def test_what_one_node_deletes_is_gone_on_all_with_its_receivers(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["a"].create()
        readers = [node.read(spec) for node in nodes.nodes.values()]

        await nodes["b"].core.admin.delete(PRINCIPAL, Topic.VARIABLES, spec.id)

        assert [known(node, spec) for node in nodes.nodes.values()] == [None, None]
        await until(lambda: all(reader.closed for reader in readers))
        assert readers[0].receiver.ended is None, "it is gone for good"
        with pytest.raises(NotFound):
            await nodes["a"].core.admin.delete(PRINCIPAL, Topic.VARIABLES, spec.id)


@pytest.mark.parametrize("way", ["kill", "stop"])
async def test_who_takes_over_goes_on_behind_what_was_confirmed(server, tmp_path, way):
    async with running_nodes(server, tmp_path, "a", "b", "c") as nodes:
        owner = nodes["a"]
        spec = await owner.create()
        reader = owner.read(spec)
        await nodes["b"].publish(1, 2, 3)
        await until(lambda: len(reader.values) == 3)
        reader.complete()
        await until(lambda: reader.confirmed == 3)
        await nodes["b"].publish(4, 5)
        await until(lambda: len(reader.values) == 5)

        await (nodes.kill(owner) if way == "kill" else nodes.stop(owner))
        await until(lambda: any(node.serves(spec) for node in nodes.nodes.values()))

        again = nodes.others(nodes.owner(spec))[0].read(spec)
        await until(lambda: len(again.values) == 2)
        assert again.values == [message(4), message(5)]
        if way == "stop":
            assert reader.closed
            assert reader.receiver.ended is not None, "it is told to come again"


async def test_what_was_published_while_nobody_served_is_there_for_who_takes_over(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        spec = await nodes["a"].create()
        await nodes.kill(nodes["a"])
        await nodes["b"].publish(*range(10))

        await until(lambda: nodes["b"].serves(spec))
        reader = nodes["b"].read(spec)
        await until(lambda: len(reader.values) == 10)


async def test_after_all_nodes_have_stopped_everything_comes_back(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        specs = [await node.create() for node in nodes.nodes.values()]
        await nodes["a"].publish(1)
        for node in list(nodes.nodes.values()):
            await nodes.stop(node)

        await nodes.start("c", "d")

        for spec in specs:
            assert known(nodes["c"], spec) == spec
            reader = nodes["d"].read(spec)
            await until(lambda reader=reader: reader.values == [message(1)])


async def test_a_joining_node_takes_its_part_and_feeds_go_on(server, tmp_path):
    async with running_nodes(server, tmp_path, "a") as nodes:
        specs = [await nodes["a"].create() for _ in range(12)]
        await nodes["a"].publish(1)

        await nodes.start("b")
        moved = [spec for spec in specs if nodes["b"].serves(spec)]

        assert 0 < len(moved) < len(specs)
        for spec in moved:
            reader = nodes["a"].read(spec)
            await until(lambda reader=reader: reader.values == [message(1)])
        served = [len(node.core.topics.subscriptions) for node in nodes.nodes.values()]
        assert sum(served) == len(specs), "nobody matches for another one"


async def test_an_idle_subscription_is_ended_by_its_owner_for_all(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b", minute=0.01) as nodes:
        spec = await nodes["a"].create(ttl_minutes=20)
        lasting = await nodes["a"].create(ttl_minutes=20_000)
        await asyncio.sleep(0.25)

        assert await nodes["b"].core.admin.reap() == 1
        assert [known(node, spec) for node in nodes.nodes.values()] == [None, None]
        assert known(nodes["b"], lasting) == lasting
        assert nodes["b"].core.admin.next_expiry_ms() is not None


async def test_a_node_that_is_fenced_ends_nobody(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b", minute=0.01) as nodes:
        owner = nodes["a"]
        spec = await owner.create(ttl_minutes=20)
        subscription = owner.core.topics.subscriptions[spec.id]
        shard = owner.core.neighbours.shard_of(spec.id)
        await nodes["b"].log.claim(shard)
        await asyncio.sleep(0.25)

        with pytest.raises(NotFound):
            await owner.core.admin.end_if_idle(subscription)

        assert known(nodes["b"], spec) == spec


async def test_topics_are_followed_where_somebody_has_subscribed(server, tmp_path):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        a, b = (nodes[name].core for name in "ab")
        spec = await nodes["a"].create()
        await nodes["b"].publish(1)
        assert a.topics.get(KEY) is not None
        assert b.topics.get(KEY) is None

        await a.admin.delete(PRINCIPAL, Topic.VARIABLES, spec.id)
        await a.topics.leave_idle()
        assert a.topics.followed == 1, "somebody may be about to subscribe"
        await a.topics.leave_idle()
        assert a.topics.followed == 0

        reader_of = await nodes["a"].create()
        await nodes["b"].publish(2)
        reader = nodes["a"].read(reader_of)
        await until(lambda: reader.values == [message(2)])
