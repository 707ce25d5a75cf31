"""Service Bus batches."""

import pytest

from hotpath.wire.batching import looks_batched, split_envelope
from hotpath.wire.message import normalise
from hotpath.wire.types import WireError, encode
from tests.unit.wire.wire_messages import FIVE, annotated, published, received


def envelope(*messages: bytes, front: bytes = b"") -> bytes:
    return front + b"".join(b"\x00\x53\x75" + encode(message) for message in messages)


INNER = [published(properties=FIVE), published("text", ttl=5), published(b"x" * 300)]


def test_batch_is_unpacked_in_order():
    assert split_envelope(envelope(*INNER)) == INNER
    assert split_envelope(envelope(INNER[0])) == INNER[:1]
    assert looks_batched(envelope(*INNER))


def test_what_surrounds_the_messages_is_dropped():
    raw = annotated({"x-opt-partition-key": "k"}, b"", id="batch")
    front = raw[: raw.index(b"\x00\x53\x75")]

    messages = split_envelope(envelope(*INNER, front=front))

    assert messages == INNER
    assert received(normalise(messages[0])).properties == FIVE


@pytest.mark.parametrize(
    "raw", [b"", published("text"), published(["a"]), published(None), b"\x00\x53\x75"]
)
def test_what_is_no_batch_is_refused(raw):
    with pytest.raises(WireError):
        split_envelope(raw)
    assert not looks_batched(raw)


@pytest.mark.parametrize(
    "raw",
    [published(b"{}"), published(b""), published(b"\x00\x53\x75"), envelope(INNER[0], b"x"),
     envelope(INNER[0], b"")],
)  # fmt: skip
def test_data_that_holds_no_messages_does_not_look_like_a_batch(raw):
    assert not looks_batched(raw)
