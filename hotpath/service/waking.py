"""Waking the receivers of one subscription: a few at a time, for each message needs one only.

Whoever is woken looks for messages, and with thousands of competing receivers that would be
thousands of looks a message, of which one finds it. So as many are woken at once as have credit for
what there is, and not more than some; while these are on their way nobody else is. If there are
still messages when they have come, or when they do not come, twice as many are woken, and so on
through all of them. Who has been woken is not woken again before it came: it may never read. Nor is
who had no credit, for it comes by itself when it gets some. Each wake-up begins where the last one
has stopped. And nobody is woken who cannot take anything because all locks of the subscription are
taken: settling wakes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.subscription import Subscription
from hotpath.ports import Clock

#: Receivers that are woken at once.
AT_ONCE: Final = 16
#: Receivers that are looked at, whether they have credit, at once.
LOOKS: Final = 256
#: Pause before the next ones are, milliseconds.
PAUSE_MS: Final = 2
#: So long those that were woken may take to come before others are woken instead, milliseconds.
PATIENCE_MS: Final = 20


def credit_unknown() -> None:
    """The credit of a receiver whose edge does not tell it."""


class Wakeable(Protocol):
    """A receiver, as it is seen here.

    Attributes:
        credit: How many messages it would take now; None where that is not known.
        asked: It has been woken, or was passed over for want of credit, and has not come to pull
            since.
    """

    feed: Subscription | DeadLetterQueue
    lock: bool
    wake: Callable[[], None]
    credit: Callable[[], int | None]
    asked: bool


_R = TypeVar("_R", bound=Wakeable)


class Competing(Generic[_R]):
    """The receivers of one subscription, in the order in which they are woken.

    Attributes:
        looked: How many of them have been looked at, since all had been the last time.
        woken: Those that were woken the last time.
        until_ms: How long these are waited for.
    """

    __slots__ = ("_kinds", "_members", "_wakeable", "looked", "until_ms", "woken")

    def __init__(self) -> None:
        self.looked = self.until_ms = 0
        self.woken: list[_R] = []
        self._members: OrderedDict[_R, None] = OrderedDict()
        # Those whose `asked` is not set: the others are many when they do not read.
        self._wakeable: OrderedDict[_R, None] = OrderedDict()
        self._kinds: dict[tuple[int, bool], dict[_R, None]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[_R]:
        return iter(self._members)

    def __contains__(self, receiver: object) -> bool:
        return receiver in self._members

    def add(self, receiver: _R) -> None:
        """One more."""
        self._members[receiver] = self._wakeable[receiver] = None
        self._kinds.setdefault((id(receiver.feed), receiver.lock), {})[receiver] = None

    def remove(self, receiver: _R) -> None:
        """One less."""
        del self._members[receiver]
        self._wakeable.pop(receiver, None)
        kind = (id(receiver.feed), receiver.lock)
        del self._kinds[kind][receiver]
        if not self._kinds[kind]:
            del self._kinds[kind]
        # It may have been one of those.
        self.looked = max(self.looked - 1, 0)

    def expects(self, now_ms: int) -> bool:
        """Whether those that were woken the last time have all not come yet, and still may."""
        return now_ms < self.until_ms and all(each.asked for each in self.woken)

    def next(self) -> _R:
        """The one that comes first; from now on it comes last."""
        receiver = next(iter(self._members))
        self._members.move_to_end(receiver)
        return receiver

    def next_wakeable(self) -> _R | None:
        """The first of those that have not been woken, or came since; `back` brings it back."""
        if self.looked >= len(self._members) or not self._wakeable:
            self.looked = len(self._members)
            return None
        self.looked += 1
        receiver, _ = self._wakeable.popitem(last=False)
        receiver.asked = True
        return receiver

    def back(self, receiver: _R) -> None:
        """It has come."""
        receiver.asked = False
        if receiver in self._members:
            self._wakeable[receiver] = None

    def kinds(self) -> Iterator[_R]:
        """One of each kind: there may be thousands, but those of a kind get one answer."""
        return (next(iter(members)) for members in self._kinds.values())


class Waking(Generic[_R]):
    """Wakes receivers."""

    def __init__(self, clock: Clock, call: Callable[[Callable[[], None]], None]) -> None:
        self._clock = clock
        self._call = call
        self._waiting: set[Competing[_R]] = set()

    def wake(self, receivers: Competing[_R]) -> None:
        """There may be something for them."""
        if len(receivers) <= AT_ONCE:
            receivers.next()
            for receiver in tuple(receivers):
                self._call(receiver.wake)
            return
        is_under_way = receivers in self._waiting
        if is_under_way and receivers.expects(self._clock.ticks_ms()):
            return
        if not any(map(_may_take, receivers.kinds())):
            return
        if not is_under_way or receivers.looked >= len(receivers):
            receivers.looked = 0
        self._some(receivers, AT_ONCE, enough=_enough(receivers))
        if not is_under_way:
            self._waiting.add(receivers)
            self._go_on_later(receivers)

    def _some(self, receivers: Competing[_R], count: int, *, enough: float) -> None:
        """Wake up to `count` of those not looked at yet, until their credit is enough."""
        woken: list[_R] = []
        for _ in range(LOOKS):
            if len(woken) == count or enough <= 0:
                break
            receiver = receivers.next_wakeable()
            if receiver is None:
                break
            credit = receiver.credit()
            if credit == 0:
                continue
            self._call(receiver.wake)
            woken.append(receiver)
            enough -= credit or 0
        receivers.woken = woken
        receivers.until_ms = self._clock.ticks_ms() + PATIENCE_MS if woken else 0

    def _go_on_later(self, receivers: Competing[_R]) -> None:
        due_ms = self._clock.ticks_ms() + PAUSE_MS
        self._clock.call_at(due_ms, lambda: self._go_on(receivers))

    def _go_on(self, receivers: Competing[_R]) -> None:
        """Wake further ones unless everything has been taken, or all have been looked at."""
        left = len(receivers) - receivers.looked
        if left <= 0 or not any(map(_would_take, receivers.kinds())):
            self._waiting.discard(receivers)
            receivers.woken = []
            return
        if not receivers.expects(self._clock.ticks_ms()):
            count = max(2 * len(receivers.woken), 1)
            self._some(receivers, count, enough=float("inf"))
        self._go_on_later(receivers)


def _enough(receivers: Competing[_R]) -> float:
    """Credit that is enough for what there is, as far as that is known."""
    most = 1.0
    for each in receivers.kinds():
        if not isinstance(each.feed, Subscription):
            return float("inf")
        most = max(most, each.feed.ready_count)
    return most


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
