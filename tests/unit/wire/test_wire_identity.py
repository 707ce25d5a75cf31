"""A message-id for messages that have none."""

import pytest
from proton import Message, symbol

from hotpath.wire.identity import with_message_id
from hotpath.wire.message import may_expire, normalise
from hotpath.wire.types import WireError


def decoded(raw: bytes) -> Message:
    message = Message()
    message.decode(raw)
    return message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subject": "s", "content_type": "text/plain"},
        {"properties": {"a": 1}},
        {"annotations": {symbol("x-opt-mine"): 1}},
        {"ttl": 5, "subject": "s" * 300},
    ],
    ids=["body only", "properties", "application-properties", "annotations", "long list"],
)
def test_a_message_without_an_id_gets_one_and_keeps_everything_else(options):
    before = Message(body=b"x", inferred=True, **options)

    after = decoded(with_message_id(normalise(bytes(before.encode())), "7"))

    assert after.id == "7"
    assert bytes(after.body) == b"x"
    for name, value in options.items():
        assert getattr(after, name) == value


@pytest.mark.parametrize("given", ["mine", "", 5], ids=["text", "empty", "number"])
def test_an_id_of_its_own_stays(given):
    stored = normalise(bytes(Message(body=b"x", inferred=True, id=given).encode()))

    assert with_message_id(stored, "7") is stored


def test_a_damaged_message_is_an_error():
    with pytest.raises(WireError):
        with_message_id(b"\x00\x53\x99", "7")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"subject": "s"}, False),
        ({"properties": {"a": 1}}, False),
        ({"ttl": 5}, True),
        ({"expiry_time": 5}, True),
    ],
)
def test_what_may_expire_is_seen_at_its_beginning(options, expected):
    stored = normalise(bytes(Message(body=b"x", inferred=True, **options).encode()))

    assert may_expire(stored) is expected
