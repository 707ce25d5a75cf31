"""Who may attach where, until when; what is refused, and how."""

import pytest
from proton import Described, Message, Terminus, symbol

from hotpath.auth.rights import Action, Grant
from hotpath.auth.sas import SigningKey
from hotpath.model.names import TenantId, Topic
from tests.support.broker import running_broker
from tests.support.wire import MemoryPeer, coordinator, plain, sasl_init


def refusal(peer, link):
    condition = peer.detached[link.name]
    assert condition is not None
    assert condition.description
    assert condition.info is not None
    return condition.name


async def test_a_connection_without_a_token_gets_no_entity(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect()

    existing = peer.receiver(feed_of(subscription))
    missing = peer.receiver("variables/Subscriptions/nothing")
    topic = peer.sender("variables")
    await peer.pump()

    for link in (existing, missing, topic):
        assert refusal(peer, link) == "amqp:unauthorized-access"
    assert not peer.closed


async def test_a_token_for_another_subscription_does_not_open_this_one(broker, connect, feed_of):
    mine, other = await broker.subscribe(), await broker.subscribe()
    peer = await connect(broker.sas(feed_of(other)))

    link = peer.receiver(feed_of(mine))
    await peer.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_a_covered_entity_that_does_not_exist_is_not_found(broker, connect):
    peer = await connect(broker.sas("variables/Subscriptions/gone"))

    link = peer.receiver("variables/Subscriptions/gone")
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-found"


async def test_the_token_of_a_deleted_subscription_finds_nothing(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))
    await broker.delete(subscription)

    link = peer.receiver(feed_of(subscription))
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-found"


