"""Reading the bodies of management requests: each field has its type, or the request is invalid."""

from collections.abc import Awaitable, Callable, Mapping
from struct import Struct
from typing import Final
from uuid import UUID

from hotpath.model.errors import Invalid, Violation
from hotpath.wire.types import Array

#: Lock tokens, sequence numbers or messages in one request.
ITEMS_MAX: Final = 1_000

#: The body of a reply that has none and says so.
NOTHING: Final = object()

_INT64_MAX: Final = 2**63 - 1
_tag = Struct(">QQ")

Body = Mapping[str, object]

Operation = Callable[[Body], Awaitable[object]]
"""Takes a request's body and gives the reply's; `NOTHING` is an answer without content."""


def refuse(text: str) -> Invalid:
    """An invalid request."""
    return Invalid([Violation(text)])


def read_number(body: Body, name: str) -> int:
    """A whole number from 0 on. Raises Invalid."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _INT64_MAX:
        raise refuse(f"`{name}` must be a whole number from 0 on")
    return int(value)


def read_text(body: Body, name: str) -> str:
    """A string, empty when it is absent. Raises Invalid."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse(f"`{name}` must be a string")
    return str(value)


def read_items(body: Body, name: str) -> list[object]:
    """The items of an array or list, at least one. Raises Invalid."""
    value = body.get(name)
    items = list(value.items) if isinstance(value, Array) else value
    if not isinstance(items, list) or not items:
        raise refuse(f"`{name}` must be an array that is not empty")
    if len(items) > ITEMS_MAX:
        raise refuse(f"`{name}` has at most {ITEMS_MAX} items")
    return items


def read_numbers(body: Body, name: str) -> list[int]:
    """An array of whole numbers. Raises Invalid."""
    return [read_number({name: item}, name) for item in read_items(body, name)]


def read_tokens(body: Body) -> list[tuple[int, int]]:
    """The sequence number and lock serial of each of `lock-tokens`. Raises Invalid."""
    held = []
    for item in read_items(body, "lock-tokens"):
        if not isinstance(item, UUID):
            raise refuse("`lock-tokens` must be an array of uuid")
        seq, serial = _tag.unpack(item.bytes_le)
        held.append((int(seq), int(serial)))
    return held


def lock_token(seq: int, serial: int) -> UUID:
    """The token of a lock: its delivery-tag read as clients of the Service Bus family do."""
    return UUID(bytes_le=_tag.pack(seq, serial))
