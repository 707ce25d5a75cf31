"""Receivers on one node of subscriptions that another one serves; on both wires."""

import json
import re

import pytest

from hotpath.cluster.cards import NodeCard
from hotpath.model.errors import LimitReached, LockLost, NotFound, Unavailable
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.service.settle import REASON
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.message import normalise
from tests.cluster.relaying import relayed_pair
from tests.support.nats import MISSING, nats_server


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory):
    if MISSING:
        pytest.skip(MISSING)
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture(params=("memory", "nats"))
async def pair(request, tmp_path):
    url = request.getfixturevalue("nats_url") if request.param == "nats" else None
    async with relayed_pair(tmp_path, nats_url=url) as made:
        yield made


@pytest.fixture
async def quiet(tmp_path):
    """In memory, for what needs the clock."""
    async with relayed_pair(tmp_path) as made:
        yield made


def values(client):
    return [int(re.search(rb'"value": (\d+)', stored)[1]) for stored in client.stored]


async def test_what_is_published_comes_and_its_outcome_is_durable_when_it_is_confirmed(pair):
    subscription = await pair.owner.broker.subscribe()
    client = pair.client(subscription, credit=10)
    await pair.owner.broker.publish(1, 2, 3)

    await pair.until(lambda: len(client.seqs) == 3)
    assert values(client) == [1, 2, 3]
    assert subscription.locks.locked == 3

    client.complete()
    assert client.confirmed == []
    await pair.until(lambda: client.confirmed == [{}])
    assert subscription.backlog(100) == 0
    assert subscription.settled_total == 3


