"""The tests of a feed, against three nodes; `make test-cluster` runs all others so, too."""

import time
from contextlib import ExitStack, suppress
from dataclasses import replace

from proton import Timeout

from tests.e2e.feeds import quality_of, receive_all
from tests.e2e.test_feed import *  # noqa: F403  # the same tests, with another `server`
from tests.support.process import amqp_connection, eventually

FACTS = {"objectId": "o", "variable": "v"}


def at(node, access):
    """A feed at one of the nodes."""
    return replace(access, url=f"{node.urls['amqp']}/{access.address}")


def test_every_node_serves_every_feed(server, tenant):
    token = server.token(tenant=tenant)
    for node in server.cluster.nodes:
        access = server.subscribe("quality >= 0", token=token)
        server.publish({**FACTS, "quality": node.number, "value": 1}, token=token)

        [message] = receive_all(at(node, access))

        assert quality_of(message) == node.number


def test_receivers_on_all_nodes_share_one_feed(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("quality >= 0", token=token)
    came, nodes = [], set()
    with ExitStack() as stack:
        receivers = []
        for node in server.cluster.nodes:
            connection = stack.enter_context(amqp_connection(at(node, access).host, access.token))
            receivers.append(connection.create_receiver(access.address, credit=4))
        many = [{**FACTS, "quality": n, "value": n} for n in range(60)]
        server.publish(many, token=token)
        deadline = time.monotonic() + 20
        while len(came) < len(many):
            assert time.monotonic() < deadline, came
            for number, receiver in enumerate(receivers):
                with suppress(Timeout):
                    came.append(quality_of(receiver.receive(timeout=0.2)))
                    receiver.accept()
                    nodes.add(number)

        assert sorted(came) == list(range(60))
        assert len(nodes) > 1
    # The last outcomes left with the connections.
    eventually(lambda: server.shown(access, token=token)["backlog"] == 0)


def test_every_node_answers_the_same(server, tenant):
    token = server.token(tenant=tenant)
    made = [server.subscribe(f"quality = {n}", token=token) for n in range(5)]
    server.publish({**FACTS, "quality": 3, "value": 1}, token=token)

    def answers():
        return [
            node.call("GET", "/subscriptions", token=token).body["data"]
            for node in server.cluster.nodes
        ]

    def agree():
        first, second, third = answers()
        return first == second == third

    eventually(agree, seconds=10)
    [told, *_] = answers()
    assert {entry["subscriptionId"] for entry in told} == {access.id for access in made}
    assert [entry["backlog"] for entry in told if entry["filter"] == "quality = 3"] == [1]


def test_what_is_deleted_on_one_node_is_gone_on_all(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("quality >= 0", token=token)
    path = f"/subscriptions/variables/{access.id}"

    assert server.cluster.nodes[1].call("DELETE", path, token=token).status == 204

    for node in server.cluster.nodes:
        eventually(lambda node=node: node.call("GET", path, token=token).status == 404, seconds=5)
