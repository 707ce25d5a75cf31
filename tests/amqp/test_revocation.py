"""Tokens that are taken back before they end: refused from then on, their links detached."""

from dataclasses import replace

import pytest

from hotpath.auth.rights import Principal
from hotpath.model.errors import NotFound, Unauthorized
from hotpath.model.names import TenantId, Topic, subscription_resource
from hotpath.ports import LogFailure
from tests.support.wire import MemoryPeer, plain

ACME = Principal(TenantId("acme"), "tester", frozenset({"hotpath.subscribe", "hotpath.publish"}))


def token_of(broker, subscription, **options):
    """A token as REST issues it now."""
    spec = subscription.spec
    return broker.sas(subscription_resource(spec.topic, spec.id, spec.generation), **options)


async def revoke(broker, subscription, principal=ACME):
    spec = subscription.spec
    return await broker.core.revoking.revoke_subscription(principal, spec.topic, spec.id)


def reason(peer, link):
    condition = peer.detached[link.name]
    return condition.name, condition.description


async def test_a_revoked_token_opens_nothing_and_a_new_one_does(broker, connect, feed_of):
    subscription = await broker.subscribe()
    old = token_of(broker, subscription)
    await revoke(broker, subscription)
    new = token_of(broker, subscription)

    refused = MemoryPeer(broker)
    await refused.login(plain("any", old))
    peer = await connect(new)
    link = peer.receiver(feed_of(subscription), credit=1)
    await peer.pump()

    assert b"\x53\x44" in refused.preface  # sasl-outcome …
    assert refused.preface.endswith(b"\x50\x01")  # … with code 1
    assert peer.detached == {}
    assert link.remote_source.address


async def test_each_revocation_is_one_of_its_own(broker):
    subscription = await broker.subscribe()
    tokens = []
    for _ in range(3):
        tokens.append(token_of(broker, subscription))
        await revoke(broker, subscription)

    for token in tokens:
        with pytest.raises(Unauthorized, match="revoked"):
            await broker.access.by_token(token, None)
    await broker.access.by_token(token_of(broker, subscription), None)


async def test_attached_links_of_revoked_tokens_are_detached_and_others_stay(broker, receiver_on):
    mine, other = await broker.subscribe(), await broker.subscribe()
    peer, link = await receiver_on(mine)
    bystander, kept = await receiver_on(other)

    await revoke(broker, mine)
    await peer.pump()
    await bystander.pump()

    name, description = reason(peer, link)
    assert name == "amqp:unauthorized-access"
    assert "revoked" in description
    assert not peer.closed
    assert bystander.detached == {}
    assert kept.remote_source.address


async def test_messages_locked_by_a_detached_link_go_back_uncounted(
    broker, receiver_on, feed_of, connect
):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)
    await broker.publish(1)
    await peer.pump()
    assert len(peer.deliveries(link)) == 1

    await revoke(broker, subscription)
    await peer.pump()
    again = await connect(token_of(broker, subscription))
    second = again.receiver(feed_of(subscription), credit=5)
    await again.pump()

    [message] = again.messages(second)
    assert message.delivery_count == 0


