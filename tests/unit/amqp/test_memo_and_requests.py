"""Shared encoded deliveries; requests and replies."""

import pytest
from proton import Message

from hotpath.amqp.memo import WireMemo
from hotpath.amqp.requests import encode_reply, read_request
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.types import Int, WireError

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


def batch(size: int = 10) -> Batch:
    return Batch(KEY, 1, enqueued_ms=0, payloads=[b"x" * size] * 3)


def test_the_first_receiver_of_a_batch_keeps_nothing():
    memo, one = WireMemo(), batch()

    assert memo.slots(one, 5) is None
    assert memo.slots(one, 5) == [None, None, None]
    assert memo.slots(one, 5) is one.wire


def test_another_key_starts_anew():
    memo, one = WireMemo(), batch()
    memo.slots(one, 5)
    memo.slots(one, 5)

    assert memo.slots(one, 6) is None
    assert one.wire is None


def test_what_is_kept_is_bounded():
    memo = WireMemo(bytes_max=100)
    batches = [batch() for _ in range(10)]
    for each in batches:
        memo.slots(each, 5)
        memo.slots(each, 5)

    assert [each.wire is not None for each in batches] == [False] * 7 + [True] * 3


def test_a_reply_carries_the_requests_id_as_correlation_id():

    asked = read_request(
        Message(id="m", reply_to="there", properties={"a": 1}, body="token").encode()
    )
    assert (asked.message_id, asked.reply_to, asked.body) == ("m", "there", "token")
    assert asked.properties == {"a": 1}

    reply = Message()
    reply.decode(encode_reply(asked, {"status-code": Int(200)}))
    assert (reply.correlation_id, reply.address) == ("m", "there")


@pytest.mark.parametrize("raw", [b"x", b"\x00\x53\x73\xa1\x01x", b"\x00\x53\x74\x45"])
def test_what_is_no_request_is_a_wire_error(raw):
    with pytest.raises(WireError):
        read_request(raw)
