"""Publishing links: acceptance after the commit, credit, arrays, what is no message."""

import json

import pytest
from proton import Delivery, Message

from hotpath.model.names import Topic
from hotpath.ports import LogFailure
from hotpath.wire.types import Described, UInt, ULong, encode
from tests.support.clock import settle
from tests.support.wire import frame, performative, read_performative, split_frames


def outcomes(peer) -> list[tuple[int, bool]]:
    return [(int(state), settled) for _, state, settled in peer.updates]


#: The message-format of a batch.
BATCH = 0x80013700

ACCEPTED = (int(Delivery.ACCEPTED), True)


def json_message(value: object, **properties) -> Message:
    return Message(
        body=json.dumps(value).encode(),
        content_type="application/json",
        properties=properties or None,
        inferred=True,
    )


async def test_a_message_is_accepted_and_settled_once_it_is_durable(broker, publisher_to):
    peer, link = await publisher_to()
    broker.log.pause()

    peer.send(link, json_message({"value": 1}))
    await peer.pump()
    assert outcomes(peer) == []

    broker.log.resume()
    await peer.pump()
    assert outcomes(peer) == [ACCEPTED]


async def test_the_deliveries_of_one_read_are_one_commit_and_one_disposition(broker, publisher_to):
    peer, link = await publisher_to()
    before = broker.core.metrics.commits.collect()[0].samples[0].value
    sent_before = len(peer.sink.sent)

    for value in range(50):
        peer.send(link, json_message({"value": value}))
    await peer.pump()

    assert outcomes(peer) == [ACCEPTED] * 50
    assert broker.core.metrics.commits.collect()[0].samples[0].value - before <= 2
    assert len(peer.sink.sent) - sent_before < 200


