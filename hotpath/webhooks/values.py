"""What a stored message of the points log holds for a receiver: its point, and the event."""

from typing import Final

from hotpath.service.points_state import Event
from hotpath.wire.body import DAMAGE, body_bytes, data_text, locate
from hotpath.wire.properties import Puller

_ID: Final = "id"
_puller: Final = Puller([(_ID,)])


def point_of(stored: bytes, seq: int) -> str:
    """Whose value it is; a damaged message is a point of its own."""
    point = _puller.pull(stored).get(_ID)
    return point if isinstance(point, str) else f"#{seq}"


def event_of(stored: bytes) -> bytes | None:
    """The body that is sent: the event as JSON; None when the message is damaged."""
    try:
        _, end = locate(stored)
        # As the service itself stores values; anything else takes the careful way.
        text = data_text(stored, end)
    except DAMAGE:
        text = None
    return body_bytes(stored) if text is None else text


def sample_event(point: str, at_ms: int) -> bytes:
    """A made-up event for trying an endpoint out; `at_ms` is wall clock."""
    return Event(point, "0", 0, 1, at_ms, at_ms).body().encode()
