"""Read from a stored message the properties that filters name.

Each name is looked up by itself: among the application-properties, else in the JSON object (or AMQP
map) that is the body. The body is looked at only if a wanted name is missing from the
application-properties, and parsed only if the name can be in it.

Nothing here raises, whatever the bytes are: what cannot be read is left out. So are lists, maps and
arrays of AMQP (not of JSON) larger than 16 KiB, and the members of an AMQP map of more than 4096.
"""

import secrets
from collections.abc import Iterable, Sequence

from hotpath import native
from hotpath.wire.body import (
    BYTE_ORDER_MARK,
    DAMAGE,
    data_text,
    join_data,
    locate,
    parse_object,
    text_value,
)
from hotpath.wire.mapping import key_text
from hotpath.wire.plain import READERS, read_extents
from hotpath.wire.scan import ELEMENTS_MAX, MAPS, STEP, contents, skip
from hotpath.wire.sections import (
    AMQP_SEQUENCE,
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    DATA,
    iter_sections,
)
from hotpath.wire.stored import is_plain, stored_parts
from qel import DateTime

if native.ENABLED:
    from hotpath.native._native import Puller as _Quick


class Puller:
    """Reads a fixed set of names out of messages; make a new one when the set changes.

    Args:
        paths: Property paths as filters name them; only their first names matter here, the rest
            is reached inside the values.
    """

    __slots__ = ("_keys", "_quick", "_quoted", "_texts", "names")

    def __init__(self, paths: Iterable[Sequence[str]]) -> None:
        self.names = frozenset(path[0] for path in paths if path)
        self._texts = {_utf8(name): name for name in self.names}
        self._keys: dict[bytes, str] = {}
        for text, name in self._texts.items():
            if len(text) < 256:
                self._keys[bytes((0xA1, len(text))) + text] = name
                self._keys[bytes((0xA3, len(text))) + text] = name
        self._quoted = {name: b'"' + text + b'"' for text, name in self._texts.items()}
        self._quick: _Quick | None = None
        if native.ENABLED:
            # Names are chosen by subscribers: a seed keeps them from being chosen to collide.
            self._quick = _Quick(self._texts, _date_time, secrets.randbits(32))

    def pull_all(self, payloads: Sequence[bytes]) -> list[dict[str, object]]:
        """As `pull`, for many messages."""
        if self._quick is None or not self._texts:
            return list(map(self.pull, payloads))
        return self._quick.pull_all(payloads, self.pull, self._pull_body)

    def pull(self, stored: bytes) -> dict[str, object]:
        """From wanted names to their values; names that the message does not have are absent."""
        if not self._texts:
            return {}
        found: dict[str, object] | None
        try:
            first, end = locate(stored)
            found = self._scan(stored, first, end)
        except DAMAGE:
            found, end = None, 0
        if found is None:
            found, end = self._search(stored)
        if len(found) < len(self._texts):
            self._pull_body(stored, end, found)
        return found

    def _scan(self, buf: bytes, first: int, end: int) -> dict[str, object] | None:
        """Read wanted entries between two offsets; None if that takes the careful way."""
        keys, step = self._keys, STEP
        found: dict[str, object] = {}
        pos = first
        while pos < end:
            value = pos + (step[buf[pos]] or 2 + buf[pos + 1])
            code = buf[value]
            after = value + (step[code] or 2 + buf[value + 1])
            key = buf[pos:value]
            if key in keys:
                if code == 0xA1:
                    found[keys[key]] = buf[value + 2 : after].decode()
                else:
                    found[keys[key]] = READERS[code](buf, value)
            pos = after
        return found if pos == end else None

    def _search(self, stored: bytes) -> tuple[dict[str, object], int]:
        """The same for any encoding, and the offset of the body; damage ends the search."""
        found: dict[str, object] = {}
        try:
            start = 0 if is_plain(stored) else stored_parts(stored).bare
            for section in iter_sections(stored, start):
                if section.code == APPLICATION_PROPERTIES:
                    self._collect(stored, section.value, found)
                elif section.code in (DATA, AMQP_VALUE, AMQP_SEQUENCE):
                    return found, section.start
        except DAMAGE:
            pass
        return found, len(stored)

    def _collect(self, buf: bytes, pos: int, found: dict[str, object]) -> None:
        """Read wanted entries of the map at `pos` that are not found yet."""
        count, at, end = contents(buf, pos)
        if count > ELEMENTS_MAX:
            return
        extents: dict[str, tuple[int, int]] = {}
        try:
            while at < end:
                value = skip(buf, at)
                stop = skip(buf, value)
                text = key_text(buf, at, value)
                name = None if text is None else self._texts.get(text)
                if name is not None and stop <= end and name not in found:
                    extents[name] = (value, stop)
                at = stop
        finally:
            found.update(read_extents(buf, extents))

    def _pull_body(self, stored: bytes, at: int, found: dict[str, object]) -> None:
        """Add what is missing from the body at `at`."""
        try:
            text = data_text(stored, at)
            if text is None:
                text = self._value_text(stored, at, found)
        except DAMAGE:
            return
        missing = [name for name in self._texts.values() if name not in found]
        if not missing or text.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] != b"{":
            return
        # Without a backslash in the text a member's name stands there as it is, in quotes.
        if b"\\" not in text and not any(self._quoted[name] in text for name in missing):
            return
        members = parse_object(text)
        for name in missing:
            if name in members:
                found[name] = members[name]

    def _value_text(self, stored: bytes, at: int, found: dict[str, object]) -> bytes:
        """Read a body that is an AMQP value: wanted entries of a map, or the text of a string."""
        if at >= len(stored):
            return b""
        section = next(iter_sections(stored, at))
        if section.code == DATA:
            return join_data(stored, section)
        if section.code != AMQP_VALUE:
            return b""
        pos = section.value
        if stored[pos] in MAPS:
            self._collect(stored, pos, found)
            return b""
        return text_value(stored, pos, section.end)


def pull(stored: bytes, paths: frozenset[tuple[str, ...]]) -> dict[str, object]:
    """Read the properties that `paths` name from one message; see `Puller` for many."""
    return Puller(paths).pull(stored)


def _date_time(ms: int) -> DateTime:
    return DateTime(ms * 1_000_000)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
