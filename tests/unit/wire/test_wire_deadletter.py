"""Adding application-properties to a stored message, and showing one."""

import pytest

from hotpath.wire.deadletter import with_application_properties
from hotpath.wire.message import normalise, stored_parts
from hotpath.wire.properties import pull
from hotpath.wire.types import Symbol, WireError, encode
from hotpath.wire.view import describe
from qel import DateTime
from tests.unit.wire.wire_messages import FIVE, annotated, published, received

REASON = {"DeadLetterReason": "MaxDeliveryCountExceeded", "DeadLetterErrorDescription": "x" * 300}


@pytest.mark.parametrize(
    "raw",
    [
        published(properties=FIVE), published(), annotated({"mine": 1}, properties=FIVE, ttl=60.0),
        published("text", subject="s"), published(None, properties=FIVE), bytes.fromhex("005375a00161"),
        published(None), published(properties={"DeadLetterReason": "older", **FIVE}),
    ],
)  # fmt: skip
def test_reason_is_added_and_all_else_stays(raw):
    stored = normalise(raw)

    dead = with_application_properties(stored, REASON)

    before, after = received(stored), received(dead)
    assert after.properties == {**(before.properties or {}), **REASON}
    assert after.body == before.body
    assert after.subject == before.subject
    assert after.annotations == before.annotations
    assert stored_parts(dead)[:3] == stored_parts(stored)[:3]
    assert normalise(dead) == dead


def test_entries_that_stay_keep_their_bytes():
    entry = encode("n") + bytes.fromhex("8100000000000000ff")
    raw = b"\x00\x53\x74\xc1" + bytes((len(entry) + 1, 2)) + entry + bytes.fromhex("005375a000")

    assert entry in with_application_properties(raw, REASON)


def test_property_is_replaced_whatever_the_encoding_of_its_key():
    raw = b"\x00\x53\x74" + encode({Symbol("a"): 1, "b": 2}) + bytes.fromhex("005375a000")

    changed = with_application_properties(raw, {"a": "new"})

    assert received(changed).properties == {"a": "new", "b": 2}


def test_nothing_to_add_changes_nothing():
    stored = normalise(published())

    assert with_application_properties(stored, {}) is stored


def test_many_properties_outgrow_the_short_map():
    extra = {f"name{number}": number for number in range(300)}

    dead = with_application_properties(normalise(published(properties=FIVE)), extra)

    assert pull(dead, frozenset([("name299",), ("quality",)])) == {"name299": 299, "quality": 1}


@pytest.mark.parametrize(
    ("stored", "extra"),
    [
        (bytes.fromhex("005375a000"), {"a": object()}),
        (bytes.fromhex("005375a000"), {"\ud800": 1}),
        (bytes.fromhex("005374c1ff"), {"a": 1}),
        (bytes.fromhex("ffff"), {"a": 1}),
    ],
    ids=["value", "name", "cut off", "no message"],
)
def test_what_cannot_be_added_is_refused(stored, extra):
    with pytest.raises(WireError):
        with_application_properties(stored, extra)


def test_message_is_described():
    raw = annotated({"mine": "x"}, b'{"a": [1]}', properties=FIVE, ttl=60.0, priority=7, id="m",
                    correlation_id="c", subject="s", content_type="application/json")  # fmt: skip

    view = describe(normalise(raw))

    assert (view.message_id, view.correlation_id, view.subject) == ("m", "c", "s")
    assert view.content_type == "application/json"
    assert (view.ttl_ms, view.priority) == (60_000, 7)
    assert view.annotations == {"mine": "x"}
    assert view.application_properties["timestamp"] == DateTime.from_milliseconds(1760000000000)
    assert view.body == {"a": [1]}


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (published(b"text"), "text"),
        (published(b"\xff"), b"\xff"),
        (published(b""), ""),
        (published("text"), "text"),
        (published(["a", 1]), ["a", 1]),
        (published({"a": 1}), {"a": 1}),
        (published(None), None),
        (bytes.fromhex("005376c0020141005376c0020142"), [[True], [False]]),
        (bytes.fromhex("005376c0020141"), [True]),
        (b"\x00\x53\x77" + encode([True] * 20_000), None),
    ],
)
def test_body_is_shown_as_what_it_is(raw, body):
    assert describe(normalise(raw)).body == body


def test_bare_body_has_no_more_to_show():
    view = describe(bytes.fromhex("005375a00161"))

    assert view.message_id is None
    assert view.application_properties == {}


@pytest.mark.parametrize("text", ["00", "005375a0", "005373c10100", "005374c1020140", "005370c0ff"])
def test_damaged_message_is_not_described(text):
    with pytest.raises(WireError):
        describe(bytes.fromhex(text))
