"""JSON objects to AMQP messages and back."""

import json

import pytest
from proton import Message

from hotpath.client.message import BadMessage, FeedMessage, encode_message, object_line, read_object
from hotpath.model.names import Topic

NOW = "2026-03-01T10:00:00.000Z"
READING = {"objectId": "p1", "variable": "flow", "value": 1.5, "timestamp": "2026-01-01T00:00:00Z"}


def decoded(topic, message):
    received = Message()
    received.decode(encode_message(topic, message, now=lambda: NOW))
    return received


def test_body_is_the_object_as_json():
    message = decoded(Topic.VARIABLES, READING)

    assert message.content_type == "application/json"
    assert json.loads(bytes(message.body)) == READING


def test_filterable_scalars_stand_beside_the_body():
    message = decoded(Topic.VARIABLES, {**READING, "quality": 192, "note": "x", "value": {"a": 1}})

    assert message.properties == {
        "ability-messagetype": "timeSeries",
        "objectId": "p1",
        "variable": "flow",
        "timestamp": "2026-01-01T00:00:00Z",
        "quality": 192,
    }


@pytest.mark.parametrize(
    ("topic", "message", "name"),
    [
        (Topic.VARIABLES, {"objectId": "o", "variable": "v", "value": None}, "timestamp"),
        (Topic.EVENTS, {"objectId": "o", "event": "e"}, "timestamp"),
        (Topic.ALARMS, {"objectId": "o", "alarm": "a"}, "timestamp"),
        (Topic.PLATFORM_EVENTS, {"eventType": "t"}, "eventTime"),
    ],
    ids=str,
)
def test_missing_time_becomes_the_present_one(topic, message, name):
    received = decoded(topic, message)

    assert json.loads(bytes(received.body))[name] == NOW
    assert received.properties[name] == NOW


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        (Topic.VARIABLES, "timeSeries"),
        (Topic.EVENTS, "event"),
        (Topic.ALARMS, "alarm"),
        (Topic.PLATFORM_EVENTS, "platformEvent"),
    ],
    ids=str,
)
def test_kind_of_message_is_told(topic, kind):
    everything = {"objectId": "o", "variable": "v", "value": 1, "event": "e", "alarm": "a"}

    message = decoded(topic, {**everything, "eventType": "t"})

    assert message.properties["ability-messagetype"] == kind


def test_platform_event_has_all_its_scalars_beside_the_body():
    message = decoded(Topic.PLATFORM_EVENTS, {"eventType": "t", "version": 3, "tags": ["a"]})

    assert message.properties["version"] == 3
    assert "tags" not in message.properties


@pytest.mark.parametrize(
    ("topic", "message", "names"),
    [
        (Topic.VARIABLES, {"objectId": "o"}, "variable and value"),
        (Topic.EVENTS, {}, "objectId and event"),
        (Topic.ALARMS, {"alarm": "a"}, "objectId"),
        (Topic.PLATFORM_EVENTS, {}, "eventType"),
    ],
    ids=str,
)
def test_missing_required_property_is_named(topic, message, names):
    with pytest.raises(BadMessage, match=names):
        encode_message(topic, message, now=lambda: NOW)


def test_integer_beyond_64_bits_stays_in_the_body_only():
    message = decoded(Topic.VARIABLES, {**READING, "value": 2**70})

    assert "value" not in message.properties
    assert json.loads(bytes(message.body))["value"] == 2**70


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800"], ids=repr)
def test_what_cannot_be_encoded_is_refused(value):
    with pytest.raises(BadMessage, match="cannot be encoded"):
        encode_message(Topic.VARIABLES, {**READING, "value": value}, now=lambda: NOW)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{", "no JSON"),
        (b"[1]", "is a JSON object"),
        (b"7", "is a JSON object"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "cannot be read"),
    ],
    ids=["cut", "array", "number", "nan", "utf-8", "deep", "long integer"],
)
def test_text_that_is_no_object_is_refused(text, complaint):
    with pytest.raises(BadMessage, match=complaint):
        read_object(text)


def delivered(**parts):
    return FeedMessage.decode(bytes(Message(**parts).encode()))


def test_delivered_json_is_read_whether_binary_or_text():
    for body in (b'{"a": 1}', '{"a": 1}'):
        assert delivered(body=body).to_object() == {"a": 1}


def test_delivered_message_without_json_shows_its_properties():
    message = delivered(body="hello", properties={"objectId": "p1"})

    assert message.to_object() == {"objectId": "p1", "body": "hello"}


def test_property_comes_before_the_body_member():
    message = delivered(body=b'{"a": 1, "b": 2}', properties={"a": 5})

    assert (message.get("a"), message.get("b"), message.get("c")) == (5, 2, None)


def test_envelope_has_what_the_service_wrote():
    message = delivered(
        body=b'{"a": 1}', properties={"p": True}, annotations={"x-opt-sequence-number": 12}
    )

    assert message.to_envelope() == {
        "sequenceNumber": 12,
        "enqueuedTime": None,
        "applicationProperties": {"p": True},
        "body": {"a": 1},
    }


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"a":  1}', '{"a":  1}'),
        (b'{\n"a": 1}', None),
        (b"[1]", None),
        (b'{"a": oops}', None),
        (b'{"a": "\xff"}', None),
        (b"", None),
        (7, None),
        ({"a": 1}, None),
    ],
    ids=repr,
)
def test_object_on_one_line_is_given_as_it_was_written(body, line):
    assert object_line(bytes(Message(body=body).encode())) == line


def test_damaged_message_has_no_line():
    assert object_line(b"\x00\x53\x75\xa0\xff{") is None
