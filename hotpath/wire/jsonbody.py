"""Messages whose body is JSON: making them, and splitting a body that is an array."""

import json
import re
from collections.abc import Mapping
from typing import Final

from hotpath.wire.body import BYTE_ORDER_MARK, DAMAGE, body_bytes, locate
from hotpath.wire.encoder import encode, encode_binary, encode_list, encode_map
from hotpath.wire.scan import skip
from hotpath.wire.sections import body_offset
from hotpath.wire.stored import is_plain, stored_parts
from hotpath.wire.values import Symbol, WireError

ELEMENTS_MAX: Final = 10_000
"""Elements of an array that one message may be split into."""

SPLIT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes that the messages of one array may take together: each repeats what precedes the body."""

JSON_TYPE: Final = "application/json"

_PROPERTIES: Final = b"\x00\x53\x73"
_APPLICATION_PROPERTIES: Final = b"\x00\x53\x74"
_DATA: Final = b"\x00\x53\x75"
_NULL: Final = b"\x40"

_blank = re.compile(r"[ \t\n\r]*").match

# Only where elements end is wanted, so numbers are left as text: none is too long for that.
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def encode_json(
    body: bytes,
    application_properties: Mapping[str, object],
    *,
    message_id: object = None,
    content_type: str = JSON_TYPE,
) -> bytes:
    """Make a stored message of JSON text and application-properties.

    Args:
        body: The text, not looked at; it becomes one data section.
        application_properties: Names to values; left out when empty.
        message_id: str, ULong, UUID or bytes (§3.2.11 to §3.2.14); None for none.
        content_type: ASCII.

    Raises:
        WireError: A value has no AMQP encoding.
    """
    fields = [_NULL if message_id is None else encode(message_id), *[_NULL] * 5]
    fields.append(encode(Symbol(content_type)))
    parts = [_PROPERTIES, encode_list(fields)]
    if application_properties:
        pairs: list[bytes] = []
        for name, value in application_properties.items():
            pairs += (encode(name), encode(value))
        parts += (_APPLICATION_PROPERTIES, encode_map(pairs))
    parts += (_DATA, encode_binary(body))
    return b"".join(parts)


def split_array(stored: bytes, limit: int = ELEMENTS_MAX) -> list[bytes] | None:
    """Split a message whose body is a JSON array into one message an element.

    Each has all that is in front of the body, and its element's text as its body; a footer, which
    speaks of the whole body, is left out. None if the body is no JSON array.

    Raises:
        WireError: An element is no object, there are more than `limit`, or the messages would be
            larger than 32 MiB together.
    """
    if not _may_be_array(stored):
        return None
    body = body_bytes(stored)
    if body is None:
        return None
    try:
        text = body.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        return None
    elements = split_text(text, limit)
    if elements is None:
        return None
    front = stored[: body_offset(stored, _bare(stored))] + _DATA
    if len(front) * len(elements) + len(body) > SPLIT_BYTES_MAX:
        raise WireError(f"array makes messages of more than {SPLIT_BYTES_MAX} bytes")
    return [front + encode_binary(element.encode()) for element in elements]


def split_text(text: str, limit: int = ELEMENTS_MAX) -> list[str] | None:
    """Cut the text of a JSON array of objects into its elements; None if it is no JSON array.

    Raises:
        WireError: An element is no object, or there are more than `limit`.
    """
    pos = _past_blank(text, 0)
    if text[pos : pos + 1] != "[":
        return None
    try:
        return _cut(text, pos + 1, limit)
    except WireError:
        raise
    except (ValueError, RecursionError):
        return None


def _cut(text: str, pos: int, limit: int) -> list[str]:
    """Cut behind the opening bracket; ValueError where the text is no array."""
    elements: list[str] = []
    bad: int | None = None
    pos = _past_blank(text, pos)
    if text[pos : pos + 1] == "]":
        return _ended(text, pos, elements)
    while True:
        if len(elements) >= limit:
            raise WireError(f"array of more than {limit} elements")
        element, end = _scan(text, pos)
        if bad is None and not isinstance(element, dict):
            bad = len(elements)
        elements.append(text[pos:end])
        pos = _past_blank(text, end)
        if text[pos : pos + 1] != ",":
            break
        pos = _past_blank(text, pos + 1)
    _ended(text, pos, elements)
    if bad is not None:
        raise WireError(f"element {bad} of the array is no object")
    return elements


def _ended(text: str, pos: int, elements: list[str]) -> list[str]:
    if text[pos : pos + 1] != "]" or _past_blank(text, pos + 1) != len(text):
        raise ValueError("no end of an array")
    return elements


def _past_blank(text: str, pos: int) -> int:
    found = _blank(text, pos)
    return pos if found is None else found.end()


def _bare(stored: bytes) -> int:
    return 0 if is_plain(stored) else stored_parts(stored).bare


def _may_be_array(stored: bytes) -> bool:
    """Whether the first byte of the body that is no blank opens an array; cheap for all others."""
    if b"[" not in stored:
        return False
    try:
        start = _content_offset(stored)
    except DAMAGE:
        return False
    return stored[start : start + 64].removeprefix(BYTE_ORDER_MARK).lstrip()[:1] in (b"[", b"")


def _content_offset(stored: bytes) -> int:
    """Where the body's bytes begin, if it is of bytes or text."""
    try:
        _, at = locate(stored)
    except WireError:
        at = body_offset(stored, _bare(stored))
    value = skip(stored, at + 1)
    return value + (2 if stored[value] & 0xF0 == 0xA0 else 5)


__all__ = [
    "ELEMENTS_MAX",
    "JSON_TYPE",
    "SPLIT_BYTES_MAX",
    "body_bytes",
    "encode_json",
    "split_array",
    "split_text",
]
