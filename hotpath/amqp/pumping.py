"""What is done for many link ends of a connection at once, in Python: one after the other.

`hotpath.amqp.ends` says which of the two is here; see `hotpath/native/_native.pyi`.
"""

from typing import Protocol


class Wakes(Protocol):
    """A link end that may have something to send."""

    def on_wake(self) -> None:
        """Send at the next flush."""
        ...


class Pullable(Protocol):
    """A link end that sends when its connection has room."""

    def pump(self, room: int) -> int:
        """Send up to about `room` bytes; how many it were."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether another `pump` may send more."""
        ...


class Confirms(Protocol):
    """The twin of a link end, which knows who waits for an answer."""

    def confirm(self, count: int) -> None:
        """Tell the first of those that wait that they are accepted."""
        ...


class Waker:
    """Lets a link end send at the next flush of its connection."""

    __slots__ = ("_end",)

    def __init__(self, end: Wakes, pumps: object, host: object) -> None:  # noqa: ARG002
        self._end = end

    def __call__(self) -> None:
        """There may be something for it."""
        self._end.on_wake()


def pump_all(  # as its twin in C
    due: dict[Pullable, None],
    again: dict[Pullable, None],
    after_read: dict[Pullable, None],
    room: int,
    moment: object,  # noqa: ARG001
    now_ms: int,  # noqa: ARG001
    ticks_ms: int,  # noqa: ARG001
    counted: object,  # noqa: ARG001
) -> int:
    """Let link ends send; the room that is left. Those that may send more are put into `again`."""
    for end in due:
        if room > 0:
            room -= end.pump(room)
        if end.has_more and end not in after_read:
            again[end] = None
    return room


def confirm_all(waiting: list[tuple[Confirms, int]]) -> None:
    """Tell receivers that what they have accepted is settled durably."""
    for outlet, count in waiting:
        # A link that has been left meanwhile has none that wait any more.
        outlet.confirm(count)
