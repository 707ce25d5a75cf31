"""What a topic's messages have: names and types, and where a type is known only at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from typing_extensions import override


class Type(Enum):
    """The type of a property, as far as it is known before a message is seen."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "dateTime"
    LIST = "list"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Schema:
    """The properties that filters on a topic may name."""

    name: str
    """The topic, for error messages."""
    properties: Mapping[str, Type]
    """Known properties and their types."""
    roots: frozenset[str] = frozenset()
    """Names below which any path may be asked for, typed at run time (`value.<path>`)."""
    is_open: bool = False
    """Whether a message may have other properties, typed at run time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "properties", MappingProxyType(dict(self.properties)))

    @override
    def __hash__(self) -> int:
        return hash((self.name, self.is_open))

    def type_of(self, path: tuple[str, ...]) -> Type | None:
        """Give the type of a property, or None if no message of the topic can have it."""
        root = path[0]
        known = self.properties.get(root, Type.ANY if self.is_open else None)
        if len(path) == 1:
            return known
        return Type.ANY if root in self.roots or known is Type.ANY else None


def _topic(name: str, *, value: Type | None = None, **known: Type) -> Schema:
    properties = {
        "objectId": Type.STRING,
        "model": Type.STRING,
        **known,
        "timestamp": Type.DATETIME,
        "quality": Type.NUMBER,
    }
    if value is not None:
        properties["value"] = value
    return Schema(name, properties, roots=frozenset({"value"}))


PLATFORM_EVENTS = Schema(
    "platformEvents",
    {"eventType": Type.STRING, "eventTime": Type.DATETIME, "severity": Type.STRING},
    is_open=True,
)
VARIABLES = _topic("variables", variable=Type.STRING, value=Type.ANY)
EVENTS = _topic("events", event=Type.STRING)
ALARMS = _topic("alarms", alarm=Type.STRING, alarmKey=Type.STRING)

TOPICS: Mapping[str, Schema] = MappingProxyType(
    {schema.name: schema for schema in (PLATFORM_EVENTS, VARIABLES, EVENTS, ALARMS)}
)
"""The schemas of the four topics, by the topic's name."""


def resolve_schema(schema: Schema | str) -> Schema:
    """Give the schema of a topic's name; a schema is given back as it is.

    Raises:
        ValueError: there is no such topic.
    """
    if isinstance(schema, Schema):
        return schema
    if schema not in TOPICS:
        raise ValueError(f"unknown topic {schema!r}, expected one of {', '.join(TOPICS)}")
    return TOPICS[schema]