async def test_a_subscriptions_token_covers_its_dead_letters(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    link = peer.receiver(feed_of(subscription) + "/$DeadLetterQueue")
    await peer.pump()

    assert peer.detached == {}
    assert link.remote_source.address == link.source.address


async def test_a_subscriptions_token_does_not_publish(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    link = peer.sender("variables")
    await peer.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_a_publishers_token_does_not_listen_and_reaches_one_topic(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.publisher_sas(await broker.open_publisher()))

    feed = peer.receiver(feed_of(subscription))
    elsewhere = peer.sender("events")
    await peer.pump()

    assert refusal(peer, feed) == "amqp:unauthorized-access"
    assert refusal(peer, elsewhere) == "amqp:unauthorized-access"


async def test_messages_reach_subscriptions_of_their_own_tenant_only(broker, connect, receiver_on):
    ours, theirs = await broker.subscribe(), await broker.subscribe(tenant="rival")
    our_peer, our_link = await receiver_on(ours)
    their_peer, their_link = await receiver_on(theirs)
    sender = await connect(broker.publisher_sas(await broker.open_publisher(tenant="rival")))
    link = sender.sender("variables")
    await sender.pump()

    sender.send(link, Message(properties={"value": 1}, body="x"))
    for peer in (sender, our_peer, their_peer):
        await peer.pump()

    assert our_peer.messages(our_link) == []
    assert len(their_peer.messages(their_link)) == 1


async def test_a_tenants_token_does_not_find_anothers_subscription(broker, connect, feed_of):
    theirs = await broker.subscribe(tenant="rival")
    peer = await connect()
    await peer.put_token(broker.jwt(tenant="acme"), "amqp://feeds.example.com/")

    link = peer.receiver(feed_of(theirs))
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-found"


async def test_a_condition_of_a_jwt_hides_wider_feeds(broker, connect, feed_of):
    wide = await broker.subscribe()
    peer = await connect()
    token = broker.jwt(condition="value > 5")
    await peer.put_token(token, "amqp://feeds.example.com/")

    link = peer.receiver(feed_of(wide))
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-found"


async def test_at_the_end_of_its_token_a_link_is_detached_and_the_connection_stays(
    broker, connect, feed_of
):
    short, long = await broker.subscribe(), await broker.subscribe()
    peer = await connect(broker.sas(feed_of(short), seconds=30))
    await peer.put_token(broker.sas(feed_of(long)))
    ending = peer.receiver(feed_of(short), credit=5)
    staying = peer.receiver(feed_of(long), credit=5)
    await peer.pump()

    await broker.manual.advance(29_000)
    await peer.pump()
    assert ending.name not in peer.detached

    await broker.manual.advance(1_100)
    await peer.pump()
    assert refusal(peer, ending) == "amqp:unauthorized-access"
    assert staying.name not in peer.detached
    assert not peer.closed


async def test_nothing_is_sent_after_the_end_of_the_token(broker, connect, feed_of):
    """Also when the timer is late: the wall clock alone decides."""
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription), seconds=30))
    link = peer.receiver(feed_of(subscription), credit=5)
    await peer.pump()

    broker.manual.jump_wall(31_000)
    await broker.publish(1)
    await peer.pump()

    assert peer.messages(link) == []
    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_nothing_is_taken_after_the_end_of_a_publishers_token(broker, connect, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    publisher = await broker.open_publisher()
    peer = await connect(broker.publisher_sas(publisher, seconds=30))
    link = peer.sender("variables")
    await peer.pump()

    broker.manual.jump_wall(31_000)
    peer.send(link, Message(properties={"value": 1}, body="x"))
    await peer.pump()
    await receiving.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"
    assert peer.updates == []
    assert receiving.messages(feed) == []


async def test_a_publisher_that_detaches_after_its_tokens_end_leaves_nothing(broker, connect):
    peer = await connect(broker.publisher_sas(await broker.open_publisher(), seconds=30))
    link = peer.sender("variables")
    await peer.pump()

    broker.manual.jump_wall(31_000)
    peer.send(link, Message(properties={"value": 1}, body="x"))
    link.close()
    await peer.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"
    assert peer.edge_connection.engine.link_count == 0


async def test_a_renewed_token_keeps_links_attached(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription), seconds=30))
    link = peer.receiver(feed_of(subscription), credit=5)
    await peer.pump()

    await broker.manual.advance(20_000)
    await peer.put_token(broker.sas(feed_of(subscription), seconds=60))
    await broker.manual.advance(30_000)
    await broker.publish(1)
    await peer.pump()
    assert len(peer.messages(link)) == 1

    await broker.manual.advance(31_000)
    await peer.pump()
    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_a_token_of_another_tenant_extends_nothing(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect()
    await peer.put_token(broker.jwt(minutes=1), "amqp://feeds.example.com/a")
    link = peer.receiver(feed_of(subscription), credit=5)
    await peer.pump()
    await peer.put_token(broker.jwt(tenant="rival", minutes=60), "amqp://feeds.example.com/")

    await broker.manual.advance(61_000)
    await peer.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_after_its_token_ended_a_link_can_be_attached_with_a_new_one(
    broker, connect, feed_of
):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription), seconds=30))
    peer.receiver(feed_of(subscription), credit=5)
    await broker.manual.advance(31_000)
    await peer.pump()

    await peer.put_token(broker.sas(feed_of(subscription)))
    again = peer.receiver(feed_of(subscription), credit=5, name="again")
    await broker.publish(1)
    await peer.pump()

    assert len(peer.messages(again)) == 1


async def test_a_client_certificate_gives_its_organizations_rights(broker, feed_of):
    subscription = await broker.subscribe()
    grant = Grant(frozenset(Action), (), TenantId("acme"), None)
    peer = MemoryPeer(broker, certified=grant)
    await peer.login(sasl_init(b"EXTERNAL"))
    assert b"EXTERNAL" in peer.preface
    peer.open()
    link = peer.receiver(feed_of(subscription), credit=1)
    await broker.publish(1)
    await peer.pump()

    assert len(peer.messages(link)) == 1


async def test_a_tenants_key_as_plain_password_publishes_and_listens(broker, feed_of):
    key = SigningKey("plant", "a-secret-of-the-plant", TenantId("acme"), 1)
    broker.core.ring.replace([broker.core.ring.current, key])
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    await peer.login(plain("plant", "a-secret-of-the-plant"))
    peer.open()
    feed = peer.receiver(feed_of(subscription), credit=1)
    publishing = peer.sender("variables")
    await peer.pump()

    assert peer.detached == {}
    assert publishing.credit > 0
    assert feed.remote_source.address is not None