async def test_settled_transfers_are_stored_without_an_answer(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    peer.send(link, json_message({"value": 1}), settled=True)
    await peer.pump()
    await receiving.pump()

    assert outcomes(peer) == []
    assert len(receiving.messages(feed)) == 1


async def test_credit_is_granted_and_topped_up(broker, publisher_to):
    peer, link = await publisher_to()
    assert link.credit == broker.settings.publish_credit

    for value in range(600):
        peer.send(link, json_message({"value": value}))
    await peer.pump()

    assert link.credit == broker.settings.publish_credit
    assert outcomes(peer) == [ACCEPTED] * 600


async def test_no_credit_is_given_while_the_log_does_not_keep_up(tmp_path, broker, publisher_to):
    peer, link = await publisher_to()
    broker.core.publishing._pending_bytes_max = 1
    broker.log.pause()
    peer.send(link, json_message({"value": 0}))
    await peer.pump()

    for value in range(900):
        peer.send(link, json_message({"value": value}))
    await peer.pump()
    assert link.credit < 500

    broker.log.resume()
    await peer.pump()
    assert link.credit == broker.settings.publish_credit
    assert outcomes(peer) == [ACCEPTED] * 901


async def test_a_json_array_becomes_one_message_an_element(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    peer.send(link, json_message([{"value": 1}, {"value": 2}], site="north"))
    await peer.pump()
    await receiving.pump()

    messages = receiving.messages(feed)
    assert [json.loads(bytes(m.body)) for m in messages] == [{"value": 1}, {"value": 2}]
    assert [m.properties for m in messages] == [{"site": "north"}] * 2
    assert [m.annotations["x-opt-sequence-number"] for m in messages] == [1, 2]
    assert outcomes(peer) == [ACCEPTED]


async def test_an_empty_array_is_accepted_and_stores_nothing(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    peer.send(link, json_message([]))
    await peer.pump()
    await receiving.pump()

    assert outcomes(peer) == [ACCEPTED]
    assert receiving.messages(feed) == []


@pytest.mark.parametrize(
    "value", [[{"value": 1}, 2], [None], [[{"value": 1}]]], ids=["number", "null", "nested"]
)
async def test_an_element_that_is_no_object_rejects_all_and_stores_nothing(
    broker, publisher_to, receiver_on, value
):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    delivery = peer.send(link, json_message(value))
    await peer.pump()
    await receiving.pump()

    assert outcomes(peer) == [(int(Delivery.REJECTED), True)]
    assert delivery.remote.condition.name == "amqp:decode-error"
    assert delivery.remote.condition.description
    assert delivery.remote.condition.info is not None
    assert receiving.messages(feed) == []


async def test_too_many_elements_are_rejected(broker, publisher_to):
    peer, link = await publisher_to()
    limit = broker.settings.max_array_elements

    peer.send(link, json_message([{"value": 1}] * limit))
    peer.send(link, json_message([{"value": 1}] * (limit + 1)))
    await peer.pump(80)

    assert outcomes(peer) == [(int(Delivery.REJECTED), True), ACCEPTED] or outcomes(peer) == [
        ACCEPTED,
        (int(Delivery.REJECTED), True),
    ]


@pytest.mark.parametrize(
    "raw",
    [b"x", b"\x00\x53\x75", b"\x00\x53\x74\xc1\x05\x02\xa1\x01a", b"\x00\x53\x99\x40"],
    ids=["noise", "cut", "short map", "no section"],
)
async def test_what_is_no_message_is_rejected_by_itself(broker, publisher_to, raw):
    peer, link = await publisher_to()

    good = peer.send(link, json_message({"value": 1}))
    bad = peer.send(link, raw)
    also_good = peer.send(link, json_message({"value": 2}))
    await peer.pump()

    assert good.remote_state == also_good.remote_state == Delivery.ACCEPTED
    assert bad.remote_state == Delivery.REJECTED
    assert bad.remote.condition.name == "amqp:decode-error"
    assert peer.detached == {}


async def test_a_message_of_several_frames_is_put_together(broker, connect, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    token = broker.publisher_sas(await broker.open_publisher())
    peer = await connect(token)
    link = peer.sender("variables")
    await peer.pump()
    body = json.dumps({"value": 1, "text": "y" * 300_000}).encode()

    peer.send(link, Message(body=body, inferred=True))
    await peer.pump()
    await receiving.pump()

    assert outcomes(peer) == [ACCEPTED]
    assert bytes(receiving.messages(feed)[0].body) == body


async def test_a_message_over_the_limit_detaches_the_link(broker, publisher_to):
    peer, link = await publisher_to()
    assert link.remote_max_message_size == broker.settings.max_message_bytes

    peer.send(link, Message(body=b"z" * (broker.settings.max_message_bytes + 1), inferred=True))
    await peer.pump()

    condition = peer.detached[link.name]
    assert condition.name == "amqp:link:message-size-exceeded"
    assert condition.description
    assert condition.info is not None
    assert not peer.closed


async def test_what_came_before_an_oversize_message_is_stored(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    peer.send(link, json_message({"value": 1}))
    peer.send(link, Message(body=b"z" * (broker.settings.max_message_bytes + 1), inferred=True))
    await peer.pump()
    await receiving.pump()

    assert len(receiving.messages(feed)) == 1


async def test_an_aborted_delivery_is_dropped(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()

    delivery = link.delivery(b"aborted")
    link.send(Message(body=b"half", properties={"value": 1}, inferred=True).encode()[:20])
    await peer.pump()
    delivery.abort()
    await peer.pump()
    peer.send(link, json_message({"value": 2}))
    await peer.pump()
    await receiving.pump()

    assert [json.loads(bytes(m.body)) for m in receiving.messages(feed)] == [{"value": 2}]
    assert peer.detached == {}


@pytest.mark.parametrize(
    ("failure", "condition"),
    [
        (LogFailure("no space", full=True), "amqp:resource-limit-exceeded"),
        (LogFailure("broken"), "com.microsoft:server-busy"),
    ],
    ids=["full", "broken"],
)
async def test_what_the_log_cannot_take_is_rejected(broker, publisher_to, failure, condition):
    peer, link = await publisher_to()
    broker.log.fail_next(failure)

    refused = peer.send(link, json_message({"value": 1}))
    await peer.pump()
    assert refused.remote_state == Delivery.REJECTED
    assert refused.remote.condition.name == condition

    await broker.manual.advance(1000)
    accepted = peer.send(link, json_message({"value": 2}))
    await peer.pump()
    assert accepted.remote_state == Delivery.ACCEPTED


async def test_a_detach_is_answered_after_the_outcome_of_what_was_sent(broker, publisher_to):
    peer, link = await publisher_to()
    broker.log.pause()
    peer.send(link, json_message({"value": 1}))
    await peer.pump()

    link.close()
    await peer.pump()
    assert peer.detached == {}

    broker.log.resume()
    await peer.pump()
    assert outcomes(peer) == [ACCEPTED]
    assert link.name in peer.detached


async def test_a_publisher_that_goes_away_before_the_commit_harms_nobody(
    broker, publisher_to, receiver_on
):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, link = await publisher_to()
    broker.log.pause()
    peer.send(link, json_message({"value": 1}))
    await peer.pump()

    peer.cut()
    broker.log.resume()
    await settle()
    await receiving.pump()

    assert len(receiving.messages(feed)) == 1


async def test_more_transfers_than_credit_detach_the_link(broker, publisher_to):
    """Proton's client keeps to its credit, so the frames are written by hand."""
    peer, link = await publisher_to()
    payload = Message(body=b"{}", inferred=True).encode()
    read = b"".join(
        frame(performative(0x14, UInt(0), UInt(n), str(n).encode(), UInt(0), True) + payload)
        for n in range(broker.settings.publish_credit + 1)
    )
    peer.feed(read)
    await peer.pump()

    assert peer.detached[link.name].name == "amqp:link:transfer-limit-exceeded"


async def test_each_topic_takes_messages(broker, connect, feed_of):
    for topic in Topic:
        token = broker.publisher_sas(await broker.open_publisher(topic))
        peer = await connect(token)
        link = peer.sender(topic.value)
        peer.send(link, json_message({"id": "p", "value": 1}))
        await peer.pump()
        assert outcomes(peer) == [ACCEPTED], topic


def batch_transfer(number: int, tag: bytes, messages: list[Message], message_format: int) -> bytes:
    """A transfer frame whose body holds whole messages, as data sections."""
    sections = [encode(Described(ULong(0x75), message.encode())) for message in messages]
    fields = (UInt(0), UInt(number), tag, UInt(message_format), False)
    return frame(performative(0x14, *fields) + b"".join(sections))


async def test_a_batch_becomes_its_messages_and_is_settled_once(broker, publisher_to, receiver_on):
    subscription = await broker.subscribe()
    receiving, feed = await receiver_on(subscription)
    peer, _ = await publisher_to()
    messages = [json_message({"value": value}, site="north") for value in (1, 2, 3)]

    peer.feed(batch_transfer(0, b"\x00\x00\x00\x01", messages, BATCH))
    await settle()
    await receiving.pump()

    received = receiving.messages(feed)
    assert [json.loads(bytes(m.body))["value"] for m in received] == [1, 2, 3]
    assert [m.annotations["x-opt-sequence-number"] for m in received] == [1, 2, 3]
    dispositions = [
        value.value
        for raw in split_frames(peer.sink.data)
        if (value := read_performative(raw)) is not None and value.descriptor == 0x15
    ]
    assert len(dispositions) == 1
    assert dispositions[0][4].descriptor == Delivery.ACCEPTED


async def test_whole_messages_as_the_body_of_a_plain_message_stay_together(broker, publisher_to):
    """Only the message-format makes a batch, also right after one."""
    subscription = await broker.subscribe()
    peer, _ = await publisher_to()
    inner = [json_message({"value": 1}), json_message({"value": 2})]

    peer.feed(batch_transfer(0, b"1", inner, BATCH) + batch_transfer(1, b"2", inner, 0))
    await settle()

    assert broker.core.topics.get(subscription.spec.key).routed_to == 1 + 2 + 1


async def test_a_text_under_the_tag_of_a_batch_stays_a_message(broker, publisher_to):
    """Links choose their tags by themselves, so two may use the same one at a time."""
    subscription = await broker.subscribe()
    peer, _ = await publisher_to()
    text = frame(
        performative(0x14, UInt(0), UInt(0), b"1", UInt(0), False)
        + json_message({"value": 5}).encode()
    )

    peer.feed(text + batch_transfer(1, b"1", [json_message({"value": 6})] * 2, BATCH))
    await settle()

    assert broker.core.topics.get(subscription.spec.key).routed_to == 1 + 1 + 2


async def test_a_batch_with_one_bad_message_is_rejected_as_a_whole(broker, publisher_to):
    peer, _ = await publisher_to()
    good = json_message({"value": 1})
    bad = encode(Described(ULong(0x75), b"\x00\x53\x73\xff"))
    fields = (UInt(0), UInt(0), b"t", UInt(BATCH), False)
    good_section = encode(Described(ULong(0x75), good.encode()))

    peer.feed(frame(performative(0x14, *fields) + good_section + bad))
    await settle()

    [outcome] = [
        value.value[4]
        for raw in split_frames(peer.sink.data)
        if (value := read_performative(raw)) is not None and value.descriptor == 0x15
    ]
    assert outcome.descriptor == Delivery.REJECTED
