"""Between Proton's value trees and Python: by their encoded bytes, so there is one codec.

Proton hands out maps and lists as `pn_data_t`; what it points into dies with its owner. Encoding
it copies everything at once.
"""

from typing import cast

from hotpath.amqp import capi
from hotpath.wire.types import Described, WireError, decode, encode


def read(tree: capi.DataPtr) -> object:
    """The first value of a tree, None if it has none.

    Raises:
        WireError: What the peer sent cannot be decoded.
    """
    size = capi.data_encoded_size(tree)
    if size < 0:
        raise WireError("the value cannot be read")
    if size == 0:
        return None
    room = capi.allocate("char[]", size)
    written = capi.data_encode(tree, room, size)
    if written < 0:
        raise WireError("the value cannot be read")
    return decode(capi.unpack(room, written))[0]


def read_map(tree: capi.DataPtr) -> dict[str, object]:
    """A map with symbol or string keys; other keys are left out, and null is an empty map.

    Raises:
        WireError: It is no map, or cannot be decoded.
    """
    value = read(tree)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WireError("map expected")
    entries = cast("dict[object, object]", value)
    return {str(key): item for key, item in entries.items() if isinstance(key, str)}


def write(tree: capi.DataPtr, value: object) -> None:
    """Put one value into a tree, in place of what is there."""
    encoded = encode(value)
    capi.data_clear(tree)
    capi.data_decode(tree, encoded, len(encoded))


def undescribed(value: object) -> object:
    """A value without its descriptors."""
    while isinstance(value, Described):
        value = value.value
    return value
