"""Receiving a feed: order, credit, drain, competition, settle modes."""

import uuid

import pytest
from proton import Delivery, Message, symbol

from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.message import normalise
from tests.support.wire import read_performative, split_frames


def bodies(peer, link) -> list[bytes]:
    return [bytes(message.body) for message in peer.messages(link)]


def values(peer, link) -> list[int]:
    return [message.properties["value"] for message in peer.messages(link)]


async def test_messages_come_in_sequence_order_with_the_brokers_annotations(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)

    await broker.publish(1, 2, 3)
    await peer.pump()

    messages = peer.messages(link)
    assert [message.properties["value"] for message in messages] == [1, 2, 3]
    annotations = [message.annotations for message in messages]
    assert [a[symbol("x-opt-sequence-number")] for a in annotations] == [1, 2, 3]
    assert annotations[0][symbol("x-opt-enqueued-time")] == broker.clock.now_ms()
    lock_ms = annotations[0][symbol("x-opt-locked-until")] - broker.clock.now_ms()
    assert 59_000 <= lock_ms <= 60_000


async def test_the_header_carries_an_explicit_delivery_count_of_zero(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)

    await broker.publish(1)
    await peer.pump()

    [raw] = peer.raws(link)
    # header section: list8 of five fields, the last one the uint 0
    assert raw[:4] == b"\x00\x53\x70\xc0"
    assert raw[5] == 5
    assert raw[4 + 1 + raw[4] - 1] == 0x43