async def test_a_link_that_another_token_covers_stays(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect()
    await peer.put_token(token_of(broker, subscription), "amqp://feeds.example.com/first")
    link = peer.receiver(feed_of(subscription), credit=1)
    await peer.pump()
    await peer.put_token(broker.jwt(), "amqp://feeds.example.com/" + feed_of(subscription))

    await revoke(broker, subscription)
    await peer.pump()

    assert link.name not in peer.detached
    assert link.remote_source.address


async def test_put_token_refuses_a_revoked_token(broker, connect):
    subscription = await broker.subscribe()
    old = token_of(broker, subscription)
    await revoke(broker, subscription)
    peer = await connect()

    reply = await peer.put_token(old)

    assert reply.properties["status-code"] == 401
    assert "revoked" in reply.properties["status-description"]


@pytest.mark.parametrize(
    "tail", ["$Generation/x", "$Generation/1/2", "$Generation", "$Generation/-1"]
)
async def test_a_generation_that_is_none_is_refused(broker, feed_of, tail):
    subscription = await broker.subscribe()

    with pytest.raises(Unauthorized):
        await broker.access.by_token(broker.sas(f"{feed_of(subscription)}/{tail}"), None)


async def test_a_token_of_a_later_generation_than_there_is_is_refused(broker, feed_of):
    subscription = await broker.subscribe()
    future = replace(subscription.spec, generation=7)

    with pytest.raises(Unauthorized):
        await broker.access.by_token(
            broker.sas(subscription_resource(future.topic, future.id, 7)), None
        )


@pytest.mark.parametrize(
    "principal",
    [
        Principal(TenantId("other"), "x", ACME.scopes),
        Principal(TenantId("acme"), "x", ACME.scopes, condition="value > 3"),
    ],
    ids=["tenant", "condition"],
)
async def test_nobody_else_revokes(broker, principal):
    subscription = await broker.subscribe()
    token = token_of(broker, subscription)

    with pytest.raises(NotFound):
        await revoke(broker, subscription, principal)
    await broker.access.by_token(token, None)


async def test_revocation_that_is_not_durable_revokes_nothing(broker, monkeypatch):
    subscription = await broker.subscribe()
    token = token_of(broker, subscription)

    async def fail(*_):
        raise LogFailure("no space", full=True)

    monkeypatch.setattr(broker.core.store, "put", fail)
    with pytest.raises(Exception, match="try again"):
        await revoke(broker, subscription)

    await broker.access.by_token(token, None)


async def test_a_subscription_deleted_meanwhile_does_not_come_back(broker, monkeypatch):
    subscription = await broker.subscribe()
    put = broker.core.store.put

    async def delete_first(kind, key, record):
        await broker.delete(subscription)
        await put(kind, key, record)

    monkeypatch.setattr(broker.core.store, "put", delete_first)
    with pytest.raises(NotFound):
        await revoke(broker, subscription)

    assert await broker.core.store.load("subscriptions") == []


# Publishers


async def test_a_deleted_publishers_token_is_refused_and_its_links_detached(broker, connect):
    mine, other = await broker.open_publisher(), await broker.open_publisher()
    token = broker.publisher_sas(mine)
    peer, bystander = await connect(token), await connect(broker.publisher_sas(other))
    link, kept = peer.sender("variables"), bystander.sender("variables")
    await peer.pump()
    await bystander.pump()

    await broker.core.revoking.delete_publisher(ACME, Topic.VARIABLES, mine.id)
    await peer.pump()
    await bystander.pump()

    assert reason(peer, link)[0] == "amqp:unauthorized-access"
    assert bystander.detached == {}
    assert kept.credit > 0
    with pytest.raises(Unauthorized):
        await broker.access.by_token(token, None)
    assert [record["id"] for record in await broker.core.store.load("publishers")] == [other.id]


@pytest.mark.parametrize(
    ("tenant", "topic"),
    [("other", Topic.VARIABLES), ("acme", Topic.EVENTS)],
    ids=["tenant", "topic"],
)
async def test_a_publisher_of_somebody_else_is_not_found(broker, tenant, topic):
    publisher = await broker.open_publisher()

    with pytest.raises(NotFound):
        await broker.core.revoking.delete_publisher(
            replace(ACME, tenant=TenantId(tenant)), topic, publisher.id
        )
    assert broker.core.publishers.get(publisher.id) is not None


# Keys


async def test_retiring_a_key_ends_the_links_of_its_tokens(broker, connect, receiver_on, feed_of):
    subscription = await broker.subscribe()
    first = broker.core.ring.current.name
    peer, link = await receiver_on(subscription)
    await broker.core.keys.add("second", None)
    other, kept = await receiver_on(subscription)
    await peer.pump()
    assert peer.detached == {}

    await broker.core.keys.retire(first)
    await peer.pump()
    await other.pump()

    assert reason(peer, link)[0] == "amqp:unauthorized-access"
    assert other.detached == {}
    assert kept.remote_source.address


async def test_a_tenants_key_opens_the_tenants_feeds_until_it_is_retired(broker, connect, feed_of):
    mine, foreign = await broker.subscribe(), await broker.subscribe(tenant="other")
    key = (await broker.core.keys.add("plant", "acme")).key
    peer = await connect(broker.sas(feed_of(mine), key=key))
    own, other = peer.receiver(feed_of(mine)), peer.receiver(feed_of(foreign))
    await peer.pump()
    assert own.remote_source.address
    assert reason(peer, other)[0] == "amqp:unauthorized-access"

    await broker.core.keys.retire("plant")
    await peer.pump()

    assert reason(peer, own)[0] == "amqp:unauthorized-access"


async def test_name_and_secret_of_a_tenants_key_log_in_until_it_is_retired(broker):
    key = (await broker.core.keys.add("plant", "acme")).key

    grant = await broker.access.by_password("plant", key.secret)
    await broker.core.keys.retire("plant")

    assert grant.tenant == "acme"
    assert broker.access.is_revoked(grant)
    with pytest.raises(Unauthorized):
        await broker.access.by_password("plant", key.secret)
