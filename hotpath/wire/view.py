"""A stored message for people: what a command line or a REST answer shows of it."""

from dataclasses import dataclass, field
from typing import Final

from hotpath.wire.body import parse_json
from hotpath.wire.mapping import read_entries
from hotpath.wire.plain import read_extents
from hotpath.wire.scan import skip
from hotpath.wire.sections import (
    AMQP_SEQUENCE,
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    DATA,
    MESSAGE_ANNOTATIONS,
    PROPERTIES,
    Section,
    data_content,
    iter_sections,
)
from hotpath.wire.stored import property_field, stored_parts

_FIELDS: Final = {"message_id": 0, "subject": 3, "correlation_id": 5, "content_type": 6}
"""Indexes in the properties section (§3.2.4)."""


@dataclass(frozen=True, slots=True)
class MessageView:
    """What a message says, as plain Python values."""

    message_id: object = None
    subject: object = None
    correlation_id: object = None
    content_type: object = None
    ttl_ms: int | None = None
    priority: int | None = None
    annotations: dict[str, object] = field(default_factory=dict)
    application_properties: dict[str, object] = field(default_factory=dict)
    body: object = None
    """Parsed JSON, else text, else bytes; for an AMQP value or sequence what it holds, for more
    than one sequence a list of them."""


def describe(stored: bytes) -> MessageView:
    """Read a stored message; lists, maps and arrays larger than 16 KiB are left out.

    Raises:
        WireError: It is damaged.
    """
    parts = stored_parts(stored)
    sections = list(iter_sections(stored))
    shown: dict[str, object] = {"body": _body(stored, sections)}
    for section in sections:
        if section.code == PROPERTIES:
            shown.update(_properties(stored, section))
        elif section.code in _MAPS:
            shown[_MAPS[section.code]] = _map(stored, section)
    return MessageView(ttl_ms=parts.ttl_ms, priority=parts.priority, **shown)  # type: ignore[arg-type]  # by section


_MAPS: Final = {
    MESSAGE_ANNOTATIONS: "annotations",
    APPLICATION_PROPERTIES: "application_properties",
}


def _body(stored: bytes, sections: list[Section]) -> object:
    data: list[bytes] = []
    rows: list[object] = []
    for section in sections:
        if section.code == AMQP_VALUE:
            return _value(stored, section)
        if section.code == AMQP_SEQUENCE:
            rows.append(_value(stored, section))
        if section.code == DATA:
            data.append(data_content(stored, section))
    if data:
        return _text(b"".join(data))
    return rows[0] if len(rows) == 1 else rows or None


def _value(stored: bytes, section: Section) -> object:
    return read_extents(stored, {"": (section.value, section.end)}).get("")


def _map(stored: bytes, section: Section) -> dict[str, object]:
    extents = {
        entry.name.decode(errors="replace"): (entry.value, entry.end)
        for entry in read_entries(stored, section.value)
        if entry.name is not None
    }
    return read_extents(stored, extents)


def _properties(stored: bytes, section: Section) -> dict[str, object]:
    extents: dict[str, tuple[int, int]] = {}
    for name, index in _FIELDS.items():
        start = property_field(stored, section, index=index)
        if start is not None:
            extents[name] = (start, skip(stored, start))
    return read_extents(stored, extents)


def _text(raw: bytes) -> object:
    value = parse_json(raw)
    if value is not None:
        return value
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
