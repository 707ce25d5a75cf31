"""The `$management` node of a feed, of its dead letters, and of a topic."""

import uuid

import pytest
from proton import (
    UNDESCRIBED,
    Array,
    Data,
    Delivery,
    Message,
    int32,
    symbol,
    timestamp,
    uint,
    ulong,
)

from hotpath.amqp.management_fields import lock_token
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.sections import PROPERTIES, iter_sections
from hotpath.wire.types import ULong, decode
from tests.support.clock import settle


class Manager:
    """A requester, as clients of the Service Bus family are: both termini name the node."""

    def __init__(self, peer, address: str) -> None:
        node = f"{address}/$management"
        self.peer = peer
        self.replies = peer.receiver(node, credit=50, name=f"replies of {node}")
        self.requests = peer.sender(node, name=f"requests to {node}")
        self._number = 0

    async def ask(self, operation: str, body: object = None) -> Message:
        self._number += 1
        request = Message(
            id=ulong(self._number),
            properties={"operation": "com.microsoft:" + operation},
            body={} if body is None else body,
        )
        self.peer.send(self.requests, request)
        await self.peer.pump()
        reply = self.peer.messages(self.replies)[-1]
        assert reply.correlation_id == self._number
        assert correlation_of(self.peer.raws(self.replies)[-1]) == ULong(self._number)
        assert isinstance(reply.properties["statusCode"], int32)
        return reply


def correlation_of(raw: bytes) -> ULong:
    """The correlation-id with its type, which Proton's messages lose."""
    [section] = [each for each in iter_sections(raw) if each.code == PROPERTIES]
    fields, _ = decode(raw, section.value)
    assert type(fields[5]) is ULong
    return fields[5]


def status(reply: Message) -> int:
    return reply.properties["statusCode"]


def condition(reply: Message) -> str:
    found = reply.properties["errorCondition"]
    assert isinstance(found, symbol)
    return str(found)


def longs(*numbers: int) -> Array:
    return Array(UNDESCRIBED, Data.LONG, *numbers)


def uuids(*tokens: uuid.UUID) -> Array:
    return Array(UNDESCRIBED, Data.UUID, *tokens)


def token_of(delivery_raw) -> uuid.UUID:
    return uuid.UUID(bytes_le=delivery_raw)


@pytest.fixture
def managing(broker, connect, feed_of):
    """A manager of a subscription's feed, and its peer."""

    async def managed(subscription, *, below: str = "") -> Manager:
        peer = await connect(broker.sas(feed_of(subscription)))
        manager = Manager(peer, feed_of(subscription) + below)
        await peer.pump()
        return manager

    return managed


def held_tokens(broker, subscription) -> list[uuid.UUID]:
    """Tokens of what is locked now."""
    unsettled = subscription.locks.unsettled
    return [lock_token(seq, holding.serial) for seq, holding in unsettled.items()]


async def test_peek_shows_in_order_what_is_not_settled_and_takes_nothing(
    broker, managing, receiver_on
):
    subscription = await broker.subscribe()
    await broker.publish(1, 2, 3)
    _, _link = await receiver_on(subscription, credit=1)
    manager = await managing(subscription)

    reply = await manager.ask(
        "peek-message", {"from-sequence-number": 0, "message-count": int32(10)}
    )

    messages = [decoded(each["message"]) for each in reply.body["messages"]]
    assert status(reply) == 200
    assert [m.annotations["x-opt-sequence-number"] for m in messages] == [1, 2, 3]
    assert all("x-opt-locked-until" not in m.annotations for m in messages)
    assert subscription.locks.locked == 1
    assert subscription.ready_count == 2


def decoded(raw) -> Message:
    message = Message()
    message.decode(bytes(raw))
    return message


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [(2, 10, [2, 3]), (1, 2, [1, 2]), (3, 1, [3])],
    ids=["from the second", "two of them", "the last"],
)
async def test_peek_begins_and_ends_where_it_is_told(broker, managing, start, count, expected):
    subscription = await broker.subscribe()
    await broker.publish(1, 2, 3)
    manager = await managing(subscription)

    body = {"from-sequence-number": start, "message-count": int32(count)}
    reply = await manager.ask("peek-message", body)

    found = [decoded(each["message"]) for each in reply.body["messages"]]
    assert [m.annotations["x-opt-sequence-number"] for m in found] == expected


async def test_peek_finds_only_what_the_filter_lets_through(broker, managing):
    subscription = await broker.subscribe("value > 1")
    await broker.publish(1, 2, 1, 3)
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(10)}
    reply = await manager.ask("peek-message", body)

    found = [decoded(each["message"]) for each in reply.body["messages"]]
    assert [m.annotations["x-opt-sequence-number"] for m in found] == [2, 4]