async def test_no_more_is_taken_than_there_is_credit(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(*range(100))
    client = pair.client(subscription, credit=10)

    await pair.until(lambda: len(client.seqs) == 10)
    await pair.advance(100)
    assert subscription.locks.locked == 10

    client.flow(90)
    await pair.until(lambda: len(client.seqs) == 100)
    assert values(client) == list(range(100))


async def test_a_receiver_that_waits_is_woken_by_what_comes_later(pair):
    subscription = await pair.owner.broker.subscribe()
    client = pair.client(subscription, credit=10)
    await pair.until(lambda: client.receiver.card is not None)
    await pair.until(lambda: client.receiver.feed.missing is None)

    await pair.owner.broker.publish(7)
    await pair.until(lambda: values(client) == [7])
    await pair.owner.broker.publish(8)
    await pair.until(lambda: values(client) == [7, 8])


async def test_receivers_on_two_nodes_share_one_feed(pair):
    subscription = await pair.owner.broker.subscribe()
    remote = pair.client(subscription, credit=20)
    local = pair.local(subscription, credit=20)
    await pair.until(lambda: remote.receiver.card is not None)

    await pair.owner.broker.publish(*range(30))

    await pair.until(lambda: len(remote.seqs) + len(local.seqs) == 30)
    assert sorted(values(remote) + values(local)) == list(range(30))
    assert len(remote.seqs) >= 10
    assert subscription.receivers == 2


async def test_each_outcome_does_there_what_it_does_here(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(*range(5))
    client = pair.client(subscription, credit=5)
    await pair.until(lambda: len(client.seqs) == 5)
    settling, where, held = pair.asker.relay.feeds.settling, client.where, client.held

    client.complete_runs([(held[0][1], [held[0][0]])])
    client.receiver.modify(held[1], {"note": "again"}, optional=False)
    settling.abandon(*where, *held[1])
    settling.abandon(*where, *held[2], failed=False)
    settling.defer(*where, *held[3])
    settling.dead_letter(*where, held[4], reason="bad", properties={"by": "me"})
    client.then()
    await pair.until(lambda: client.confirmed == [{}])

    locks = subscription.locks
    assert locks.counts == {held[1][0]: 1}
    assert locks.deferred == {held[3][0]}
    assert sorted(locks.returned) == [held[1][0], held[2][0]]
    queue = pair.owner.core.settling.dead_letters(subscription)
    assert len(queue) == 1
    client.flow(5)
    await pair.until(lambda: len(client.seqs) == 7)
    assert client.taken[-2].counts == [1]
    assert b"again" in client.taken[-2].modified[held[1][0]]


async def test_dead_letters_are_read_from_another_node(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1)
    client = pair.client(subscription, credit=1)
    await pair.until(lambda: client.seqs)
    pair.asker.relay.feeds.settling.dead_letter(*client.where, client.held[0], reason="bad")
    dead = pair.client(subscription, dead=True, credit=5)

    await pair.until(lambda: dead.seqs == client.seqs)
    assert REASON.encode() in dead.stored[0]
    dead.complete()
    await pair.until(lambda: dead.confirmed == [{}])
    assert pair.owner.core.settling.dead_count(subscription) == 0


async def test_without_a_lock_a_message_comes_once_and_is_settled(pair):
    subscription = await pair.owner.broker.subscribe()
    client = pair.client(subscription, lock=False, credit=100)
    await pair.owner.broker.publish(*range(20))

    await pair.until(lambda: len(client.seqs) == 20)
    assert values(client) == list(range(20))
    assert {part.serial for part in client.taken} == {0}
    assert subscription.backlog(100) == 0


async def test_what_a_client_held_goes_back_when_it_leaves_after_its_outcomes(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1, 2)
    client = pair.client(subscription, credit=2)
    await pair.until(lambda: len(client.seqs) == 2)

    seq, serial = client.held[0]
    client.complete_runs([(serial, [seq])])
    client.leave()

    await pair.until(lambda: subscription.receivers == 0)
    assert subscription.settled_total == 1
    assert subscription.locks.returned == [client.seqs[1]]
    assert subscription.locks.counts == {}
    await pair.until(lambda: pair.asker.relay.asking.links == 0)


async def test_an_outcome_after_the_end_of_its_lock_is_refused_by_name(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1, 2)
    client = pair.client(subscription, credit=2)
    await pair.until(lambda: len(client.seqs) == 2)
    seq = client.seqs[0]
    holding = subscription.locks.unsettled[seq]
    subscription.locks.give_back(seq, holding, failed=True)

    client.complete()

    await pair.until(lambda: client.confirmed)
    [refused] = client.confirmed
    assert list(refused) == [client.held[0]]
    assert isinstance(refused[client.held[0]], LockLost)
    assert not client.is_closed


async def test_a_message_that_is_larger_than_nats_takes_comes_in_parts(tmp_path):
    async with relayed_pair(tmp_path, payload_max=4_096) as pair:
        subscription = await pair.owner.broker.subscribe()
        client = pair.client(subscription, credit=3)
        await _publish_text(pair, "x" * 100_000, "y" * 9_000, "z")

        await pair.until(lambda: len(client.seqs) == 3)
        assert [
            len(stored) > size
            for stored, size in zip(client.stored, (99_999, 8_999, 0), strict=True)
        ] == [True] * 3
        client.complete()
        await pair.until(lambda: client.confirmed == [{}])


async def _publish_text(pair, *texts):
    payloads = [
        normalise(encode_json(json.dumps({"value": 1, "text": text}).encode(), {"value": 1}))
        for text in texts
    ]
    key = TopicKey(TenantId("acme"), Topic.VARIABLES)
    await pair.owner.core.publishing.publish(key, payloads, via="test")


# Ends


async def test_when_the_subscription_is_deleted_the_link_ends_with_it(pair):
    subscription = await pair.owner.broker.subscribe()
    client = pair.client(subscription, credit=1)
    await pair.until(lambda: client.receiver.card is not None)

    await pair.owner.broker.delete(subscription)

    await pair.until(lambda: client.is_closed)
    assert client.receiver.ended is None


async def test_an_attach_to_what_is_not_there_ends_with_the_reason(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.delete(subscription)

    client = pair.client(subscription)

    await pair.until(lambda: client.is_closed)
    assert isinstance(client.receiver.ended, NotFound)


async def test_an_attach_over_the_limit_ends_with_the_reason(tmp_path):
    async with relayed_pair(tmp_path, receivers_per_subscription_max=1) as pair:
        subscription = await pair.owner.broker.subscribe()
        pair.local(subscription)

        client = pair.client(subscription)

        await pair.until(lambda: client.is_closed)
        assert isinstance(client.receiver.ended, LimitReached)


async def test_an_attach_waits_for_an_owner_and_gives_up_in_the_end(quiet):
    subscription = await quiet.owner.broker.subscribe()
    shard = quiet.shard(subscription)
    quiet.owners.move(shard, None)
    waiting, hopeless = quiet.client(subscription), quiet.client(subscription)
    await quiet.advance(4_000)
    assert not waiting.is_closed
    hopeless.leave()
    quiet.owners.move(shard, quiet.owner.card)
    await quiet.until(lambda: waiting.receiver.card == quiet.owner.card)

    quiet.owners.move(shard, None)
    late = quiet.client(subscription)
    await quiet.advance(11_000)
    assert isinstance(late.receiver.ended, Unavailable)


async def test_an_attach_does_not_wait_for_a_dead_owner_when_there_is_another_one(quiet):
    subscription = await quiet.owner.broker.subscribe()
    shard = quiet.shard(subscription)
    quiet.owners.move(shard, NodeCard("dead", "1"))
    client = quiet.client(subscription)
    await quiet.advance(1_000)
    assert client.receiver.card is None

    quiet.owners.move(shard, None)
    await quiet.advance(200)
    quiet.owners.move(shard, quiet.owner.card)

    await quiet.until(lambda: client.receiver.card == quiet.owner.card, within_ms=300)
    assert not client.is_closed


async def test_when_the_owner_changes_the_link_ends_and_nothing_more_is_confirmed(quiet):
    subscription = await quiet.owner.broker.subscribe()
    await quiet.owner.broker.publish(1)
    client = quiet.client(subscription, credit=1)
    await quiet.until(lambda: client.seqs)
    quiet.owner.broker.log.pause()
    client.complete()
    await quiet.advance(200)

    quiet.owners.move(quiet.shard(subscription), quiet.asker.card)
    quiet.owner.broker.log.resume()
    await quiet.advance(1_000)

    assert client.is_closed
    assert isinstance(client.receiver.ended, Unavailable)
    assert client.confirmed == []


async def test_what_is_lost_at_the_owner_before_the_commit_is_not_confirmed(quiet):
    subscription = await quiet.owner.broker.subscribe()
    await quiet.owner.broker.publish(1)
    client = quiet.client(subscription, credit=1)
    await quiet.until(lambda: client.seqs)
    quiet.owner.broker.log.pause()
    client.complete()
    await quiet.advance(200)

    # The owner is shut out and takes the shard again; the other node hears nothing of it.
    quiet.owners.epochs[quiet.shard(subscription)] += 1
    quiet.owner.broker.log.resume()
    await quiet.advance(1_000)

    assert client.confirmed == []
    assert client.is_closed


async def test_a_paused_owner_hands_out_nothing_here_nor_there(quiet):
    subscription = await quiet.owner.broker.subscribe()
    local = quiet.local(subscription, credit=5)
    shard = quiet.shard(subscription)
    quiet.owners.cards[shard] = None
    await quiet.owner.broker.publish(1)
    await quiet.advance(200)
    assert local.seqs == []

    quiet.owners.cards[shard] = quiet.owner.card
    quiet.owner.core.delivering.wake(subscription)
    await quiet.until(lambda: local.seqs)


async def test_when_the_owner_is_silent_the_link_ends_and_there_everything_goes_back(quiet):
    subscription = await quiet.owner.broker.subscribe()
    await quiet.owner.broker.publish(1)
    client = quiet.client(subscription, credit=1)
    await quiet.until(lambda: client.seqs)

    quiet.asker.bus.cut = True
    await quiet.advance(4_500)
    assert client.is_closed
    assert isinstance(client.receiver.ended, Unavailable)
    await quiet.advance(3_000)

    assert subscription.receivers == 0
    assert subscription.locks.returned == client.seqs
    assert quiet.owner.relay.owner.links == 0


async def test_a_short_silence_ends_nothing(quiet):
    subscription = await quiet.owner.broker.subscribe()
    client = quiet.client(subscription, credit=5)
    await quiet.until(lambda: client.receiver.card is not None)

    quiet.asker.bus.cut = True
    await quiet.owner.broker.publish(1)
    await quiet.advance(2_000)
    quiet.asker.bus.cut = False
    await quiet.until(lambda: client.seqs)

    assert not client.is_closed


async def test_what_was_taken_ahead_and_is_not_pulled_goes_back_uncounted(quiet):
    subscription = await quiet.owner.broker.subscribe()
    client = quiet.client(subscription, credit=5)
    await quiet.until(lambda: client.receiver.feed.missing is None)
    pump = client.pump

    def pump_and_withdraw():
        # They are asked for, and the client's credit goes before they come.
        pump()
        client.credit = 0

    client.pump = pump_and_withdraw
    await quiet.owner.broker.publish(1, 2)
    await quiet.until(lambda: subscription.locks.locked == 2)
    await quiet.advance(100)
    assert client.seqs == []
    assert subscription.locks.locked == 2

    await quiet.advance(3_000)

    assert subscription.locks.locked == 0
    assert subscription.locks.counts == {}
    client.pump = pump
    client.flow(5)
    await quiet.until(lambda: values(client) == [1, 2])


async def test_a_drain_ends_when_the_owner_has_said_that_there_is_nothing(quiet):
    subscription = await quiet.owner.broker.subscribe()
    client = quiet.client(subscription, credit=5)
    assert client.receiver.feed.missing is not None

    await quiet.until(lambda: client.receiver.feed.missing is None)
    assert client.seqs == []


async def test_a_node_that_stops_ends_its_links_and_leaves_the_owner(quiet):
    subscription = await quiet.owner.broker.subscribe()
    client = quiet.client(subscription, credit=5)
    await quiet.until(lambda: client.receiver.card is not None)

    await quiet.asker.relay.stop()

    assert isinstance(client.receiver.ended, Unavailable)
    await quiet.advance(7_000)
    assert subscription.receivers == 0


async def test_answers_that_come_in_another_order_confirm_in_the_order_of_the_asking(quiet):
    subscription = await quiet.owner.broker.subscribe()
    await quiet.owner.broker.publish(1, 2)
    client = quiet.client(subscription, credit=2)
    await quiet.until(lambda: len(client.seqs) == 2)
    calls, held_back, confirmed = quiet.asker.relay.calls, [], []
    send = calls._send

    async def send_late(subject, frames, *, reply=""):
        if not held_back:
            held_back.append((subject, frames, reply))
            return
        await send(subject, frames, reply=reply)

    calls._send = send_late
    for name, (seq, serial) in zip("ab", client.held, strict=True):
        client.receiver.complete_runs([(serial, [seq])])
        client.receiver.then(lambda refused, name=name: confirmed.append(name))
        await quiet.advance(20)
    assert confirmed == []
    assert subscription.settled_total == 1

    await quiet.until(lambda: confirmed == ["a", "b"])
