"""What single clients look at on the wire, written by hand where Proton's client never would."""

import uuid

import pytest
from proton import UNDESCRIBED, Array, Data, Message, int32, ulong

from hotpath.amqp import capi, conditions
from hotpath.amqp.conditions import DESCRIPTION_MAX, Condition
from hotpath.amqp.management import OVERHEAD_BYTES
from hotpath.amqp.management_feed import PEEK_MAX
from hotpath.amqp.management_fields import ITEMS_MAX
from hotpath.amqp.node import CREDIT, UNSENT_MAX
from hotpath.config import Settings
from hotpath.wire.types import Array as WireArray
from hotpath.wire.types import Described, Symbol, UInt, ULong, encode
from tests.amqp.test_management import Manager, longs, status, uuids
from tests.support.wire import frame, performative, read_performative, split_frames

SOURCE, TARGET = 0x28, 0x29


def terminus(kind: int, address: str, *capabilities: str) -> Described:
    fields: list[object] = [address]
    if capabilities:
        names = WireArray(0xA3, tuple(Symbol(name) for name in capabilities))
        fields += [None] * (9 if kind == SOURCE else 5) + [names]
    return Described(ULong(kind), fields)


def sent(peer, code: int) -> list[list[object]]:
    """The fields of performatives of one kind that the edge has sent."""
    values = (read_performative(raw) for raw in split_frames(peer.sink.sent))
    return [value.value for value in values if value is not None and value.descriptor == code]


async def attach(peer, address: str, *rest: object, sending: bool = False) -> list[object]:
    """Attach by hand on the peer's session; the fields of the answer."""
    source = terminus(SOURCE, "here" if sending else address)
    target = terminus(TARGET, address if sending else "here")
    fields = ("by hand", UInt(40), not sending, None, None, source, target, *rest)
    peer.feed(frame(performative(0x12, *fields)))
    await peer.pump()
    [answer] = [each for each in sent(peer, 0x12) if each[0] == "by hand"]
    return answer


# Attach


async def test_an_attach_without_modes_is_answered_with_the_defaults(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    answer = await attach(peer, feed_of(subscription))

    # §2.8.2, §2.8.3: mixed and first; null stands for them.
    assert (answer[3] or 2, answer[4] or 0) in {(2, 0), (UInt(2), UInt(0))}


async def test_the_answer_of_a_sending_link_has_an_initial_delivery_count(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    answer = await attach(peer, feed_of(subscription))

    assert answer[9] == 0


async def test_a_publisher_is_told_the_largest_message(broker, connect):
    peer = await connect(broker.publisher_sas(await broker.open_publisher()))

    answer = await attach(peer, "variables", None, None, UInt(0), sending=True)

    assert answer[10] == broker.settings.max_message_bytes > 0


async def test_unknown_capabilities_do_no_harm(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))
    names = WireArray(0xA3, (Symbol("SHARED-SUBS"), Symbol("com.example:odd")))
    source = terminus(SOURCE, feed_of(subscription), "queue", "com.example:odd")
    fields = ("by hand", UInt(40), True, None, None, source, terminus(TARGET, "x", "topic"))

    peer.feed(frame(performative(0x12, *fields, None, None, None, None, names, names)))
    await peer.pump()

    assert sent(peer, 0x16) == []
    assert subscription.receivers == 1


async def test_there_are_no_dead_letters_of_a_transfer(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    await attach(peer, feed_of(subscription) + "/$Transfer/$DeadLetterQueue")

    [(_, closed, error)] = sent(peer, 0x16)
    assert closed
    assert error.value[0] == "amqp:not-found"


@pytest.mark.parametrize(
    ("address", "condition"),
    [
        ("events/Subscriptions/x", "amqp:unauthorized-access"),
        ("variables/Subscriptions/{id}/nothing", "amqp:not-found"),
        ("variables/Subscriptions/{id}/$DeadLetterQueue/x", "amqp:not-found"),
    ],
    ids=["unauthorized", "below", "below the dead letters"],
)
async def test_every_refusal_has_all_three_fields_of_an_error(
    broker, connect, feed_of, address, condition
):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    await attach(peer, address.format(id=subscription.spec.id))

    [(_, closed, error)] = sent(peer, 0x16)
    name, description, info = error.value
    assert (closed, name) == (True, condition)
    assert description
    assert isinstance(info, dict)


def test_a_description_is_cut_and_has_no_zero_byte():
    connection = capi.connection_new()
    where = capi.connection_condition(connection)

    conditions.write(where, Condition("amqp:internal-error", "a\0" + "d" * 5_000))

    assert capi.condition_description(where) == "a " + "d" * (DESCRIPTION_MAX - 2)
    capi.connection_release(connection)
    capi.decref(connection)


def test_a_lock_lasts_a_minute_and_ten_deliveries_are_the_most():
    settings = Settings()

    assert (settings.lock_seconds, settings.max_deliveries) == (60, 10)
    assert (settings.max_message_bytes, settings.max_array_elements) == (1_048_576, 10_000)


# $cbs as clients of the Service Bus family write it that cannot be run here


@pytest.mark.parametrize(
    ("audience", "identity", "kind"),
    [
        ("amqps://feeds.example.com/{path}", "text", "servicebus.windows.net:sastoken"),
        ("amqps://feeds.example.com:5671/{escaped}", "text", "servicebus.windows.net:sastoken"),
        ("amqp://feeds.example.com/{path}", ULong(7), "servicebus.windows.net:sastoken"),
        ("amqp://feeds.example.com/{path}", ULong(7), "jwt"),
    ],
    ids=["net", "net with port", "java", "java with a credential"],
)
async def test_put_token_of_other_sdks(broker, connect, feed_of, audience, identity, kind):
    subscription = await broker.subscribe()
    path = feed_of(subscription)
    token = broker.sas(path)
    peer = await connect()
    replies = peer.receiver("$cbs", credit=5, name="cbs:receiver")
    requests = peer.sender("$cbs", name="cbs:sender")
    await peer.pump()
    name = audience.format(path=path, escaped=path.replace("/", "%2F"))

    request = Message(
        id=ulong(identity) if isinstance(identity, int) else identity,
        reply_to="cbs:receiver",
        properties={"operation": "put-token", "type": kind, "name": name},
        body=token,
    )
    peer.send(requests, request)
    await peer.pump()

    [reply] = peer.messages(replies)
    assert reply.properties["status-code"] == 200
    # .NET writes a slash in front of the entity.
    link = peer.receiver("/" + path, credit=1)
    await broker.publish(1)
    await peer.pump()
    assert len(peer.messages(link)) == 1


# Bounds of the nodes that answer


@pytest.fixture
def managing(broker, connect, feed_of):
    async def managed(subscription) -> Manager:
        peer = await connect(broker.sas(feed_of(subscription)))
        manager = Manager(peer, feed_of(subscription))
        await peer.pump()
        return manager

    return managed


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("renew-lock", {"lock-tokens": uuids(*[uuid.UUID(int=0)] * (ITEMS_MAX + 1))}),
        (
            "receive-by-sequence-number",
            {
                "sequence-numbers": longs(*range(ITEMS_MAX + 1)),
                "receiver-settle-mode": int32(1),
            },
        ),
    ],
    ids=["tokens", "numbers"],
)
async def test_a_request_names_so_many_things_at_most(broker, managing, operation, body):
    manager = await managing(await broker.subscribe())

    reply = await manager.ask(operation, body)

    assert status(reply) == 400
    assert str(ITEMS_MAX) in reply.properties["statusDescription"]


