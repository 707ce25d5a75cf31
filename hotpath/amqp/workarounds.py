"""What single clients need besides what AMQP says, by the properties of their open.

| Client | Need | What is done | Where |
| --- | --- | --- | --- |
| azure-servicebus for Python before 7.15 | every field of a performative, null or not | outgoing frames are filled up | `frames.fill` |
| azure-servicebus for Python before 7.15 | frames no larger than it takes, these fields included | Proton is told a smaller size | `room_for_fields` |
| azure-servicebus for Python | an error of a close with all its fields | the close is completed | `frames.complete_close` |
| @azure/service-bus for JavaScript | a message-id: without one it does not settle | one is made of the sequence number | `wire.identity` |

Nothing of this is done for a connection whose open names another product.
"""

from collections.abc import Mapping
from typing import Final

from hotpath.amqp import frames
from hotpath.amqp.conditions import NOT_ALLOWED, Condition, Refused
from hotpath.wire.types import UInt

#: What every peer takes (AMQP 1.0 §2.4.1).
FRAME_BYTES_MIN: Final = 512
_PYTHON: Final = "azsdk-python"
#: From this release on it looks how many fields there are.
_PYTHON_CURED: Final = (7, 15)
_JAVASCRIPT: Final = "MSJSClient"


def needs_all_fields(properties: Mapping[str, object]) -> bool:
    """Whether the peer must be sent every field: azure-servicebus for Python before 7.15."""
    product = properties.get("product")
    if not isinstance(product, str) or not product.startswith(_PYTHON):
        return False
    return _version(properties.get("version")) < _PYTHON_CURED


def room_for_fields(open_frame: bytes) -> bytes:
    """The peer's open, its max-frame-size lowered by what `frames.fill` adds to a transfer.

    Raises Refused when too little would be left: Proton keeps to no less than 512 bytes.
    """
    fields = frames.read_open(open_frame)
    size, properties = (fields[2], fields[9]) if fields else (None, None)
    # A size of another type is for Proton to refuse.
    if not isinstance(size, UInt) or not isinstance(properties, dict):
        return open_frame
    if not needs_all_fields({str(key): value for key, value in properties.items()}):
        return open_frame
    if size < FRAME_BYTES_MIN + frames.TRANSFER_GROWTH:
        least = FRAME_BYTES_MIN + frames.TRANSFER_GROWTH
        text = f"this release of azure-servicebus needs frames of at least {least} bytes"
        raise Refused(Condition(NOT_ALLOWED, text, {"max-frame-size": least}))
    return frames.write_open([*fields[:2], UInt(size - frames.TRANSFER_GROWTH), *fields[3:]])


class PeerOpen:
    """Changes a peer's open on its way to the engine, where its client needs that.

    Attributes:
        done: The open has been passed on; what follows may go past this.
        unfit: Why the client cannot be served.
    """

    __slots__ = ("_first", "done", "unfit")

    def __init__(self, *, bytes_max: int) -> None:
        self._first = frames.FirstFrame(room_for_fields, bytes_max=bytes_max)
        self.done = False
        self.unfit: Condition | None = None

    def take(self, chunk: bytes) -> bytes:
        """What goes on of a stream's first bytes; none of the open until it is complete."""
        try:
            taken = self._first(chunk)
        except Refused as refused:
            self.unfit = refused.condition
            taken = self._first.held
        self.done = self._first.done
        return taken


def needs_message_ids(properties: Mapping[str, object]) -> bool:
    """Whether every message must have a message-id: @azure/service-bus.

    It keeps the timers of its lock renewal by message-id, and fails to settle a message without.
    """
    return properties.get("product") == _JAVASCRIPT


def _version(text: object) -> tuple[int, ...]:
    """The leading numbers of a version; () if there are none."""
    numbers: list[int] = []
    for part in str(text or "").split(".")[:2]:
        if not part.isascii() or not part.isdecimal() or len(part) > 9:
            break
        numbers.append(int(part))
    return tuple(numbers)
