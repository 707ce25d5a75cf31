"""A node that is not one of the nodes yet: after a kill it has to wait, and its clients do not."""

import pytest

from tests.cluster.service.nodes import Node, message, running_nodes, until

pytestmark = pytest.mark.slow


async def test_who_follows_serves_what_others_have_before_it_joins(server, tmp_path):
    async with running_nodes(server, tmp_path, "a") as nodes:
        spec = await nodes["a"].create()
        node = nodes.nodes["b"] = Node(nodes.settings, "b")
        await node.open()

        reader = node.read(spec)
        await nodes["a"].publish(1)
        await until(lambda: reader.values == [message(1)])
        reader.complete()
        await until(lambda: reader.confirmed == 1)
        [figures] = await node.core.relay.control.figures([spec])
        assert figures.backlog == 0

        assert node.core.membership.is_fenced()
        assert node.core.ownership.held() == []
        assert nodes["a"].core.membership.others() == []
        await node.core.join()
        await until(nodes.is_placed)


async def test_a_node_that_never_joins_ends_all_that_it_began(server, tmp_path):
    async with running_nodes(server, tmp_path, "a") as nodes:
        spec = await nodes["a"].create()
        node = Node(nodes.settings, "b")
        await node.open()
        reader = node.read(spec)
        await until(lambda: nodes["a"].core.relay.owner.links == 1)

        await node.core.silence()
        known = node.core.ownership.owner(0)
        assert known is not None
        await nodes["a"].core.leave(within_ms=5_000)
        assert node.core.ownership.owner(0) == known, "it hears nothing more"
        await node.core.close()
        await node.link.close()

        assert reader.closed