# Refusals of what is not supported


async def test_a_session_filter_is_not_implemented(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    for number, value in enumerate(("a session", None)):
        link = peer.receiver(
            feed_of(subscription),
            name=str(number),
            filters={symbol("com.microsoft:session-filter"): value},
        )
        await peer.pump()
        assert refusal(peer, link) == "amqp:not-implemented"


async def test_a_selector_is_refused_and_not_ignored(broker, connect, feed_of):

    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))
    selector = Described(symbol("apache.org:selector-filter:string"), "value > 5")

    link = peer.receiver(
        feed_of(subscription), filters={symbol("apache.org:selector-filter:string"): selector}
    )
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-implemented"


async def test_without_a_right_a_session_filter_is_unauthorized(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect()

    link = peer.receiver(
        feed_of(subscription), filters={symbol("com.microsoft:session-filter"): "s"}
    )
    await peer.pump()

    assert refusal(peer, link) == "amqp:unauthorized-access"


async def test_transactions_are_not_implemented(broker, connect):
    peer = await connect()
    link = peer.session.sender("coordinator")
    coordinator(link)
    link.open()
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-implemented"


@pytest.mark.parametrize("incoming", [True, False], ids=["target", "source"])
async def test_dynamic_nodes_are_not_implemented(broker, connect, incoming):
    peer = await connect()
    link = peer.session.sender("d") if incoming else peer.session.receiver("d")
    (link.target if incoming else link.source).dynamic = True
    link.open()
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-implemented"


@pytest.mark.parametrize("incoming", [True, False], ids=["target", "source"])
async def test_an_attach_without_an_address_is_not_implemented(broker, connect, incoming):
    peer = await connect()
    link = (peer.sender if incoming else peer.receiver)(None)
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-implemented"


async def test_browsing_is_not_implemented(broker, connect, feed_of):

    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))
    link = peer.session.receiver("browser")
    link.source.address = feed_of(subscription)
    link.source.distribution_mode = Terminus.DIST_MODE_COPY
    link.open()
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-implemented"


async def test_one_does_not_receive_from_a_topic(broker, connect):
    peer = await connect()
    await peer.put_token(broker.jwt(), "amqp://feeds.example.com/")

    link = peer.receiver("variables")
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-allowed"


async def test_one_does_not_publish_to_a_subscription(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    link = peer.sender(feed_of(subscription))
    await peer.pump()

    assert refusal(peer, link) == "amqp:not-found"


async def test_a_covered_mistyped_address_is_not_found(broker, connect):
    key = SigningKey("plant", "a-secret-of-the-plant", TenantId("acme"), 1)
    broker.core.ring.replace([broker.core.ring.current, key])
    peer = await connect()
    await peer.put_token(broker.sas("", key=key))

    for address in ("variabels", "variables/subs/x", "variables/Subscriptions/x/$Nothing"):
        link = peer.receiver(address)
        await peer.pump()
        assert refusal(peer, link) == "amqp:not-found", address


async def test_a_subscription_takes_so_many_receivers(tmp_path):
    async with running_broker(tmp_path, receivers_per_subscription_max=2) as broker:
        subscription = await broker.subscribe()
        path = f"variables/Subscriptions/{subscription.spec.id}"
        peer = MemoryPeer(broker)
        await peer.login(plain("x", broker.sas(path)))
        peer.open()
        links = [peer.receiver(path, name=str(number)) for number in range(3)]
        await peer.pump()

        assert list(peer.detached) == ["2"]
        assert refusal(peer, links[2]) == "amqp:resource-limit-exceeded"


async def test_points_is_published_to_and_not_subscribed(broker, connect):
    peer = await connect(broker.publisher_sas(await broker.open_publisher(Topic.POINTS)))
    link = peer.sender("points")
    await peer.pump()

    assert link.credit > 0
