"""Outcomes: what each does to the message, what is answered, locks and their ends."""

import pytest
from proton import Condition, Delivery, symbol

from tests.support.broker import running_broker
from tests.support.wire import (
    EMPTY_FRAME,
    MemoryPeer,
    plain,
    read_performative,
    split_frames,
)

SECOND = {"snd": 0, "rcv": 1}
FIRST = {"snd": 0, "rcv": 0}


def values(peer, link) -> list[int]:
    return [message.properties["value"] for message in peer.messages(link)]


def counts(peer, link) -> list[int]:
    return [message.delivery_count for message in peer.messages(link)]


def answers(peer) -> list[tuple[int, bool]]:
    return [(int(state), settled) for _, state, settled in peer.updates]


def modify(delivery: Delivery, *, undeliverable: bool = False, failed: bool = False) -> None:
    delivery.local.undeliverable = undeliverable
    delivery.local.failed = failed
    delivery.update(Delivery.MODIFIED)


def reject(delivery: Delivery, name: str = "com.microsoft:dead-letter", **info) -> None:
    entries = {symbol(key): value for key, value in info.items()}
    delivery.local.condition = Condition(name, "a description", entries)
    delivery.update(Delivery.REJECTED)


async def test_accepted_by_a_receiver_that_waits_is_answered_after_the_commit(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1, 2)
    await peer.pump()
    broker.log.pause()

    for delivery in peer.deliveries(link):
        delivery.update(Delivery.ACCEPTED)
    await peer.pump()
    assert answers(peer) == []

    broker.log.resume()
    await peer.pump()
    assert answers(peer) == [(int(Delivery.ACCEPTED), True)] * 2
    assert subscription.settled_total == 2


async def test_a_range_of_outcomes_is_answered_with_a_range(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=200, **SECOND)
    await broker.publish(*range(200))
    await peer.pump()
    mark = len(peer.sink.sent)

    for delivery in peer.deliveries(link):
        delivery.update(Delivery.ACCEPTED)
    await peer.pump()

    sent = [read_performative(raw) for raw in split_frames(peer.sink.sent[mark:])]
    dispositions = [value for value in sent if value is not None and value.descriptor == 0x15]
    assert len(answers(peer)) == 200
    assert len(dispositions) <= 2


async def test_a_receiver_that_settles_itself_gets_no_answer(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **FIRST)
    await broker.publish(1)
    await peer.pump()

    [delivery] = peer.deliveries(link)
    peer.settle(delivery)
    await peer.pump()

    assert answers(peer) == []
    assert subscription.settled_total == 1
    assert link.unsettled == 0


@pytest.mark.parametrize("mode", [FIRST, SECOND], ids=["first", "second"])
async def test_released_comes_back_with_its_delivery_count_unchanged(broker, receiver_on, mode):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **mode)
    await broker.publish(1)
    await peer.pump()

    [delivery] = peer.deliveries(link)
    delivery.update(Delivery.RELEASED)
    if mode is FIRST:
        delivery.settle()
    await peer.pump()

    assert values(peer, link) == [1, 1]
    assert counts(peer, link) == [0, 0]


@pytest.mark.parametrize("failed", [False, True], ids=["flag absent", "delivery-failed"])
async def test_modified_comes_back_with_its_delivery_count_raised(broker, receiver_on, failed):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    modify(peer.deliveries(link)[0], failed=failed)
    await peer.pump()

    assert counts(peer, link) == [0, 1]
    assert answers(peer) == [(int(Delivery.MODIFIED), True)]


async def test_a_returned_message_comes_before_later_ones(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=1, **SECOND)
    await broker.publish(1, 2, 3)
    await peer.pump()

    modify(peer.deliveries(link)[0])
    link.flow(3)
    await peer.pump()

    assert values(peer, link) == [1, 1, 2, 3]


