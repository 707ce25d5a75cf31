"""The $cbs node, as each client shape uses it."""

import asyncio
import uuid

import pytest
from proton import Message, int32, symbol, timestamp, ulong

from hotpath.amqp.requests import read_request
from hotpath.model.errors import Unauthorized
from hotpath.wire.sections import PROPERTIES, iter_sections
from hotpath.wire.types import Described, ULong, decode, encode
from tests.support.clock import settle

HOST = "amqps://feeds.example.com"


def request(token: object, message_id: object, *, name: str = HOST + "/x", **properties) -> Message:
    merged = {"operation": "put-token", "type": "jwt", "name": name, **properties}
    return Message(id=message_id, properties=merged, body=token)


async def test_python_sdk_shape(broker, connect, feed_of):
    """Both termini $cbs, the receiver first, no reply-to, a uuid as message-id, type jwt."""
    subscription = await broker.subscribe()
    peer = await connect()
    replies = peer.session.receiver("receiver")
    replies.source.address = replies.target.address = "$cbs"
    replies.open()
    replies.flow(100)
    requests = peer.session.sender("sender")
    requests.source.address = requests.target.address = "$cbs"
    requests.open()
    await peer.pump()

    token, identity = broker.sas(feed_of(subscription)), uuid.uuid4()
    audience = f"sb://feeds.example.com/{feed_of(subscription)}"
    expiration = timestamp(broker.clock.now_ms() + 3_600_000)
    peer.send(requests, request(token, identity, name=audience, expiration=expiration))
    await peer.pump()

    [reply] = peer.messages(replies)
    assert reply.correlation_id == identity
    assert reply.properties["status-code"] == 200
    assert isinstance(reply.properties["status-code"], int32)
    assert isinstance(reply.properties["status-description"], str)
    link = peer.receiver(feed_of(subscription), credit=1)
    await peer.pump()
    assert link.name not in peer.detached


async def test_javascript_sdk_shape(broker, connect, feed_of):
    """The sender first; the receiver's name is the reply-to, its target address null."""
    subscription = await broker.subscribe()
    peer = await connect()
    requests = peer.session.sender("$cbs-sender")
    requests.target.address = "$cbs"
    requests.open()
    replies = peer.session.receiver("reply-to-name")
    replies.source.address = "$cbs"
    replies.open()
    replies.flow(100)
    other = peer.receiver("$cbs", credit=10, name="other")
    await peer.pump()

    message = request(
        broker.sas(feed_of(subscription)),
        "a-string",
        name=f"sb://feeds.example.com:5671/{feed_of(subscription)}",
        type="servicebus.windows.net:sastoken",
    )
    message.address, message.reply_to = "$cbs", "reply-to-name"
    peer.send(requests, message)
    await peer.pump()

    [reply] = peer.messages(replies)
    assert reply.correlation_id == "a-string"
    assert reply.properties["status-code"] == 200
    assert peer.messages(other) == []


async def test_go_sdk_shape(broker, connect, feed_of):
    """A new link pair for every token; target address = reply-to; settled replies wanted."""
    subscription = await broker.subscribe()
    peer = await connect()

    for number in range(3):
        replies = peer.session.receiver(f"r{number}")
        replies.source.address, replies.target.address = "$cbs", f"address-{number}"
        replies.snd_settle_mode = 1
        replies.open()
        replies.flow(1)
        requests = peer.sender("$cbs", name=f"s{number}")
        await peer.pump()
        message = request(broker.sas(feed_of(subscription)), f"m{number}", expiration="1893456000")
        message.reply_to = f"address-{number}"
        peer.send(requests, message)
        await peer.pump()
        [reply] = peer.messages(replies)
        assert reply.properties["status-code"] == 200
        assert peer.deliveries(replies)[0].settled
        replies.close()
        requests.close()
        await peer.pump()

    assert peer.edge_connection.engine.link_count == 0


@pytest.mark.parametrize(
    "identity",
    ["text", ulong(7), uuid.UUID(int=5), b"bytes"],
    ids=["string", "ulong", "uuid", "binary"],
)
async def test_the_correlation_id_keeps_its_type(broker, connect, identity):

    peer = await connect()
    replies = peer.receiver("$cbs", credit=5)
    requests = peer.sender("$cbs")
    await peer.pump()
    sent = request(broker.sas("x"), identity)
    peer.send(requests, sent)
    await peer.pump()

    [raw] = peer.raws(replies)
    section = next(each for each in iter_sections(raw) if each.code == PROPERTIES)
    correlation = decode(raw, section.value)[0][5]
    asked = read_request(sent.encode()).message_id
    assert (type(correlation), correlation) == (type(asked), asked)


