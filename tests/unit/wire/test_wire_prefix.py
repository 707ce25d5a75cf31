"""What receivers get."""

from uuid import UUID

import proton
import pytest

from hotpath.wire.message import BrokerAnnotations, DeliveryPrefix, normalise
from hotpath.wire.sections import walk
from hotpath.wire.types import Timestamp, decode_exact
from tests.unit.wire.wire_messages import FIVE, annotated, published, received

NOW = 1_760_000_000_000
TOKEN = UUID("00112233-4455-6677-8899-aabbccddeeff")

symbol, timestamp = proton.symbol, proton.timestamp


def header_of(wire: bytes) -> object:
    section = walk(wire)[0]
    return decode_exact(wire[section.value : section.end])


def test_plain_message_gets_exactly_these_bytes_in_front():
    stored = bytes.fromhex("005375a00161")

    wire = DeliveryPrefix(enqueued_ms=NOW).wire(5, stored)

    assert wire == (
        bytes.fromhex("005370c0060541404041" + "43")
        + bytes.fromhex("005372c1")
        + bytes((1 + 2 + 19 + 9 + 2 + 21 + 9, 4))
        + b"\xa3\x13x-opt-enqueued-time\x83"
        + NOW.to_bytes(8, "big")
        + b"\xa3\x15x-opt-sequence-number\x81"
        + (5).to_bytes(8, "big")
        + stored
    )


@pytest.mark.parametrize(
    ("count", "header"),
    [
        (0, [True, None, None, True, 0]),
        (1, [True, None, None, False, 1]),
        (300, [True, None, None, False, 300]),
    ],
)
def test_header_always_has_the_delivery_count(count, header):
    wire = DeliveryPrefix(enqueued_ms=NOW, delivery_count=count).wire(1, normalise(published()))

    assert header_of(wire) == header
    assert received(wire).delivery_count == count
    assert received(wire).first_acquirer is (count == 0)


@pytest.mark.parametrize("seq", [0, 1, 2**31, 2**63 - 1])
def test_client_reads_the_brokers_annotations(seq):
    prefix = DeliveryPrefix(enqueued_ms=NOW, locked_until_ms=NOW + 60_000)

    message = received(prefix.wire(seq, normalise(published(properties=FIVE, body=b"x"))))

    assert message.annotations == {
        symbol("x-opt-enqueued-time"): timestamp(NOW),
        symbol("x-opt-locked-until"): timestamp(NOW + 60_000),
        symbol("x-opt-sequence-number"): seq,
    }
    assert message.properties == FIVE
    assert bytes(message.body) == b"x"


def test_further_annotations_have_their_types():
    extra = BrokerAnnotations(
        message_state=1,
        scheduled_ms=NOW + 1,
        enqueue_sequence_number=7,
        deadletter_source="variables/Subscriptions/a",
    )

    wire = DeliveryPrefix(enqueued_ms=NOW, extra=extra).wire(9, normalise(published()))

    annotations = received(wire).annotations
    assert annotations == {
        symbol("x-opt-enqueued-time"): timestamp(NOW),
        symbol("x-opt-message-state"): 1,
        symbol("x-opt-scheduled-enqueue-time"): timestamp(NOW + 1),
        symbol("x-opt-enqueue-sequence-number"): 7,
        symbol("x-opt-deadletter-source"): "variables/Subscriptions/a",
        symbol("x-opt-sequence-number"): 9,
    }
    assert type(annotations["x-opt-message-state"]) is proton.int32
    assert type(annotations["x-opt-scheduled-enqueue-time"]) is proton.timestamp
    assert type(annotations["x-opt-enqueue-sequence-number"]) is int


def test_lock_token_goes_into_delivery_annotations():
    wire = DeliveryPrefix(enqueued_ms=NOW, lock_token=TOKEN).wire(9, normalise(published()))

    message = received(wire)

    assert message.instructions == {symbol("x-opt-lock-token"): TOKEN}
    assert [section.code & 0xF for section in walk(wire)][:3] == [0, 1, 2]


@pytest.mark.parametrize("token", [None, TOKEN])
def test_publishers_ttl_priority_and_annotations_are_kept_beside_the_brokers(token):
    raw = annotated({"mine": "x", "x-opt-sequence-number": 666}, ttl=60.0, priority=7,
                    properties=FIVE)  # fmt: skip
    prefix = DeliveryPrefix(enqueued_ms=NOW, delivery_count=2, lock_token=token)

    wire = prefix.wire(5, normalise(raw))

    assert header_of(wire) == [True, 7, 60_000, False, 2]
    message = received(wire)
    assert message.annotations == {
        symbol("mine"): "x",
        symbol("x-opt-enqueued-time"): timestamp(NOW),
        symbol("x-opt-sequence-number"): 5,
    }
    assert message.properties == FIVE
    assert (message.instructions is None) == (token is None)


def test_brokers_annotation_replaces_the_publishers_of_the_same_name():
    raw = annotated({"x-opt-scheduled-enqueue-time": timestamp(1), "mine": 1})
    extra = BrokerAnnotations(scheduled_ms=NOW)

    wire = DeliveryPrefix(enqueued_ms=NOW, extra=extra).wire(5, normalise(raw))

    section = walk(wire)[1]
    annotations = decode_exact(wire[section.value : section.end])
    assert isinstance(annotations, dict)
    assert annotations["x-opt-scheduled-enqueue-time"] == Timestamp(NOW)
    assert annotations["mine"] == 1


@pytest.mark.parametrize("length", [10, 100, 150, 200, 300, 70_000])
def test_annotations_of_any_size_fit(length):
    raw = annotated({"mine": "x" * length})
    extra = BrokerAnnotations(deadletter_source="y" * 120)

    message = received(DeliveryPrefix(enqueued_ms=NOW, extra=extra).wire(5, normalise(raw)))

    assert message.annotations[symbol("mine")] == "x" * length
    assert message.annotations[symbol("x-opt-sequence-number")] == 5


def test_delivered_message_normalises_to_what_was_stored():
    stored = normalise(published(properties=FIVE))

    assert normalise(DeliveryPrefix(enqueued_ms=NOW, locked_until_ms=1).wire(5, stored)) == stored