async def test_undeliverable_here_defers(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1, 2)
    await peer.pump()

    modify(peer.deliveries(link)[0], undeliverable=True)
    await peer.pump()

    assert values(peer, link) == [1, 2]
    assert answers(peer) == [(int(Delivery.MODIFIED), True)]
    assert subscription.locks.deferred == {1}


async def test_rejected_goes_to_the_dead_letters_with_its_reason(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    info = {"DeadLetterReason": "bad", "DeadLetterErrorDescription": "really", "tries": 3}
    reject(peer.deliveries(link)[0], **info)
    await peer.pump()
    [(answered, state, settled)] = peer.updates
    assert (state, settled) == (Delivery.REJECTED, True)
    assert answered.remote.condition is None

    dead, letters = await receiver_on(subscription, below="/$DeadLetterQueue", **SECOND)
    [letter] = dead.messages(letters)
    assert letter.properties["value"] == 1
    assert letter.properties["DeadLetterReason"] == "bad"
    assert letter.properties["DeadLetterErrorDescription"] == "really"
    assert letter.properties["tries"] == 3
    source = letter.annotations[symbol("x-opt-deadletter-source")]
    assert source == f"variables/Subscriptions/{subscription.spec.id}"


async def test_without_room_for_dead_letters_a_rejection_is_refused(tmp_path, feed_of):
    """The message stays locked: it comes again at the end of its lock."""
    async with running_broker(tmp_path, dead_letters_max=1) as broker:
        subscription = await broker.subscribe()
        peer = MemoryPeer(broker)
        await peer.login(plain("any", broker.sas(feed_of(subscription))))
        peer.open()
        link = peer.receiver(feed_of(subscription), credit=10, **SECOND)
        await broker.publish(1, 2)
        await peer.pump()
        first, second = peer.deliveries(link)
        reject(first)
        await peer.pump()

        reject(second)
        await peer.pump()

        assert answers(peer) == [(int(Delivery.REJECTED), True)] * 2
        assert second.remote.condition.name == "amqp:resource-limit-exceeded"
        assert subscription.settled_total == 1
        await broker.clock.advance(60_000)
        await peer.pump()
        assert values(peer, link) == [1, 2, 2]


async def test_a_generic_rejection_keeps_its_condition_as_the_reason(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **FIRST)
    await broker.publish(1)
    await peer.pump()

    [delivery] = peer.deliveries(link)
    reject(delivery, "app:broken")
    delivery.settle()
    await peer.pump()

    dead, letters = await receiver_on(subscription, below="/$DeadLetterQueue")
    [letter] = dead.messages(letters)
    assert letter.properties["DeadLetterReason"] == "app:broken"
    assert letter.properties["DeadLetterErrorDescription"] == "a description"


async def test_in_the_dead_letter_queue_rejected_puts_the_message_back(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()
    reject(peer.deliveries(link)[0])
    await peer.pump()
    dead, letters = await receiver_on(subscription, below="/$DeadLetterQueue", **SECOND)

    reject(dead.deliveries(letters)[0])
    await dead.pump()
    assert counts(dead, letters) == [0, 1]

    dead.deliveries(letters)[1].update(Delivery.ACCEPTED)
    await dead.pump()
    assert answers(dead) == [(int(Delivery.REJECTED), True), (int(Delivery.ACCEPTED), True)]
    assert broker.core.settling.dead_count(subscription) == 0


async def test_settled_without_an_outcome_counts_as_released(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **FIRST)
    await broker.publish(1)
    await peer.pump()

    peer.settle(peer.deliveries(link)[0], None)
    await peer.pump()

    assert counts(peer, link) == [0, 0]


async def test_a_lock_that_ends_gives_the_message_back_with_its_count_raised(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    await broker.manual.advance(59_000)
    await peer.pump()
    assert counts(peer, link) == [0]

    await broker.manual.advance(1_500)
    await peer.pump()
    assert counts(peer, link) == [0, 1]


@pytest.mark.parametrize(
    "state", [Delivery.ACCEPTED, Delivery.RELEASED, Delivery.MODIFIED, Delivery.REJECTED]
)
async def test_a_settlement_after_the_lock_ended_is_rejected(broker, receiver_on, state):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=1, **SECOND)
    await broker.publish(1)
    await peer.pump()
    await broker.manual.advance(61_000)

    [late] = peer.deliveries(link)
    late.update(state)
    await peer.pump()

    assert (late.remote_state, late.settled) == (Delivery.REJECTED, True)
    assert late.remote.condition.name == "com.microsoft:message-lock-lost"
    assert late.remote.condition.description
    assert late.remote.condition.info is not None
    assert subscription.settled_total == 0


async def test_late_and_timely_settlements_of_one_read_are_told_apart(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=1, **SECOND)
    await broker.publish(1)
    await peer.pump()
    await broker.manual.advance(61_000)
    link.flow(2)
    await broker.publish(2)
    await peer.pump()
    late, again, fresh = peer.deliveries(link)
    assert values(peer, link) == [1, 1, 2]

    for delivery in (late, again, fresh):
        delivery.update(Delivery.ACCEPTED)
    await peer.pump()

    assert late.remote_state == Delivery.REJECTED
    assert again.remote_state == fresh.remote_state == Delivery.ACCEPTED
    assert subscription.settled_total == 2


async def test_after_ten_failed_deliveries_a_message_is_dead_lettered(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=20, **SECOND)
    await broker.publish(1)
    await peer.pump()

    for attempt in range(10):
        modify(peer.deliveries(link)[attempt])
        await peer.pump()

    assert counts(peer, link) == list(range(10))
    dead, letters = await receiver_on(subscription, below="/$DeadLetterQueue")
    [letter] = dead.messages(letters)
    assert letter.properties["DeadLetterReason"] == "MaxDeliveryCountExceeded"


async def test_lock_ends_count_towards_the_maximum(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=20, **SECOND)
    await broker.publish(1)
    await peer.pump()

    for _ in range(10):
        await broker.manual.advance(61_000)
        peer.feed(EMPTY_FRAME)
        await peer.pump()

    assert len(values(peer, link)) == 10
    assert broker.core.settling.dead_count(subscription) == 1


@pytest.mark.parametrize("how", ["detach", "end", "close", "cut"])
async def test_losing_the_link_gives_messages_back_with_their_count_unchanged(
    broker, receiver_on, how
):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1, 2)
    await peer.pump()

    if how == "cut":
        peer.cut()
    else:
        {"detach": link, "end": peer.session, "close": peer.connection}[how].close()
        await peer.pump()

    other, again = await receiver_on(subscription, **SECOND)
    assert values(other, again) == [1, 2]
    assert counts(other, again) == [0, 0]
    assert subscription.receivers == 1


async def test_an_outcome_right_before_the_detach_counts(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **FIRST)
    await broker.publish(1, 2)
    await peer.pump()

    for delivery in peer.deliveries(link):
        peer.settle(delivery)
    link.close()
    await peer.pump()

    assert subscription.settled_total == 2
    assert link.name in peer.detached


async def test_the_same_outcome_twice_is_applied_once(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, **SECOND)
    await broker.publish(1)
    await peer.pump()

    [delivery] = peer.deliveries(link)
    delivery.update(Delivery.ACCEPTED)
    first = peer.output()
    peer.feed(first + first)
    await peer.pump()

    assert answers(peer) == [(int(Delivery.ACCEPTED), True)]
    assert subscription.settled_total == 1


async def test_the_subscriptions_end_detaches_its_links(broker, receiver_on, feed_of):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)
    dead = peer.receiver(feed_of(subscription) + "/$DeadLetterQueue", credit=1)
    await peer.pump()

    await broker.delete(subscription)
    await peer.pump()

    for each in (link, dead):
        assert peer.detached[each.name].name == "amqp:resource-deleted"
        assert peer.detached[each.name].description
        assert peer.detached[each.name].info is not None
    assert not peer.closed
