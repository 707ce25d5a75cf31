"""Messages as real publishers encode them: by Proton, which is not the code under test."""

from typing import Any

import proton

MODEL = "2f1d7b3e-6c1d-4f6e-9a30-0d6a5f4b8c11"

FIVE: dict[str, Any] = {
    "objectId": MODEL,
    "model": "abb.ability.device",
    "variable": "temperature",
    "timestamp": proton.timestamp(1760000000000),
    "quality": proton.int32(1),
}


def published(body: object = b'{"value": 1.5}', **fields: Any) -> bytes:
    """Encode a message; a body of bytes becomes a data section."""
    message = proton.Message(inferred=isinstance(body, bytes), body=body)
    for name, value in fields.items():
        setattr(message, name, value)
    return bytes(message.encode())


def received(wire: bytes) -> proton.Message:
    """Decode as a client would."""
    message = proton.Message()
    message.decode(wire)
    return message


def annotated(pairs: dict[str, Any], body: object = b"{}", **fields: Any) -> bytes:
    """A message with message annotations under symbol keys."""
    keyed = {proton.symbol(key): value for key, value in pairs.items()}
    return published(body, annotations=keyed, **fields)