async def test_the_delivery_tag_has_sixteen_bytes_and_names_message_and_lock(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, _ = await receiver_on(subscription)

    await broker.publish(1, 2)
    await peer.pump()

    tags = set()
    for frame in transfers(peer.sink.sent):
        tags.add(bytes(frame.value[2]))
    assert {len(tag) for tag in tags} == {16}
    assert len(tags) == 2
    assert uuid.UUID(bytes_le=min(tags))


def transfers(sent: bytes):

    for raw in split_frames(sent):
        value = read_performative(raw)
        if value is not None and value.descriptor == 0x14:
            yield value


async def test_message_format_zero_is_explicit_in_every_transfer(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, _ = await receiver_on(subscription)

    await broker.publish(1)
    await peer.pump()

    [transfer] = transfers(peer.sink.sent)
    assert transfer.value[3] == 0


async def test_no_more_is_sent_than_there_is_credit_for(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=3)

    await broker.publish(*range(10))
    await peer.pump()
    assert values(peer, link) == [0, 1, 2]

    link.flow(4)
    await peer.pump()
    assert values(peer, link) == [0, 1, 2, 3, 4, 5, 6]


async def test_messages_published_before_the_attach_are_received(broker, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1, 2)

    peer, link = await receiver_on(subscription)

    assert values(peer, link) == [1, 2]


async def test_only_matching_messages_come(broker, receiver_on):
    subscription = await broker.subscribe("value > 5")
    peer, link = await receiver_on(subscription)

    await broker.publish(*range(10))
    await peer.pump()

    assert values(peer, link) == [6, 7, 8, 9]


async def test_drain_sends_what_is_there_and_returns_the_rest_of_the_credit(broker, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1, 2)
    peer, link = await receiver_on(subscription, credit=0)

    link.drain(10)
    await peer.pump()

    assert values(peer, link) == [1, 2]
    assert link.credit == 0
    assert not link.draining()


async def test_drain_of_an_idle_feed_returns_all_credit(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=0)

    link.drain(5)
    await peer.pump()

    assert link.credit == 0
    assert not link.draining()


async def test_a_link_can_be_drained_again_and_again(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=0)

    for value in range(3):
        await broker.publish(value)
        link.drain(2)
        await peer.pump()

    assert values(peer, link) == [0, 1, 2]


async def test_receivers_of_one_subscription_compete(broker, receiver_on):
    subscription = await broker.subscribe()
    one, first = await receiver_on(subscription, credit=1)
    other, second = await receiver_on(subscription, credit=1)

    await broker.publish(1, 2, 3)
    await one.pump()
    await other.pump()

    assert sorted(values(one, first) + values(other, second)) == [1, 2]


async def test_two_links_of_one_connection_compete_too(broker, receiver_on, feed_of):
    subscription = await broker.subscribe()
    peer, first = await receiver_on(subscription, credit=2)
    second = peer.receiver(feed_of(subscription), credit=2, name="second")
    await peer.pump()

    await broker.publish(1, 2, 3, 4)
    await peer.pump()

    assert sorted(values(peer, first) + values(peer, second)) == [1, 2, 3, 4]
    assert len(values(peer, first)) == 2


async def test_receivers_of_different_subscriptions_each_get_all(broker, receiver_on):
    links = [await receiver_on(await broker.subscribe(), credit=100) for _ in range(3)]

    await broker.publish(*range(20))

    for peer, link in links:
        await peer.pump()
        assert values(peer, link) == list(range(20))


async def test_a_settling_sender_means_receive_and_delete(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, snd=1, rcv=0)

    await broker.publish(1, 2)
    await peer.pump()

    assert values(peer, link) == [1, 2]
    assert [delivery.settled for delivery in peer.deliveries(link)] == [True, True]
    assert symbol("x-opt-locked-until") not in peer.messages(link)[0].annotations
    assert len(subscription.locks) == 0
    assert subscription.settled_total == 2


async def test_attach_replies_echo_termini_and_modes(broker, receiver_on):
    subscription = await broker.subscribe()

    for snd, rcv in ((0, 1), (1, 0), (2, 0)):
        _, link = await receiver_on(subscription, snd=snd, rcv=rcv)
        assert (link.remote_snd_settle_mode, link.remote_rcv_settle_mode) == (snd, rcv)
        assert link.remote_source.address == link.source.address
        assert link.remote_target.address == "here"
        assert link.remote_max_message_size == broker.settings.max_message_bytes


@pytest.mark.parametrize(
    "spelling",
    [
        "variables/Subscriptions/{id}",
        "/variables/Subscriptions/{id}/",
        "VARIABLES/subscriptions/{ID}",
        "amqps://feeds.example.com:5671/variables/Subscriptions/{id}",
    ],
    ids=["plain", "slashes", "case", "uri"],
)
async def test_addresses_are_understood_as_clients_spell_them(broker, connect, feed_of, spelling):
    subscription = await broker.subscribe()
    identity = subscription.spec.id
    peer = await connect(broker.sas(feed_of(subscription)))
    link = peer.receiver(spelling.format(id=identity, ID=identity.upper()), credit=5)
    await broker.publish(7)
    await peer.pump()

    assert values(peer, link) == [7]


async def test_a_large_message_is_received_over_small_frames(broker, connect, feed_of):
    subscription = await broker.subscribe(topic=Topic.VARIABLES)
    peer = await connect(broker.sas(feed_of(subscription)), max_frame=1024)
    link = peer.receiver(feed_of(subscription), credit=5)
    await peer.pump()
    text = "x" * 200_000

    stored = normalise(Message(body=text, properties={"value": 1}).encode())
    await broker.core.publishing.publish(
        TopicKey(TenantId("acme"), Topic.VARIABLES), [stored], via="test"
    )
    await peer.pump()

    [message] = peer.messages(link)
    assert message.body == text


async def test_a_long_backlog_is_received_in_order(broker, receiver_on):
    subscription = await broker.subscribe()
    for start in range(0, 3000, 500):
        await broker.publish(*range(start, start + 500))

    peer, link = await receiver_on(subscription, credit=3000)

    assert values(peer, link) == list(range(3000))


async def test_the_bare_message_arrives_byte_by_byte_as_published(
    broker, receiver_on, publisher_to
):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)
    sending, out = await publisher_to()
    message = Message(
        id=uuid.uuid4(),
        subject="a subject",
        correlation_id=42,
        content_type="application/json",
        properties={"value": 3, "text": "ä"},
        body=b'{"value": 3}',
        inferred=True,
    )
    encoded = message.encode()
    bare = encoded[encoded.index(b"\x00\x53\x73") :]

    sending.send(out, message)
    await sending.pump()
    await peer.pump()

    [raw] = peer.raws(link)
    assert raw.endswith(bare)


async def test_a_peer_that_closes_its_session_window_gets_the_rest_later(broker, connect, feed_of):
    """Proton's own window closes when its application does not read."""
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)), max_frame=512)
    session = peer.connection.session()
    session.incoming_capacity = 2048
    session.open()
    link = peer.receiver(feed_of(subscription), credit=50, session=session)
    await broker.publish(*range(50))
    await peer.pump()

    assert values(peer, link) == list(range(50))


async def test_settled_deliveries_are_not_sent_again_to_the_next_receiver(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)
    await broker.publish(1, 2, 3)
    await peer.pump()
    for delivery in peer.deliveries(link)[:2]:
        peer.settle(delivery, Delivery.ACCEPTED)
    await peer.pump()
    peer.connection.close()
    await peer.pump()

    other, again = await receiver_on(subscription)

    assert values(other, again) == [3]
