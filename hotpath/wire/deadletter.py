"""Put reasons and other properties into the application-properties of a stored message."""

from collections.abc import Mapping
from typing import Final

from hotpath.wire.encoder import encode
from hotpath.wire.mapping import build_map, read_entries, without
from hotpath.wire.sections import APPLICATION_PROPERTIES, iter_sections
from hotpath.wire.stored import is_plain, stored_parts
from hotpath.wire.values import Array, Described

REASON: Final = "DeadLetterReason"
DESCRIPTION: Final = "DeadLetterErrorDescription"

_MARK: Final = b"\x00\x53\x74"


def with_application_properties(stored: bytes, extra: Mapping[str, object]) -> bytes:
    """Set application-properties, in place of those with the same names; all else stays as it is.

    Raises:
        WireError: A value has no AMQP encoding, or the message is damaged.
    """
    if not extra:
        return stored
    start, end, entries = _open(stored, {name.encode("utf-8", "replace") for name in extra})
    entries += (encode(name) + encode(value) for name, value in extra.items())
    return stored[:start] + _MARK + build_map(entries) + stored[end:]


def simple_properties(values: Mapping[str, object]) -> dict[str, object]:
    """Those values that may stand among application-properties (amqp-core-messaging §3.2.5)."""
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, list | dict | Array | Described)
    }


def _open(stored: bytes, names: set[bytes]) -> tuple[int, int, list[bytes]]:
    """Where application-properties are or belong, and their entries but those named."""
    start = 0 if is_plain(stored) else stored_parts(stored).bare
    at = start
    for section in iter_sections(stored, start):
        if section.code == APPLICATION_PROPERTIES:
            entries = read_entries(stored, section.value)
            return section.start, section.end, without(stored, entries, names)
        if section.code > APPLICATION_PROPERTIES:
            break
        at = section.end
    return at, at, []
