"""A message-id for messages that have none."""

from typing import Final

from hotpath.wire.encoder import encode, encode_list, sized
from hotpath.wire.scan import contents
from hotpath.wire.sections import PROPERTIES, iter_sections
from hotpath.wire.stored import is_plain, stored_parts

_MARK: Final = b"\x00\x53\x73"
_NULL: Final = 0x40


def with_message_id(stored: bytes, message_id: str) -> bytes:
    """A stored message with its own message-id or, if it has none, with this one.

    Raises:
        WireError: The message is damaged.
    """
    bare = 0 if is_plain(stored) else stored_parts(stored).bare
    section = next(iter_sections(stored, bare), None)
    own = encode(message_id)
    if section is None or section.code != PROPERTIES:
        return stored[:bare] + _MARK + encode_list([own]) + stored[bare:]
    count, at, end = contents(stored, section.value)
    if count and stored[at] != _NULL:
        return stored
    # The id is the first field (§3.2.4); a null takes one byte.
    fields = own + stored[at + min(count, 1) : end]
    properties = _MARK + sized(fields, code=0xC0, count=max(count, 1))
    return stored[: section.start] + properties + stored[section.end :]
