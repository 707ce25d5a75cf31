"""Requests and replies."""

import pytest
from proton import Message

from hotpath.amqp.requests import encode_reply, read_request
from hotpath.wire.types import Int, WireError


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
