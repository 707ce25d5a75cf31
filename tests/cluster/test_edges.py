"""Clients of two nodes' AMQP edges, one subscription: over sockets, and with time in hand."""

import asyncio
from collections import Counter

import pytest
from proton import Delivery, Message, Timeout
from proton.utils import BlockingConnection, LinkDetached

from hotpath.cluster.relay.urls import OwnerUrls
from hotpath.model.errors import Unavailable
from hotpath.model.names import Topic
from hotpath.service.clock import SystemClock
from tests.cluster.far import brokers_of
from tests.cluster.relaying import relayed_pair
from tests.support.wire import MemoryPeer, plain

MOVED = Unavailable("the subscription has moved to another node; attach again")


@pytest.fixture
async def nodes(tmp_path):
    """Both nodes, with time in hand."""
    async with relayed_pair(tmp_path) as pair, brokers_of(pair) as (owner, asker):
        yield pair, owner, asker


@pytest.fixture
async def live(tmp_path):
    """Both nodes, with listeners on the loopback and the machine's own clock."""
    async with (
        relayed_pair(tmp_path, clock=SystemClock()) as pair,
        brokers_of(pair) as (owner, asker),
    ):
        await owner.listen()
        await asker.listen()
        yield pair, owner, asker


def feed_of(subscription):
    return f"variables/Subscriptions/{subscription.spec.id}"


async def receiver_on(broker, subscription, *, below="", credit=10, **modes):
    peer = MemoryPeer(broker)
    await peer.login(plain("any", broker.sas(feed_of(subscription))))
    peer.open()
    link = peer.receiver(feed_of(subscription) + below, credit=credit, **modes)
    await peer.pump()
    return peer, link


def values(peer, link):
    return [message.properties["value"] for message in peer.messages(link)]


def move_away_and_back(pair, subscription):
    """The shard is nobody's for a moment; then the same node has it, in another epoch."""
    shard = pair.shard(subscription)
    delivering = pair.owner.core.delivering
    receivers = list(delivering._receivers.get(subscription.spec.id, ()))
    pair.owners.move(shard, None)
    delivering.close_all(subscription, MOVED)
    for receiver in receivers:
        # No lock outlives the claim of its owner.
        receiver.feed.locks.drop_receiver(receiver)
    pair.owners.move(shard, pair.owner.card)


# Over sockets


class Client:
    """A stock client in a thread of its own."""

    def __init__(self, broker, subscription, **options):
        self.url = f"amqp://127.0.0.1:{broker.ports[0]}"
        self.address = feed_of(subscription)
        self.token = broker.sas(self.address)
        self.seen = []
        self.detached = []

    def connect(self):
        return BlockingConnection(
            self.url, timeout=10, user="any", password=self.token, allow_insecure_mechs=True
        )

    def receive(self, is_enough):
        """Receive until there is enough; come again whenever the link is detached."""
        connection = self.connect()
        try:
            receiver = connection.create_receiver(self.address, credit=5)
            while not is_enough():
                try:
                    message = receiver.receive(timeout=0.2)
                    receiver.accept()
                    self.seen.append(message.properties["value"])
                except Timeout:
                    continue
                except LinkDetached as error:
                    self.detached.append(error.condition)
                    name = f"again {len(self.detached)}"
                    receiver = connection.create_receiver(self.address, credit=5, name=name)
        finally:
            connection.close()

    def start(self, is_enough):
        return asyncio.create_task(asyncio.to_thread(self.receive, is_enough))


async def test_clients_of_both_nodes_share_one_feed_and_each_message_comes_once(live):
    _, owner, asker = live
    subscription = await owner.subscribe()
    clients = [Client(node, subscription) for node in (owner, asker, asker)]

    def enough():
        return sum(len(client.seen) for client in clients) >= 300

    receiving = [client.start(enough) for client in clients]
    await _until(lambda: subscription.receivers == 3)
    for at in range(0, 300, 10):
        await owner.publish(*range(at, at + 10))
        await asyncio.sleep(0)
    await asyncio.gather(*receiving)

    seen = Counter(value for client in clients for value in client.seen)
    assert seen == Counter(range(300))
    assert all(len(client.seen) >= 30 for client in clients)
    await _until(lambda: subscription.settled_total == 300)


