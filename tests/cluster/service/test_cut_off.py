"""A node that loses its way to the servers, and finds it again."""

import asyncio

import pytest

from hotpath.model.errors import Unavailable
from hotpath.model.names import Topic
from tests.cluster.service.nodes import PRINCIPAL, Node, message, running_nodes, until
from tests.support.nats import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
async def proxy(server):
    started = await Proxy(server.port).start()
    yield started
    await started.stop()


async def join(nodes, name, way):
    """One more node, which reaches the server by a way of its own."""
    settings = nodes.settings.model_copy(update={"cluster": way.url})
    node = nodes.nodes[name] = Node(settings, name)
    await node.start()
    await until(nodes.is_placed)
    return node


async def test_a_node_that_is_cut_off_sends_its_receivers_away_and_comes_back(
    server, proxy, tmp_path
):
    async with running_nodes(server, tmp_path, "a") as nodes:
        far = await join(nodes, "b", proxy)
        spec = await far.create()
        reader = far.read(spec)
        await nodes["a"].publish(1)
        await until(lambda: len(reader.values) == 1)

        proxy.cut()
        await until(lambda: reader.closed)
        assert isinstance(reader.receiver.ended, Unavailable), "it is told to come again"
        assert far.core.membership.is_fenced()

        late = far.read(spec)
        await until(lambda: late.closed)
        with pytest.raises(Unavailable, match="cut off"):
            await far.core.admin.delete(PRINCIPAL, Topic.VARIABLES, spec.id)

        await until(lambda: nodes["a"].serves(spec))
        elsewhere = nodes["a"].read(spec)
        await until(lambda: elsewhere.values == [message(1)])
        elsewhere.complete()
        await until(lambda: elsewhere.confirmed == 1)

        proxy.mend()
        await until(lambda: not far.core.membership.is_fenced())
        await until(nodes.is_placed)
        await nodes["a"].publish(2)
        again = far.read(spec)
        await until(lambda: again.values == [message(2)])


async def test_what_was_confirmed_elsewhere_is_not_settled_by_who_was_cut_off(
    server, proxy, tmp_path
):
    async with running_nodes(server, tmp_path, "a") as nodes:
        far = await join(nodes, "b", proxy)
        spec = await far.create()
        reader = far.read(spec)
        await nodes["a"].publish(1, 2)
        await until(lambda: len(reader.values) == 2)

        proxy.cut()
        reader.complete()
        await until(lambda: nodes["a"].serves(spec))
        proxy.mend()
        await until(nodes.is_placed)
        await asyncio.sleep(0.2)

        assert reader.confirmed == 0, "nobody was told that it is settled"
        other = nodes["a"].read(spec)
        await until(lambda: other.values == [message(1), message(2)])


async def test_records_that_changed_meanwhile_are_known_when_the_way_is_back(
    server, proxy, tmp_path
):
    async with running_nodes(server, tmp_path, "a") as nodes:
        far = await join(nodes, "b", proxy)
        gone = await nodes["a"].create()
        proxy.cut()
        await nodes["a"].core.admin.delete(PRINCIPAL, Topic.VARIABLES, gone.id)
        made = await nodes["a"].create()

        proxy.mend()

        directory = far.core.admin.directory
        await until(lambda: directory.get(made.id) == made and directory.get(gone.id) is None)