async def test_replies_on_different_sessions_go_to_the_session_that_asked(broker, connect):
    peer = await connect()
    pairs = []
    for _ in range(2):
        session = peer.connection.session()
        session.open()
        number = len(pairs)
        replies = peer.receiver("$cbs", credit=5, name=f"r{number}", session=session)
        pairs.append((peer.sender("$cbs", name=f"s{number}", session=session), replies))
    await peer.pump()

    for number, (requests, _) in enumerate(pairs):
        peer.send(requests, request(broker.sas("x"), f"m{number}"))
    await peer.pump()

    for number, (_, replies) in enumerate(pairs):
        assert [reply.correlation_id for reply in peer.messages(replies)] == [f"m{number}"]


def tampered(token: str) -> str:
    head, _, tail = token.partition("&sig=")
    return head + "&sig=" + ("A" if tail[0] != "A" else "B") + tail[1:]


@pytest.mark.parametrize(
    "token_of",
    [
        lambda broker: broker.sas("x", seconds=-1),
        lambda broker: tampered(broker.sas("x")),
        lambda broker: "SharedAccessSignature nonsense",
        lambda broker: "nonsense",
        lambda broker: broker.jwt(minutes=-5),
        lambda broker: tampered_jwt(broker.jwt()),
        lambda broker: "",
        lambda broker: "x" * 20_000,
    ],
    ids=["expired", "tampered", "malformed", "noise", "old jwt", "bad jwt", "empty", "long"],
)
async def test_a_bad_token_is_answered_with_401(broker, connect, token_of):
    peer = await connect()

    reply = await peer.put_token(token_of(broker))

    assert reply.properties["status-code"] == 401
    assert reply.properties["error-condition"] == symbol("amqp:unauthorized-access")
    assert reply.properties["status-description"]
    assert not peer.closed


def tampered_jwt(token: str) -> str:
    head, body, signature = token.split(".")
    return ".".join((head, body, signature[::-1]))


async def test_the_token_of_a_revoked_publisher_is_refused(broker, connect):
    publisher = await broker.open_publisher()
    token = broker.publisher_sas(publisher)
    broker.core.publishers._publishers.clear()
    peer = await connect()

    reply = await peer.put_token(token)

    assert reply.properties["status-code"] == 401


@pytest.mark.parametrize(
    ("properties", "body", "status"),
    [
        ({"operation": "delete-token"}, "x", 501),
        ({"operation": None}, "x", 501),
        ({"name": 5}, "x", 400),
        ({"name": "n" * 5000}, "x", 400),
        ({}, 42, 400),
        ({}, None, 400),
    ],
    ids=["operation", "no operation", "name type", "name length", "body type", "no body"],
)
async def test_requests_that_make_no_sense_are_answered(broker, connect, properties, body, status):
    peer = await connect()
    replies = peer.receiver("$cbs", credit=5)
    requests = peer.sender("$cbs")
    await peer.pump()

    message = request(body, "m")
    message.properties.update(properties)
    peer.send(requests, message)
    await peer.pump()

    [reply] = peer.messages(replies)
    assert reply.properties["status-code"] == status
    assert reply.correlation_id == "m"


async def test_a_token_for_an_entity_that_does_not_exist_is_accepted(broker, connect):
    peer = await connect()

    reply = await peer.put_token(broker.sas("variables/Subscriptions/never-was"))

    assert reply.properties["status-code"] == 200


async def test_one_connection_may_hold_many_tokens(broker, connect, feed_of):
    subscriptions = [await broker.subscribe() for _ in range(30)]
    peer = await connect()
    for number, subscription in enumerate(subscriptions):
        audience = f"{HOST}/{feed_of(subscription)}"
        reply = await peer.put_token(broker.sas(feed_of(subscription)), audience)
        assert reply.properties["status-code"] == 200, number
    links = [peer.receiver(feed_of(each), credit=1) for each in subscriptions]
    await broker.publish(1)
    await peer.pump()

    assert [len(peer.messages(link)) for link in links] == [1] * 30


