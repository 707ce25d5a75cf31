"""Maps with text keys, taken apart and put together as bytes.

Annotations and application-properties are changed by dropping and adding entries; every entry that
stays keeps its bytes. Keys are compared by their text, whether string or symbol.
"""

from collections.abc import Container, Iterable
from typing import NamedTuple

from hotpath.wire.encoder import sized
from hotpath.wire.scan import ELEMENTS_MAX, contents, skip
from hotpath.wire.values import WireError


class Entry(NamedTuple):
    """One entry of an encoded map: `name` is None for a key that is no text."""

    name: bytes | None
    start: int
    value: int
    end: int


def read_entries(buf: bytes, pos: int) -> list[Entry]:
    """Take apart the map whose constructor is at `pos`.

    Raises:
        WireError: It is damaged, no map, or has more than 4096 entries.
    """
    if buf[pos : pos + 1] not in (b"\xc1", b"\xd1"):
        raise WireError("map expected", pos)
    count, at, end = contents(buf, pos)
    if count % 2:
        raise WireError("map has a key without a value", pos)
    if count > ELEMENTS_MAX:
        raise WireError(f"{count} elements, more than {ELEMENTS_MAX}", pos)
    entries: list[Entry] = []
    for _ in range(count // 2):
        value = skip(buf, at)
        stop = skip(buf, value)
        entries.append(Entry(key_text(buf, at, value), at, value, stop))
        at = stop
        if at > end:
            break
    if at != end:
        raise WireError("entries do not fill their map", pos)
    return entries


def key_text(buf: bytes, start: int, end: int) -> bytes | None:
    """The text of an encoded string or symbol; None for anything else."""
    code = buf[start]
    if code in (0xA1, 0xA3):
        return buf[start + 2 : end]
    if code in (0xB1, 0xB3):
        return buf[start + 5 : end]
    return None


def without(buf: bytes, entries: Iterable[Entry], names: Container[bytes | None]) -> list[bytes]:
    """The bytes of the entries whose names are not among `names`."""
    return [buf[entry.start : entry.end] for entry in entries if entry.name not in names]


def build_map(entries: list[bytes]) -> bytes:
    """Make a map of encoded entries, a key and its value each."""
    return sized(b"".join(entries), code=0xC1, count=2 * len(entries))