async def test_peek_reads_on_in_the_log_for_a_feed_that_is_behind(broker, managing):
    await broker.publish(*range(10))
    subscription = await broker.subscribe("value > 6", start_from_ms=0)
    assert subscription.behind_at is not None
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(2)}
    reply = await manager.ask("peek-message", body)

    found = [decoded(each["message"]) for each in reply.body["messages"]]
    assert [m.annotations["x-opt-sequence-number"] for m in found] == [8, 9]
    assert subscription.behind_at is not None


async def test_peek_without_a_message_is_answered_with_no_content(broker, managing):
    subscription = await broker.subscribe()
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(1)}
    reply = await manager.ask("peek-message", body)

    assert status(reply) == 204
    assert "errorCondition" not in reply.properties


async def test_peek_keeps_a_reply_within_the_largest_message(broker, managing):
    subscription = await broker.subscribe()
    large = "x" * 600_000
    await broker.publish(1, 2)
    payload = encode_json(large.encode(), {"value": 3})
    key = TopicKey(TenantId("acme"), Topic.VARIABLES)
    await broker.core.publishing.publish(key, [payload, payload], via="test")
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(10)}
    reply = await manager.ask("peek-message", body)

    assert len(reply.body["messages"]) == 3


async def test_a_peek_without_bodies_leaves_them_out(broker, managing):
    subscription = await broker.subscribe()
    await broker.publish(1)
    manager = await managing(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(1), "omit-message-body": True}
    reply = await manager.ask("peek-message", body)

    message = decoded(reply.body["messages"][0]["message"])
    assert bytes(message.body) == b""
    assert message.properties == {"value": 1}


async def test_dead_letters_are_peeked_with_their_reason(broker, managing, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1)
    peer, link = await receiver_on(subscription)
    peer.settle(peer.deliveries(link)[0], Delivery.REJECTED)
    await peer.pump()
    manager = await managing(subscription, below="/$DeadLetterQueue")

    body = {"from-sequence-number": 0, "message-count": int32(5)}
    reply = await manager.ask("peek-message", body)

    message = decoded(reply.body["messages"][0]["message"])
    assert "DeadLetterReason" in message.properties
    assert message.annotations["x-opt-deadletter-source"].lower().startswith("variables/")


async def test_a_lock_is_renewed(broker, managing, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1)
    await receiver_on(subscription)
    manager = await managing(subscription)
    [token] = held_tokens(broker, subscription)
    await broker.manual.advance(40_000)

    reply = await manager.ask("renew-lock", {"lock-tokens": uuids(token)})

    [end] = reply.body["expirations"].elements
    assert status(reply) == 200
    assert end == broker.clock.now_ms() + 60_000
    await broker.manual.advance(40_000)
    assert subscription.locks.locked == 1


@pytest.mark.parametrize("operation", ["renew-lock", "update-disposition"])
async def test_a_lost_lock_is_gone(broker, managing, receiver_on, operation):
    subscription = await broker.subscribe()
    await broker.publish(1)
    _peer, _link = await receiver_on(subscription, credit=1)
    manager = await managing(subscription)
    [token] = held_tokens(broker, subscription)
    await broker.manual.advance(61_000)

    body = {"lock-tokens": uuids(token), "disposition-status": "completed"}
    reply = await manager.ask(operation, body)

    assert status(reply) == 410
    assert condition(reply) == "com.microsoft:message-lock-lost"
    assert len(subscription.locks) == 1


@pytest.mark.parametrize(
    ("disposition", "left", "dead", "deferred"),
    [("completed", 0, 0, 0), ("abandoned", 1, 0, 0), ("defered", 1, 0, 1), ("suspended", 0, 1, 0)],
)
async def test_messages_are_settled_by_their_tokens(
    broker, managing, receiver_on, disposition, left, dead, deferred
):
    subscription = await broker.subscribe()
    await broker.publish(1)
    await receiver_on(subscription, credit=1)
    manager = await managing(subscription)
    [token] = held_tokens(broker, subscription)

    body = {
        "lock-tokens": uuids(token),
        "disposition-status": disposition,
        "deadletter-reason": "r",
    }
    reply = await manager.ask("update-disposition", body)

    assert status(reply) == 200
    assert len(subscription.locks) == left
    assert broker.core.settling.dead_count(subscription) == dead
    assert len(subscription.locks.deferred) == deferred


