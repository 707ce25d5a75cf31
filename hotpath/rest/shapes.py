"""What a published JSON object must look like, by topic, and how it becomes a stored message.

The properties and their types are those that filters are checked against, so that what is
accepted here is what a filter can see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import qel
from hotpath.model.errors import Violation
from hotpath.model.names import Topic
from hotpath.rest.bodies import escape_pointer, is_number
from hotpath.tracecontext import TRACEPARENT
from hotpath.wire.jsonbody import encode_json

#: Names the kind of a message, as existing receivers of such feeds expect it.
MESSAGE_TYPE: Final = "ability-messagetype"
#: Longer strings stay in the body alone, where filters find them as well.
COPIED_CHARS_MAX: Final = 8_192
_LONG: Final = 2**63

_TYPE_NAMES: Final = {
    qel.Type.STRING: "a string",
    qel.Type.NUMBER: "a number",
    qel.Type.BOOLEAN: "a boolean",
    qel.Type.DATETIME: "an ISO 8601 dateTime",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One topic's messages."""

    message_type: str
    required: tuple[str, ...]
    time: str
    """The property that is set to now when it is missing."""
    schema: qel.Schema

    def check(self, message: Mapping[str, object]) -> list[Violation]:
        """Everything that is wrong with a message; pointers into the message."""
        faults = [
            Violation(f"{name} is required", f"/{name}")
            for name in self.required
            if name not in message
        ]
        for name, kind in self.schema.properties.items():
            if name in message and not fits(message[name], kind):
                detail = f"{name} must be {_TYPE_NAMES[kind]}"
                faults.append(Violation(detail, f"/{escape_pointer(name)}"))
        return faults

    def encode(
        self, message: Mapping[str, object], text: str, now: str, *, trace: str = ""
    ) -> bytes:
        """A checked message as it is stored: the publisher's own text, and what filters name.

        `text` is the object's JSON text; `now` is the time for one that has none; `trace` is the
        trace context it is given unless it has its own.
        """
        copied = self._copied(message)
        if trace:
            copied.setdefault(TRACEPARENT, trace)
        if self.time not in message:
            copied[self.time] = now
            # A checked object has members, so the comma is right.
            text = f'{{"{self.time}":"{now}",{text[1:]}'
        copied[MESSAGE_TYPE] = self.message_type
        return encode_json(text.encode(), copied)

    def _copied(self, message: Mapping[str, object]) -> dict[str, object]:
        if self.schema.is_open:
            return {name: value for name, value in message.items() if is_copied(value)}
        return {
            name: message[name]
            for name in self.schema.properties
            if name in message and is_copied(message[name])
        }


def fits(value: object, kind: qel.Type) -> bool:
    """Whether a JSON value has the type of a property."""
    match kind:
        case qel.Type.STRING:
            return isinstance(value, str)
        case qel.Type.NUMBER:
            return is_number(value)
        case qel.Type.BOOLEAN:
            return isinstance(value, bool)
        case qel.Type.DATETIME:
            return isinstance(value, str) and qel.parse_datetime(value) is not None
        case _:
            return True


def is_copied(value: object) -> bool:
    """Whether a value becomes an application property: a scalar that AMQP has a type for."""
    match value:
        case bool() | float():
            return True
        case int():
            return -_LONG <= value < _LONG
        case str():
            return len(value) <= COPIED_CHARS_MAX
        case _:
            return False


SHAPES: Final[Mapping[Topic, Shape]] = {
    Topic.VARIABLES: Shape(
        "timeSeries",
        ("objectId", "variable", "value"),
        "timestamp",
        qel.TOPICS["variables"],
    ),
    Topic.EVENTS: Shape("event", ("objectId", "event"), "timestamp", qel.TOPICS["events"]),
    Topic.ALARMS: Shape("alarm", ("objectId", "alarm"), "timestamp", qel.TOPICS["alarms"]),
    Topic.PLATFORM_EVENTS: Shape(
        "platformEvent", ("eventType",), "eventTime", qel.TOPICS["platformEvents"]
    ),
}
