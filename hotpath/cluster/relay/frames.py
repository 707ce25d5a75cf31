"""The bytes of what nodes send each other: a head, and a part of a body."""

from enum import IntEnum
from struct import Struct, error
from typing import Final, NamedTuple

from hotpath.model.errors import (
    Forbidden,
    HotpathError,
    Invalid,
    LimitReached,
    LockLost,
    LogFull,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
    Violation,
)
from hotpath.wire.types import WireError, decode, encode

VERSION: Final = 1
#: Parts of one body at most: with NATS's usual limit, 1 GiB.
PARTS_MAX: Final = 1_024

_HEAD: Final = Struct(">BBHHQQ")
#: Room for the head, and for what NATS puts around a message.
HEAD_BYTES: Final = 256


class Kind(IntEnum):
    """What a message is."""

    CALL = 1
    ANSWER = 2
    ERROR = 3
    TELL = 4


class Op(IntEnum):
    """What is asked or told; the first byte of a call's body."""

    ATTACH = 1
    TAKE = 2
    SETTLE = 3
    DETACH = 4
    PING = 5
    PEEK = 6
    RECEIVE = 7
    RENEW = 8
    ASK = 9
    WAKE = 32
    CLOSED = 33


class Frame(NamedTuple):
    """One message: a part of a body."""

    version: int
    kind: int
    part: int
    parts: int
    number: int
    """Of the call."""
    done_below: int
    """The caller has the answers of all its calls with lower numbers."""
    body: bytes


class NotServed(HotpathError):
    """The node that was asked does not serve this, or not any more."""

    code = "not-served"


class Unreached(HotpathError):
    """No answer came: whether the call took effect is unknown."""

    code = "unreached"


class Damaged(ValueError):
    """Bytes that are no message of this protocol."""


#: Errors as they are told between nodes, by their codes.
_ERRORS: Final[dict[str, type[HotpathError]]] = {
    kind.code: kind
    for kind in (
        Forbidden,
        LimitReached,
        LockLost,
        LogFull,
        NotFound,
        NotServed,
        Unauthorized,
        Unavailable,
        Unsupported,
    )
}


def split(
    kind: Kind, number: int, body: bytes, *, done_below: int = 0, payload_max: int
) -> list[bytes]:
    """The messages that carry a body. Raises Damaged when it is too large for them."""
    room = max(payload_max - HEAD_BYTES, 1)
    pieces = [body[at : at + room] for at in range(0, len(body), room)] or [b""]
    if len(pieces) > PARTS_MAX:
        raise Damaged(f"{len(body)} bytes are too many for one call")
    return [
        _HEAD.pack(VERSION, kind, part, len(pieces), number, done_below) + piece
        for part, piece in enumerate(pieces)
    ]


def read_frame(payload: bytes) -> Frame:
    """Take a message apart. Raises Damaged."""
    try:
        version, kind, part, parts, number, done_below = _HEAD.unpack_from(payload)
    except error as fault:
        raise Damaged("a message is too short") from fault
    frame = Frame(version, kind, part, parts, number, done_below, payload[_HEAD.size :])
    if not 0 <= frame.part < frame.parts <= PARTS_MAX:
        raise Damaged("a part of a message has no place")
    return frame


def write_items(*items: object) -> bytes:
    """A body: a list of values."""
    return encode(list(items))


def read_items(body: bytes, count: int) -> list[object]:
    """The first `count` values of a body; later releases may send more. Raises Damaged."""
    try:
        items, _ = decode(body)
    except WireError as fault:
        raise Damaged(fault.detail) from fault
    if not isinstance(items, list) or len(items) < count:
        raise Damaged("a body has too few values")
    return items[:count]


def write_error(fault: HotpathError) -> bytes:
    """An error as a body."""
    return write_items(fault.code, fault.detail)


def read_error(body: bytes) -> HotpathError:
    """An error from a body; one of an unknown kind is `Unavailable`. Raises Damaged."""
    code, detail = (str(item) for item in read_items(body, 2))
    return make_error(code, detail)


def make_error(code: str, detail: str) -> HotpathError:
    """An error by its code."""
    if code == Invalid.code:
        return Invalid([Violation(detail)])
    return _ERRORS.get(code, Unavailable)(detail)