async def defer_all(broker, receiver_on, subscription, count: int):
    peer, link = await receiver_on(subscription)
    for delivery in peer.deliveries(link)[:count]:
        delivery.local.undeliverable = True
        delivery.local.failed = True
        peer.settle(delivery, Delivery.MODIFIED)
    await peer.pump()
    return peer


async def test_deferred_messages_come_by_their_numbers_under_a_lock(broker, managing, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1, 2)
    await defer_all(broker, receiver_on, subscription, 2)
    manager = await managing(subscription)

    body = {"sequence-numbers": longs(2, 1), "receiver-settle-mode": uint(1)}
    reply = await manager.ask("receive-by-sequence-number", body)

    messages = [decoded(each["message"]) for each in reply.body["messages"]]
    tokens = [each["lock-token"] for each in reply.body["messages"]]
    assert [m.annotations["x-opt-sequence-number"] for m in messages] == [2, 1]
    assert [m.instructions["x-opt-lock-token"] for m in messages] == tokens
    assert all(m.annotations["x-opt-locked-until"] for m in messages)
    done = {"lock-tokens": uuids(*tokens), "disposition-status": "completed"}
    assert status(await manager.ask("update-disposition", done)) == 200
    assert len(subscription.locks) == 0


async def test_deferred_messages_are_settled_by_the_taking_in_mode_first(
    broker, managing, receiver_on
):
    subscription = await broker.subscribe()
    await broker.publish(1)
    await defer_all(broker, receiver_on, subscription, 1)
    manager = await managing(subscription)

    body = {"sequence-numbers": longs(1), "receiver-settle-mode": uint(0)}
    reply = await manager.ask("receive-by-sequence-number", body)

    assert len(reply.body["messages"]) == 1
    assert len(subscription.locks) == 0


@pytest.mark.parametrize("numbers", [(1, 2), (7,)], ids=["one is not deferred", "unknown"])
async def test_what_is_not_deferred_is_not_found_and_nothing_is_locked(
    broker, managing, receiver_on, numbers
):
    subscription = await broker.subscribe()
    await broker.publish(1, 2)
    await defer_all(broker, receiver_on, subscription, 1)
    manager = await managing(subscription)

    body = {"sequence-numbers": longs(*numbers), "receiver-settle-mode": uint(1)}
    reply = await manager.ask("receive-by-sequence-number", body)

    assert status(reply) == 404
    assert condition(reply) == "com.microsoft:message-not-found"
    assert subscription.locks.deferred == {1}


async def test_locks_on_deferred_messages_end_with_the_connection(broker, managing, receiver_on):
    subscription = await broker.subscribe()
    await broker.publish(1)
    await defer_all(broker, receiver_on, subscription, 1)
    manager = await managing(subscription)
    body = {"sequence-numbers": longs(1), "receiver-settle-mode": uint(1)}
    await manager.ask("receive-by-sequence-number", body)
    assert subscription.locks.locked >= 1

    manager.peer.cut()
    await settle()
    other = await managing(subscription)
    reply = await other.ask("receive-by-sequence-number", body)

    assert status(reply) == 200
    message = decoded(reply.body["messages"][0]["message"])
    assert message.delivery_count == 0


async def test_the_filter_is_shown_as_the_one_rule(broker, managing):
    subscription = await broker.subscribe("value > 1")
    manager = await managing(subscription)

    reply = await manager.ask("enumerate-rules", {"top": int32(100), "skip": int32(0)})
    rule = reply.body["rules"][0]["rule-description"]

    assert rule.descriptor == 0x13700000004
    assert rule.value[0].descriptor == 0x1370000006
    assert rule.value[0].value[0] == "value > 1"
    assert rule.value[2] == "$Default"
    again = await manager.ask("enumerate-rules", {"top": int32(100), "skip": int32(1)})
    assert status(again) == 204


