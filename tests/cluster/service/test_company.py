"""A server that has lost the others: its node goes to another one, and others stay."""

import asyncio

import pytest

from hotpath.cluster import core as cluster_core
from tests.cluster.service.nodes import running_nodes, until

pytestmark = pytest.mark.slow


@pytest.fixture
def left(monkeypatch):
    """Nodes that nothing confirms any more, and which of them have gone to another server."""

    def arrange(nodes):
        gone = []
        for node in nodes.nodes.values():
            node.core.leave_server = lambda name=node.name: gone.append(name)
            timings = node.core.membership.timings
            silent = property(lambda _, t=timings: t.dead_ms + 1)
            monkeypatch.setattr(type(node.core.membership), "silent_ms", silent)
        return gone

    return arrange


async def test_a_node_that_no_other_answers_goes_to_another_server_once(server, tmp_path, left):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        await nodes["b"].core.neighbours.stop()
        gone = left(nodes)

        await until(lambda: "a" in gone)
        await asyncio.sleep(3 * cluster_core.CUT_OFF_LOOK_MS / 1000)

        assert gone.count("a") == 1, "the other server gets its time"


async def test_nodes_that_answer_each_other_wait_for_the_election(server, tmp_path, left):
    async with running_nodes(server, tmp_path, "a", "b") as nodes:
        gone = left(nodes)
        asked = []
        for node in nodes.nodes.values():
            is_alone = node.core.neighbours.is_alone

            async def counted(is_alone=is_alone):
                asked.append(await is_alone())
                return asked[-1]

            node.core.neighbours.is_alone = counted

        await until(lambda: len(asked) >= 4)

        assert not any(asked)
        assert gone == []


async def test_a_single_node_has_nobody_to_miss(server, tmp_path):
    async with running_nodes(server, tmp_path, "a") as nodes:
        assert not await nodes["a"].core.neighbours.is_alone()