async def test_a_peek_shows_so_many_messages_at_most(broker, managing):
    subscription = await broker.subscribe()
    await broker.publish(*range(PEEK_MAX + 1))
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(PEEK_MAX + 1)}
    reply = await manager.ask("peek-message", body)

    assert len(reply.body["messages"]) == PEEK_MAX


async def test_a_request_over_the_limit_detaches_its_link(broker, managing):
    manager = await managing(await broker.subscribe())
    limit = broker.settings.max_message_bytes + OVERHEAD_BYTES

    manager.peer.send(manager.requests, Message(body={"x": b"x" * limit}))
    await manager.peer.pump(100)

    error = manager.peer.detached[manager.requests.name]
    assert error.name == "amqp:link:message-size-exceeded"
    assert error.info["limit-bytes"] == limit


async def test_more_requests_than_credit_detach_their_link(broker, managing):
    """Proton's client keeps to its credit, so the frames are written by hand."""
    manager = await managing(await broker.subscribe())
    peer = manager.peer
    await attach(peer, manager.requests.target.address, None, None, UInt(0), sending=True)
    body = Message(id="x", body={}).encode()

    transfers = [
        frame(performative(0x14, UInt(40), UInt(n), str(n).encode(), UInt(0), True) + body)
        for n in range(CREDIT + 1)
    ]
    peer.feed(b"".join(transfers))
    await peer.pump()

    errors = [error.value[0] for _, _, error in sent(peer, 0x16) if error is not None]
    assert errors == ["amqp:link:transfer-limit-exceeded"]


async def test_replies_that_nobody_has_credit_for_do_not_pile_up(broker, connect):
    peer = await connect()
    replies = peer.receiver("$cbs", credit=0, name="replies")
    requests = peer.sender("$cbs", name="requests")
    await peer.pump()

    total = UNSENT_MAX + 30
    for number in range(total):
        peer.send(requests, Message(id=str(number), properties={"operation": "x"}, body=""))
        await peer.pump(3)
    replies.flow(total)
    await peer.pump()

    assert len(peer.messages(replies)) == UNSENT_MAX


# Batches


async def test_a_batch_of_one_keeps_what_its_message_is(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)
    sending, _ = await publisher_to()
    inner = Message(id="m1", subject="s", body=b"{}", inferred=True, properties={"value": 1})
    # The envelope repeats what is in its first message.
    envelope = [
        Described(ULong(0x72), {Symbol("x-opt-partition-key"): "p"}),
        Described(ULong(0x73), ["m1", None, None, None, None, None, None, None, None, None, "g"]),
        Described(ULong(0x75), inner.encode()),
    ]
    transfer = performative(0x14, UInt(40), UInt(0), b"tag", UInt(0x80013700), False)
    await attach(sending, "variables", None, None, UInt(0), sending=True)

    sending.feed(frame(transfer + b"".join(map(encode, envelope))))
    await sending.pump()
    await peer.pump()

    [message] = peer.messages(link)
    assert (message.id, message.subject, bytes(message.body)) == ("m1", "s", b"{}")
    assert message.properties == {"value": 1}


async def test_arrays_of_another_type_are_no_lock_tokens(broker, managing):
    manager = await managing(await broker.subscribe())
    text = Array(UNDESCRIBED, Data.STRING, str(uuid.uuid4()))

    reply = await manager.ask("renew-lock", {"lock-tokens": text})

    assert status(reply) == 400
