"""Requests and replies as messages, for the nodes that answer: `$cbs`, and what is like it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from hotpath.wire.sections import (
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    DATA,
    PROPERTIES,
    data_content,
    iter_sections,
)
from hotpath.wire.types import Array, Described, ULong, WireError, decode, encode

_MESSAGE_ID: Final = 0
_REPLY_TO: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What a requester sent.

    Attributes:
        message_id: As it came, with its AMQP type: the reply's correlation-id.
        reply_to: Where the reply is to go, or None.
        properties: Its application-properties.
        body: What its amqp-value or data section holds.
    """

    message_id: object
    reply_to: str | None
    properties: Mapping[str, object]
    body: object


def read_request(raw: bytes) -> Request:
    """Decode a request. Raises WireError."""
    fields: list[object] = []
    properties: dict[object, object] = {}
    body: object = None
    for section in iter_sections(raw):
        if section.code == PROPERTIES:
            fields = cast("list[object]", _typed(decode(raw, section.value)[0], list))
        elif section.code == APPLICATION_PROPERTIES:
            properties = cast("dict[object, object]", _typed(decode(raw, section.value)[0], dict))
        elif section.code == AMQP_VALUE:
            body = decode(raw, section.value)[0]
        elif section.code == DATA:
            body = data_content(raw, section)
    fields = [*fields, *[None] * 5]
    if isinstance(fields[_MESSAGE_ID], list | dict | Array | Described):
        # §3.2.4; in a reply it would be nested deeper than it came.
        raise WireError("message-id is no ulong, uuid, binary or string")
    reply_to = fields[_REPLY_TO]
    return Request(
        message_id=fields[_MESSAGE_ID],
        reply_to=reply_to if isinstance(reply_to, str) else None,
        properties={str(key): value for key, value in properties.items()},
        body=body,
    )


def _typed(value: object, kind: type) -> object:
    if not isinstance(value, kind):
        raise WireError(f"section is no {kind.__name__}")
    return value


def encode_reply(request: Request, properties: Mapping[str, object], body: object = None) -> bytes:
    """Encode the reply to a request. Raises WireError when a value has no AMQP type."""
    fields: list[object] = [None, None, request.reply_to, None, None, request.message_id]
    return b"".join(
        encode(Described(ULong(code), value))
        for code, value in (
            (PROPERTIES, fields),
            (APPLICATION_PROPERTIES, dict(properties)),
            (AMQP_VALUE, body),
        )
    )
