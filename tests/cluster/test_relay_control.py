"""Calls about subscriptions that another node serves: management, figures, looks."""

import asyncio

import pytest

from hotpath.cluster.relay import answers
from hotpath.cluster.relay.frames import Op, read_items, write_items
from hotpath.model.errors import LockLost, NotFound, Unavailable, Unsupported
from hotpath.model.names import SubscriptionId, TenantId, Topic
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.feeds import Disposition, What
from tests.cluster.relaying import relayed_pair
from tests.support.nats import MISSING, nats_server

SPEC = SubscriptionSpec(
    id=SubscriptionId("x"),
    tenant=TenantId("acme"),
    topic=Topic.VARIABLES,
    filter="value > 1",
    condition=None,
    ttl_ms=1,
    sas_ttl_ms=1,
    start_seq=1,
    created_ms=1,
)


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


# Management


async def test_a_feed_is_peeked_and_its_locks_are_renewed_from_another_node(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1, 2)
    client = pair.client(subscription, credit=1)
    await pair.until(lambda: client.seqs)
    feed = pair.managing(subscription)

    found = await feed.peek(0, count=10, bytes_max=1_000_000)
    assert [peeked.seq for peeked in found] == [1, 2]
    [end_ms] = await feed.renew(client.held)
    assert abs(end_ms - subscription.locks.unsettled[client.seqs[0]].until_ms) < 200

    with pytest.raises(LockLost):
        await feed.renew([(client.seqs[0], 1)])


async def test_deferred_messages_are_received_and_settled_from_another_node(pair):
    subscription = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1, 2)
    client = pair.client(subscription, credit=2)
    await pair.until(lambda: len(client.seqs) == 2)
    for held in client.held:
        pair.asker.relay.feeds.settling.defer(*client.where, *held)
    client.then()
    await pair.until(lambda: client.confirmed)
    feed = pair.managing(subscription)

    first, second = await feed.receive(client.seqs, lock=True)
    await feed.settle(Disposition(What.COMPLETE, [(first.seq, first.serial)]))
    assert subscription.settled_total == 1
    with pytest.raises(LockLost):
        await feed.settle(Disposition(What.COMPLETE, [(first.seq, first.serial)]))
    with pytest.raises(NotFound):
        await feed.receive([12_345], lock=True)

    feed.close()
    await pair.until(lambda: subscription.locks.locked == 0)
    assert subscription.locks.deferred == {second.seq}


async def test_calls_by_name_reach_the_owner_and_bring_its_errors(pair):
    subscription = await pair.owner.broker.subscribe()

    async def add(asked, question):
        assert asked is subscription
        return question + b"!"

    async def ask(name, question):
        body = write_items(name, subscription.spec.id, question)
        return await pair.asker.relay.asking.ask_owner(subscription.spec, Op.ASK, body)

    pair.owner.relay.owner.asked["sum"] = add

    assert await ask("sum", b"how many") == b"how many!"
    with pytest.raises(Unsupported, match="does not know the call"):
        await ask("nothing", b"")


async def test_figures_are_asked_of_the_owner_and_those_of_what_is_gone_are_left_out(pair):
    subscription = await pair.owner.broker.subscribe()
    gone = await pair.owner.broker.subscribe()
    await pair.owner.broker.publish(1, 2, 3)
    client = pair.client(subscription, credit=2)
    await pair.until(lambda: len(client.seqs) == 2)
    await pair.owner.broker.delete(gone)
    control, admin = pair.asker.relay.control, pair.owner.core.admin

    [told] = await control.figures([gone.spec, subscription.spec])

    known = admin.figures(subscription.spec)
    assert told.spec == subscription.spec
    assert (told.backlog, told.locked, told.delivered, told.clients) == (3, 2, 2, 1)
    assert abs(told.last_activity_ms - known.last_activity_ms) < 1_000
    assert abs(told.expires_ms - known.expires_ms) < 1_000


async def test_figures_of_what_is_here_and_of_what_is_elsewhere_come_together(quiet):
    here = await quiet.asker.broker.subscribe()
    there = await quiet.owner.broker.subscribe()
    while quiet.shard(there) == quiet.shard(here):
        there = await quiet.owner.broker.subscribe()
    quiet.owners.move(quiet.shard(here), quiet.asker.card)

    for side in (quiet.asker, quiet.owner):
        told = await side.relay.control.figures([there.spec, here.spec])
        assert [each.spec for each in told] == [there.spec, here.spec]


@pytest.mark.parametrize(
    "ask",
    [
        lambda control, spec: control.figures([spec]),
        lambda control, spec: control.account(spec, 1, condition=None),
        lambda control, spec: control.matched(spec, limit=5, after=None),
        lambda control, spec: control.unsettled(spec, limit=5, after=0, dead=False),
    ],
    ids=["figures", "account", "matched", "unsettled"],
)
async def test_a_call_about_a_subscription_that_moves_waits_for_it_but_not_for_ever(quiet, ask):
    subscription = await quiet.owner.broker.subscribe()
    shard, control = quiet.shard(subscription), quiet.asker.relay.control
    quiet.owners.move(shard, None)

    asked = asyncio.ensure_future(ask(control, subscription.spec))
    await quiet.advance(2_000)
    assert not asked.done()
    quiet.owners.move(shard, quiet.owner.card)
    await quiet.until(asked.done)
    assert asked.result() is not None

    quiet.owners.move(shard, None)
    hopeless = asyncio.ensure_future(ask(control, subscription.spec))
    await quiet.advance(6_000)
    with pytest.raises(Unavailable):
        await hopeless


@pytest.mark.parametrize(
    "read",
    [
        answers.read_look,
        lambda body: answers.read_account(body, SPEC),
        lambda body: [answers.read_figures(row, {}) for row in read_items(body, 1)],
    ],
    ids=["look", "account", "figures"],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        write_items(),
        write_items([[1, 2, "no bytes", "waiting", 0]], 1, True),
        write_items([[1, 2, b"x", "no fate", 0]], 1, True),
        write_items(1, "waiting", "text", [1, 2], True, None, 0, None, None),
        write_items(1, "waiting", "text", None, True, None, 0, None, [1]),
        write_items(["unknown", 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=["nothing", "no items", "no bytes", "no fate", "half seen", "half a letter", "unknown"],
)
def test_an_answer_that_cannot_be_read_is_an_error_that_can_be_told(read, body):
    with pytest.raises(Unavailable, match="cannot be understood"):
        answers.understand(lambda: read(body))