async def test_requests_get_credit_again_and_again(broker, connect):
    peer = await connect()
    replies = peer.receiver("$cbs", credit=1000)
    requests = peer.sender("$cbs")
    await peer.pump()
    assert requests.credit == 100

    for number in range(250):
        peer.send(requests, request(broker.sas("x"), str(number)))
        if number % 40 == 39:
            await peer.pump()
    await peer.pump()

    assert len(peer.messages(replies)) == 250
    assert requests.credit > 0


async def test_requests_are_answered_in_their_order_without_blocking_others(
    broker, connect, receiver_on, monkeypatch
):
    """A token may wait for the keys of an identity provider; the feed goes on meanwhile."""

    gate = asyncio.Event()
    by_token = broker.access.by_token

    async def slow(token, audience):
        await gate.wait()
        return await by_token(token, audience)

    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    monkeypatch.setattr(broker.access, "by_token", slow)
    peer = await connect()
    replies = peer.receiver("$cbs", credit=10)
    requests = peer.sender("$cbs")
    await peer.pump()
    for number in range(3):
        peer.send(requests, request(broker.sas("x"), str(number)))
    await peer.pump()
    assert peer.messages(replies) == []

    await broker.publish(1)
    await receiving.pump()
    assert len(receiving.messages(feed)) == 1

    gate.set()
    await peer.pump()
    assert [reply.correlation_id for reply in peer.messages(replies)] == ["0", "1", "2"]


async def test_a_connection_may_go_while_its_token_is_checked(broker, connect, monkeypatch):

    gate = asyncio.Event()

    async def never(token, audience):
        await gate.wait()
        raise Unauthorized("too late")

    monkeypatch.setattr(broker.access, "by_token", never)
    peer = await connect()
    requests = peer.sender("$cbs")
    await peer.pump()
    peer.send(requests, request("x", "m"))
    await peer.pump()

    peer.cut()
    gate.set()
    await settle()

    assert len(broker.edge) == 0


async def test_replies_without_a_receiver_are_dropped(broker, connect):
    peer = await connect()
    requests = peer.sender("$cbs")
    await peer.pump()

    peer.send(requests, request(broker.sas("variables/Subscriptions/x"), "m"))
    await peer.pump()

    link = peer.receiver("variables/Subscriptions/x")
    await peer.pump()
    assert peer.detached[link.name].name == "amqp:not-found"


async def test_a_large_request_detaches_the_link(broker, connect):
    peer = await connect()
    requests = peer.sender("$cbs")
    await peer.pump()

    peer.send(requests, request("x" * 100_000, "m"))
    await peer.pump()

    assert peer.detached[requests.name].name == "amqp:link:message-size-exceeded"


async def test_noise_on_cbs_is_dropped(broker, connect):
    peer = await connect()
    requests = peer.sender("$cbs")
    await peer.pump()

    for raw in (b"x", b"", b"\x00\x53\x73\x40", b"\x00\x53\x77\xa1\xff"):
        peer.send(requests, raw)
    await peer.pump()

    assert not peer.closed
    assert (await peer.put_token(broker.sas("x"))).properties["status-code"] == 200


async def test_the_management_node_needs_the_right_to_its_entity(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    link = peer.receiver(feed_of(subscription) + "/$management")
    await peer.pump()
    assert peer.detached == {}
    assert link.remote_source.address == feed_of(subscription) + "/$management"

    stranger = await connect()
    link = stranger.receiver(feed_of(subscription) + "/$management")
    await stranger.pump()
    assert stranger.detached[link.name].name == "amqp:unauthorized-access"


@pytest.mark.parametrize("identity", [[], {"a": 1}, Described(ULong(1), "x"), [[[[]]]]])
async def test_a_request_whose_id_is_no_id_is_dropped_and_the_next_one_answered(
    broker, connect, identity
):
    peer = await connect()
    sender, replies = peer.sender("$cbs"), peer.receiver("$cbs", credit=5)
    await peer.pump()
    properties = encode(Described(ULong(0x74), {"operation": "put-token", "name": "a"}))
    body = encode(Described(ULong(0x77), "no token"))

    for message_id in (identity, "good"):
        head = encode(Described(ULong(0x73), [message_id, None, None, None, "here"]))
        peer.send(sender, head + properties + body)
    await peer.pump()

    [reply] = peer.messages(replies)
    assert reply.correlation_id == "good"
