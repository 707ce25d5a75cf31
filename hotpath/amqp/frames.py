"""Frames as bytes, for what Proton does not tell or cannot write (AMQP 1.0 §2.3).

Inbound: Proton drops a transfer's message-format, which alone tells a batch from a message.
Outbound: Proton leaves trailing null fields off, and azure-servicebus before 7.15 for Python
indexes the fields of a performative without looking how many there are. When Proton itself ends a
connection, its error has no info map, which the same client indexes in all releases. Its
frames must leave room for what is filled in, and Proton has no means to be told so but the peer's
open. Connections that need none of this pay one search for five bytes in each chunk they send, a
look at their open, and nothing for what they receive.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, cast

from hotpath.amqp.conditions import Condition
from hotpath.wire.types import Described, Symbol, ULong, WireError, decode, encode

#: The message-format of a batch, as every encoder must write it: uint, four bytes.
BATCH_MARK: Final = b"\x70\x80\x01\x37\x00"

#: Bytes of a delivery-tag at most (AMQP 1.0 §2.8.7).
TAG_MAX: Final = 32
_BEFORE: Final = TAG_MAX + 2
#: Tags remembered at most: deliveries of one connection that were announced as batches.
_TAGS_MAX: Final = 10_000

_pack_size = Struct(">I").pack
_read_size = Struct(">I").unpack_from


class BatchMarks:
    """Notices transfers with the message-format of batches in a stream of bytes.

    The tag of a transfer stands directly before its message-format (§2.7.5), so `tags` holds what
    looks like the tag of a batch. Bytes inside a message may look so too, and tags of two links
    may be the same: who finds a tag here must look whether the message is a batch.
    """

    __slots__ = ("_tail", "tags")

    def __init__(self) -> None:
        self.tags: set[bytes] = set()
        self._tail = b""

    def see(self, chunk: bytes | bytearray, size: int) -> None:
        """Look through the first `size` bytes of the next chunk."""
        joint = self._tail + chunk[: min(size, _BEFORE + len(BATCH_MARK))]
        if BATCH_MARK in joint:
            self._note_all(joint, len(joint))
        if chunk.find(BATCH_MARK, 0, size) >= 0:
            self._note_all(chunk, size)
        self._tail = bytes(chunk[max(0, size - _BEFORE - len(BATCH_MARK)) : size])

    def _note_all(self, chunk: bytes | bytearray, size: int) -> None:
        at = chunk.find(BATCH_MARK, 0, size)
        while at >= 0:
            if len(self.tags) >= _TAGS_MAX:
                self.tags.clear()
            for length in range(min(TAG_MAX, at - 2) + 1):
                start = at - length
                if start >= 2 and chunk[start - 2] == 0xA0 and chunk[start - 1] == length:
                    self.tags.add(bytes(chunk[start:at]))
            at = chunk.find(BATCH_MARK, at + 1, size)


class FirstFrame:
    """Holds a stream's first frame back until it is complete; it may then be changed.

    A protocol header before it goes on at once: some peers wait for the answer to it.

    Args:
        change: From the frame to what is taken for it.
        bytes_max: A frame that says it is larger is none of ours to wait for.

    Attributes:
        held: What has come so far of the frame, and behind it.
        done: It has been passed on, and everything else may go past this.
    """

    __slots__ = ("_begun", "_bytes_max", "_change", "done", "held")

    def __init__(self, change: Callable[[bytes], bytes], *, bytes_max: int) -> None:
        self._change = change
        self._bytes_max = bytes_max
        self._begun = False
        self.done = False
        self.held = b""

    def __call__(self, chunk: bytes) -> bytes:
        """What goes on now; `change` may raise, and then `held` has not gone on."""
        self.held += chunk
        header = b""
        if not self._begun:
            if len(self.held) < 8:
                return b""
            self._begun = True
            if self.held[:4] == b"AMQP":
                header, self.held = self.held[:8], self.held[8:]
        if len(self.held) < 4:
            return header
        size = _read_size(self.held, 0)[0]
        if 8 <= size <= self._bytes_max and len(self.held) < size:
            return header
        frame, rest = self.held[:size], self.held[size:]
        self.done, self.held = True, header + self.held
        if not 8 <= size <= self._bytes_max:
            return self.held
        return header + self._change(frame) + rest


def read_open(frame: bytes) -> list[object]:
    """The fields of an open frame (§2.7.1), all ten; none if it is something else."""
    try:
        performative, _ = decode(frame, 4 * frame[4])
    except (WireError, IndexError):
        return []
    fields = _list_of(performative)
    is_open = isinstance(performative, Described) and performative.descriptor == 0x10
    return [*fields, *[None] * (10 - len(fields))] if is_open else []


def write_open(fields: list[object]) -> bytes:
    """An open frame with these fields."""
    body = encode(Described(ULong(0x10), fields))
    return _pack_size(8 + len(body)) + b"\x02\x00\x00\x00" + body


#: Fields of each performative (§2.7), by the code of its descriptor.
FIELD_COUNTS: Final = {
    0x10: 10,  # open
    0x11: 8,  # begin
    0x12: 14,  # attach
    0x13: 11,  # flow
    0x14: 11,  # transfer
    0x15: 6,  # disposition
    0x16: 3,  # detach
    0x17: 1,  # end
    0x18: 1,  # close
}
#: What `fill` adds to a transfer at most: Proton always writes the first four of its fields.
TRANSFER_GROWTH: Final = FIELD_COUNTS[0x14] - 4


class FrameRewriter:
    """Rewrites outgoing frames one by one.

    Args:
        rewrite: From a frame to what is sent for it.
        header_first: The stream starts with a protocol header, which is no frame.
    """

    __slots__ = ("_header_due", "_rest", "_rewrite")

    def __init__(self, rewrite: Callable[[bytes], bytes], *, header_first: bool) -> None:
        self._rewrite = rewrite
        self._header_due = header_first
        self._rest = b""

    def __call__(self, chunk: bytes) -> bytes:
        """The next bytes to send; an incomplete frame is kept for the next call."""
        source = self._rest + chunk
        out: list[bytes] = []
        pos = 0
        if self._header_due and len(source) >= 8:
            out.append(source[:8])
            self._header_due = False
            pos = 8
        while not self._header_due and len(source) - pos >= 8:
            size = _read_size(source, pos)[0]
            if len(source) - pos < size:
                break
            out.append(self._rewrite(source[pos : pos + size]))
            pos += size
        self._rest = source[pos:]
        return b"".join(out)


def fill(frame: bytes) -> bytes:
    """A frame whose performative has all its fields; frames of another kind are as they were."""
    body = frame[4] * 4
    full = FIELD_COUNTS.get(frame[body + 2]) if len(frame) > body + 3 else None
    if full is None or frame[body : body + 2] != b"\x00\x53":
        return frame
    start, end, count = _list_extent(frame, body + 3)
    if count >= full:
        return frame
    fields = frame[start:end] + b"\x40" * (full - count)
    if len(fields) < 255:
        head = bytes((0xC0, len(fields) + 1, full))
    else:
        head = b"\xd0" + _pack_size(len(fields) + 4) + _pack_size(full)
    performative = frame[4 : body + 3] + head + fields
    return _pack_size(4 + len(performative) + len(frame) - end) + performative + frame[end:]


def complete_close(frame: bytes, *, condition: Condition) -> bytes:
    """A close frame whose error has an info map; other frames are as they were.

    Proton closes by itself when a peer is silent or breaks the protocol, for `condition`. What it
    writes then may quote bytes of the peer that are no text.
    """
    if frame[8:11] != b"\x00\x53\x18":
        return frame
    try:
        fields = _list_of(decode(frame, 8)[0])
    except WireError:
        told: list[object] = [Symbol(condition.name), condition.description, None]
    else:
        if not fields or not _list_of(fields[0]):
            return frame
        told = [*_list_of(fields[0]), None, None]
    name, description, info = told[:3]
    error = [name, description or "", info or {Symbol("condition"): name}]
    body = encode(Described(ULong(0x18), [Described(ULong(0x1D), error)]))
    return _pack_size(8 + len(body)) + frame[4:8] + body


def _list_of(value: object) -> list[object]:
    """The fields of a described list; none for anything else."""
    if isinstance(value, Described) and isinstance(value.value, list):
        return cast("list[object]", value.value)
    return []


def _list_extent(frame: bytes, at: int) -> tuple[int, int, int]:
    """First byte, end and number of the elements of the list at `at`."""
    match frame[at]:
        case 0x45:
            return at + 1, at + 1, 0
        case 0xC0:
            return at + 3, at + 2 + frame[at + 1], frame[at + 2]
        case _:
            end = at + 5 + _read_size(frame, at + 1)[0]
            return at + 9, end, _read_size(frame, at + 5)[0]
