"""Waking the receivers of one subscription: a few at a time, for each message needs one only.

Whoever is woken looks for messages, and with thousands of competing receivers that would be
thousands of looks a message, of which one finds it. So some are woken at once; the next ones, twice
as many, a moment later, if there are still messages then: those before had no credit, do not read,
or have gone. Each wake-up begins where the last one has stopped. And nobody is woken who cannot
take anything because all locks of the subscription are taken: settling wakes.
"""

from collections.abc import Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.subscription import Subscription
from hotpath.ports import Clock

#: Receivers that are woken at once.
AT_ONCE: Final = 16
#: Pause before the next ones are, milliseconds.
PAUSE_MS: Final = 2


class Wakeable(Protocol):
    """A receiver, as it is seen here."""

    feed: Subscription | DeadLetterQueue
    lock: bool
    wake: Callable[[], None]


_R = TypeVar("_R", bound=Wakeable)


class Waking(Generic[_R]):
    """Wakes receivers; the lists it is given are turned, so that another one comes first."""

    def __init__(self, clock: Clock, call: Callable[[Callable[[], None]], None]) -> None:
        self._clock = clock
        self._call = call
        # By the list's identity; each list is here once.
        self._waiting: dict[int, list[_R]] = {}

    def wake(self, receivers: list[_R]) -> None:
        """There may be something for them."""
        if len(receivers) <= AT_ONCE:
            if len(receivers) > 1:
                receivers.append(receivers.pop(0))
            for receiver in tuple(receivers):
                self._call(receiver.wake)
            return
        if not any(map(_may_take, _kinds(receivers))):
            return
        self._some(receivers, AT_ONCE)
        if id(receivers) not in self._waiting:
            self._waiting[id(receivers)] = receivers
            self._go_on_later(receivers, AT_ONCE)

    def _some(self, receivers: list[_R], count: int) -> None:
        first = receivers[:count]
        receivers[:] = receivers[count:] + first
        for receiver in first:
            self._call(receiver.wake)

    def _go_on_later(self, receivers: list[_R], woken: int) -> None:
        due_ms = self._clock.ticks_ms() + PAUSE_MS
        self._clock.call_at(due_ms, lambda: self._go_on(receivers, woken))

    def _go_on(self, receivers: list[_R], woken: int) -> None:
        """Wake further ones unless everything has been taken, or all have been woken."""
        left = len(receivers) - woken
        if left <= 0 or not any(map(_would_take, _kinds(receivers))):
            del self._waiting[id(receivers)]
            return
        self._some(receivers, min(left, woken))
        self._go_on_later(receivers, 2 * woken)


def _kinds(receivers: list[_R]) -> Iterable[_R]:
    """One of each kind; there are thousands of receivers, but those of a kind get one answer."""
    return {(id(each.feed), each.lock): each for each in receivers}.values()


def _would_take(receiver: Wakeable) -> bool:
    return receiver.feed.has_ready() and _may_take(receiver)


def _may_take(receiver: Wakeable) -> bool:
    """Whether there is a lock for what a receiver could take."""
    feed = receiver.feed
    if not receiver.lock or isinstance(feed, DeadLetterQueue):
        return True
    if len(feed.locks) < feed.locks_max or feed.locks.returned_front() is not None:
        return True
    # Whoever settles sees to it that they are woken.
    feed.full = True
    return False
