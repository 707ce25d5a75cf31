"""Messages as a client makes and sees them: JSON objects on one side, AMQP bytes on the other.

What is published over AMQP looks as if it had come over HTTP: a JSON body, its filterable scalar
properties beside it, the kind of message in `ability-messagetype`, a time in any case.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, cast

from hotpath.model.names import Topic
from hotpath.wire.body import body_bytes
from hotpath.wire.encoder import encode, encode_binary
from hotpath.wire.jsonbody import JSON_TYPE
from hotpath.wire.mapping import build_map
from hotpath.wire.values import Symbol
from hotpath.wire.view import describe

MESSAGE_TYPES: Final = {
    Topic.VARIABLES: "timeSeries",
    Topic.EVENTS: "event",
    Topic.ALARMS: "alarm",
    Topic.PLATFORM_EVENTS: "platformEvent",
}
REQUIRED: Final = {
    Topic.VARIABLES: ("objectId", "variable", "value"),
    Topic.EVENTS: ("objectId", "event"),
    Topic.ALARMS: ("objectId", "alarm"),
    Topic.PLATFORM_EVENTS: ("eventType",),
}
TIME_PROPERTY: Final = {
    Topic.VARIABLES: "timestamp",
    Topic.EVENTS: "timestamp",
    Topic.ALARMS: "timestamp",
    Topic.PLATFORM_EVENTS: "eventTime",
}
_SCALARS: Final = (str, int, float, bool)
_INT64: Final = range(-(2**63), 2**63)
_TIMES: Final = frozenset(TIME_PROPERTY.values())

#: Properties section with nothing but the content type, and the marks of the sections behind it.
_FRONT: Final = b"\x00\x53\x73" + encode([None] * 6 + [Symbol(JSON_TYPE)])
_PROPERTIES_MARK: Final = b"\x00\x53\x74"
_DATA_MARK: Final = b"\x00\x53\x75"


class BadMessage(ValueError):
    """An object that cannot be published to its topic, in words."""


def _refuse_constant(name: str) -> object:
    raise BadMessage(f"{name} is no JSON number")


_load: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode
_dump: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def read_object(text: bytes | str) -> dict[str, object]:
    """Parse one JSON object. Raises BadMessage."""
    try:
        value = _load(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise BadMessage(f"no JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError:
        raise BadMessage("no JSON: the text is not UTF-8") from None
    except RecursionError:
        raise BadMessage("JSON that is nested too deep") from None
    except BadMessage:
        raise
    except ValueError as error:
        raise BadMessage(f"JSON that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage("a message is a JSON object")
    return cast("dict[str, object]", value)


def encode_message(
    topic: Topic,
    message: Mapping[str, object],
    *,
    now: Callable[[], str],
    text: bytes | None = None,
) -> bytes:
    """Encode an object as the AMQP message that HTTP publishing would make of it.

    Args:
        topic: Where it goes.
        message: The object; without a time it gets the present one.
        now: Gives that, in ISO 8601.
        text: The JSON that `message` was read from, if it is at hand: it is sent as it is.

    Raises:
        BadMessage: A property that the topic requires is missing, or one cannot be encoded.
    """
    for name in REQUIRED.get(topic, ()):
        if name not in message:
            missing = [each for each in REQUIRED[topic] if each not in message]
            raise BadMessage(f"{topic.value} need the property {' and '.join(missing)}")
    moment = TIME_PROPERTY.get(topic)
    if moment is not None and message.get(moment) is None:
        message = {**message, moment: now()}
        text = None
    try:
        body = _dump(message).encode() if text is None else text
        entries = _entries(topic, message)
    except ValueError as error:
        raise BadMessage(f"it cannot be encoded: {error}") from None
    return b"".join((_FRONT, _PROPERTIES_MARK, build_map(entries), _DATA_MARK, encode_binary(body)))


def _entries(topic: Topic, message: Mapping[str, object]) -> list[bytes]:
    """What filters look at, beside the body; nested values are found in the body."""
    names = _DATA_PROPERTIES.get(topic)
    found = [_text_entry("ability-messagetype", MESSAGE_TYPES.get(topic, topic.value))]
    for name in message if names is None else names:
        value = message.get(name)
        kind = type(value)
        if kind is str:
            # Names come again and again, times never do.
            known = name not in _TIMES and len(cast("str", value)) <= 64
            found.append((_text_entry if known else _entry)(name, cast("str", value)))
        elif kind is float or kind is bool or (kind is int and value in _INT64):
            found.append(_entry(name, value))
    return found


def _entry(name: str, value: object) -> bytes:
    return _name(name) + encode(value)


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    return encode(name)


@lru_cache(maxsize=16_384)
def _text_entry(name: str, value: str) -> bytes:
    return encode(name) + encode(value)


#: The scalar properties of a topic that filters may name; platform events may have any.
_DATA_PROPERTIES: Final = {
    Topic.VARIABLES: ("objectId", "model", "variable", "timestamp", "quality", "value"),
    Topic.EVENTS: ("objectId", "model", "event", "timestamp", "quality"),
    Topic.ALARMS: ("objectId", "model", "alarm", "timestamp", "alarmKey", "quality"),
    Topic.POINTS: ("objectId", "model", "variable", "timestamp", "quality", "value"),
}


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """A message as it came out of a feed."""

    body: object
    """The JSON object, or whatever else its publisher sent."""
    properties: dict[str, object] = field(default_factory=dict)
    """Application-properties."""
    sequence_number: int = 0
    enqueued: object = None
    """When the service accepted it."""

    @classmethod
    def decode(cls, encoded: bytes) -> "FeedMessage":
        """Read a delivered message. Raises WireError."""
        view = describe(encoded)
        number = view.annotations.get("x-opt-sequence-number")
        return cls(
            body=_parsed(view.body),
            properties=view.application_properties,
            sequence_number=number if isinstance(number, int) else 0,
            enqueued=view.annotations.get("x-opt-enqueued-time"),
        )

    def get(self, name: str) -> object:
        """A property: from the application-properties, else from the body."""
        if name in self.properties:
            return self.properties[name]
        return self.body.get(name) if isinstance(self.body, dict) else None

    def to_object(self) -> dict[str, object]:
        """The message as one JSON object: its body if that is one, else all there is."""
        if isinstance(self.body, dict):
            return self.body
        return {**plain_json(self.properties), "body": plain_json_value(self.body)}

    def to_envelope(self) -> dict[str, object]:
        """The message with what the service and its publisher wrote around it."""
        return {
            "sequenceNumber": self.sequence_number,
            "enqueuedTime": plain_json_value(self.enqueued),
            "applicationProperties": plain_json(self.properties),
            "body": plain_json_value(self.body),
        }


def object_line(encoded: bytes) -> str | None:
    """The body of a delivered message if it is a JSON object on one line, as it was written.

    None for all others; `FeedMessage.decode` reads any.
    """
    body = body_bytes(encoded)
    if body is None or b"\n" in body or b"\r" in body or not body.startswith(b"{"):
        return None
    try:
        text = body.decode()
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None


def _parsed(body: object) -> object:
    """A body of text or bytes as what JSON makes of it, where it is JSON."""
    if isinstance(body, bytes | str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return body
    return body


def plain_json(values: Mapping[str, object]) -> dict[str, object]:
    """A mapping with values that JSON has."""
    return {name: plain_json_value(value) for name, value in values.items()}


def plain_json_value(value: object) -> object:
    """A value as JSON has it: times as ISO text, bytes as text with escapes."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return plain_json(cast("dict[str, object]", value))
    if isinstance(value, list):
        return [plain_json_value(item) for item in cast("list[object]", value)]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