async def _until(check):
    for _ in range(1_000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not come true")


@pytest.mark.parametrize("node", [0, 1], ids=["at the owner", "at the other node"])
async def test_when_the_owner_changes_in_a_feed_clients_come_again_and_miss_nothing(live, node):
    pair, *brokers = live
    subscription = await brokers[0].subscribe()
    client = Client(brokers[node], subscription)
    receiving = client.start(lambda: subscription.settled_total >= 60)
    await _until(lambda: subscription.receivers == 1)
    await brokers[0].publish(*range(30))
    await _until(lambda: len(client.seen) >= 10)

    move_away_and_back(pair, subscription)
    await brokers[0].publish(*range(30, 60))
    await receiving

    assert client.detached == ["amqp:link:detach-forced"]
    assert set(client.seen) == set(range(60))


async def test_a_publisher_and_a_receiver_that_land_on_different_nodes_meet(live):
    _, owner, asker = live
    subscription = await owner.subscribe("value >= 2")
    publisher = await owner.open_publisher()
    client = Client(asker, subscription)
    receiving = client.start(lambda: len(client.seen) == 3)

    def send():
        connection = BlockingConnection(
            f"amqp://127.0.0.1:{owner.ports[0]}", timeout=10, user="any",
            password=owner.publisher_sas(publisher), allow_insecure_mechs=True,
        )  # fmt: skip
        sender = connection.create_sender("variables")
        for value in range(5):
            sender.send(Message(properties={"value": value}, body="x"))
        connection.close()

    await asyncio.to_thread(send)
    await receiving
    assert client.seen == [2, 3, 4]


# With time in hand


async def test_what_one_node_gives_back_comes_on_the_other(nodes):
    _, owner, asker = nodes
    subscription = await owner.subscribe()
    far, far_link = await receiver_on(asker, subscription, credit=3, rcv=1)
    await owner.publish(1, 2, 3)
    await far.pump()
    assert values(far, far_link) == [1, 2, 3]
    near, near_link = await receiver_on(owner, subscription, rcv=1)

    first, second, third = far.deliveries(far_link)
    first.update(Delivery.ACCEPTED)
    second.update(Delivery.RELEASED)
    await far.pump()
    await near.pump()
    assert values(near, near_link) == [2]
    assert (first.remote_state, first.settled) == (Delivery.ACCEPTED, True)

    far.cut()
    await near.pump()
    assert values(near, near_link) == [2, 3]
    assert [message.delivery_count for message in near.messages(near_link)] == [0, 0]
    assert not third.settled


async def test_the_lock_of_a_client_that_never_settles_ends_and_others_get_the_message(nodes):
    pair, owner, asker = nodes
    subscription = await owner.subscribe()
    far, far_link = await receiver_on(asker, subscription, credit=2, rcv=1)
    await owner.publish(1, 2)
    await far.pump()
    assert values(far, far_link) == [1, 2]
    near, near_link = await receiver_on(owner, subscription, rcv=1)

    await pair.advance(61_000)
    await near.pump()

    assert values(near, near_link) == [1, 2]
    assert [message.delivery_count for message in near.messages(near_link)] == [1, 1]
    late = far.deliveries(far_link)[0]
    late.update(Delivery.ACCEPTED)
    await far.pump()
    assert late.remote_state == Delivery.REJECTED
    assert late.remote.condition.name == "com.microsoft:message-lock-lost"


async def test_an_outcome_is_confirmed_when_it_is_durable_at_the_owner(nodes):
    _, owner, asker = nodes
    subscription = await owner.subscribe()
    far, link = await receiver_on(asker, subscription, rcv=1)
    await owner.publish(1)
    await far.pump()
    owner.log.pause()

    [delivery] = far.deliveries(link)
    delivery.update(Delivery.ACCEPTED)
    await far.pump()
    assert not delivery.settled

    owner.log.resume()
    await far.pump()
    assert (delivery.remote_state, delivery.settled) == (Delivery.ACCEPTED, True)


async def test_an_outcome_that_the_owner_loses_is_never_confirmed(nodes):
    pair, owner, asker = nodes
    subscription = await owner.subscribe()
    far, link = await receiver_on(asker, subscription, rcv=1)
    await owner.publish(1)
    await far.pump()
    owner.log.pause()
    [delivery] = far.deliveries(link)
    delivery.update(Delivery.ACCEPTED)
    await far.pump()

    pair.owners.move(pair.shard(subscription), None)
    owner.log.resume()
    await far.pump()

    assert not delivery.settled
    assert far.detached[link.name].name == "amqp:link:detach-forced"


@pytest.mark.parametrize("below", ["", "/$DeadLetterQueue"], ids=["feed", "dead letters"])
@pytest.mark.parametrize("node", [0, 1], ids=["at the owner", "at the other node"])
async def test_the_end_of_a_subscription_and_the_change_of_its_owner_are_told_apart(
    nodes, node, below
):
    pair, *brokers = nodes
    moving = ending = await brokers[0].subscribe()
    while pair.shard(ending) == pair.shard(moving):
        ending = await brokers[0].subscribe()
    moved, moved_link = await receiver_on(brokers[node], moving, below=below)
    ended, ended_link = await receiver_on(brokers[node], ending, below=below)

    move_away_and_back(pair, moving)
    await brokers[0].delete(ending)
    await moved.pump()
    await ended.pump()

    assert moved.detached[moved_link.name].name == "amqp:link:detach-forced"
    assert ended.detached[ended_link.name].name == "amqp:resource-deleted"


async def test_a_client_waits_while_nobody_serves_its_subscription(nodes):
    pair, owner, asker = nodes
    subscription = await owner.subscribe()
    await owner.publish(1)
    pair.owners.move(pair.shard(subscription), None)
    far, link = await receiver_on(asker, subscription)
    near, near_link = await receiver_on(owner, subscription)
    assert not far.detached
    assert not near.detached

    pair.owners.move(pair.shard(subscription), pair.owner.card)
    await pair.advance(500)
    await far.pump()
    await near.pump()

    # The owner's own client has waited as one of another node does, and is to attach again.
    assert values(far, link) == [1]
    assert near.detached[near_link.name].name == "amqp:link:detach-forced"


async def test_a_management_link_outlives_the_change_of_the_owner(nodes):
    pair, owner, asker = nodes
    subscription = await owner.subscribe()
    await owner.publish(1, 2)
    address = feed_of(subscription) + "/$management"
    peer = MemoryPeer(asker)
    await peer.login(plain("any", asker.sas(feed_of(subscription))))
    peer.open()
    replies = peer.receiver(address, credit=10, name="replies")
    requests = peer.sender(address, name="requests")
    await peer.pump()

    async def peek():
        body = {"from-sequence-number": 0, "message-count": 10}
        request = Message(
            reply_to="replies", properties={"operation": "com.microsoft:peek-message"}, body=body
        )
        peer.send(requests, request)
        await peer.pump()

    await peek()
    pair.owners.move(pair.shard(subscription), None)
    await peek()
    assert len(peer.messages(replies)) == 1
    pair.owners.move(pair.shard(subscription), pair.owner.card)
    await pair.advance(200)
    await peer.pump()

    first, second = peer.messages(replies)
    assert [reply.properties["statusCode"] for reply in (first, second)] == [200, 200]
    assert len(second.body["messages"]) == 2
    pair.owners.move(pair.shard(subscription), None)
    await peek()
    await pair.advance(6_000)
    await peer.pump()
    assert peer.messages(replies)[-1].properties["statusCode"] == 503


async def test_a_stopping_edge_waits_until_what_it_was_told_is_durable_at_the_owner(nodes):
    _, owner, asker = nodes
    subscription = await owner.subscribe()
    far, link = await receiver_on(asker, subscription, rcv=1)
    await owner.publish(1)
    await far.pump()
    owner.log.pause()
    [delivery] = far.deliveries(link)
    delivery.update(Delivery.ACCEPTED)
    await far.pump()

    stopping = asyncio.ensure_future(asker.edge.stop(5))
    await far.pump()
    assert not far.closed
    owner.log.resume()
    await far.pump()
    await stopping

    assert (delivery.remote_state, delivery.settled) == (Delivery.ACCEPTED, True)
    assert far.closed


async def test_urls_name_the_owner_of_a_subscription_and_else_this_node(nodes):
    pair, owner, _ = nodes
    subscription = await owner.subscribe("true", topic=Topic.EVENTS)
    urls = OwnerUrls(pair.asker.relay.asking._ownership, lambda path: f"amqp://here/{path}")
    feed = f"events/Subscriptions/{subscription.spec.id}"

    assert urls(feed) == f"amqp://here/{feed}"
    pair.show_url(pair.owner, "amqps://owner.example.com:5671")
    assert urls(feed) == f"amqps://owner.example.com:5671/{feed}"
    assert urls(f"{feed}/generation/1").startswith("amqps://owner.example.com:5671/events/")
    assert urls("events") == "amqp://here/events"
    assert urls("events/publishers/abc") == "amqp://here/events/publishers/abc"
    pair.owners.move(pair.shard(subscription), None)
    assert urls(feed) == f"amqp://here/{feed}"
