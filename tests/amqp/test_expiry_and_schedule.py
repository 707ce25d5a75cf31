"""Times that publishers give: time to live, absolute expiry, scheduled enqueueing, batches."""

import pytest
from proton import Message, symbol, timestamp

from hotpath.wire.types import UInt
from tests.support.broker import running_broker
from tests.support.wire import MemoryPeer, frame, performative, plain


def message(value: int = 1, **more) -> Message:
    return Message(body=b"{}", inferred=True, properties={"value": value}, **more)


def values(peer, link) -> list[int]:
    return [each.properties["value"] for each in peer.messages(link)]


@pytest.mark.parametrize(
    "ending",
    [
        lambda now_ms: {"ttl": 5},
        lambda now_ms: {"expiry_time": (now_ms + 5_000) / 1000},
        lambda now_ms: {"ttl": 5, "expiry_time": (now_ms + 90_000) / 1000},
    ],
    ids=["ttl", "absolute expiry", "both: the ttl counts"],
)
async def test_an_expired_message_is_not_delivered(broker, publisher_to, receiver_on, ending):
    subscription = await broker.subscribe()
    peer, link = await publisher_to()
    peer.send(link, message(1, **ending(broker.clock.now_ms())))
    peer.send(link, message(2))
    await peer.pump()

    await broker.manual.advance(6_000)
    receiving, feed = await receiver_on(subscription)

    assert values(receiving, feed) == [2]
    assert broker.core.settling.dead_count(subscription) == 0


async def test_a_message_is_delivered_before_its_end(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await publisher_to()
    peer.send(link, message(1, expiry_time=(broker.clock.now_ms() + 5_000) / 1000))
    await peer.pump()

    await broker.manual.advance(4_000)
    receiving, feed = await receiver_on(subscription)

    assert values(receiving, feed) == [1]


async def test_an_expired_message_is_dead_lettered_if_configured(tmp_path):
    async with running_broker(tmp_path, expired_to_dead_letter=True) as broker:
        subscription = await broker.subscribe()
        address = f"variables/Subscriptions/{subscription.spec.id}"
        peers = []
        for token in (broker.publisher_sas(await broker.open_publisher()), broker.sas(address)):
            peer = MemoryPeer(broker)
            await peer.login(plain("any", token))
            peer.open()
            peers.append(peer)
        publishing, receiving = peers
        link = publishing.sender("variables")
        await publishing.pump()
        publishing.send(link, message(1, ttl=5))
        await publishing.pump()

        await broker.manual.advance(6_000)
        feed = receiving.receiver(address, credit=5)
        await receiving.pump()
        dead = receiving.receiver(address + "/$DeadLetterQueue", credit=5)
        await receiving.pump()

        assert receiving.messages(feed) == []
        [letter] = receiving.messages(dead)
        assert letter.properties["DeadLetterReason"] == "TTLExpiredException"


async def test_a_message_with_a_time_to_come_is_accepted_now_and_delivered_then(
    broker, publisher_to, receiver_on
):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()
    later = timestamp(broker.clock.now_ms() + 10_000)
    past = timestamp(broker.clock.now_ms() - 10_000)

    peer.send(link, message(1, annotations={symbol("x-opt-scheduled-enqueue-time"): later}))
    peer.send(link, message(2, annotations={symbol("x-opt-scheduled-enqueue-time"): past}))
    peer.send(link, message(3))
    await peer.pump()
    await receiving.pump()
    assert len(peer.updates) == 3
    assert values(receiving, feed) == [2, 3]

    await broker.manual.advance(11_000)
    await receiving.pump()
    assert values(receiving, feed) == [2, 3, 1]


async def test_more_scheduled_messages_than_allowed_are_rejected(tmp_path):
    async with running_broker(tmp_path, scheduled_max=1) as broker:
        peer = MemoryPeer(broker)
        await peer.login(plain("any", broker.publisher_sas(await broker.open_publisher())))
        peer.open()
        link = peer.sender("variables")
        await peer.pump()
        note = {symbol("x-opt-scheduled-enqueue-time"): timestamp(broker.clock.now_ms() + 9_000)}

        first = peer.send(link, message(1, annotations=note))
        await peer.pump()
        second = peer.send(link, message(2, annotations=note))
        await peer.pump()

        assert first.remote_state == first.ACCEPTED
        assert second.remote_state == second.REJECTED
        assert second.remote.condition.name == "amqp:resource-limit-exceeded"


async def test_a_batch_may_hold_messages_for_now_and_for_later(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, _link = await publisher_to()
    note = {symbol("x-opt-scheduled-enqueue-time"): timestamp(broker.clock.now_ms() + 9_000)}
    parts = [message(1).encode(), message(2, annotations=note).encode(), message(3).encode()]
    envelope = b"".join(b"\x00\x53\x75\xb0" + len(p).to_bytes(4, "big") + p for p in parts)

    transfer = performative(0x14, UInt(0), UInt(0), b"tag", UInt(0x80013700), False)
    peer.feed(frame(transfer + envelope))
    await peer.pump()
    await receiving.pump()
    assert values(receiving, feed) == [1, 3]

    await broker.manual.advance(10_000)
    await receiving.pump()
    assert values(receiving, feed) == [1, 3, 2]


async def test_javascript_clients_get_a_message_id_and_others_do_not(broker, feed_of):
    subscription = await broker.subscribe()
    await broker.publish(1)
    found = []
    for product in ("MSJSClient", "something else"):
        peer = MemoryPeer(broker)
        await peer.login(plain("any", broker.sas(feed_of(subscription))))
        peer.open({symbol("product"): product})
        link = peer.receiver(feed_of(subscription), credit=1)
        await peer.pump()
        found += [each.id for each in peer.messages(link)]
        peer.cut()

    assert found == ["1", None]


async def test_a_message_id_of_the_publisher_stays(broker, publisher_to, feed_of):
    subscription = await broker.subscribe()
    peer, link = await publisher_to()
    peer.send(link, message(1, id="mine", subject="s"))
    await peer.pump()
    reader = MemoryPeer(broker)
    await reader.login(plain("any", broker.sas(feed_of(subscription))))
    reader.open({symbol("product"): "MSJSClient"})
    feed = reader.receiver(feed_of(subscription), credit=1)
    await reader.pump()

    [got] = reader.messages(feed)
    assert (got.id, got.subject) == ("mine", "s")
