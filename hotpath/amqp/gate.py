"""The frames of a peer on their way to Proton: what they tell us, and what is kept from it.

Proton's server side does not survive everything (AMQP 1.0 §2.5, §2.7.2).

Sessions are begun by clients alone. A begin that claims to answer one of ours makes Proton map one
session to two channels, and ending it twice then frees it twice; a begin on a channel that is in
use makes a session that nothing ends, as many as a peer likes. Neither ever reaches Proton: the
connection is shut before.

Frames are followed by their sizes, by the link ends (`hotpath.amqp.ends`): these read what their
deliveries were answered, as far as it is written as usual. A frame that begins or ends a session,
or tells of deliveries, is held back until it is there whole; all others pass as they come.
"""

from struct import Struct
from typing import Final, Protocol

from hotpath.amqp.conditions import NOT_ALLOWED, Condition, Refused

#: The first bytes of a frame that tell what it is: head, described, short descriptor, its code.
_HEAD_BYTES: Final = 12
_BEGIN: Final = 0x11
_DISPOSITION: Final = 0x15
_END: Final = 0x17
#: A descriptor's code as a long.
_LONG: Final = b"\x80\x00\x00\x00\x00\x00\x00\x00"
_NULL: Final = b"\x40"
_EMPTY_LIST: Final = b"\x45"
#: From a list's constructor to where its count stands, and where its first element begins.
_LISTS: Final = {0xC0: (2, 3), 0xD0: (5, 9)}

_read_size: Final = Struct(">I").unpack_from
_read_channel: Final = Struct(">H").unpack_from


class Listener(Protocol):
    """Whoever is told what frames say; an engine."""

    def follow(self, chunk: bytes | bytearray, pos: int, size: int) -> int:
        """Pass frames; the place of the first that is to be looked at closely."""
        ...

    def on_disposition(self, channel: int, frame: bytes) -> None:
        """A frame tells of deliveries in an unusual way. Raises Refused."""
        ...

    def on_end(self, channel: int) -> None:
        """The peer has ended the session of a channel."""
        ...


class SessionGate:
    """Follows the frames of a peer, from its AMQP header on.

    Args:
        frame_bytes_max: Proton ends a connection at a larger frame.
    """

    __slots__ = ("_ahead", "_begun", "_frame_bytes_max", "_held", "_is_lost", "_is_shut")

    def __init__(self, *, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._begun: set[int] = set()
        # The protocol header.
        self._ahead = 8
        self._held = b""
        self._is_lost = self._is_shut = False

    def take(
        self, chunk: bytes | bytearray, size: int, listener: Listener
    ) -> tuple[bytes | bytearray, int]:
        """What may go on of the first `size` bytes, and of those held back before.

        Raises Refused; from then on nothing goes on any more.
        """
        if self._is_shut:
            return b"", 0
        if self._is_lost:
            return chunk, size
        if self._held:
            chunk = self._held + chunk[:size]
            size, self._held = len(chunk), b""
        try:
            pos = self._walk(chunk, size, listener)
        except Refused:
            self._is_shut = True
            raise
        if pos < size and not self._is_lost:
            self._held = bytes(chunk[pos:size])
            size = pos
        self._ahead = pos - size
        return chunk, size

    def _walk(self, chunk: bytes | bytearray, size: int, listener: Listener) -> int:
        """The place behind the frames that may go on. Raises Refused."""
        pos = listener.follow(chunk, self._ahead, size)
        while pos + _HEAD_BYTES <= size and self._look_closely(chunk, pos, size, listener):
            pos = listener.follow(chunk, pos + int(_read_size(chunk, pos)[0]), size)
        return self._pass_short(chunk, pos, size)

    def _pass_short(self, chunk: bytes | bytearray, pos: int, size: int) -> int:
        """The place behind frames that are too short to be held back for what they are."""
        while pos + 8 <= size and not self._is_lost:
            length = _read_size(chunk, pos)[0]
            if length < 8:
                self._is_lost = True
            elif length < _HEAD_BYTES:
                pos += length
            else:
                break
        return pos

    def _look_closely(
        self, chunk: bytes | bytearray, pos: int, size: int, listener: Listener
    ) -> bool:
        """Whether the frame at a place goes on now. Raises Refused."""
        length = _read_size(chunk, pos)[0]
        if not 8 <= length <= self._frame_bytes_max:
            # Proton says what is wrong with it, and takes nothing behind it.
            self._is_lost = True
            return False
        if pos + length > size:
            return False
        frame = bytes(chunk[pos : pos + length])
        code, fields = _read_descriptor(frame)
        channel = int(_read_channel(frame, 6)[0])
        if code == _END:
            self._begun.discard(channel)
            listener.on_end(channel)
        elif code == _BEGIN:
            self._check_begin(channel, fields)
        elif code == _DISPOSITION:
            listener.on_disposition(channel, frame)
        return True

    def _check_begin(self, channel: int, fields: bytes) -> None:
        if channel in self._begun:
            text = f"the session of channel {channel} has not been ended"
        elif _answers(fields):
            text = "no session has been begun here that a remote-channel could stand for"
        else:
            self._begun.add(channel)
            return
        raise Refused(Condition(NOT_ALLOWED, text, {"channel": channel}))


def _read_descriptor(frame: bytes) -> tuple[int, bytes]:
    """The code of a frame's performative, and what is behind the descriptor; 0 for none."""
    body = frame[4 * frame[4] :]
    if body[:2] == b"\x00\x53" and len(body) > 2:
        return body[2], body[3:]
    if body[1:9] == _LONG and body[:1] == b"\x00" and len(body) > 9:
        return body[9], body[10:]
    return 0, b""


def _answers(fields: bytes) -> bool:
    """Whether the fields of a begin have a remote-channel, or are none that can be read."""
    if fields[:1] == _EMPTY_LIST:
        return False
    count_at, first = _LISTS.get(fields[0], (0, 0)) if fields else (0, 0)
    if not first or len(fields) < first:
        return True
    count = int.from_bytes(fields[count_at:first], "big")
    return count > 0 and fields[first : first + 1] != _NULL