@pytest.mark.parametrize(
    "operation",
    ["add-rule", "remove-rule", "renew-session-lock", "get-session-state", "set-session-state",
     "get-message-sessions", "schedule-message", "nonsense"],
)  # fmt: skip
async def test_what_a_feed_does_not_do_is_refused(broker, managing, operation):
    subscription = await broker.subscribe()
    manager = await managing(subscription)

    reply = await manager.ask(operation, {"session-id": "s"})

    assert status(reply) == 501
    assert condition(reply) == "amqp:not-implemented"
    assert reply.properties["statusDescription"]


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("renew-lock", {"lock-tokens": longs(1)}),
        ("renew-lock", {"lock-tokens": Array(UNDESCRIBED, Data.NULL, None)}),
        ("renew-lock", {}),
        ("peek-message", {"from-sequence-number": -1, "message-count": int32(1)}),
        ("peek-message", {"from-sequence-number": 0}),
        ("peek-message", "text"),
        ("receive-by-sequence-number", {"sequence-numbers": longs(1)}),
        ("update-disposition", {"disposition-status": "eaten", "lock-tokens": uuids(uuid.uuid4())}),
        ("update-disposition", {"disposition-status": "completed", "lock-tokens": []}),
    ],
)
async def test_a_wrong_request_is_refused_and_changes_nothing(
    broker, managing, receiver_on, operation, body
):
    subscription = await broker.subscribe()
    await broker.publish(1)
    await receiver_on(subscription, credit=1)
    manager = await managing(subscription)

    reply = await manager.ask(operation, body)

    assert status(reply) == 400
    assert condition(reply) == "amqp:invalid-field"
    assert subscription.locks.locked == 1


async def test_a_deleted_subscription_is_not_found(broker, managing):
    subscription = await broker.subscribe()
    manager = await managing(subscription)
    await broker.delete(subscription)

    body = {"from-sequence-number": 0, "message-count": int32(1)}
    assert status(await manager.ask("peek-message", body)) == 404


# Topics


@pytest.fixture
def scheduling(broker, connect):
    """A manager of a topic, with a publisher's token."""

    async def scheduled() -> Manager:
        peer = await connect(broker.publisher_sas(await broker.open_publisher()))
        manager = Manager(peer, "variables")
        await peer.pump()
        assert peer.detached == {}
        return manager

    return scheduled


def due_message(due_ms: int, value: int = 1) -> bytes:
    notes = {symbol("x-opt-scheduled-enqueue-time"): timestamp(due_ms)}
    return Message(
        body=b"{}", inferred=True, properties={"value": value}, annotations=notes
    ).encode()


async def test_scheduled_messages_come_when_they_are_due(broker, scheduling, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    manager = await scheduling()
    due_ms = broker.clock.now_ms() + 60_000

    body = {"messages": [{"message-id": "1", "message": due_message(due_ms)}]}
    reply = await manager.ask("schedule-message", body)
    assert status(reply) == 200
    await broker.manual.advance(59_000)
    await receiving.pump()
    assert receiving.messages(feed) == []
    await broker.manual.advance(2_000)
    await receiving.pump()

    [message] = receiving.messages(feed)
    assert message.annotations["x-opt-scheduled-enqueue-time"] == due_ms
    assert message.annotations["x-opt-enqueued-time"] >= due_ms


async def test_a_cancelled_message_does_not_come(broker, scheduling, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    manager = await scheduling()
    due_ms = broker.clock.now_ms() + 60_000
    messages = [{"message": due_message(due_ms, value)} for value in (1, 2)]
    reply = await manager.ask("schedule-message", {"messages": messages})
    numbers = list(reply.body["sequence-numbers"].elements)

    cancel = {"sequence-numbers": longs(numbers[0])}
    assert status(await manager.ask("cancel-scheduled-message", cancel)) == 200
    again = await manager.ask("cancel-scheduled-message", cancel)
    await broker.manual.advance(61_000)
    await receiving.pump()

    assert (status(again), condition(again)) == (404, "com.microsoft:message-not-found")
    assert [m.properties["value"] for m in receiving.messages(feed)] == [2]


@pytest.mark.parametrize(
    "messages",
    [[], [{"message": "text"}], [{}], [{"message": Message(body=b"{}", inferred=True).encode()}],
     [{"message": b"noise"}]],
    ids=["none", "text", "empty", "no time", "noise"],
)  # fmt: skip
async def test_what_cannot_be_scheduled_is_refused_and_nothing_is_kept(
    broker, scheduling, messages
):
    manager = await scheduling()
    good = {"message": due_message(broker.clock.now_ms() + 1000)}

    reply = await manager.ask(
        "schedule-message", {"messages": [good, *messages] if messages else []}
    )

    assert status(reply) == 400
    assert broker.core.scheduling._waiting == {}


async def test_a_listener_does_not_manage_a_topic(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)))

    link = peer.receiver("variables/$management")
    await peer.pump()

    assert peer.detached[link.name].name == "amqp:unauthorized-access"


async def test_management_links_end_with_their_token(broker, connect, feed_of):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription), seconds=30))
    manager = Manager(peer, feed_of(subscription))
    await peer.pump()

    await broker.manual.advance(31_000)
    await peer.pump()

    assert peer.detached[manager.requests.name].name == "amqp:unauthorized-access"
    assert peer.detached[manager.replies.name].name == "amqp:unauthorized-access"
    assert not peer.closed
