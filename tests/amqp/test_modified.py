"""Properties that receivers give a message with an outcome: they stay with it on its feed."""

import pytest
from proton import Delivery, Message, symbol

from hotpath.service.modified import MESSAGE_BYTES_MAX, SUBSCRIPTION_BYTES_MAX
from tests.amqp.test_management import Manager, held_tokens, longs, status, uuids

SECOND = {"snd": 0, "rcv": 1}
FIRST = {"snd": 0, "rcv": 0}


def modify(delivery: Delivery, *, undeliverable: bool = False, **properties) -> None:
    delivery.local.undeliverable = undeliverable
    delivery.local.annotations = {symbol(key): value for key, value in properties.items()}
    delivery.update(Delivery.MODIFIED)


def last(peer, link) -> dict:
    return peer.messages(link)[-1].properties


async def manager_of(subscription, peer, address: str) -> Manager:
    manager = Manager(peer, address)
    await peer.pump()
    return manager


async def test_properties_of_modified_come_with_the_message_from_then_on(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], tries=1, note="late")
    await peer.pump()
    assert last(peer, link) == {"value": 1, "tries": 1, "note": "late"}

    modify(peer.deliveries(link)[1], tries=2)
    await peer.pump()
    assert last(peer, link) == {"value": 1, "tries": 2, "note": "late"}

    peer.deliveries(link)[2].update(Delivery.RELEASED)
    await peer.pump()
    assert last(peer, link) == {"value": 1, "tries": 2, "note": "late"}


async def test_a_property_of_the_message_itself_is_replaced(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], value=7)
    await peer.pump()

    assert last(peer, link) == {"value": 7}


async def test_other_subscriptions_see_the_message_as_it_was_published(broker, receiver_on):
    mine, other = await broker.subscribe(), await broker.subscribe()
    peer, link = await receiver_on(mine, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], tries=1)
    await peer.pump()
    reader, theirs = await receiver_on(other)

    assert last(reader, theirs) == {"value": 1}


async def test_another_receiver_gets_them_without_a_lock_too(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=1, **SECOND)
    await broker.publish(1)
    await peer.pump()
    modify(peer.deliveries(link)[0], tries=1)
    await peer.pump()

    deleting, taken = await receiver_on(subscription, snd=1)

    assert last(deleting, taken) == {"value": 1, "tries": 1}
    assert subscription.locks.modified == {}
    assert subscription.locks.modified_bytes == 0


async def test_a_deferred_message_has_them_when_it_is_received(broker, receiver_on, feed_of):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], undeliverable=True, tries=1)
    await peer.pump()
    manager = await manager_of(subscription, peer, feed_of(subscription))
    peeked = await manager.ask("peek-message", {"from-sequence-number": 1, "message-count": 10})
    body = {"sequence-numbers": longs(1), "receiver-settle-mode": 1}
    received = await manager.ask("receive-by-sequence-number", body)

    for reply in (peeked, received):
        [entry] = reply.body["messages"]
        inner = Message()
        inner.decode(bytes(entry["message"]))
        assert inner.properties == {"value": 1, "tries": 1}


@pytest.mark.parametrize("outcome", ["abandoned", "defered", "suspended"])
async def test_an_outcome_by_request_gives_properties_too(broker, receiver_on, feed_of, outcome):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=1, **SECOND)
    await broker.publish(1)
    await peer.pump()
    manager = await manager_of(subscription, peer, feed_of(subscription))

    body = {
        "disposition-status": outcome,
        "lock-tokens": uuids(*held_tokens(broker, subscription)),
        "properties-to-modify": {"tries": 1, "list": [1]},
    }
    assert status(await manager.ask("update-disposition", body)) == 200

    if outcome == "suspended":
        peer, link = await receiver_on(subscription, below="/$DeadLetterQueue")
    if outcome == "defered":
        body = {"sequence-numbers": longs(1), "receiver-settle-mode": 0}
        reply = await manager.ask("receive-by-sequence-number", body)
        found = Message()
        found.decode(bytes(reply.body["messages"][0]["message"]))
    else:
        link.flow(1)
        await peer.pump()
        found = peer.messages(link)[-1]
    assert {"value": 1, "tries": 1}.items() <= found.properties.items()
    assert "list" not in found.properties


async def test_a_dead_letter_has_what_its_message_was_given(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()
    for turn in range(10):
        modify(peer.deliveries(link)[turn], tries=turn)
        await peer.pump()

    reader, dead = await receiver_on(subscription, below="/$DeadLetterQueue")

    found = last(reader, dead)
    assert (found["tries"], found["DeadLetterReason"]) == (9, "MaxDeliveryCountExceeded")


async def test_among_dead_letters_properties_are_not_kept(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()
    peer.deliveries(link)[0].update(Delivery.REJECTED)
    await peer.pump()
    reader, dead = await receiver_on(subscription, below="/$DeadLetterQueue", **SECOND)

    modify(reader.deliveries(dead)[0], tries=1)
    await reader.pump()

    assert len(reader.deliveries(dead)) == 2
    assert "tries" not in last(reader, dead)


async def test_more_than_a_message_may_be_given_is_refused_and_changes_nothing(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], note="x" * MESSAGE_BYTES_MAX)
    await peer.pump()

    [(delivery, state, settled)] = peer.updates
    assert (int(state), settled) == (int(Delivery.REJECTED), True)
    assert delivery.remote.condition.name == "amqp:resource-limit-exceeded"
    assert str(MESSAGE_BYTES_MAX) in delivery.remote.condition.description
    assert subscription.locks.locked == 1
    assert subscription.locks.modified == {}


async def test_a_receiver_that_settles_itself_has_its_outcome_without_what_is_too_much(
    broker, receiver_on
):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **FIRST)
    await broker.publish(1)
    await peer.pump()

    [delivery] = peer.deliveries(link)
    modify(delivery, note="x" * MESSAGE_BYTES_MAX)
    delivery.settle()
    await peer.pump()

    assert [m.delivery_count for m in peer.messages(link)] == [0, 1]
    assert last(peer, link) == {"value": 1}


async def test_a_subscription_keeps_so_much_and_no_more(broker, receiver_on, feed_of):
    subscription = await broker.subscribe()
    size = MESSAGE_BYTES_MAX - 100
    fit = SUBSCRIPTION_BYTES_MAX // (size + 20)
    peer, link = await receiver_on(subscription, credit=fit + 2, **SECOND)
    await broker.publish(*range(fit + 2))
    await peer.pump()
    for delivery in peer.deliveries(link)[:fit]:
        modify(delivery, undeliverable=True, note="x" * size)
    await peer.pump()
    manager = await manager_of(subscription, peer, feed_of(subscription))

    body = {
        "disposition-status": "abandoned",
        "lock-tokens": uuids(*held_tokens(broker, subscription)[-2:]),
        "properties-to-modify": {"note": "x" * size},
    }
    reply = await manager.ask("update-disposition", body)

    assert status(reply) == 403
    assert reply.properties["errorCondition"] == "amqp:resource-limit-exceeded"
    assert subscription.locks.locked == 2
    assert len(subscription.locks.modified) == fit
    assert subscription.locks.modified_bytes <= SUBSCRIPTION_BYTES_MAX


async def test_room_comes_back_with_the_settlement(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()
    modify(peer.deliveries(link)[0], tries=1)
    await peer.pump()
    assert subscription.locks.modified_bytes > 0

    peer.deliveries(link)[1].update(Delivery.ACCEPTED)
    await peer.pump()

    assert (subscription.locks.modified, subscription.locks.modified_bytes) == ({}, 0)
