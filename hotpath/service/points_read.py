"""What publishers say about a point: one value, checked, whichever way it came.

    {"id": "88d4…", "value": 21.5, "qualityOfValue": 0, "timestamp": "2026-05-01T10:00:00Z"}

Over AMQP the same as JSON, or as an AMQP map with the types of AMQP.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from hotpath.model.errors import Invalid, Violation
from hotpath.wire.body import body_bytes, parse_json
from hotpath.wire.decoder import decode
from hotpath.wire.plain import plain
from hotpath.wire.scan import MAPS
from hotpath.wire.sections import AMQP_VALUE, body_offset, iter_sections
from hotpath.wire.stored import is_plain, stored_parts
from hotpath.wire.values import WireError
from qel import DateTime, parse_datetime

#: Longest id of a point, characters.
ID_CHARS_MAX: Final = 256
#: Quality of a value that comes without one: good.
GOOD: Final = 0
#: 0001-01-01T00:00:00Z and the end of the year 9999, milliseconds.
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999


class PointValue(NamedTuple):
    """One value of one point."""

    id: str
    value: str
    """As receivers see it."""
    quality: int | float
    at_ms: int
    """When it was measured, or else came in; wall clock."""


def read_point(found: Mapping[str, object], *, now_ms: int, chars_max: int) -> PointValue:
    """Check what a publisher says. Raises Invalid with everything that is wrong.

    `chars_max` bounds a value's text, in characters.
    """
    faults: list[Violation] = []
    identity = found.get("id")
    if (fault := id_fault(identity)) is not None:
        faults.append(Violation("id is required" if "id" not in found else fault, "/id"))
    value = value_text(found.get("value"))
    if value is None:
        text = "value must be a string, a finite number or a boolean"
        faults.append(Violation("value is required" if "value" not in found else text, "/value"))
    elif len(value) > chars_max:
        faults.append(Violation(f"value is at most {chars_max} characters long", "/value"))
    quality = found.get("qualityOfValue", GOOD)
    if not _is_number(quality):
        faults.append(Violation("qualityOfValue must be a finite number", "/qualityOfValue"))
    at_ms = now_ms if "timestamp" not in found else _milliseconds(found["timestamp"])
    if at_ms is None:
        faults.append(Violation("timestamp must be an ISO 8601 dateTime", "/timestamp"))
    if faults or value is None or at_ms is None:
        raise Invalid(faults)
    return PointValue(str(identity), value, cast("int | float", quality), at_ms)


def id_fault(identity: object) -> str | None:
    """What is wrong with the id of a point, or None."""
    if not isinstance(identity, str):
        return "the id of a point must be a string"
    if not 1 <= len(identity) <= ID_CHARS_MAX:
        return f"the id of a point is 1 to {ID_CHARS_MAX} characters long"
    if not identity.isprintable():
        return "the id of a point must consist of printable characters"
    return None


def value_text(value: object) -> str | None:
    """A value as receivers see it, or None when it is none: numbers in JSON's shortest form."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return number_text(value)
        case _:
            return None


def number_text(value: int | float) -> str:
    """A finite number in JSON's shortest form: `22`, not `22.0`; `1e-7`, not `1e-07`."""
    if not value:
        return "0"
    digits, exponent, power = repr(value).partition("e")
    digits = digits.removesuffix(".0")
    return f"{digits}e{int(power)}" if exponent else digits


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    # AMQP knows integers up to 64 bits; nothing that counts quality needs more.
    return isinstance(value, int) and not isinstance(value, bool | DateTime) and abs(value) < 2**63


def _milliseconds(moment: object) -> int | None:
    """A timestamp in milliseconds, or None when it is none; finer parts are dropped."""
    if isinstance(moment, str):
        moment = parse_datetime(moment)
    if not isinstance(moment, DateTime):
        return None
    at_ms = int(moment) // 1_000_000
    return at_ms if _FIRST_MS <= at_ms <= _LAST_MS else None


def point_of_message(stored: bytes, *, now_ms: int, chars_max: int) -> PointValue:
    """The value that a stored AMQP message carries. Raises Invalid."""
    body = body_bytes(stored)
    found = _map_of(stored) if body is None else parse_json(body)
    if not isinstance(found, dict):
        detail = "the body must be a JSON object or an AMQP map with id and value"
        raise Invalid([Violation(detail, "")])
    return read_point(cast("dict[str, object]", found), now_ms=now_ms, chars_max=chars_max)


def _map_of(stored: bytes) -> object:
    """The map that is a message's body, as plain values; None for any other body."""
    try:
        start = body_offset(stored, 0 if is_plain(stored) else stored_parts(stored).bare)
        section = next(iter_sections(stored, start))
        if section.code != AMQP_VALUE or stored[section.value] not in MAPS:
            return None
        value, _ = decode(stored, section.value)
    except (WireError, IndexError, StopIteration):
        return None
    return plain(value)
